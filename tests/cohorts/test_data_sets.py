"""Adapters against tiny archives in the data sets' own layouts (docs/paper.md#ixi to docs/paper.md#wmh)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xlwt
from tiny_archives import plain, run, tar, zipped

from uad.cohorts.atlas import Atlas
from uad.cohorts.brats21 import Brats21
from uad.cohorts.ixi import Ixi
from uad.cohorts.mslub import Mslub
from uad.cohorts.wmh import Wmh
from uad.common.errors import InputError

# --- IXI ----------------------------------------------------------------------------------------------------

IXI_BOTH = ("IXI002-Guys-0828", "IXI012-HH-1211", "IXI034-IOP-0873", "IXI219-Guys-0894", "IXI500-HH-2000")


def write_ixi(raw: Path, rows: list[tuple[float, float]]) -> None:
    tar(raw / "IXI-T1.tar", *[f"{s}-T1.nii.gz" for s in (*IXI_BOTH, "IXI116-Guys-0739")])
    tar(raw / "IXI-T2.tar", *[f"{s}-T2.nii.gz" for s in (*IXI_BOTH, "IXI580-IOP-1157")])
    book = xlwt.Workbook()
    book.add_sheet("Ethnicity").write(0, 0, "code")
    sheet = book.add_sheet("Table")
    for i, row in enumerate([("IXI_ID", "AGE", "SEX_ID (1=m, 2=f)"), *[(*row, 1) for row in rows]]):
        for j, value in enumerate(row):
            if value is not None:
                sheet.write(i, j, value)
    book.save(str(raw / "IXI.xls"))


def test_ixi(tmp_path):
    rows = [(2, 35.8), (12, 0), (12, 38.78), (219, 41.0), (219, 63.5), (500, None), (116, 50.0)]
    write_ixi(tmp_path / "raw", rows)
    table, notes = run(Ixi(), tmp_path, "t1", "t2", published=True)
    assert tuple(table["subject"]) == IXI_BOTH
    assert list(table["site"]) == ["Guys", "HH", "IOP", "Guys", "HH"]
    assert list(table["scanner"][:3]) == ["Philips 1.5T", "Philips 3T", "GE 1.5T"]
    # the full row of a duplicate counts; contradictory, missing and zero ages stay empty
    np.testing.assert_array_equal(table["age"], [35.8, 38.78, np.nan, np.nan, np.nan])
    assert not table["label"].any() and not table[["stripped", "registered", "bias_corrected"]].any(axis=None)
    assert "1 subjects dropped, no t2: IXI116-Guys-0739" in notes
    assert "1 subjects dropped, no t1: IXI580-IOP-1157" in notes
    assert "IXI219" in notes and "full data set has 577" in notes


def test_ixi_needs_no_xls_and_one_modality_no_second_archive(tmp_path):
    tar(tmp_path / "raw" / "IXI-T2.tar", "IXI002-Guys-0828-T2.nii.gz")
    table, notes = run(Ixi(), tmp_path, "t2")
    assert list(table["subject"]) == ["IXI002-Guys-0828"] and table["age"].isna().all()
    assert "no IXI.xls" in notes
    with pytest.raises(InputError, match="t1 is missing"):
        run(Ixi(), tmp_path, "t1", "t2")


def test_ixi_unpacked_files_win_over_the_archive(tmp_path):
    tar(tmp_path / "raw" / "IXI-T2.tar", "IXI002-Guys-0828-T2.nii.gz")
    plain(tmp_path / "raw", "T2/IXI002-Guys-0828-T2.nii.gz")
    table, notes = run(Ixi(), tmp_path, "t2")
    assert table["t2"][0] == str(tmp_path / "raw/T2/IXI002-Guys-0828-T2.nii.gz")
    assert "IXI-T2.tar: not read" in notes and not (tmp_path / "unpacked").exists()


def test_ixi_number_with_two_scans_is_refused(tmp_path):
    plain(tmp_path / "raw", "IXI002-Guys-0828-T1.nii.gz", "IXI002-Guys-0999-T1.nii.gz")
    with pytest.raises(InputError, match="IXI002-Guys-0828, IXI002-Guys-0999"):
        run(Ixi(), tmp_path, "t1")


def test_ixi_broken_sheet_is_named(tmp_path):
    tar(tmp_path / "raw" / "IXI-T1.tar", "IXI002-Guys-0828-T1.nii.gz")
    (tmp_path / "raw" / "IXI.xls").write_text("<html>not found</html>")
    with pytest.raises(InputError, match=r"IXI\.xls: cannot read IXI_ID and AGE"):
        run(Ixi(), tmp_path, "t1")


# --- BraTS --------------------------------------------------------------------------------------------------


def brats_files(prefix: str, *cases: str) -> list[str]:
    kinds = ("flair", "seg", "t1", "t1ce", "t2")
    return [f"{prefix}{case}/{case}_{kind}.nii.gz" for case in cases for kind in kinds]


def brats_kaggle(raw: Path) -> None:
    tar(raw / "BraTS2021_Training_Data.tar", *brats_files("./", "BraTS2021_00000", "BraTS2021_01666"))
    tar(raw / "BraTS2021_00495.tar", *brats_files("./", "BraTS2021_00495"))  # sample case, not part of the set


def brats_kaggle_zip(raw: Path) -> None:
    inner = tar(raw.parent / "inner.tar", *brats_files("./", "BraTS2021_00000", "BraTS2021_01666"))
    zipped(raw / "brats-2021-task1.zip", extra={"BraTS2021_Training_Data.tar": inner.read_bytes()})


def brats_synapse(raw: Path) -> None:
    stem = "RSNA_ASNR_MICCAI_BraTS2021_TrainingData_16July2021"
    zipped(raw / f"{stem}.zip", *brats_files(f"{stem}/", "BraTS2021_00000", "BraTS2021_01666"))


def brats_tcia(raw: Path) -> None:
    base = "RSNA-ASNR-MICCAI-BraTS-2021/BraTS2021_TrainingSet"
    plain(raw, *brats_files(f"{base}/UCSF-PDGM/", "BraTS2021_00000"))
    plain(raw, *brats_files(f"{base}/new-not-previously-in-TCIA/", "BraTS2021_01666"))


@pytest.mark.parametrize(
    ("layout", "sites"),
    [
        (brats_kaggle, ["", ""]),
        (brats_kaggle_zip, ["", ""]),
        (brats_synapse, ["", ""]),
        (brats_tcia, ["UCSF-PDGM", "new-not-previously-in-TCIA"]),
    ],
)
def test_brats_layouts(layout, sites, tmp_path):
    layout(tmp_path / "raw")
    table, _ = run(Brats21(), tmp_path, "t2")
    assert list(table["subject"]) == ["BraTS2021_00000", "BraTS2021_01666"]
    assert list(table["site"]) == sites
    assert [Path(path).name for path in table["t2"]] == [f"{s}_t2.nii.gz" for s in table["subject"]]
    assert [Path(path).name for path in table["label"]] == [f"{s}_seg.nii.gz" for s in table["subject"]]
    assert (table[["stripped", "registered"]] == 1).all(axis=None) and not table["bias_corrected"].any()
    assert not list((tmp_path / "unpacked").rglob("*flair*"))  # only what is needed is unpacked


def test_brats_case_without_seg_is_dropped_with_a_note(tmp_path):
    plain(tmp_path / "raw", *brats_files("", "BraTS2021_00000"), "BraTS2021_00001/BraTS2021_00001_t2.nii.gz")
    table, notes = run(Brats21(), tmp_path, "t2")
    assert list(table["subject"]) == ["BraTS2021_00000"]
    assert "1 subjects dropped, no label: BraTS2021_00001" in notes


# --- MSLUB --------------------------------------------------------------------------------------------------


def mslub_official(prefix: str = "") -> list[str]:
    files = []
    for patient in ("patient01", "patient30"):
        stem = f"{prefix}{patient}/{patient}"
        files += [f"{stem}_{kind}.nii.gz" for kind in ("T1W", "T1WKS", "T2W", "FLAIR", "brainmask", "consensus_gt")]
        files += [f"{prefix}{patient}/raw/{patient}_{kind}.nii.gz" for kind in ("T1W", "T2W", "FLAIR")]
    return files


def mslub_zip(raw: Path) -> None:
    zipped(raw / "3D-MR-MS.zip", *mslub_official())


def mslub_folder(raw: Path) -> None:
    plain(raw, *mslub_official("3D-MR-MS/"))


def mslub_github(raw: Path) -> None:
    kinds = ("T1W", "T2W", "FLAIR", "brainmask", "consensus_gt")
    groups = ("raw", "coregistered", "coregistered_resampled", "MNI")
    plain(
        raw,
        *[f"cross_sectional/{g}/patient{p}/{k}.nii.gz" for g in groups for p in ("01", "30") for k in kinds],
        *[f"longitudinal/coregistered/patient01/{k}.nii.gz" for k in kinds],
    )


@pytest.mark.parametrize("layout", [mslub_zip, mslub_folder, mslub_github])
def test_mslub_layouts(layout, tmp_path):
    layout(tmp_path / "raw")
    table, _ = run(Mslub(), tmp_path, "t1", "t2")
    assert list(table["subject"]) == ["patient01", "patient30"]
    parents = {Path(path).parent.name for column in ("t1", "t2", "label") for path in table[column]}
    assert parents == {"patient01", "patient30"}  # never from `raw`
    assert all(Path(path).name.endswith("consensus_gt.nii.gz") for path in table["label"])
    assert not table["mask"].any()  # the shipped brain mask is not used
    if layout is mslub_github:
        assert all("cross_sectional/coregistered/" in path for path in table["t2"])


def test_mslub_ages_from_the_github_copy(tmp_path):
    mslub_github(tmp_path / "raw")
    sheet = tmp_path / "raw/cross_sectional/patient_info.csv"
    sheet.write_text("patient_id,age,sex,ms_type,edss,criteria\npatient01,31,F,RR,N/A,N/A\npatient30,N/A,F,RR,2,N/A\n")
    table, _ = run(Mslub(), tmp_path, "t2")
    np.testing.assert_array_equal(table["age"], [31, np.nan])


# --- ATLAS --------------------------------------------------------------------------------------------------


def atlas_files() -> list[str]:
    files = []
    for site, subject in (("R001", "sub-r001s001"), ("R031", "sub-r031s006")):
        stem = f"ATLAS_2/Training/{site}/{subject}/ses-1/anat/{subject}_ses-1_space-MNI152NLin2009aSym"
        files += [f"{stem}_T1w.nii.gz", f"{stem}_label-L_desc-T1lesion_mask.nii.gz"]
    test = "ATLAS_2/Testing/R002/sub-r002s001/ses-1/anat/sub-r002s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz"
    return [*files, test]


def test_atlas(tmp_path):
    files = atlas_files()
    junk = {str(Path(files[0]).parent / f"._{Path(files[0]).name}"): b"junk", "ATLAS_2/.DS_Store": b"junk"}
    sheet = "Subject ID,Session,Scanner Strength,Scanner Brand\nsub-r031s006,ses-1,3T,Philips Achieva\n"
    junk["ATLAS_2/20220425_ATLAS_2.0_MetaData.csv"] = sheet.encode()
    tar(tmp_path / "raw/ATLAS_R2.0.tar.gz", *files, mode="w:gz", extra=junk)
    table, notes = run(Atlas(), tmp_path, "t1", published=True)
    assert list(table["subject"]) == ["sub-r001s001", "sub-r031s006"]
    assert list(table["site"]) == ["R001", "R031"]
    assert list(table["scanner"]) == ["", "Philips Achieva 3T"]
    assert all(path.endswith("_label-L_desc-T1lesion_mask.nii.gz") for path in table["label"])
    assert not table[["stripped", "registered"]].any(axis=None)  # MNI is not SRI24
    assert "full data set has 655" in notes
    names = {path.name for path in (tmp_path / "unpacked").rglob("*")}
    assert not any(name.startswith("._sub") or "r002" in name or name == ".DS_Store" for name in names)


def test_atlas_still_encrypted_says_how_to_decrypt(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/ATLAS_R2.0_encrypted.tar.gz").write_bytes(b"U2FsdGVkX1")
    with pytest.raises(InputError, match=r"Found ATLAS_R2\.0_encrypted\.tar\.gz, which is still .*-md sha256 -d -a"):
        run(Atlas(), tmp_path, "t1")


# --- WMH ----------------------------------------------------------------------------------------------------

WMH_SITES = (("Utrecht", "0"), ("Singapore", "50"), ("GE3T", "100"))


def wmh_files(folder: str) -> list[str]:
    orig = [f"{folder}/orig/{kind}.nii.gz" for kind in ("3DT1", "3DT1_mask", "FLAIR", "T1")]
    return [*orig, f"{folder}/pre/3DT1.nii.gz", f"{folder}/pre/T1.nii.gz", f"{folder}/wmh.nii.gz"]


def wmh_new() -> list[str]:
    folders = ["training/Utrecht/0", "training/Singapore/50", "training/Amsterdam/GE3T/100"]
    folders += ["test/Amsterdam/Philips_VU .PETMR_01./160", "test/Utrecht/3", "test/Amsterdam/GE3T/110"]
    extra = ["additional_annotations/observer_o3/training/Utrecht/0/result.nii.gz"]
    return [name for folder in folders for name in wmh_files(folder)] + extra


def wmh_dataverse(raw: Path) -> None:
    zipped(raw / "dataverse_files.zip", *wmh_new())


def wmh_folder(raw: Path) -> None:
    plain(raw, *wmh_new())


def wmh_old(raw: Path) -> None:
    for name, (site, number) in zip(("Utrecht", "Singapore", "Amsterdam_GE3T"), WMH_SITES, strict=True):
        zipped(raw / f"{name}.zip", *wmh_files(f"{site}/{number}"))


def wmh_mixed(raw: Path) -> None:
    wmh_old(raw)
    (raw / "Utrecht.zip").unlink()
    plain(raw, *wmh_files("Utrecht/0"))


@pytest.mark.parametrize("layout", [wmh_dataverse, wmh_folder, wmh_old, wmh_mixed])
def test_wmh_layouts(layout, tmp_path):
    layout(tmp_path / "raw")
    table, _ = run(Wmh(), tmp_path, "t1")
    assert list(table["subject"]) == ["GE3T_100", "Singapore_50", "Utrecht_0"]  # ids as in the authors' CSVs
    assert list(table["site"]) == ["GE3T", "Singapore", "Utrecht"]
    assert all(path.endswith("/orig/3DT1.nii.gz") for path in table["t1"])
    assert all(path.endswith("/wmh.nii.gz") for path in table["label"])
