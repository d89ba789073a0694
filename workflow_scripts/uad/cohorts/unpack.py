"""Safe, atomic unpacking of the wanted members of tar and zip archives.

Archives come from the internet, so nothing in them is trusted: one member that would leave the target is enough to
refuse the archive, links and devices are never made, and size and number of members are bounded, counting those that
are skipped.  docs/bad-input.md
"""

from __future__ import annotations

import gzip
import json
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

from uad.common.errors import InputError, says_disk_full
from uad.common.formats import HEAD, what_is

MARKER = ".unpacked.json"
_DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError,
)  # fmt: skip
_TAR_NAME = re.compile(r"\.(?:tar|tar\.gz|tgz)$")
_LEFTOVERS = ("__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # a name becomes a cell of a table
_MOST_HEADER_BYTES = 2**20  # tarfile reads long names and comments into memory as a whole
_MOST_PADDING = 2**24  # tars end on a multiple of their record size, which is seldom more than 1 MB


class _Member(tarfile.TarInfo):
    """A tar member whose size is looked at before tarfile reads that much."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0 or (member.size > _MOST_HEADER_BYTES and member.type not in tarfile.REGULAR_TYPES):
            raise tarfile.ReadError(f"its header announces {member.size} bytes")
        return member


def unpack(
    archive: str | Path,
    target: str | Path,
    wanted: Sequence[re.Pattern[str]],
    *,
    max_bytes: int = 10**11,
    max_members: int = 100_000,
) -> Path:
    """Unpack the members of `archive` that match one of `wanted` into the folder `target`; returns `target`.

    `target` appears in one rename when everything has been written. It is left alone when it already holds
    this archive (same name, size, modification time) unpacked with the same patterns, else it is replaced.
    Hidden files (`._x`, `.DS_Store`) and `__MACOSX` are skipped; tars inside a zip are looked into.

    Args:
        archive: a tar (plain or compressed) or zip file.
        target: folder to create.
        wanted: searched in the member's path with `/` and without leading `./`.
        max_bytes: bound on the unpacked size of all members, wanted or not; adapters derive both from the data set.
        max_members: bound on the number of members, wanted or not.

    Raises:
        InputError: damaged, encrypted or too large; a member outside the target, with a wanted name twice or an
            unprintable one; a wanted link or device; the disk is full.
    """
    archive, target = Path(archive), Path(target)
    status = archive.stat()
    record = {
        "archive": archive.name,
        "bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "wanted": [pattern.pattern for pattern in wanted],
    }
    if _recorded(target) == record:
        return target
    partial = target.with_name(f".{target.name}.partial")  # fixed name: what a killed run left is cleared here
    shutil.rmtree(partial, ignore_errors=True)
    try:
        try:
            partial.mkdir(parents=True)
        except OSError as error:
            raise InputError(
                f"{target}: cannot be made ({error.strerror}); correct data_dir, or get write permission"
            ) from error
        _Unpacking(archive, partial, wanted, max_bytes, max_members).run()
        (partial / MARKER).write_text(json.dumps(record, indent=1) + "\n")
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def is_junk(path: str) -> bool:
    """Whether a relative path is an operating system's leftover (`._x`, `.DS_Store`, `__MACOSX/x`)."""
    return any(part.startswith(".") or part in _LEFTOVERS for part in PurePosixPath(path).parts)


def _recorded(target: Path) -> dict | None:
    try:
        return json.loads((target / MARKER).read_text())
    except (OSError, ValueError):
        return None


class _Unpacking:
    """One archive being unpacked: counts members and bytes over the archive and the tars inside it."""

    def __init__(
        self, archive: Path, target: Path, wanted: Sequence[re.Pattern[str]], max_bytes: int, max_members: int
    ) -> None:
        self.archive, self.target, self.wanted = archive, target, wanted
        self.max_bytes, self.max_members = max_bytes, max_members
        self.bytes_left, self.members_left = max_bytes, max_members
        self.written: set[PurePosixPath] = set()

    def run(self) -> None:
        try:
            if zipfile.is_zipfile(self.archive):
                self._unpack_zip()
            else:
                with tarfile.open(self.archive, tarinfo=_Member) as tar:
                    self._unpack_tar(tar, tar.fileobj)
        except _DAMAGED as error:
            raise InputError(f"{self.archive}: {self._damage(error)}") from error
        except RuntimeError as error:  # zipfile's word for passwords and for methods that it lacks
            raise InputError(
                f"{self.archive}: is packed in a way that Python cannot unpack ({' '.join(str(error).split())}), the "
                "archive may be whole; unpack it yourself (7z x) and place the folder instead of the archive"
            ) from error
        except OSError as error:
            advice = "make room and run again" if says_disk_full(error) else "is it the right archive?"
            raise InputError(
                f"{self.archive}: cannot be unpacked into {self.target.parent} ({error}); {advice}"
            ) from error

    def _damage(self, error: Exception) -> str:
        with open(self.archive, "rb") as stream:
            known = what_is(stream.read(HEAD))
        if known and known[0] not in ("a zip archive", "a tar archive"):
            return f"is neither tar nor zip but {known[0]}; {known[1].replace('fetch it', 'download it')}"
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"truncated, damaged or neither tar nor zip ({reason}); download it again"

    def _unpack_tar(self, tar: tarfile.TarFile, stream: Any) -> None:
        for member in tar:
            if self._is_wanted(member.name, member.size, member.isdir(), member.isreg()):
                self._write(tar.extractfile(member), member.name)  # type: ignore[arg-type]  # a regular file
        stream.read(_MOST_PADDING)  # only at its end is a compressed stream's checksum compared
        if stream.read(1):
            raise InputError(
                f"{self.archive}: not unpacked, because it holds more than {_MOST_PADDING} bytes after its last "
                "member; is it the right file?"
            )

    def _unpack_zip(self) -> None:
        with zipfile.ZipFile(self.archive) as archive:
            for member in archive.infolist():
                name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
                if _TAR_NAME.search(name) and not is_junk(name):
                    with (
                        archive.open(name) as stream,
                        tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Member) as tar,
                    ):
                        self._unpack_tar(tar, stream)
                elif self._is_wanted(name, member.file_size, member.is_dir(), kind in (0, stat.S_IFREG)):
                    with archive.open(name) as stream:
                        self._write(stream, name)

    def _write(self, stream: IO[bytes], name: str) -> None:
        """A member's bytes alone: its owner, mode and time do not count."""
        path = self.target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            shutil.copyfileobj(stream, file)

    def _is_wanted(self, name: str, size: int, is_folder: bool, is_file: bool) -> bool:
        """Check a member's path and the bounds; True when it is to be written."""
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            self._refuse(name, "would be written outside the target folder")
        self.members_left -= 1
        self.bytes_left -= size
        if self.members_left < 0:
            raise InputError(f"{self.archive}: has more than {self.max_members} members; is it the right file?")
        if self.bytes_left < 0:
            raise InputError(
                f"{self.archive}: unpacks to more than {self.max_bytes / 1e9:.3g} GB; is it the right file?"
            )
        if is_folder or is_junk(str(path)) or not any(pattern.search(str(path)) for pattern in self.wanted):
            return False
        if not is_file:
            self._refuse(name, "is a link or device")
        if _CONTROL.search(name):
            self._refuse(name.encode("unicode_escape").decode(), "has an unprintable name")
        if path in self.written:
            self._refuse(name, "is there twice")
        self.written.add(path)
        return True

    def _refuse(self, name: str, reason: str) -> None:
        raise InputError(f"{self.archive}: not unpacked, because its member '{name}' {reason}")
