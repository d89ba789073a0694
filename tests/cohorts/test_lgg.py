"""Kaggle's glioma slices become scans: which channel, which way up, how large.  The slices here are made up."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import lgg_from_kaggle
import nibabel
import numpy as np
import pytest
from PIL import Image

from uad.cohorts.folder import FolderAdapter
from uad.common.errors import InputError

SLICES = 11  # more than nine: numbers are not in the order of their text
NECK, CROWN = 100, 20  # half-width of the head in pixels, first and last slice


def write_patient(folder: Path, patient: str, *, t1: bool = True, downwards: bool = False) -> None:
    """A head that gets narrower and brighter from slice to slice, brighter at the front, with a lesion."""
    place = folder / "kaggle_3m" / f"{patient}_19960909"
    place.mkdir(parents=True)
    for n in range(SLICES):
        half = round(NECK + (CROWN - NECK) * n / (SLICES - 1))
        head = np.zeros((256, 256), np.uint8)
        head[128 - half : 128 + half, 128 - half : 128 + half] = 100 + n
        head[128 - half : 128, 128 - half : 128 + half] += 100  # rows count from the front
        flair = head // 2
        mask = np.zeros((256, 256), np.uint8)
        if n == 4:
            mask[100:104, 60:68] = 255
        number = SLICES - n if downwards else n + 1
        channels = np.stack([head if t1 else flair, flair, flair], axis=-1)
        Image.fromarray(channels).save(place / f"{place.name}_{number}.tif")
        Image.fromarray(mask).save(place / f"{place.name}_{number}_mask.tif")


def run(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["lgg_from_kaggle", *map(str, arguments)])
    lgg_from_kaggle.main()


@pytest.mark.parametrize("downwards", [False, True])
def test_slices_become_a_scan_that_the_adapter_reads(tmp_path, monkeypatch, capsys, downwards):
    for patient in ("TCGA_CS_4941", "TCGA_DU_5849"):
        write_patient(tmp_path, patient, downwards=downwards)
    write_patient(tmp_path, "TCGA_FG_0000", t1=False, downwards=downwards)
    run(monkeypatch, tmp_path / "kaggle_3m", tmp_path / "lgg")
    table = FolderAdapter().scans(tmp_path / "lgg", tmp_path / "none", ("t1",))
    assert list(table["subject"]) == ["sub-TCGACS494119960909", "sub-TCGADU584919960909"]
    scan, label = (nibabel.load(table[column][0]) for column in ("t1", "label"))
    assert scan.shape == label.shape == (128, 128, SLICES) and nibabel.aff2axcodes(scan.affine) == ("R", "A", "S")
    assert np.allclose(scan.affine, [[1.875, 0, 0, -120], [0, 1.875, 0, -120], [0, 0, 150 / SLICES, -75], [0, 0, 0, 1]])
    assert scan.get_data_dtype() == label.get_data_dtype() == np.uint8 and scan.header.get_xyzt_units()[0] == "mm"
    values, lesion = np.asarray(scan.dataobj), np.asarray(label.dataobj)
    assert [int(values[..., z].max()) for z in range(SLICES)] == [200 + n for n in range(SLICES)]  # neck first
    assert values[64, 100, 0] == 200 and values[64, 28, 0] == 100  # the front is at large y
    assert np.argwhere(lesion).tolist() == [[x, y, 4] for x in range(30, 34) for y in (76, 77)]
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert "1 patients left out" in said and ("head to foot" if downwards else "foot to head") in said


def test_kaggles_archive_has_every_patient_twice(tmp_path, monkeypatch):
    write_patient(tmp_path, "TCGA_CS_4941")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        for path in sorted((tmp_path / "kaggle_3m").rglob("*.tif")):
            name = path.relative_to(tmp_path).as_posix()
            archive.write(path, name)
            archive.write(path, f"lgg-mri-segmentation/{name}")
        archive.writestr("kaggle_3m/data.csv", "Patient\n")
    run(monkeypatch, tmp_path / "archive.zip", tmp_path / "raw/lgg")
    assert len(FolderAdapter().scans(tmp_path / "raw/lgg", tmp_path / "none", ("t1",))) == 1
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == ["lgg"]  # no slices are left behind


def test_what_is_not_the_data_set_is_said_with_its_file(tmp_path):
    out = tmp_path / "lgg"

    def complaint() -> str:
        with pytest.raises(InputError) as caught:
            lgg_from_kaggle.convert(tmp_path / "kaggle_3m", out, print)
        assert not out.exists()
        return str(caught.value)

    (tmp_path / "kaggle_3m").mkdir()
    assert "name the archive as downloaded" in complaint()
    write_patient(tmp_path, "TCGA_CS_4941")
    place = tmp_path / "kaggle_3m" / "TCGA_CS_4941_19960909"
    (place / f"{place.name}_5.tif").rename(tmp_path / "away.tif")
    assert "lacks slice 5" in complaint()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(place / f"{place.name}_5.tif")
    assert f"{place.name}_5.tif: has uint8 (64, 64, 3)" in complaint()
    (place / f"{place.name}_5.tif").write_bytes(b"no picture")
    assert f"{place.name}_5.tif: cannot be read as TIFF" in complaint()
    (tmp_path / "away.tif").rename(place / f"{place.name}_5.tif")
    (place / f"{place.name}_5_mask.tif").unlink()
    assert f"{place.name}_5_mask.tif: does not exist" in complaint()
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    write_patient(tmp_path, "TCGA_FG_0000", t1=False)
    assert "no patient here has a T1 before contrast" in complaint()
