"""What holds for every adapter, and own folders; each data set's layouts are in test_data_sets.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_archives import nifti, plain, run, tar

from uad.cohorts import ADAPTERS, find_adapter, read_cohort
from uad.cohorts.atlas import Atlas
from uad.cohorts.folder import FolderAdapter
from uad.cohorts.ixi import Ixi
from uad.cohorts.mslub import Mslub
from uad.common.errors import InputError

# --- registry -----------------------------------------------------------------------------------------------


def test_registry_has_the_data_sets_of_the_paper_with_their_sizes():
    assert {name: adapter.expected_subjects for name, adapter in ADAPTERS.items()} == {
        "ixi": 577, "brats21": 1251, "mslub": 30, "atlas": 655, "wmh": 60, "folder": None,
    }  # fmt: skip
    assert [name for name, adapter in ADAPTERS.items() if adapter.healthy] == ["ixi"]
    assert [name for name, adapter in ADAPTERS.items() if adapter.stripped] == ["brats21"]
    assert [name for name, adapter in ADAPTERS.items() if adapter.registered] == ["brats21"]
    assert [name for name, adapter in ADAPTERS.items() if adapter.label_on_own_grid] == ["wmh"]
    assert {name: a.exclude_label for name, a in ADAPTERS.items() if a.exclude_label} == {"wmh": 2}


def test_unknown_adapter_is_answered_with_the_likely_one():
    with pytest.raises(InputError, match="Did you mean 'brats21'"):
        find_adapter("brats")


def test_import_is_light():
    heavy = "('torch', 'ants', 'SimpleITK', 'nibabel', 'pandas', 'numpy')"
    code = f"import sys, uad.cohorts; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [name for name in ADAPTERS if name != "folder"])
def test_missing_data_says_how_to_get_it(name, tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(InputError) as error:
        run(ADAPTERS[name](), tmp_path, ADAPTERS[name].modalities[0])
    assert ADAPTERS[name].how_to_get in str(error.value)
    assert ADAPTERS[name].archives[0] in str(error.value)
    assert "\n" not in str(error.value)


def test_modality_that_a_data_set_lacks_is_refused(tmp_path):
    with pytest.raises(InputError, match="atlas: has t1, not t2"):
        run(Atlas(), tmp_path, "t2")


# --- folder -------------------------------------------------------------------------------------------------


def test_folder_bids_with_sessions_derivatives_and_participants(tmp_path):
    raw = tmp_path / "raw"
    plain(
        raw,
        "sub-01/ses-1/anat/sub-01_ses-1_T2w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_T2w.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_space-T2w_label-lesion_mask.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_lesion.nii.gz",
        "sub-02/anat/sub-02_acq-3d_T2w.nii",
        "sub-02/anat/sub-02_FLAIR.nii.gz",
        "derivatives/x/sub-02/anat/sub-02_label-lesion_mask.nii.gz",
        "derivatives/x/sub-02/anat/sub-02_desc-brain_mask.nii.gz",
        "derivatives/x/sub-02/anat/sub-02_desc-preproc_T2w.nii.gz",
        "sub-03/anat/sub-03_T2w.nii.gz",
    )
    (raw / "participants.tsv").write_text(
        "participant_id\tage\tsite\tscanner\nsub-01\t60\tA\tGE\nsub-02\tn/a\tn/a\tSiemens\n"
    )
    adapter = FolderAdapter(stripped=True, registered=False, bias_corrected=True)
    table, notes = run(adapter, tmp_path, "t2")
    assert list(table["subject"]) == ["sub-01_ses-1", "sub-01_ses-2", "sub-02"]
    assert [Path(path).name for path in table["t2"]][2] == "sub-02_acq-3d_T2w.nii"
    assert [path.rpartition("/")[2] for path in table["mask"]] == ["", "", "sub-02_desc-brain_mask.nii.gz"]
    np.testing.assert_array_equal(table["age"], [60, 60, np.nan])
    assert list(table["site"]) == ["A", "A", ""] and list(table["scanner"]) == ["GE", "GE", "Siemens"]
    assert table[["stripped", "registered", "bias_corrected"]].drop_duplicates().values.tolist() == [[1, 0, 1]]
    assert "1 subjects dropped, no label: sub-03" in notes


def test_folder_flat_as_in_the_authors_package(tmp_path):
    names = [f"{kind}/IXI002-Guys-0828_{kind}.nii.gz" for kind in ("t1", "t2", "mask", "seg")]
    plain(tmp_path / "raw", *names, "notes/readme.nii.gz")
    table, _ = run(FolderAdapter(stripped=True, registered=True, bias_corrected=True), tmp_path, "t1", "t2")
    row = table.iloc[0]
    assert row["subject"] == "IXI002-Guys-0828"
    expected = [str(tmp_path / "raw" / name) for name in names]
    assert [row["t1"], row["t2"], row["mask"], row["label"]] == expected


def test_folder_healthy_needs_no_labels_and_uses_none(tmp_path):
    plain(tmp_path / "raw", "001_t1.nii.gz", "002_t1.nii.gz", "002_seg.nii.gz")
    table, notes = run(FolderAdapter(healthy=True), tmp_path, "t1")
    assert list(table["subject"]) == ["001", "002"]  # not parsed as numbers
    assert not table["label"].any() and "labels are not used" in notes


def test_folder_id_that_cannot_name_a_file_is_refused(tmp_path):
    plain(tmp_path / "raw", "my scan_t1.nii.gz")
    with pytest.raises(InputError, match="subject id 'my scan'"):
        run(FolderAdapter(healthy=True), tmp_path, "t1")


# --- duplicates ---------------------------------------------------------------------------------------------


def test_two_different_files_for_one_place_are_refused(tmp_path):
    plain(tmp_path / "raw", "a/s1_t1.nii.gz", "b/s1_t1.nii.gz")
    with pytest.raises(InputError, match=r"b/s1_t1\.nii\.gz: s1 already has another t1 file"):
        run(FolderAdapter(healthy=True), tmp_path, "t1")


def test_identical_copy_of_a_file_is_dropped_with_a_note(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / "raw" / folder).mkdir(parents=True)
        (tmp_path / "raw" / folder / "s1_t1.nii.gz").write_bytes(nifti("same"))
    table, notes = run(FolderAdapter(healthy=True), tmp_path, "t1")
    assert len(table) == 1 and "b/s1_t1.nii.gz: dropped, the same file as" in notes


def test_same_content_under_two_ids_keeps_the_first(tmp_path):
    plain(tmp_path / "raw", "s3_t1.nii.gz")
    for subject in ("s1", "s2"):
        (tmp_path / "raw" / f"{subject}_t1.nii.gz").write_bytes(nifti("same"))
    table, notes = run(FolderAdapter(healthy=True), tmp_path, "t1")
    assert list(table["subject"]) == ["s1", "s3"]
    assert "s2 dropped: its image has the same content as that of s1" in notes


def test_failed_ingest_leaves_no_table(tmp_path):
    plain(tmp_path / "raw", "a/s1_t1.nii.gz", "b/s1_t1.nii.gz")
    with pytest.raises(InputError):
        run(FolderAdapter(healthy=True), tmp_path, "t1")
    assert not (tmp_path / "table.tsv").exists()


def test_read_cohort_refuses_another_table(tmp_path):
    (tmp_path / "other.tsv").write_text("subject\tsite\ns1\tA\n")
    with pytest.raises(InputError, match="is not a cohort table, columns scanner"):
        read_cohort(tmp_path / "other.tsv")
    with pytest.raises(InputError, match=r"absent\.tsv: does not exist"):
        read_cohort(tmp_path / "absent.tsv")


# --- archives -----------------------------------------------------------------------------------------------


def test_truncated_archive_is_named(tmp_path):
    path = tar(tmp_path / "raw/IXI-T1.tar", "IXI002-Guys-0828-T1.nii.gz", "IXI012-HH-1211-T1.nii.gz")
    path.write_bytes(path.read_bytes()[:1800])  # inside the second file (512 header + 512 data each)
    with pytest.raises(InputError, match=r"IXI-T1\.tar: truncated"):
        run(Ixi(), tmp_path, "t1")
    assert not list((tmp_path / "unpacked").iterdir())


def test_archive_of_something_else_is_named(tmp_path):
    tar(tmp_path / "raw/IXI-T1.tar", "holiday.nii.gz")
    with pytest.raises(InputError, match=r"IXI-T1\.tar: holds no file that looks like ixi data"):
        run(Ixi(), tmp_path, "t1")


def test_other_archive_formats_are_pointed_out(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/3D-MR-MS.7z").write_bytes(b"7z")
    with pytest.raises(InputError, match=r"Found 3D-MR-MS\.7z: unpack it yourself"):
        run(Mslub(), tmp_path, "t2")
