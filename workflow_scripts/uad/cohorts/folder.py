"""The user's own data: a BIDS-like folder, or flat files such as preprocessed volumes."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from uad.cohorts.base import Adapter, walk
from uad.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_NIFTI = r"\.nii(?:\.gz)?$"
_BIDS_NAME = re.compile(r"(?P<subject>sub-[A-Za-z0-9]+)(?:_(?P<session>ses-[A-Za-z0-9]+))?_.+")
_BIDS_KINDS = {
    "label": re.compile(rf"(?:_label-lesion_mask|_lesion[^/]*){_NIFTI}"),
    "mask": re.compile(rf"_desc-brain_mask{_NIFTI}"),
    "t1": re.compile(rf"_T1w{_NIFTI}"),
    "t2": re.compile(rf"_T2w{_NIFTI}"),
}
_FLAT_NAME = re.compile(rf"(?P<subject>[^/]+)_(?P<kind>t1|t2|mask|seg){_NIFTI}")
_FLAT_KINDS = {"t1": "t1", "t2": "t2", "mask": "mask", "seg": "label"}


class FolderAdapter(Adapter):
    """A folder of the user's own; what a scan has been through is stated in the configuration.

    BIDS-like: `sub-01/[ses-1/]anat/sub-01[_ses-1]_T1w.nii.gz`, `..._T2w.nii.gz`, brain mask
    `..._desc-brain_mask.nii.gz`, lesion mask `..._label-lesion_mask.nii.gz` or `..._lesion*.nii.gz`;
    masks may lie in `derivatives/`. A session becomes part of the subject id (`sub-01_ses-1`).
    `participants.tsv` may give age, site and scanner.

    Flat: `<subject>_t1.nii.gz`, `_t2`, `_mask`, `_seg` in any folder, as in the authors' preprocessed data.
    """

    name = "folder"
    modalities = ("t1", "t2")
    how_to_get = (
        "Give a BIDS-like folder (sub-*/[ses-*/]anat/*_T1w.nii.gz or *_T2w.nii.gz, *_desc-brain_mask.nii.gz, "
        "*_label-lesion_mask.nii.gz) or flat files <subject>_t1.nii.gz, _t2, _mask, _seg; "
        "with `healthy: true` where there are no lesions."
    )

    def __init__(
        self,
        *,
        healthy: bool = False,
        stripped: bool = False,
        registered: bool = False,
        bias_corrected: bool = False,
    ) -> None:
        super().__init__()
        self.healthy = healthy
        self.stripped = stripped
        self.registered = registered
        self.bias_corrected = bias_corrected

    def scans(self, raw_folder: str | Path, unpacked_folder: str | Path) -> pd.DataFrame:
        """As in `Adapter.scans`; nothing is unpacked."""
        self.notes = []
        raw = Path(raw_folder)
        files = walk(raw, leave_out=Path(unpacked_folder), notes=self.notes)
        found = _bids(files) or _flat(files)
        if not found:
            raise InputError(f"{raw}: no scan here. {''.join(f'{note}. ' for note in self.notes)}{self.how_to_get}")
        used = {path for *_, path in found}
        self.unused = [name for name, path in files.items() if re.search(_NIFTI, name) and path not in used]
        table = self._table(found)
        if (raw / "participants.tsv").is_file():
            _add_participants(table, raw / "participants.tsv")
        return table


def _bids(files: dict[str, Path]) -> list[tuple[str, str, str, Path]]:
    """(subject, site, column, path) of files in `anat` folders; images in `derivatives` are not originals."""
    found = []
    for relative, path in files.items():
        folders = PurePosixPath(relative).parts[:-1]
        match = _BIDS_NAME.fullmatch(path.name)
        kind = next((kind for kind, pattern in _BIDS_KINDS.items() if pattern.search(path.name)), None)
        original = kind in ("mask", "label") or "derivatives" not in folders
        if match and kind and original and folders[-1:] == ("anat",):
            subject = "_".join(entity for entity in match.groups() if entity)
            found.append((subject, "", kind, path))
    return found if any(kind in ("t1", "t2") for _, _, kind, _ in found) else []


def _flat(files: dict[str, Path]) -> list[tuple[str, str, str, Path]]:
    matches = [(match, path) for path in files.values() if (match := _FLAT_NAME.fullmatch(path.name))]
    return [(match["subject"], "", _FLAT_KINDS[match["kind"]], path) for match, path in matches]


def _add_participants(table: pd.DataFrame, path: Path) -> None:
    """Fill in age, site and scanner, in place; `n/a` is empty, and sessions share their participant's row."""
    import pandas as pd

    rows = pd.read_csv(path, sep="\t", dtype=str, na_values=["n/a"])
    if "participant_id" not in rows or rows["participant_id"].duplicated().any():
        raise InputError(f"{path}: needs a column participant_id with every participant once")
    rows = rows.set_index("participant_id")
    participants = table["subject"].str.replace(r"_ses-[A-Za-z0-9]+$", "", regex=True)
    for column in {"site", "scanner"} & set(rows):
        table[column] = participants.map(rows[column]).fillna("")
    if "age" in rows:
        table["age"] = participants.map(pd.to_numeric(rows["age"], errors="coerce")).astype(float)
