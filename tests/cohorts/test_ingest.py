"""Ingest: what data sets promise of their scans, the quirks that are handled, and the report."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from places import SCRIPTS

from uad.cohorts import ingest
from uad.cohorts.atlas import Atlas
from uad.cohorts.brats21 import Brats21
from uad.cohorts.folder import FolderAdapter
from uad.cohorts.ixi import Ixi
from uad.cohorts.mslub import Mslub
from uad.cohorts.wmh import Wmh
from uad.common.errors import InputError

BRATS = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])  # docs/paper.md#brats21
SMALL = np.diag([1.0, 1, 1, 1])


def save(path: Path, values: int | np.ndarray, shape=(6, 7, 8), affine=SMALL, dtype=np.uint8) -> Path:
    """A volume of zeros but for its first voxels, which are `values`."""
    data = np.zeros(shape, dtype)
    values = np.atleast_1d(values)
    data.reshape(-1)[: len(values)] = values
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(nib.Nifti1Image(data, affine).to_bytes(), 1, mtime=0))
    return path


def run(adapter, tmp_path: Path, *modalities: str, published=True):
    """Table, notes in one text, and the report."""
    report = tmp_path / "out" / "cohort.md"
    table, notes = ingest(
        adapter, tmp_path / "raw", tmp_path / "unpacked", modalities, tmp_path / "out" / "cohort.tsv",
        published=published, report_path=report,
    )  # fmt: skip
    return table, "\n".join(notes), report.read_text()


def refused(adapter, tmp_path: Path, match: str, *modalities: str) -> str:
    """The report of a refused cohort."""
    with pytest.raises(InputError, match=match) as error:
        run(adapter, tmp_path, *modalities)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "cohort.tsv").exists()
    assert not (tmp_path / "out" / "cohort.md").exists()
    return (tmp_path / "out" / "cohort.failed.md").read_text()


# --- BraTS: the grid carries meaning ------------------------------------------------------------------------


def brats(raw: Path, number: int, shape=(240, 240, 155), affine=BRATS, labels=(1, 2, 4)) -> None:
    stem = raw / f"BraTS2021_{number:05d}" / f"BraTS2021_{number:05d}"
    save(Path(f"{stem}_t2.nii.gz"), number + 1, shape, affine, np.int16)
    save(Path(f"{stem}_seg.nii.gz"), np.array(labels), shape, affine)


def test_brats_as_published(tmp_path):
    brats(tmp_path / "raw", 0)
    brats(tmp_path / "raw", 621, labels=(2, 4))  # some cases lack label 1
    table, notes, report = run(Brats21(), tmp_path, "t2")
    assert list(table["subject"]) == ["BraTS2021_00000", "BraTS2021_00621"]
    assert "2 subjects; the full data set has 1251" in notes
    assert "| t2 | 2 | 240 x 240 x 155 | 1 x 1 x 1 | LPS | int16 |" in report
    assert "| 1 | 1 | necrotic core | lesion |" in report
    assert "| 4 | 2 | enhancing tumour | lesion |" in report
    assert "subjects kept | 2" in report and "Dropped" not in report


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (240, 240, 154)}, r"t2\.nii\.gz: has shape \(240, 240, 154\), the data set \(240, 240, 155\)"),
        ({"affine": BRATS @ np.diag([-1, 1, 1, 1])}, "has an affine that differs by 2 from the data set's"),
        ({"labels": (1, 3)}, r"seg\.nii\.gz: holds the label values \[3\], the data set has 0 and 1, 2, 4"),
    ],
)
def test_brats_unlike_its_promise_is_refused(change, message, tmp_path):
    brats(tmp_path / "raw", 0)
    brats(tmp_path / "raw", 1, **change)
    report = refused(Brats21(), tmp_path, message, "t2")
    assert "**Not ingested**: 1 files cannot be used" in report


def test_all_bad_files_are_named_at_once(tmp_path):
    for number in range(5):
        stem = tmp_path / "raw" / f"s{number}"
        save(Path(f"{stem}_t2.nii.gz"), number, (6, 7, 8, 2))
    report = refused(FolderAdapter(healthy=True), tmp_path, "5 files cannot be used, see .*s0_t2.*; and 2 more", "t2")
    assert all(f"s{number}_t2.nii.gz: has shape (6, 7, 8, 2)" in report for number in range(5))


def test_a_repaired_cohort_leaves_no_refusal_behind(tmp_path):
    save(tmp_path / "raw/s_t2.nii.gz", 1, (6, 7, 8, 2))
    refused(FolderAdapter(healthy=True), tmp_path, "one 3-D volume is needed", "t2")
    save(tmp_path / "raw/s_t2.nii.gz", 1)
    run(FolderAdapter(healthy=True), tmp_path, "t2")
    assert not (tmp_path / "out/cohort.failed.md").exists()


# --- quirks of the data sets (docs/paper.md#ixi to docs/paper.md#wmh) ------------------------------------------------


def shifted(affine: np.ndarray, voxels: float) -> np.ndarray:
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ np.full(3, voxels)
    return moved


def mslub(raw: Path, patient: int, apart: float) -> None:
    stem = raw / f"patient{patient:02d}" / f"patient{patient:02d}"
    affine = np.array([[-0.8, 0, 0, 75], [0, -0.469, 0, 120], [0, 0, 0.469, -80], [0, 0, 0, 1]])
    save(Path(f"{stem}_T2W.nii.gz"), patient, (12, 32, 32), affine, np.int16)
    save(Path(f"{stem}_consensus_gt.nii.gz"), [1, patient % 2], (12, 32, 32), shifted(affine, apart), np.int16)


def test_mslub_half_voxel_is_accepted_and_named(tmp_path):
    for patient, apart in ((1, 0.5), (2, -0.5), (12, 0.0)):
        mslub(tmp_path / "raw", patient, apart)
    table, notes, report = run(Mslub(), tmp_path, "t2", published=False)
    assert len(table) == 3
    quirk = "label: header up to 0.51 voxels away from its scan's; it takes the scan's header: 2 subjects"
    assert quirk in notes and quirk in report and "patient12" not in notes


def test_mslub_more_than_half_a_voxel_is_refused(tmp_path):
    mslub(tmp_path / "raw", 1, 0.6)
    refused(Mslub(), tmp_path, r"consensus_gt\.nii\.gz: lies 0\.60 voxels away from its scan", "t2")


def test_wmh_label_on_its_own_grid_and_label_2(tmp_path):
    case = tmp_path / "raw/training/Utrecht/0"
    save(case / "orig/3DT1.nii.gz", 1, (20, 20, 20))
    save(case / "wmh.nii.gz", [1, 2], (20, 20, 7), np.diag([1, 1, 3, 1]), np.float32)
    table, _, report = run(Wmh(), tmp_path, "t1")
    assert len(table) == 1
    assert "| 1 | 1 | white matter hyperintensity | lesion |" in report
    assert "| 2 | 1 | other pathology | left out of the evaluation |" in report
    save(case / "wmh.nii.gz", [1, 2], (20, 20, 7), shifted(np.diag([1.0, 1, 3, 1]), 100), np.float32)
    (tmp_path / "out/cohort.tsv").unlink()
    (tmp_path / "out/cohort.md").unlink()
    refused(Wmh(), tmp_path, r"wmh\.nii\.gz: does not overlap its scan in scanner space", "t1")


def test_ixi_pairs_sites_and_grids(tmp_path):
    raw = tmp_path / "raw"
    sagittal = np.array([[0, 0, 1.2, -90], [-0.94, 0, 0, 120], [0, -0.94, 0, 120], [0, 0, 0, 1]])
    for index, name in enumerate(("IXI002-Guys-0828", "IXI012-HH-1211", "IXI116-Guys-0739")):
        save(raw / f"{name}-T1.nii.gz", index + 1, (9, 9, 7), sagittal, np.int16)
        if "116" not in name:
            save(raw / f"{name}-T2.nii.gz", index + 11, (9, 9, 6), np.diag([-0.94, -0.94, 1.25, 1]), np.int16)
    (raw / "IXI600-Guys-T1.nii.gz").write_bytes(b"misnamed")
    table, notes, report = run(Ixi(), tmp_path, "t1", "t2")
    assert len(table) == 2
    assert "T1 and T2 lie on different grids; each is registered on its own: 2 subjects" in notes
    assert "- 1 subjects dropped, no t2: IXI116-Guys-0739" in report
    assert "| site Guys | 1 |" in report and "| subjects found | 3 |" in report
    assert "| t1 | 2 | 9 x 9 x 7 | 0.94 x 0.94 x 1.2 | PIR |" in report
    assert "- 1 image file passed over, no file of ixi by its name: IXI600-Guys-T1.nii.gz" in report


def test_another_grid_than_published_is_reported_where_scans_are_registered_anyway(tmp_path):
    folder = tmp_path / "raw/Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_"
    save(Path(f"{folder}T1w.nii.gz"), 5)
    save(Path(f"{folder}label-L_desc-T1lesion_mask.nii.gz"), 1)
    _, notes, _ = run(Atlas(), tmp_path, "t1")
    assert "t1: has shape (6, 7, 8), the data set (197, 233, 189): 1 subject (sub-r001s001)" in notes
    _, notes, report = run(Atlas(), tmp_path, "t1", published=False)
    assert "the data set" not in notes and "full data set" not in report


# --- labels and masks of one's own data ---------------------------------------------------------------------


def folder_scan(raw: Path, subject: str, **files) -> None:
    for number, (kind, options) in enumerate(files.items()):
        save(raw / f"{subject}_{kind}.nii.gz", **({"values": number + 1} | options))


def test_empty_and_copied_labels_are_pointed_out(tmp_path):
    for index, label in enumerate((0, 1, 1)):
        folder_scan(tmp_path / "raw", f"s{index}", t2={"values": index + 1}, seg={"values": label})
    table, notes, _ = run(FolderAdapter(), tmp_path, "t2")
    assert len(table) == 3
    assert "the lesion label is empty: 1 subject (s0)" in notes
    assert "s2_seg.nii.gz: the lesion label of s2 is a copy of that of s1" in notes


def test_label_has_to_fit_every_modality(tmp_path):
    folder_scan(tmp_path / "raw", "s", t1={"shape": (6, 7, 9)}, t2={}, seg={"values": 1})
    refused(FolderAdapter(), tmp_path, r"s_seg\.nii\.gz: has shape \(6, 7, 8\), its scan \(6, 7, 9\)", "t1", "t2")


def test_mask_off_the_grid(tmp_path):
    folder_scan(tmp_path / "raw", "s", t2={}, mask={"affine": shifted(SMALL, 1)})
    refused(FolderAdapter(healthy=True), tmp_path, r"s_mask\.nii\.gz: lies 1\.00 voxels away", "t2")


def test_two_forms_that_differ(tmp_path):
    image = nib.Nifti1Image(np.arange(336, dtype=np.uint8).reshape(6, 7, 8), SMALL)
    image.set_qform(shifted(SMALL, 2), 1)
    (tmp_path / "raw").mkdir()
    nib.save(image, tmp_path / "raw/s_t2.nii.gz")
    _, notes, _ = run(FolderAdapter(healthy=True), tmp_path, "t2")
    assert "t2: qform and sform place the scan differently; the sform counts: 1 subject (s)" in notes


# --- duplicates ---------------------------------------------------------------------------------------------


def test_a_copy_that_was_compressed_again_is_a_copy(tmp_path):
    first = save(tmp_path / "raw/s1_t2.nii.gz", 7)
    content = gzip.decompress(first.read_bytes())
    (tmp_path / "raw/s2_t2.nii.gz").write_bytes(gzip.compress(content, 9, mtime=1234))
    (tmp_path / "raw/s3_t2.nii").write_bytes(content)
    save(tmp_path / "raw/s4_t2.nii.gz", 8)
    table, notes, report = run(FolderAdapter(healthy=True), tmp_path, "t2")
    assert list(table["subject"]) == ["s1", "s4"]
    for copy in ("s2", "s3"):
        assert f"{copy} dropped: its image has the same content as that of s1" in notes
        assert f"- {copy} dropped" in report


def test_one_image_as_both_modalities_is_refused(tmp_path):
    for kind in ("t1", "t2"):
        save(tmp_path / f"raw/s_{kind}.nii.gz", 7)
    with pytest.raises(InputError, match="s has this image as T1 and as T2"):
        run(FolderAdapter(healthy=True), tmp_path, "t1", "t2")


# --- the program --------------------------------------------------------------------------------------------


def test_program_writes_table_report_and_record(tmp_path):
    for index in range(3):
        save(tmp_path / f"raw/s{index}_t2.nii.gz", index + 1)
    cohort = {
        "adapter": "folder",
        "modalities": ["t2"],
        "subjects": 3,
        "healthy": True,
        "splits": {"val": 1, "test": 2},
    }
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"cohort": cohort}))
    command = [sys.executable, SCRIPTS / "ingest.py", "--settings", settings, "--raw", tmp_path / "raw",
               "--unpacked", tmp_path / "unpacked", "--table", tmp_path / "mine.tsv"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "# Ingest of mine" in (tmp_path / "mine.md").read_text()
    assert json.loads((tmp_path / "mine.json").read_text())["subjects"] == 3
    settings.write_text(json.dumps({"cohort": cohort | {"subjects": 10}}))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "3 usable subjects, but cohorts.mine.subjects is 10" in done.stderr and "Traceback" not in done.stderr
