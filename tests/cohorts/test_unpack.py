"""Unpacking of untrusted archives."""

from __future__ import annotations

import io
import os
import re
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from uad.cohorts import unpack as unpacking
from uad.cohorts.unpack import MARKER
from uad.common.errors import InputError

WANTED = [re.compile(r"(?:^|/)keep\d*\.bin$")]


def unpack(archive: Path, target: Path, wanted: list[re.Pattern[str]], *, max_bytes=10**6, max_members=100) -> Path:
    return unpacking.unpack(archive, target, wanted, max_bytes=max_bytes, max_members=max_members)


def make(path: Path, members: dict[str, bytes]) -> Path:
    """A zip or tar by its name's ending."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


formats = pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.zip"])


@formats
def test_only_wanted_members_are_written(name, tmp_path):
    members = {"./a/keep.bin": b"1", "a/other.bin": b"2", "a/._keep.bin": b"3", "__MACOSX/keep.bin": b"4"}
    archive = make(tmp_path / name, members | {".DS_Store": b"5", "a/b/keep2.bin": b"6"})
    assert content(unpack(archive, tmp_path / "out", WANTED)) == {"a/keep.bin": b"1", "a/b/keep2.bin": b"6"}


@formats
@pytest.mark.parametrize("member", ["../keep.bin", "a/../../keep.bin", "/tmp/keep.bin", "..\\keep.bin"])
def test_member_outside_the_target_refuses_the_archive(name, member, tmp_path):
    archive = make(tmp_path / name, {"keep.bin": b"1", member: b"evil"})
    with pytest.raises(InputError, match="would be written outside the target folder"):
        unpack(archive, tmp_path / "deep" / "out", WANTED)
    assert not list((tmp_path / "deep").iterdir())
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [name]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        member = tarfile.TarInfo("keep.bin")
        member.type, member.linkname = kind, "/etc/hostname"
        archive.addfile(member)
    with pytest.raises(InputError, match="is a link or device"):
        unpack(tmp_path / "x.tar", tmp_path / "out", WANTED)
    assert not (tmp_path / "out").exists()


def test_link_in_a_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        member = zipfile.ZipInfo("keep.bin")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/hostname")
    with pytest.raises(InputError, match="is a link or device"):
        unpack(tmp_path / "x.zip", tmp_path / "out", WANTED)


@formats
def test_bounds(name, tmp_path):
    archive = make(tmp_path / name, {f"keep{i}.bin": b"x" * 10 for i in range(5)})
    with pytest.raises(InputError, match="unpacks to more than"):
        unpack(archive, tmp_path / "out", WANTED, max_bytes=49)
    with pytest.raises(InputError, match="has more than 4 members"):
        unpack(archive, tmp_path / "out", WANTED, max_members=4)
    assert not (tmp_path / "out").exists()
    assert len(content(unpack(archive, tmp_path / "out", WANTED, max_bytes=50, max_members=5))) == 5


@formats
def test_truncated_or_wrong_file(name, tmp_path):
    archive = make(tmp_path / name, {"keep.bin": os.urandom(4000)})
    archive.write_bytes(archive.read_bytes()[:3000])
    with pytest.raises(InputError, match=re.escape(f"{archive}: truncated")):
        unpack(archive, tmp_path / "out", WANTED)
    archive.write_text("<html>please log in</html>")
    with pytest.raises(InputError, match="neither tar nor zip"):
        unpack(archive, tmp_path / "out", WANTED)
    assert not (tmp_path / "out").exists()


def test_encrypted_zip_member(tmp_path):
    archive = make(tmp_path / "x.zip", {"keep.bin": b"1"})
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the encryption flag in the central directory
    archive.write_bytes(data)
    with pytest.raises(InputError, match="is encrypted"):
        unpack(archive, tmp_path / "out", WANTED)


def test_tar_inside_a_zip(tmp_path):
    inner = make(tmp_path / "inner.tar", {"./a/keep.bin": b"1", "a/other.bin": b"2"})
    archive = make(tmp_path / "x.zip", {"inner.tar": inner.read_bytes()})
    assert content(unpack(archive, tmp_path / "out", WANTED)) == {"a/keep.bin": b"1"}
    with pytest.raises(InputError, match="has more than 1 members"):  # inner members count
        unpack(archive, tmp_path / "other", WANTED, max_members=1)


def test_unpacked_once_and_again_when_the_archive_or_the_wish_changes(tmp_path):
    archive = make(tmp_path / "x.tar", {"keep.bin": b"1", "more.bin": b"2"})
    target = unpack(archive, tmp_path / "out", WANTED)
    (target / "witness").touch()
    unpack(archive, target, WANTED)
    assert (target / "witness").exists()  # nothing was done
    unpack(archive, target, [*WANTED, re.compile("more")])
    assert content(target) == {"keep.bin": b"1", "more.bin": b"2"}
    make(archive, {"keep.bin": b"new"})
    os.utime(archive, ns=(1, 1))
    unpack(archive, target, WANTED)
    assert content(target) == {"keep.bin": b"new"}


def test_what_a_killed_run_left_is_cleared(tmp_path):
    archive = make(tmp_path / "x.tar", {"keep.bin": b"1"})
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "keep3.bin").write_bytes(b"half")
    assert content(unpack(archive, tmp_path / "out", WANTED)) == {"keep.bin": b"1"}
    assert not (tmp_path / ".out.partial").exists()
