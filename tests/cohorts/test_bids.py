"""BIDS folders: names and places as public data sets have them, and what is refused or passed over."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from uad.cohorts import ingest
from uad.cohorts.folder import FolderAdapter
from uad.common.errors import InputError


def place(raw: Path, *names: str) -> None:
    """A small volume of zeros and ones under each name, each with other ones."""
    for name in names:
        data = np.zeros((4, 5, 6), np.uint8)
        data[0, 0, 0] = 1
        data[1:3, :, :3] = np.reshape([(zlib.crc32(name.encode()) >> bit) % 2 for bit in range(30)], (2, 5, 3))
        path = raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = nib.Nifti1Image(data, np.eye(4)).to_bytes()
        path.write_bytes(gzip.compress(content, 1) if name.lower().endswith("gz") else content)


def run(tmp_path: Path, *modalities: str, healthy: bool = True, **options):
    """Rows by subject, the log as one text, and the report."""
    report = tmp_path / "out/mine.md"
    table, notes = ingest(
        FolderAdapter(healthy=healthy, **options), tmp_path / "raw", tmp_path / "unpacked", modalities,
        tmp_path / "out/mine.tsv", report_path=report,
    )  # fmt: skip
    raw = tmp_path / "raw"
    rows = {
        row["subject"]: {
            key: Path(row[key]).relative_to(raw).as_posix() for key in ("t1", "t2", "mask", "label") if row[key]
        }
        for row in table.to_dict("records")
    }
    return rows, "\n".join(notes), report.read_text()


# --- trees of bids-standard/bids-examples -------------------------------------------------------------------


def test_ds001(tmp_path):
    for n in ("01", "02"):
        stem = f"sub-{n}/anat/sub-{n}"
        bold = f"sub-{n}/func/sub-{n}_task-balloonanalogrisktask_run-01_bold.nii.gz"
        place(tmp_path / "raw", f"{stem}_T1w.nii.gz", f"{stem}_inplaneT2.nii.gz", bold)
    rows, log, report = run(tmp_path, "t1")
    assert rows == {f"sub-{n}": {"t1": f"sub-{n}/anat/sub-{n}_T1w.nii.gz"} for n in ("01", "02")}
    assert "4 image files passed over, neither a scan of the modalities asked for nor a brain or lesion mask: " in log
    assert log.count("and 1 more") == 1  # three names in the log, all in the report
    assert all(f"sub-{n}/anat/sub-{n}_inplaneT2.nii.gz" in report for n in ("01", "02"))


def test_7t_trt_has_anatomy_in_the_first_session_only(tmp_path):
    place(
        tmp_path / "raw",
        "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_T1map.nii.gz",
        "sub-01/ses-2/fmap/sub-01_ses-2_run-1_phasediff.nii.gz",
        "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz",
    )
    rows, _, _ = run(tmp_path, "t1")
    assert list(rows) == ["sub-01_ses-1", "sub-02_ses-1"]


def test_synthetic_with_fmriprep_beside_it(tmp_path):
    names = []
    for n in ("01", "02"):
        for ses in ("01", "02"):
            stem = f"sub-{n}/ses-{ses}/anat/sub-{n}_ses-{ses}"
            made = f"derivatives/fmriprep/{stem}"
            names += [f"{stem}_T1w.nii", f"{made}_desc-preproc_T1w.nii", f"{made}_desc-brain_mask.nii"]
            names += [f"{made}_space-MNI152NLin2009cAsym_desc-{what}.nii" for what in ("preproc_T1w", "brain_mask")]
    place(tmp_path / "raw", *names)
    rows, log, _ = run(tmp_path, "t1")
    assert list(rows) == ["sub-01_ses-01", "sub-01_ses-02", "sub-02_ses-01", "sub-02_ses-02"]
    assert rows["sub-01_ses-02"] == {
        "t1": "sub-01/ses-02/anat/sub-01_ses-02_T1w.nii",
        "mask": "derivatives/fmriprep/sub-01/ses-02/anat/sub-01_ses-02_desc-brain_mask.nii",
    }
    assert "8 image files passed over, an image that a program made (derivatives/)" in log
    assert "4 image files passed over, the mask of another grid or scan" in log


def test_fmriprep_output_itself_as_the_raw_folder(tmp_path):
    """ds000001-fmriprep."""
    stem = "sub-10/anat/sub-10"
    mni = f"{stem}_space-MNI152NLin2009cAsym_res-2"
    place(
        tmp_path / "raw",
        *(f"{start}_desc-{what}.nii.gz" for start in (stem, mni) for what in ("preproc_T1w", "brain_mask")),
        "sourcedata/raw/sub-10/anat/sub-10_T1w.nii.gz",
        "sub-10/func/sub-10_task-balloonanalogrisktask_run-1_space-MNI152NLin2009cAsym_res-2_desc-brain_mask.nii.gz",
    )
    rows, log, _ = run(tmp_path, "t1")
    assert rows == {"sub-10": {"t1": f"{stem}_desc-preproc_T1w.nii.gz", "mask": f"{stem}_desc-brain_mask.nii.gz"}}
    assert f"in the space of a template or resampled (space-, res-): {mni}_desc-preproc_T1w.nii.gz" in log
    assert "sourcedata/ is not data in BIDS: sourcedata/raw/sub-10/anat/sub-10_T1w.nii.gz" in log


def test_scans_that_are_all_in_a_template_space_have_masks_of_that_space(tmp_path):
    """ds000001-spm."""
    stem = "sub-15/anat/sub-15_space-IXI549Space"
    masks = (f"{stem}_desc-brain_mask.nii.gz", "sub-15/anat/sub-15_space-individual_desc-brain_mask.nii.gz")
    place(tmp_path / "raw", f"{stem}_desc-preproc_T1w.nii.gz", *masks)
    rows, _, _ = run(tmp_path, "t1")
    assert rows["sub-15"] == {"t1": f"{stem}_desc-preproc_T1w.nii.gz", "mask": masks[0]}


@pytest.mark.parametrize("apart", ["sourcedata", "code/test_data", "models", "stimuli"])
def test_folders_that_bids_sets_apart(tmp_path, apart):
    place(tmp_path / "raw", "sub-01/anat/sub-01_T2w.nii.gz", f"{apart}/sub-99/anat/sub-99_T2w.nii.gz")
    rows, log, _ = run(tmp_path, "t2")
    assert list(rows) == ["sub-01"]
    assert f"1 image file passed over, {apart.split('/')[0]}/ is not data in BIDS: {apart}/sub-99/anat/" in log


def test_a_data_set_below_rawdata(tmp_path):
    place(
        tmp_path / "raw",
        "rawdata/sub-01/anat/sub-01_T2w.nii.gz",
        "derivatives/manual/sub-01/anat/sub-01_label-lesion_mask.nii.gz",
    )
    (tmp_path / "raw/rawdata/participants.tsv").write_text("participant_id\tsite\nsub-01\tNA\n")
    rows, _, report = run(tmp_path, "t2", healthy=False)
    assert set(rows["sub-01"]) == {"t2", "label"}
    assert "| site NA | 1 |" in report


# --- several scans, several masks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["run-2_T1w", "run-10_T1w"], "run-2_T1w"),
        (["ce-gadolinium_T1w", "T1w"], "T1w"),
        (["run-1_ce-gd_T1w", "run-2_T1w"], "run-2_T1w"),
        (["desc-defaced_T1w", "T1w"], "T1w"),
        (["part-mag_T1w", "part-phase_T1w"], "part-mag_T1w"),
        (["T1W"], "T1W"),
    ],
)
def test_one_of_several_scans_is_taken_by_rule(tmp_path, names, taken):
    place(tmp_path / "raw", *(f"sub-01/anat/sub-01_{name}.nii.gz" for name in names))
    rows, log, _ = run(tmp_path, "t1")
    assert rows["sub-01"]["t1"] == f"sub-01/anat/sub-01_{taken}.nii.gz"
    assert all(f"sub-01_{name}.nii.gz" in log for name in names if name != taken)


def test_a_scan_with_contrast_agent_is_taken_where_there_is_no_other_and_said(tmp_path):
    place(tmp_path / "raw", "sub-01/anat/sub-01_ce-gadolinium_T1w.nii.gz", "sub-02/anat/sub-02_T1w.nii.gz")
    rows, log, _ = run(tmp_path, "t1")
    assert len(rows) == 2 and "1 scans have contrast agent (ce-), their subjects have no other: sub-01" in log


def test_scans_without_a_rule_are_refused_with_all_their_names(tmp_path):
    names = [f"sub-01/anat/sub-01_acq-{acq}_T2w.nii.gz" for acq in ("tse", "space", "haste")]
    place(tmp_path / "raw", *names)
    with pytest.raises(InputError, match="not clear which one counts; leave one") as error:
        run(tmp_path, "t2")
    assert all(name in str(error.value) for name in names)
    place(tmp_path / "raw", "sub-01/anat/sub-01_T1w.nii.gz")
    assert list(run(tmp_path, "t1")[0]) == ["sub-01"]  # the other modality is not asked for


def test_masks_follow_their_scan(tmp_path):
    made = "derivatives/x/sub-01/anat/sub-01"
    place(
        tmp_path / "raw",
        "sub-01/anat/sub-01_acq-3d_run-01_T2w.nii.gz",
        "sub-01/anat/sub-01_acq-3d_run-02_T2w.nii.gz",
        f"{made}_acq-3d_run-1_desc-brain_mask.nii.gz",
        f"{made}_acq-3d_run-02_desc-brain_mask.nii.gz",
        f"{made}_desc-brain_mask.nii.gz",
        f"{made}_T2w_label-lesion_roi.nii.gz",
        f"{made}_T1w_label-lesion_roi.nii.gz",
        "derivatives/x/sub-02/anat/sub-02_label-lesion_mask.nii.gz",
    )
    rows, log, _ = run(tmp_path, "t2", healthy=False)
    assert rows["sub-01"] == {
        "t2": "sub-01/anat/sub-01_acq-3d_run-01_T2w.nii.gz",
        "mask": f"{made}_acq-3d_run-1_desc-brain_mask.nii.gz",
        "label": f"{made}_T2w_label-lesion_roi.nii.gz",
    }
    assert "without a scan: derivatives/x/sub-02/anat/sub-02_label-lesion_mask.nii.gz" in log
    assert f"another mask fits the scan better (space-, res-, acq-, run-, ...): {made}_desc-brain_mask.nii.gz" in log


@pytest.mark.parametrize("modality", ["t1", "t2"])
def test_of_a_mask_per_contrast_a_cohort_of_one_modality_takes_its_own(tmp_path, modality):
    suffix = modality.upper() + "w"
    stem = "sub-01/anat/sub-01"
    place(tmp_path / "raw", f"{stem}_T1w.nii.gz", f"{stem}_T2w.nii.gz")
    place(tmp_path / "raw", *(f"{stem}_space-{s}_label-lesion_mask.nii.gz" for s in ("T1w", "T2w")))
    rows, _, _ = run(tmp_path, modality, healthy=False)
    assert rows["sub-01"]["label"] == f"{stem}_space-{suffix}_label-lesion_mask.nii.gz"
    with pytest.raises(InputError, match=r"a mask per modality, .*; make one cohort per modality"):
        run(tmp_path, "t1", "t2", healthy=False)


# --- names and places ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sub-EMI_301/anat/sub-EMI_301_T2w", "sub-EMI_301: a BIDS label .*e.g. sub-EMI_301 to sub-EMI301"),
        ("sub-AB-7/anat/sub-AB-7_T2w", "sub-AB-7: a BIDS label"),
        ("sub-ü/anat/sub-ü_T2w", "sub-ü: a BIDS label"),
        ("sub-1/ses-a_b/anat/sub-1_ses-a_b_T2w", "ses-a_b: a BIDS label"),
        ("sub-01/anat/sub-02_T2w", "sub-02_T2w.nii.gz: is named sub-02, but lies in sub-01"),
        ("sub-01/ses-1/anat/sub-01_T2w", "is named sub-01, but lies in sub-01/ses-1"),
        ("sub-01/ses-1/anat/sub-01_ses-2_T2w", "is named sub-01_ses-2, but lies in sub-01/ses-1"),
        ("sub-01/anat/sub-01_ses-1_T2w", "is named sub-01_ses-1, but lies in sub-01"),
        ("sub-01/anat/sub-01_my_T2w", "'my' is not one key"),
        ("sub-01/anat/sub-01_acq-a-b_T2w", "'acq-a-b' is not one key"),
        ("sub-01/anat/T2w", "is named without a subject"),
    ],
)
def test_names_that_do_not_say_who_it_is_are_refused(tmp_path, name, message):
    place(tmp_path / "raw", "sub-9/anat/sub-9_T2w.nii.gz", f"{name}.nii.gz")
    with pytest.raises(InputError, match=message) as error:
        run(tmp_path, "t2")
    assert "\n" not in str(error.value) and "rename" in str(error.value)


def test_what_only_resembles_bids_is_named(tmp_path):
    place(
        tmp_path / "raw", "sub-01/anat/sub-01_T2w.NII.GZ", "sub-02/sub-02_T2w.nii.gz", "sub-03_T2w.nii", "04_t2.nii.gz"
    )
    (tmp_path / "raw/sub-05.mgz").write_bytes(b"x")
    rows, log, _ = run(tmp_path, "t2")
    assert rows == {"sub-01": {"t2": "sub-01/anat/sub-01_T2w.NII.GZ"}}
    assert "2 image files passed over, not in a folder sub-<label>/[ses-<label>/]anat: " in log
    assert all(name in log for name in ("sub-02/sub-02_T2w.nii.gz", "sub-03_T2w.nii", "04_t2.nii.gz", "sub-05.mgz"))


def test_images_of_other_programs_alone_are_no_data(tmp_path):
    name = "derivatives/fmriprep/sub-01/anat/sub-01_desc-preproc_T1w.nii.gz"
    place(tmp_path / "raw", name)
    with pytest.raises(InputError, match=rf"no scan here \(1 image file passed over, .*derivatives/\): {name}\)"):
        run(tmp_path, "t1")


# --- flat ---------------------------------------------------------------------------------------------------


def test_flat_names_in_capitals_and_what_fits_no_pattern(tmp_path):
    place(
        tmp_path / "raw", "p1_t2.nii.gz", "p2_T2.NII.GZ", "p3_t2.NII", "p1_SEG.nii", "p2_Seg.nii.gz", "p3_seg.nii.gz",
        "p4_seg.nii.gz", "p5_flair.nii.gz", "sourcedata/p6_t2.nii.gz", "derivatives/x/p1_t2.nii.gz",
    )  # fmt: skip
    rows, log, report = run(tmp_path, "t2", healthy=False)
    assert list(rows) == ["p1", "p2", "p3"]
    assert "1 subjects dropped, no t2: p4" in log
    for text in (log, report):
        assert "do not end in _t1, _t2, _mask or _seg: p5_flair.nii.gz" in text
        assert "sourcedata/ is not data in BIDS: sourcedata/p6_t2.nii.gz" in text
        assert "derivatives/x/p1_t2.nii.gz" in text


# --- participants.tsv ---------------------------------------------------------------------------------------


def with_participants(tmp_path: Path, text: str, *subjects: str) -> tuple[dict, str, str]:
    place(tmp_path / "raw", *(f"{subject}_t2.nii.gz" for subject in subjects))
    (tmp_path / "raw/participants.tsv").write_text(text)
    return run(tmp_path, "t2")


def test_participants_with_or_without_sub_and_by_person(tmp_path):
    text = "participant_id\tage\tsite\tscanner\n001\t40\tNA\tnull\nsub-1\t89+\tNone\tn/a\nOAS2_0001\tn/a\tX\tY\n"
    _, log, _ = with_participants(tmp_path, text, "sub-001", "1", "OAS2_0001_MR2", "7")
    table = (tmp_path / "out/mine.tsv").read_text().splitlines()
    sites = {line.split("\t")[0]: tuple(line.split("\t")[1:4]) for line in table[1:]}
    assert sites == {
        "1": ("None", "", ""), "7": ("", "", ""), "OAS2_0001_MR2": ("X", "Y", ""), "sub-001": ("NA", "null", "40.0"),
    }  # fmt: skip
    assert "participants.tsv: lacks 1 subjects: 7" in log
    assert "ages that are not numbers stay empty: 89+" in log


def test_a_participant_with_and_without_sub_is_there_twice(tmp_path):
    with pytest.raises(InputError, match="every participant once"):
        with_participants(tmp_path, "participant_id\tage\nsub-1\t40\n1\t41\n", "1")


def test_masks_that_fit_no_scan_are_named_where_all_lack_one(tmp_path):
    place(tmp_path / "raw", "sub-1/anat/sub-1_T2w.nii.gz", "sub-1/anat/sub-1_space-T1w_label-lesion_mask.nii.gz")
    with pytest.raises(InputError, match=r"label is missing \(1 image file passed over, .*another grid .*T1w_label"):
        run(tmp_path, "t2", healthy=False)


def test_participants_that_match_nobody_are_said(tmp_path):
    _, log, _ = with_participants(tmp_path, "participant_id\tage\nsub-a\t40\n", "b1", "b2")
    assert "participants.tsv: names none of the 2 subjects" in log and "its ids are sub-a, the subjects' b1, b2" in log


def test_ids_that_look_like_numbers_or_nothing_stay_text(tmp_path):
    ids = ["001", "1", "1.0", "1e5", "NA", "None", "nan", "null"]
    rows, _, _ = with_participants(tmp_path, "participant_id\tsite\n" + "".join(f"{i}\t{i}\n" for i in ids), *ids)
    assert list(rows) == ids
    table = (tmp_path / "out/mine.tsv").read_text().splitlines()
    assert [line.split("\t")[:2] for line in table[1:]] == [[i, i] for i in ids]
