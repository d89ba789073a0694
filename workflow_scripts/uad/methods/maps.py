"""Anomaly maps that any other program made: scored by the same rules, with no code of ours in their making.

They are checked as scans are: what cannot be right is refused, what may be right is told in log and report.
"""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any

import pydantic

from uad.common.errors import InputError
from uad.common.files import sha256_of
from uad.common.settings import user_path
from uad.common.tabular import read_table
from uad.methods.base import ArrayMethod, Scan

if TYPE_CHECKING:
    import numpy as np

PLACES = ("results", "arm", "cohort", "modality", "fold")
TABLE_COLUMNS = ("cohort", "subject", "file", "sha256")
LARGEST = (1e-30, 3e38)  # where the largest value of a map may lie, so that float32 keeps eight decades below it
STORE_AXES = ("L", "P", "S")  # where x, y and z of the packed scans go
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
    outside: float = pydantic.Field(0.02, ge=0, le=1)  # share of the maps' sum outside of the brain that is no doubt

    @pydantic.field_validator("folder", "table")
    @classmethod
    def _places_are_known(cls, pattern: str | None) -> str | None:
        for name in sorted(_names(pattern) - set(PLACES)):
            raise ValueError(f"{{{name}}} is not known, only {', '.join(f'{{{place}}}' for place in PLACES)}")
        return pattern and user_path(pattern)

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> MapsParams:
        if (self.folder is None) == (self.table is None):
            raise ValueError("name either the `folder` of the maps or the `table` that lists them")
        if self.table is not None and ("modality" not in _names(self.table) or "cohort" in _names(self.table)):
            raise ValueError("a `table` lists all cohorts of one modality: its path holds {modality}, not {cohort}")
        if self.options and self.table is None:
            raise ValueError("`options` are for the program that makes a `table`; the maps of a `folder` are there")
        return self


class Maps(ArrayMethod):
    """Reads `<subject>.npy` [Z, Y, X] or `<subject>.nii.gz` [X, Y, Z] on the grid of the packed store.

    A NIfTI file is turned to the axes of the store as its affine says; no affine, or the identity, turns nothing.
    """

    Params = MapsParams
    params: MapsParams
    RECIPE_VERSION = 2

    def __init__(self, params: MapsParams) -> None:
        super().__init__(params)
        self.per_fold = "fold" in _names(params.folder or params.table)
        self._maps: _Folder | _Table  # from `enter` on
        self._met: _Met

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
        self._met = _Met(str(self._maps.place), self.params.outside)

    def draw(self, scan: Scan, rng: np.random.Generator) -> np.ndarray:
        path = self._maps.find(scan.subject)
        values, turn = _read(path, scan.image.shape)
        self._met.add(path, scan, values, turn)
        return values

    def doubts(self) -> list[str]:
        return self._met.doubts()

    def _folder(self, cohort: str, modality: str, fold: int) -> str:
        assert self.params.folder is not None
        return self.params.folder.format(cohort=cohort, modality=modality, fold=fold)


class _Folder:
    """Maps that somebody placed."""

    def __init__(self, folder: str) -> None:
        self.place = Path(folder)

    def find(self, subject: str) -> Path:
        for name in (f"{subject}.npy", f"{subject}.nii.gz"):
            if (self.place / name).exists():
                return self.place / name
        raise InputError(f"{self.place}: has neither {subject}.npy nor {subject}.nii.gz; make this map")


class _Table:
    """Maps of one cohort that a table lists."""

    def __init__(self, table: str, cohort: str) -> None:
        self.place, self._cohort = Path(table), cohort
        if not self.place.is_file():
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
            raise InputError(f"{self.place}: lists no map of {subject} ({self._cohort}); make this map")
        row = self._rows.loc[subject]
        path = self.place.parent / row["file"]
        if not path.is_file():
            raise InputError(f"{path}: missing, though {self.place} lists it; delete the table and run again")
        if sha256_of(path) != row["sha256"]:
            raise InputError(f"{path}: changed since {self.place} was written; delete the table and run again")
        return path


class _Met:
    """What the maps of a cohort were like."""

    def __init__(self, place: str, outside: float) -> None:
        from uad.common.placement import Placement  # the Snakefile imports this module

        self._place, self._most_outside = place, outside
        self._placement = Placement()
        self._count, self._empty = 0, 0
        self._turns: set[str] = set()
        self._subjects: dict[bytes, str] = {}
        self._copies: list[str] = []

    def add(self, path: Path, scan: Scan, values: np.ndarray, turn: str) -> None:
        """Raises `InputError` for a map that cannot be right, whatever the others are like."""
        self._count += 1
        self._turns |= {turn} - {""}
        inside = values[scan.mask]
        if not values.any():
            self._empty += 1
            return
        if not inside.any():
            raise InputError(f"{path}: is 0 in the whole brain, but not outside of it; make it on the packed grid")
        if inside.min() == inside.max():
            raise InputError(f"{path}: has the value {inside[0]:g} in the whole brain, which ranks no voxel")
        first = self._subjects.setdefault(hashlib.sha256(values.tobytes()).digest(), scan.subject)
        if first != scan.subject:
            self._copies.append(f"{scan.subject} (that of {first})")
        self._placement.add(values, scan.mask)

    def doubts(self) -> list[str]:
        """Raises `InputError` where the maps fit the brain only turned."""
        doubts = sorted(self._turns)
        if self._empty:
            doubts.append(f"{self._empty} of {self._count} maps are 0 everywhere")
        if self._copies:
            doubts.append(f"{len(self._copies)} maps are copies of another subject's: {', '.join(self._copies[:3])}")
        outside, better = self._placement.outside(), self._placement.better()
        if outside <= self._most_outside:
            return doubts
        if better is not None:
            turn, rest = better
            raise InputError(
                f"{self._place}: the maps fit the brain only with {turn}: {outside:.1%} of their sum lies outside of "
                f"the brain mask, {rest:.1%} if they are turned so. Turn them, or set what lies outside to 0 if they "
                f"are right{''.join(f' ({turned})' for turned in sorted(self._turns))}"
            )
        return [*doubts, f"{outside:.1%} of the maps' sum lies outside of the brain mask; the score leaves it out"]


def _read(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """A map [Z, Y, X], float32, finite and not negative, and what was done about its affine, or ""."""
    import numpy as np

    values, turn = _load(path)
    if values.shape != shape:
        hint = "; its axes are in another order" if sorted(values.shape) == sorted(shape) else ""
        raise InputError(f"{path}: has shape {values.shape} as [Z, Y, X], the packed scan {shape}{hint}")
    wrong = np.count_nonzero(~np.isfinite(values))
    if wrong:
        raise InputError(f"{path}: {wrong} voxels are NaN or infinite; an anomaly map holds finite numbers")
    lowest, highest = values.min(), values.max()
    if lowest < 0:
        raise InputError(f"{path}: has values down to {lowest:.3g}; an anomaly map holds numbers of at least 0")
    if highest and not LARGEST[0] <= highest <= LARGEST[1]:
        raise InputError(
            f"{path}: its largest value is {highest:.3g}; maps are kept as float32, give them in a unit in which it "
            f"lies between {LARGEST[0]:g} and {LARGEST[1]:g}"
        )
    return values.astype(np.float32), turn


def _load(path: Path) -> tuple[np.ndarray, str]:
    """The numbers of a file [Z, Y, X] and what was done about its affine, or ""."""
    import nibabel as nib
    import numpy as np

    from uad.common.nifti import UNREADABLE

    turn = ""
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            image: Any = nib.load(path)
            values, turn = _to_store_axes(np.asanyarray(image.dataobj), image)
            values = values.transpose()
        if values.dtype.kind not in "biuf":
            raise ValueError(f"holds {values.dtype}")
    except (*UNREADABLE, AttributeError) as error:  # an archive of arrays has no dtype
        raise InputError(f"{path}: cannot be read as an array of numbers; make this map again") from error
    return values, turn


def _to_store_axes(values: np.ndarray, image: Any) -> tuple[np.ndarray, str]:
    """The array [X, Y, Z] of a NIfTI file with its axes as those of the store, and what was done."""
    import nibabel as nib
    import numpy as np

    codes = nib.aff2axcodes(image.affine)
    named = image.header["sform_code"] > 0 or image.header["qform_code"] > 0
    if not named or None in codes or np.array_equal(image.affine, np.eye(4)):
        return values, "maps whose affine is the identity, or none, are taken as [X, Y, Z] on the packed grid"
    if codes == STORE_AXES:
        return values, ""
    change = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt(codes), nib.orientations.axcodes2ornt(STORE_AXES)
    )
    turned = nib.orientations.apply_orientation(values, change)
    return turned, f"maps with axes to {', '.join(codes)} were turned to {', '.join(STORE_AXES)}, as their affine says"


METHOD = Maps
