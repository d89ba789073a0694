"""What all adapters share: finding a data set's files and arranging them by subject."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from uad.cohorts.bids import NIFTI
from uad.cohorts.promise import Promise
from uad.cohorts.report import listed
from uad.cohorts.table import COLUMNS, FILE_COLUMNS, FLAGS
from uad.cohorts.unpack import is_junk, unpack
from uad.common.errors import InputError
from uad.common.files import sha256_of
from uad.common.formats import foreign

if TYPE_CHECKING:  # pandas takes a while to import, and the Snakefile only reads the classes' attributes
    import pandas as pd

_SAFE_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")  # a subject becomes part of file names and a table cell
_OTHER_ARCHIVES = (".7z", ".rar")
_GENEROUS = 4  # an archive may be so many times the published size; releases grow, bombs are thousands of times larger


@dataclass(frozen=True)
class Part:
    """One piece of a data set that may come as an archive of its own.

    Attributes:
        pattern: searched in a file's path below the raw folder; its group `kind` says what the file is.
        archives: file name patterns of the archives that contain it, best first.
        gigabytes: unpacked size of the largest of the archives (1e9 bytes).
        members: number of files and folders in it.
    """

    pattern: re.Pattern[str]
    archives: tuple[str, ...]
    gigabytes: float
    members: int


class Adapter:
    """How one data set is laid out. Subclasses fill in the attributes and, where needed, the hooks below.

    Attributes:
        name: the adapter's name in the configuration.
        modalities: those of the data set.
        healthy: no subject has a lesion, so there are no labels.
        expected_subjects: number in the full data set; None for the user's own data.
        parts: the pieces of the data set.
        archives: names of all archives, from `parts`.
        how_to_get: what to place where, licence and citation, in one line.
        stripped: scans come without skull.
        registered: scans are in SRI24 space.
        bias_corrected: scans need no N4.
        label_on_own_grid: the label has another grid than the image and meets it in scanner space.
        exclude_label: label value that is excluded from the evaluation.
        sites: names that `site` takes, where there is a list of them.
        kinds: value of a pattern's group `kind` -> column of the cohort table.
        metadata: pattern of an optional table about the subjects.
        promise: what the publisher states about grids and label values.
        notes: one line per oddity that the last `scans` found.
        unused: NIfTI files that the last `scans` did not use, by reason.
    """

    name: ClassVar[str]
    modalities: ClassVar[tuple[str, ...]]
    healthy: bool = False
    expected_subjects: ClassVar[int | None] = None
    parts: ClassVar[tuple[Part, ...]] = ()
    archives: ClassVar[tuple[str, ...]] = ()
    how_to_get: ClassVar[str]
    stripped: bool = False
    registered: bool = False
    bias_corrected: bool = False
    label_on_own_grid: ClassVar[bool] = False
    exclude_label: ClassVar[int | None] = None
    sites: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[Mapping[str, str]] = {}
    metadata: ClassVar[re.Pattern[str] | None] = None
    promise: ClassVar[Promise] = Promise()

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.unused: dict[str, list[str]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.archives = tuple(dict.fromkeys(name for part in cls.parts for name in part.archives))

    # --- hooks ----------------------------------------------------------------------------------------------

    def subject_of(self, match: re.Match[str]) -> str:
        """Subject id of a file."""
        return match["subject"]

    def site_of(self, match: re.Match[str]) -> str:
        """Site of a file, or an empty string."""
        return ""

    def add_details(self, table: pd.DataFrame, files: Mapping[str, Path]) -> None:
        """Fill in scanner and age, in place."""

    def hint(self, names: Sequence[str]) -> str:
        """What the files in the folder tell about a missing data set; ends with a space if not empty."""
        other = [name for name in names if name.lower().endswith(_OTHER_ARCHIVES)]
        return f"Found {other[0]}: unpack it yourself, only tar and zip archives are read. " if other else ""

    # --- finding --------------------------------------------------------------------------------------------

    def scans(
        self, raw_folder: str | Path, unpacked_folder: str | Path, modalities: Sequence[str] = ()
    ) -> pd.DataFrame:
        """All subjects of the data set with all files that were found, one row per subject.

        Archives below `raw_folder` are unpacked into `unpacked_folder` first; files that lie unpacked below
        `raw_folder` are used where they are.

        Args:
            modalities: those asked for; only `folder` needs them.

        Returns:
            The cohort table without `sha256`, sorted by subject; paths of missing files are empty strings.

        Raises:
            InputError: nothing was found, an archive is damaged, or two different files claim one place.
        """
        self.notes = []
        files = self._collect(Path(raw_folder), Path(unpacked_folder))
        found = []
        for relative, path in sorted(files.items()):
            match = self._match(relative)
            if match:
                found.append((self.subject_of(match), self.site_of(match), self.kinds[match["kind"]], path))
        unused = [name for name in sorted(files) if NIFTI.search(name) and not self._match(name)]
        self.unused = {f"no file of {self.name} by its name": unused} if unused else {}
        table = self._table(found)
        self.add_details(table, files)
        return table

    def _match(self, relative: str) -> re.Match[str] | None:
        return next((match for part in self.parts if (match := part.pattern.search(relative))), None)

    def _collect(self, raw: Path, unpacked: Path) -> dict[str, Path]:
        """Path relative to the folder it was found in -> path, over raw files and unpacked archives."""
        files = walk(raw, leave_out=unpacked, notes=self.notes)
        collected = {relative: path for relative, path in files.items() if not self._is_archive(path)}
        wanted = [part.pattern for part in self.parts] + ([self.metadata] if self.metadata else [])
        any_found = False
        for part in self.parts:
            plain = any(part.pattern.search(relative) for relative in files)
            archives = self._archives_of(part, files)
            any_found |= plain or bool(archives)
            if plain and archives:
                self.notes.append(f"{archives[0]}: not read, because its files lie unpacked below {raw}")
                continue
            for archive in archives:
                target = unpacked / str(archive.relative_to(raw)).replace(os.sep, "__")
                bounds = {
                    "max_bytes": int(_GENEROUS * part.gigabytes * 1e9),
                    "max_members": _GENEROUS * part.members,
                }
                members = walk(unpack(archive, target, wanted, **bounds))
                if not any(self._match(member) for member in members):
                    raise InputError(
                        f"{archive}: holds no file that looks like {self.name} data; "
                        f"is it the right archive? {self.how_to_get}"
                    )
                # two archives may contain the same path: keep both, so that the clash is noticed
                collected.update({f"{target.name}/{member}": path for member, path in members.items()})
        if not any_found:
            raise InputError(
                f"{raw}: no {self.name} data here (looked for {', '.join(self.archives)} or unpacked). "
                f"{self.hint(sorted(files))}{self.how_to_get}"
            )
        return collected

    def _is_archive(self, path: Path) -> bool:
        return any(fnmatch.fnmatch(path.name, pattern) for pattern in self.archives)

    def _archives_of(self, part: Part, files: Mapping[str, Path]) -> list[Path]:
        """The archives of the first pattern that matches any file."""
        for pattern in part.archives:
            archives = sorted(path for path in files.values() if fnmatch.fnmatch(path.name, pattern))
            if archives:
                return archives
        return []

    # --- table ----------------------------------------------------------------------------------------------

    def _table(self, found: Iterable[tuple[str, str, str, Path]]) -> pd.DataFrame:
        """Rows from (subject, site, column, path); identical copies are dropped, different files refused."""
        import pandas as pd

        rows: dict[str, dict[str, object]] = {}
        for subject, site, column, path in found:
            if not _SAFE_SUBJECT.fullmatch(subject):
                raise InputError(f"{path}: subject id '{subject}' may only have letters, digits and . _ + -; rename it")
            row = rows.setdefault(subject, {"subject": subject, "site": site})
            if column not in row:
                row[column] = str(path)
            elif sha256_of(str(row[column])) == sha256_of(path):
                self.notes.append(f"{path}: dropped, the same file as {row[column]}")
            else:
                raise InputError(
                    f"{path}: {subject} already has another {column} file, {row[column]}; keep one of them"
                )
        table = pd.DataFrame([rows[subject] for subject in sorted(rows)], columns=[*COLUMNS[:-1]])
        for column in ("site", "scanner", *FILE_COLUMNS):
            table[column] = table[column].fillna("").astype(object)
        table["age"] = table["age"].astype(float)
        for flag in FLAGS:
            table[flag] = int(getattr(self, flag))
        return table


def walk(folder: Path, leave_out: Path | None = None, notes: list[str] | None = None) -> dict[str, Path]:
    """Path relative to `folder` (with `/`) -> path of every file below it that is not hidden.

    Links are followed after all real folders, and each folder is read once: so loops end, and a link to a folder in
    here does not list its files twice.

    Args:
        leave_out: a folder to skip.
        notes: gets a line per reason for which files are passed over.

    Raises:
        InputError: a folder cannot be read, so that its scans are unknown.
    """
    passed: dict[str, list[str]] = {}
    files: dict[str, Path] = {}
    seen = {_identity(each) for each in folder.resolve().parents} - {None}
    without = _identity(leave_out) if leave_out else None
    waiting = [(folder, "")]
    links: list[tuple[Path, str]] = []
    while waiting or links:
        current, relative = waiting.pop() if waiting else links.pop(0)
        identity = _identity(current)
        if identity is None or identity == without:
            continue
        if identity in seen:
            passed.setdefault("link to a folder that is read already", []).append(relative)
            continue
        seen.add(identity)
        try:
            with os.scandir(current) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(
                f"{current}: cannot be read ({error.strerror}), so the scans in it are not known; get read "
                "permission, or move it elsewhere"
            ) from error
        for entry in found:
            name = f"{relative}{entry.name}"
            if is_junk(entry.name):
                continue
            if not _is_text(entry.name):
                passed.setdefault("name is not UTF-8; rename it", []).append(ascii(name))
            elif entry.is_dir(follow_symlinks=False):
                waiting.append((Path(entry.path), f"{name}/"))
            elif os.path.isdir(entry.path):
                links.append((Path(entry.path), f"{name}/"))
            elif entry.is_symlink() and not os.path.exists(entry.path) and not NIFTI.search(name):
                passed.setdefault("link to what is not there", []).append(name)
            else:  # a scan that is a broken link stays, so that it is named as one that cannot be used
                files[name] = Path(entry.path)
                if kind := foreign(name):
                    passed.setdefault(f"file of another format: {kind[0]}; convert with {kind[1]}", []).append(name)
    if notes is not None:
        notes += [f"passed over, {reason}: {listed(sorted(names))}" for reason, names in sorted(passed.items())]
    return dict(sorted(files.items()))


def _identity(folder: Path) -> tuple[int, int] | None:
    """Device and inode of a folder, the same through every link; None: it does not exist."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
