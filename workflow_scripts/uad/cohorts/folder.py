"""The user's own data: a BIDS folder, or flat files such as preprocessed volumes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from uad.cohorts.base import Adapter, walk
from uad.cohorts.bids import DERIVATIVES, NIFTI, SET_APART, Row, bids_files, looks_like_bids
from uad.cohorts.people import person_of
from uad.cohorts.report import listed, seen_but_passed_over
from uad.common.errors import InputError
from uad.common.formats import foreign
from uad.common.tabular import read_table

if TYPE_CHECKING:
    import pandas as pd

_OTHER_IMAGE = re.compile(r"\.(?:nii\.\w+|mgz|mgh|img|hdr|nrrd|mha|mhd|dcm|ima)$", re.IGNORECASE)
_FLAT_NAME = re.compile(r"(?P<subject>[^/]+)_(?P<kind>t1|t2|mask|seg)\.nii(?:\.gz)?", re.IGNORECASE)
_FLAT_KINDS = {"t1": "t1", "t2": "t2", "mask": "mask", "seg": "label"}


class FolderAdapter(Adapter):
    """The user's own folder; the configuration states how its scans were preprocessed.  docs/own-data.md

    BIDS: `sub-01/[ses-1/]anat/sub-01[_ses-1]_T1w.nii.gz`, `..._T2w.nii.gz`, brain mask
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
        person: str | None = None,
    ) -> None:
        super().__init__()
        self.healthy = healthy
        self.stripped = stripped
        self.registered = registered
        self.bias_corrected = bias_corrected
        self._person = person

    def scans(
        self, raw_folder: str | Path, unpacked_folder: str | Path, modalities: Sequence[str] = modalities
    ) -> pd.DataFrame:
        """As in `Adapter.scans`; nothing is unpacked."""
        self.notes, self.unused = [], {}
        raw = Path(raw_folder)
        files = walk(raw, leave_out=Path(unpacked_folder), notes=self.notes)
        for name in files:
            if _OTHER_IMAGE.search(name) and not NIFTI.search(name) and not foreign(name):
                self._pass_over("not a NIfTI file (.nii or .nii.gz)", name)
        if looks_like_bids(files):
            found = bids_files(files, modalities, self._pass_over, self.notes.append)
        else:
            found = self._flat(files)
        if not found:
            notes = "".join(f"{note}. " for note in self.notes)
            raise InputError(f"{raw}: no scan here{seen_but_passed_over(self.unused)}. {notes}{self.how_to_get}")
        table = self._table(found)
        self._add_participants(table, raw)
        return table

    def _pass_over(self, why: str, name: str) -> None:
        self.unused.setdefault(why, []).append(name)

    def _flat(self, files: dict[str, Path]) -> list[Row]:
        found = []
        for name, path in files.items():
            folders = PurePosixPath(name).parts[:-1]
            apart = next((part for part in folders if part in SET_APART), None)
            match = _FLAT_NAME.fullmatch(path.name)
            kind = _FLAT_KINDS[match["kind"].lower()] if match else ""
            if not NIFTI.search(name):
                continue
            if apart:
                self._pass_over(f"{apart}/ is not data in BIDS", name)
            elif not match:
                self._pass_over("their names do not end in _t1, _t2, _mask or _seg", name)
            elif kind in self.modalities and DERIVATIVES in folders:
                self._pass_over("an image that a program made (derivatives/)", name)
            else:
                found.append((match["subject"], "", kind, path))
        return found

    def _add_participants(self, table: pd.DataFrame, raw: Path) -> None:
        """Fill in age, site and scanner, in place; `n/a` is empty, and visits share their participant's row."""
        import pandas as pd

        places = (raw / "participants.tsv", raw / "rawdata" / "participants.tsv")
        path = next((place for place in places if place.is_symlink() or place.exists()), None)
        if path is None:
            return
        if not path.exists():
            raise InputError(f"{path}: is a link to a file that is not there; fetch the file, or remove the link")
        rows = read_table(path, missing=("n/a",))
        if "participant_id" in rows:
            rows.index = rows["participant_id"].str.removeprefix("sub-")
        if "participant_id" not in rows or rows.index.has_duplicates:
            raise InputError(f"{path}: needs a column participant_id with every participant once")
        keys = [self._participant(subject, rows.index) for subject in table["subject"]]
        lacking = [subject for subject, key in zip(table["subject"], keys, strict=True) if key is None]
        if len(lacking) == len(table):
            self.notes.append(
                f"{path}: names none of the {len(table)} subjects, so ages, sites and scanners stay empty; its ids are "
                f"{listed(rows['participant_id'], 3)}, the subjects' {listed(table['subject'], 3)}"
            )
        elif lacking:
            self.notes.append(f"{path}: lacks {len(lacking)} subjects: {listed(lacking)}")
        rows = rows.reindex(keys)
        for column in {"site", "scanner"} & set(rows):
            table[column] = rows[column].fillna("").to_numpy()
        if "age" in rows:
            ages = pd.to_numeric(rows["age"].replace("", None), errors="coerce")
            strange = sorted(set(rows["age"][ages.isna()].dropna()) - {""})
            if strange:
                self.notes.append(f"{path}: ages that are not numbers stay empty: {listed(strange)}")
            table["age"] = ages.astype(float).to_numpy()

    def _participant(self, subject: str, known: pd.Index) -> str | None:
        """The id of a subject in the table of participants: of this visit, or of the person."""
        names = (name.removeprefix("sub-") for name in (subject, person_of(subject, self._person)))
        return next((name for name in names if name in known), None)
