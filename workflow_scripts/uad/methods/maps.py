"""Anomaly maps that any other program made: scored by the same rules, with no code of ours in their making."""

from __future__ import annotations

import shlex
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING

import pydantic

from uad.errors import InputError
from uad.files import sha256_of
from uad.methods.base import Method, Scan
from uad.tabular import read_table

if TYPE_CHECKING:
    import numpy as np

PLACES = ("results", "arm", "cohort", "modality", "fold")
TABLE_COLUMNS = ("cohort", "subject", "file", "sha256")
Option = pydantic.StrictStr | pydantic.StrictInt | pydantic.StrictFloat


def _names(pattern: str | None) -> set[str]:
    """Names in braces."""
    return {name for _, name, _, _ in Formatter().parse(pattern or "") if name is not None}


class MapsParams(pydantic.BaseModel):
    """Where the maps are: files in a `folder`, or a `table` that lists them.

    Both are patterns: `{results}` and `{arm}` are filled in where the configuration is read, the others here.
    """

    model_config = pydantic.ConfigDict(extra="forbid")

    folder: str | None = None  # one file per subject: <subject>.npy or <subject>.nii.gz
    table: str | None = None  # cohort, subject, file (relative to the table), sha256; usually made by a rule
    options: dict[str, Option] = {}  # for the program behind that rule

    @pydantic.field_validator("folder", "table")
    @classmethod
    def _places_are_known(cls, pattern: str | None) -> str | None:
        for name in sorted(_names(pattern) - set(PLACES)):
            raise ValueError(f"{{{name}}} is not known, only {', '.join(f'{{{place}}}' for place in PLACES)}")
        return pattern

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> MapsParams:
        if (self.folder is None) == (self.table is None):
            raise ValueError("name either the `folder` of the maps or the `table` that lists them")
        if self.table is not None and ("modality" not in _names(self.table) or "cohort" in _names(self.table)):
            raise ValueError("a `table` lists all cohorts of one modality: its path holds {modality}, not {cohort}")
        if self.options and self.table is None:
            raise ValueError("`options` are for the program that makes a `table`; the maps of a `folder` are there")
        return self


class Maps(Method):
    """Reads `<subject>.npy` [Z, Y, X] or `<subject>.nii.gz` [X, Y, Z] on the grid of the packed store."""

    Params = MapsParams
    gives = "map"
    trains = False

    def __init__(self, params: MapsParams) -> None:
        super().__init__(params)
        self.per_fold = "fold" in _names(params.folder or params.table)
        self._maps: _Folder | _Table | None = None

    def arguments(self) -> str:
        """`options` as a command line: `--<key> <value> ...`."""
        return " ".join(shlex.join([f"--{key}", str(value)]) for key, value in self.params.options.items())

    def input_files(self, cohorts: list[str], modality: str, fold: int) -> list[str]:
        """The table, which a rule may make; of a folder the maps that lie there, or the folder if none does.

        Files rather than the folder, so that an exchanged map is noticed.
        """
        if self.params.table is not None:
            return [self.params.table.format(modality=modality, fold=fold)]
        found = []
        for folder in sorted({self._folder(cohort, modality, fold) for cohort in cohorts}):
            maps = [str(path) for path in sorted(Path(folder).glob("*")) if path.name.endswith((".npy", ".nii.gz"))]
            found += maps or [folder]
        return found

    def enter(self, cohort: str, modality: str, fold: int) -> None:
        if self.params.table is not None:
            self._maps = _Table(self.params.table.format(modality=modality, fold=fold), cohort)
        else:
            self._maps = _Folder(self._folder(cohort, modality, fold))

    def anomaly_map(self, scan: Scan, rng: np.random.Generator) -> np.ndarray:
        return _read(self._maps.find(scan.subject), scan.image.shape)

    def _folder(self, cohort: str, modality: str, fold: int) -> str:
        return self.params.folder.format(cohort=cohort, modality=modality, fold=fold)


class _Folder:
    """Maps that somebody placed."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def find(self, subject: str) -> Path:
        for name in (f"{subject}.npy", f"{subject}.nii.gz"):
            if (self._folder / name).exists():
                return self._folder / name
        raise InputError(f"{self._folder}: has neither {subject}.npy nor {subject}.nii.gz; make this map")


class _Table:
    """Maps of one cohort that a table lists."""

    def __init__(self, table: str, cohort: str) -> None:
        self._table, self._cohort = Path(table), cohort
        if not self._table.is_file():
            raise InputError(f"{table}: does not exist; the program that makes the maps writes it last")
        rows = read_table(table)
        if tuple(rows.columns) != TABLE_COLUMNS:
            raise InputError(f"{table}: columns must be {', '.join(TABLE_COLUMNS)}, not {', '.join(rows.columns)}")
        rows = rows[rows["cohort"] == cohort].set_index("subject")
        if not rows.index.is_unique:
            raise InputError(f"{table}: lists {rows.index[rows.index.duplicated()][0]} of {cohort} twice")
        self._rows = rows

    def find(self, subject: str) -> Path:
        if subject not in self._rows.index:
            raise InputError(f"{self._table}: lists no map of {subject} ({self._cohort}); make this map")
        row = self._rows.loc[subject]
        path = self._table.parent / row["file"]
        if not path.is_file():
            raise InputError(f"{path}: missing, though {self._table} lists it; delete the table and run again")
        if sha256_of(path) != row["sha256"]:
            raise InputError(f"{path}: changed since {self._table} was written; delete the table and run again")
        return path


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A map [Z, Y, X], float32, finite and not negative; of a NIfTI file the array alone counts, not the header."""
    import zlib

    import nibabel
    import numpy as np

    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False).astype(np.float32)
        else:
            values = np.asarray(nibabel.load(path).dataobj, np.float32).transpose()
    except (OSError, ValueError, EOFError, zlib.error, nibabel.filebasedimages.ImageFileError) as error:
        raise InputError(f"{path}: cannot be read as an array of numbers; make this map again") from error
    if values.shape != shape:
        raise InputError(f"{path}: has shape {values.shape}, the packed scan [Z, Y, X] {shape}")
    if not np.isfinite(values).all() or values.min() < 0:
        raise InputError(f"{path}: an anomaly map holds finite numbers of at least 0; this one does not")
    return values


METHOD = Maps
