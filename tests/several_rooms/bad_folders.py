"""Folders and tables: one function per row of docs/bad-input.md makes the defect and runs into it."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pandas as pd
import pytest
from bad_files import IXI, VOXELS, bids, case, ixi_tar, nifti, own, run, save

from uad.cohorts import read_cohort
from uad.cohorts.changes import state_of_folder, write_record
from uad.cohorts.leaks import check_leaks, find_leaks
from uad.cohorts.splits import draw_splits
from uad.common.files import sha256_of


@case
def nothing(tmp_path):
    run(tmp_path, "mslub", "t2")


@case
def nothing_own(tmp_path):
    own(tmp_path, nifti(), "scan.nii.gz")


@case
def nothing_format(tmp_path):
    own(tmp_path, b"\x00\x00\x00\x01" + bytes(600), "s_t2.mgz")


@case
def folder_closed(tmp_path):
    (tmp_path / "raw/closed").mkdir()
    real = os.scandir

    def refuse(folder):  # root may read everything
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        own(tmp_path, nifti())


@case
def changed_meanwhile(tmp_path):
    path = save(tmp_path / "raw/s_t2.nii.gz", nifti())
    before = state_of_folder(tmp_path / "raw", tmp_path / "unpacked")
    save(path, nifti(VOXELS + 1))
    write_record(tmp_path / "record.json", tmp_path / "raw", tmp_path / "unpacked", "new", before)


@case
def modality(tmp_path):
    run(tmp_path, "atlas", "t2")


@case
def no_pair(tmp_path):
    save(tmp_path / "raw/s_t1.nii.gz", nifti())
    run(tmp_path, "folder", "t1", "t2", healthy=True)


@case
def two_files(tmp_path):
    save(tmp_path / "raw/a/s_t1.nii.gz", nifti())
    save(tmp_path / "raw/b/s_t1.nii.gz", nifti(VOXELS + 1))
    run(tmp_path, "folder", "t1", healthy=True)


@case
def subject_name(tmp_path):
    own(tmp_path, nifti(), "my scan_t2.nii.gz")


@case
def ixi_number(tmp_path):
    ixi_tar(tmp_path, (IXI, nifti()), (IXI.replace("0828", "0999"), nifti()))


@case
def ixi_sheet(tmp_path):
    (tmp_path / "raw/IXI.xls").write_text("<html>not found</html>")
    ixi_tar(tmp_path, (IXI, nifti()))


@case
def bids_label(tmp_path):
    for subject in ("sub-EMI_301", "sub-LON_4"):
        save(tmp_path / f"raw/{subject}/anat/{subject}_T2w.nii.gz", nifti())
    run(tmp_path, "folder", "t2", healthy=True)


@case
def bids_folder(tmp_path):
    save(tmp_path / "raw/sub-01/anat/sub-02_T2w.nii.gz", nifti())
    run(tmp_path, "folder", "t2", healthy=True)


@case
def bids_scans(tmp_path):
    bids(tmp_path, "sub-1_acq-tse_T2w", "sub-1_acq-space_T2w")
    run(tmp_path, "folder", "t2", healthy=True)


@case
def bids_masks(tmp_path):
    bids(tmp_path, "sub-1_T1w", "sub-1_T2w", "sub-1_space-T1w_label-lesion_mask", "sub-1_space-T2w_label-lesion_mask")
    run(tmp_path, "folder", "t1", "t2")


@case
def participants_link(tmp_path):
    save(tmp_path / "raw/sub-1/anat/sub-1_T2w.nii.gz", nifti())
    (tmp_path / "raw/participants.tsv").symlink_to(tmp_path / "annex")
    run(tmp_path, "folder", "t2", healthy=True)


@case
def person_rule(tmp_path):
    table = pd.DataFrame({"subject": ["P1a", "x"], "site": ""})
    draw_splits(table, {"val": 1, "test": 1}, folds=1, seed=1, person=r"^(P\d+)")


def shared(tmp_path: Path, first: str, second: str, *contents: bytes) -> None:
    """Cohort a is trained on the first subject, cohort b tested on the second."""
    cohorts, splits = {}, {}
    for level, (name, subject, split, content) in enumerate(
        zip("ab", (first, second), ("train", "test"), contents, strict=True)
    ):
        path = tmp_path / f"{name}.nii.gz"
        path.write_bytes(gzip.compress(content, 1 + 8 * level))
        cohorts[name] = pd.DataFrame([{"subject": subject, "t1": "", "t2": str(path), "sha256": sha256_of(path)}])
        splits[name] = pd.DataFrame([{"subject": subject, "split": split, "fold": 0}])
    check_leaks(find_leaks(cohorts, splits, {}))


@case
def leak_scan(tmp_path):
    shared(tmp_path, "a1", "b1", nifti(), nifti())


@case
def leak_person(tmp_path):
    shared(tmp_path, "OAS2_0001_MR1", "OAS2_0001_MR2", nifti(), nifti(VOXELS + 1))


@case
def participants(tmp_path):
    save(tmp_path / "raw/sub-1/anat/sub-1_T2w.nii.gz", nifti())
    (tmp_path / "raw/participants.tsv").write_text("id\tage\nsub-1\t60\n")
    run(tmp_path, "folder", "t2", healthy=True)


@case
def cohort_table(tmp_path):
    (tmp_path / "cohort.tsv").write_text("subject\tt1\ns\tx.nii.gz\n")
    read_cohort(tmp_path / "cohort.tsv")


@case
def same_image(tmp_path):
    for kind in ("t1", "t2"):
        save(tmp_path / f"raw/s_{kind}.nii.gz", nifti())
    run(tmp_path, "folder", "t1", "t2", healthy=True)
