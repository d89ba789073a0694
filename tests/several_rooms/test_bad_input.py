"""Every row of docs/bad-input.md: the defect is made, and the message is the one that the table gives."""

from __future__ import annotations

import errno
import gzip
import io
import os
import re
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from places import ROOT

from uad.cohorts import find_adapter, ingest, read_cohort
from uad.cohorts.changes import state_of_folder, write_record
from uad.cohorts.folder import FolderAdapter
from uad.cohorts.leaks import check_leaks, find_leaks
from uad.cohorts.splits import draw_splits
from uad.common.errors import InputError
from uad.common.files import sha256_of
from uad.common.tabular import read_table
from uad.config import refuse_twice, resolve
from uad.config.model import PreprocessSettings
from uad.methods import Scan, load_method
from uad.preprocessing.register import register_shard
from uad.preprocessing.skull_strip import skull_strip_shard

DOCUMENT = ROOT / "docs" / "bad-input.md"
ROWS = dict(re.findall(r"^\| ([a-z0-9-]+) \|[^|]*\| `([^`]+)` \|$", DOCUMENT.read_text(), re.MULTILINE))
CASES: dict[str, Callable[[Path], None]] = {}

SHAPE = (32, 36, 40)  # 2950 ml, BALL 904
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
VOXELS = np.random.default_rng(0).integers(1, 200, SHAPE).astype(np.int16)
BALL = (sum(axis**2 for axis in np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")) < 0.7).astype(
    np.uint8
)
IXI = "IXI002-Guys-0828-T1.nii.gz"


def case(function: Callable[[Path], None]) -> Callable[[Path], None]:
    """A function that makes the defect named like itself and runs into it."""
    CASES[function.__name__.replace("_", "-")] = function
    return function


def test_table_and_cases_belong_together():
    assert set(ROWS) == set(CASES)
    assert len(ROWS) >= 30
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ") and "what is wrong" not in line]
    assert len(rows) == len(ROWS)  # no row escapes the pattern, no id is there twice


@pytest.mark.parametrize("name", ROWS)
def test_message(name, tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(InputError) as error:
        CASES[name](tmp_path)
    message, *more = str(error.value).splitlines()
    assert not more or all(line.startswith("config: ") for line in more)  # one line per mistake
    place = 0
    for fragment in ROWS[name].split("…"):
        assert fragment in message[place:], message
        place = message.index(fragment, place) + len(fragment)
    assert not (tmp_path / "table.tsv").exists()


# --- making things ------------------------------------------------------------------------------------------


def nifti(data=VOXELS, affine=AFFINE, **fields) -> bytes:
    """An uncompressed NIfTI file with header fields overwritten."""
    image = nib.Nifti1Image(data, affine)
    content = bytearray(image.to_bytes())
    offsets = {"dim": (40, "<8h"), "pixdim": (76, "<8f"), "qform_code": (252, "<h"), "sform_code": (254, "<h"),
               "srow": (280, "<12f"), "datatype": (70, "<h")}  # fmt: skip
    for field, value in fields.items():
        offset, form = offsets[field]
        struct.pack_into(form, content, offset, *np.atleast_1d(value))
    return bytes(content)


def save(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, 1, mtime=0) if path.suffix == ".gz" else content)
    return path


def tar(path: Path, *members: tuple[str | tarfile.TarInfo, bytes], mode="w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def run(tmp_path: Path, adapter: str, *modalities: str, **options) -> None:
    chosen = FolderAdapter(**options) if adapter == "folder" else find_adapter(adapter)()
    ingest(chosen, tmp_path / "raw", tmp_path / "unpacked", modalities, tmp_path / "table.tsv")


def ixi_tar(tmp_path: Path, *members, mode="w", name="IXI-T1.tar") -> None:
    tar(tmp_path / "raw" / name, *members, mode=mode)
    run(tmp_path, "ixi", "t1")


def own(tmp_path: Path, content: bytes, name="s_t2.nii.gz") -> None:
    """Ingest a healthy folder with one scan of these bytes."""
    save(tmp_path / "raw" / name, content)
    run(tmp_path, "folder", "t2", healthy=True)


def own_label(tmp_path: Path, label: bytes) -> None:
    save(tmp_path / "raw/s_t2.nii.gz", nifti())
    save(tmp_path / "raw/s_seg.nii.gz", label)
    run(tmp_path, "folder", "t2")


def brats(tmp_path: Path, shape=(240, 240, 155), mirror=1, labels=(1, 2, 4)) -> None:
    stem = tmp_path / "raw/BraTS2021_00000/BraTS2021_00000"
    affine = np.array([[-1.0 * mirror, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
    data = np.zeros(shape, np.uint8)
    data[0, 0, : len(labels)] = labels
    for kind in ("t2", "seg"):
        save(Path(f"{stem}_{kind}.nii.gz"), nifti(data, affine))
    run(tmp_path, "brats21", "t2")


def info(name: str, kind: bytes, link: str = "", size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, size
    return member


def flipped(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def strip(tmp_path: Path, image=VOXELS, mask=BALL, label=None, own_grid=False, **flags) -> pd.DataFrame:
    """Run the first stage on one scan that passed ingest."""
    files = {"t2": image, "mask": mask, "label": label}
    row = dict.fromkeys(("site", "scanner", "age", "t1", "t2", "mask", "label", "sha256"), "")
    row |= dict.fromkeys(("stripped", "registered", "bias_corrected"), "0") | {"subject": "s"} | flags
    for kind, data in files.items():
        if data is not None:
            content = data if isinstance(data, bytes) else nifti(data)
            row[kind] = str(save(tmp_path / "raw" / f"{kind}.nii.gz", content))
    return strip_rows(tmp_path, pd.DataFrame([row]), own_grid)


def strip_rows(tmp_path: Path, rows: pd.DataFrame, own_grid=False) -> pd.DataFrame:
    settings = PreprocessSettings(spacing_mm=4.0, max_failures=0)
    skull_strip_shard(
        rows, settings, tmp_path / "s", tmp_path / "s.tsv", name="x", label_on_own_grid=own_grid, progress=str
    )
    return rows


# --- archives -----------------------------------------------------------------------------------------------


@case
def archive_parent(tmp_path):
    ixi_tar(tmp_path, (f"../{IXI}", nifti()))


@case
def archive_absolute(tmp_path):
    ixi_tar(tmp_path, (f"/{IXI}", nifti()))


@case
def archive_backslash(tmp_path):
    ixi_tar(tmp_path, (f"..\\{IXI}", nifti()))


@case
def archive_link(tmp_path):
    ixi_tar(tmp_path, (info(IXI, tarfile.SYMTYPE, "/etc/hostname"), b""))


@case
def archive_device(tmp_path):
    ixi_tar(tmp_path, (info(IXI, tarfile.CHRTYPE), b""))


@case
def archive_bytes(tmp_path):
    header = info("filler", tarfile.REGTYPE, size=10**13).tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "raw/IXI-T1.tar.gz").write_bytes(gzip.compress(header + bytes(10**5)))
    run(tmp_path, "ixi", "t1")


@case
def archive_members(tmp_path):
    ixi_tar(tmp_path, *[(f"{i}", b"") for i in range(2401)])


@case
def archive_header(tmp_path):
    header = info("x", tarfile.XHDTYPE, size=10**9).tobuf()
    (tmp_path / "raw/IXI-T1.tar").write_bytes(header + bytes(1024))
    run(tmp_path, "ixi", "t1")


@case
def archive_tail(tmp_path):
    content = tar(tmp_path / "plain.tar", (IXI, nifti())).read_bytes()
    (tmp_path / "raw/IXI-T1.tar.gz").write_bytes(gzip.compress(content + bytes(2**25), 1))
    run(tmp_path, "ixi", "t1")


@case
def archive_twice(tmp_path):
    ixi_tar(tmp_path, (IXI, nifti()), (IXI, nifti()))


@case
def archive_name(tmp_path):
    ixi_tar(tmp_path, (f"a\tb/{IXI}", nifti()))


@case
def archive_folder(tmp_path):
    ixi_tar(tmp_path, (IXI, nifti()), (f"{IXI}/{IXI}", nifti()))


@case
def archive_cut(tmp_path):
    path = tar(tmp_path / "raw/IXI-T1.tar", (IXI, nifti()))
    path.write_bytes(path.read_bytes()[:1500])
    run(tmp_path, "ixi", "t1")


@case
def archive_bit(tmp_path):
    path = tar(tmp_path / "raw/IXI-T1.tar.gz", (IXI, np.random.default_rng(0).bytes(50_000)), mode="w:gz")
    flipped(path, 25_000)
    run(tmp_path, "ixi", "t1")


@case
def archive_html(tmp_path):
    (tmp_path / "raw/IXI-T1.tar").write_text("<html>please log in</html>")
    run(tmp_path, "ixi", "t1")


@case
def archive_password(tmp_path):
    path = tmp_path / "raw/IXI-T1.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(IXI, nifti())
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    run(tmp_path, "ixi", "t1")


@case
def archive_rar(tmp_path):
    (tmp_path / "raw/IXI-T1.zip").write_bytes(b"Rar!\x1a\x07\x01\x00" + bytes(1000))
    run(tmp_path, "ixi", "t1")


@case
def archive_method(tmp_path):
    path = tmp_path / "raw/IXI-T1.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(IXI, nifti())
    data = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(signature) + place] = 9
    path.write_bytes(data)
    run(tmp_path, "ixi", "t1")


@case
def archive_other(tmp_path):
    ixi_tar(tmp_path, ("holiday.jpg", b"1"))


@case
def archive_atlas_key(tmp_path):
    (tmp_path / "raw/ATLAS_R2.0_encrypted.tar.gz").write_bytes(b"U2FsdGVkX1")
    run(tmp_path, "atlas", "t1")


@case
def archive_7z(tmp_path):
    (tmp_path / "raw/3D-MR-MS.7z").write_bytes(b"7z")
    run(tmp_path, "mslub", "t2")


# --- folders and tables -------------------------------------------------------------------------------------


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


def bids(tmp_path: Path, *names: str) -> None:
    """A folder with a scan or lesion mask under each name; T1 is larger than T2."""
    for name in names:
        larger = np.vstack([BALL, BALL]) if "T1w" in name else BALL
        folders = "/".join(part for part in name.split("_") if part.startswith("sub-"))
        save(tmp_path / f"raw/{folders}/anat/{name}.nii.gz", nifti(larger))


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


# --- headers ------------------------------------------------------------------------------------------------


@case
def not_nifti(tmp_path):
    own(tmp_path, b"<html>not found</html>")


@case
def no_content(tmp_path):
    own(tmp_path, b"/annex/objects/MD5E-s100--0123.nii\n", "s_t2.nii")


@case
def link_to_nothing(tmp_path):
    (tmp_path / "raw/s_t2.nii.gz").symlink_to("../.git/annex/objects/x")
    run(tmp_path, "folder", "t2", healthy=True)


@case
def empty_file(tmp_path):
    own(tmp_path, b"", "s_t2.nii")


@case
def other_format(tmp_path):
    nib.save(nib.MGHImage(VOXELS.astype(np.float32), AFFINE), tmp_path / "scan.mgz")
    (tmp_path / "scan.mgz").rename(tmp_path / "raw/s_t2.nii.gz")
    run(tmp_path, "folder", "t2", healthy=True)


@case
def gzip_twice(tmp_path):
    own(tmp_path, gzip.compress(nifti()))


@case
def cut_gzip(tmp_path):
    path = save(tmp_path / "raw/s_t2.nii.gz", nifti())
    path.write_bytes(path.read_bytes()[:-200])
    run(tmp_path, "folder", "t2", healthy=True)


@case
def cut_nii(tmp_path):
    own(tmp_path, nifti()[:-200], "s_t2.nii")


@case
def too_long(tmp_path):
    own(tmp_path, nifti(dim=(3, *SHAPE[:2], SHAPE[2] - 1, 1, 1, 1, 1)))


@case
def four_axes(tmp_path):
    own(tmp_path, nifti(np.stack([VOXELS, VOXELS], axis=3)))


@case
def no_voxels(tmp_path):
    own(tmp_path, nifti(dim=(3, 10, 0, 12, 1, 1, 1, 1)))


@case
def too_many_voxels(tmp_path):
    own(tmp_path, nifti(dim=(3, 32767, 32767, 32767, 1, 1, 1, 1)))


@case
def colour(tmp_path):
    own(tmp_path, nifti(VOXELS.astype(np.complex64)))


@case
def no_orientation(tmp_path):
    own(tmp_path, nifti(sform_code=0, qform_code=0))


@case
def zero_spacing(tmp_path):
    own(tmp_path, nifti(srow=(4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0)))


@case
def metres(tmp_path):
    own(tmp_path, nifti(affine=np.diag([0.004, 0.004, 0.004, 1])))


@case
def sheared(tmp_path):
    own(tmp_path, nifti(srow=(4, 2, 0, 0, 0, 4, 0, 0, 0, 0, 4, 0)))


@case
def brats_shape(tmp_path):
    brats(tmp_path, (240, 240, 154))


@case
def brats_affine(tmp_path):
    brats(tmp_path, mirror=-1)


@case
def label_shape(tmp_path):
    own_label(tmp_path, nifti(BALL[:-1]))


@case
def label_two_grids(tmp_path):
    bids(tmp_path, "sub-1_T1w", "sub-1_T2w", "sub-1_label-lesion_mask")
    run(tmp_path, "folder", "t1", "t2")


@case
def label_shift(tmp_path):
    affine = AFFINE.copy()
    affine[0, 3] = 2.5
    own_label(tmp_path, nifti(BALL, affine))


@case
def label_apart(tmp_path):
    folder = tmp_path / "raw/training/Utrecht/0"
    save(folder / "orig/3DT1.nii.gz", nifti())
    affine = AFFINE.copy()
    affine[0, 3] = 500
    save(folder / "wmh.nii.gz", nifti(BALL, affine))
    run(tmp_path, "wmh", "t1")


@case
def label_release(tmp_path):
    brats(tmp_path, labels=(1, 2, 3))


@case
def label_fraction(tmp_path):
    own_label(tmp_path, nifti((BALL * 0.4).astype(np.float32)))


@case
def label_range(tmp_path):
    own_label(tmp_path, nifti(BALL.astype(np.int16) * 1000))


# --- configuration ------------------------------------------------------------------------------------------


@case
def key_twice(tmp_path):
    (tmp_path / "mine.yaml").write_text("cohorts:\n  wmh: null\ncohorts:\n  atlas: null\n")
    refuse_twice(tmp_path / "mine.yaml")


@case
def block_is_list(tmp_path):
    resolve({"cohorts": ["mine"]})


@case
def path_break(tmp_path):
    resolve({"data_dir": "a\nb", "cohorts": {}, "arms": {}})


@case
def path_brace(tmp_path):
    resolve({"data_dir": "{a}", "cohorts": {}, "arms": {}})


@case
def read_only(tmp_path):
    def refuse(*arguments, **options):  # root may write everywhere
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "mkstemp", refuse)
        own(tmp_path, nifti())


# --- voxels -------------------------------------------------------------------------------------------------


@case
def gone(tmp_path):
    row = {"subject": "s", "t1": "", "t2": "gone.nii.gz", "mask": "gone.nii.gz", "label": ""}
    strip_rows(tmp_path, pd.DataFrame([row | dict.fromkeys(("stripped", "registered", "bias_corrected"), "0")]))


@case
def changed_since(tmp_path):
    save(tmp_path / "raw/s_t2.nii.gz", nifti())
    save(tmp_path / "raw/s_mask.nii.gz", nifti(BALL))
    run(tmp_path, "folder", "t2", healthy=True)
    (tmp_path / "table.tsv").rename(tmp_path / "cohort.tsv")
    strip_rows(tmp_path, read_table(tmp_path / "cohort.tsv"))  # as ingest saw it
    save(tmp_path / "raw/s_t2.nii.gz", nifti(VOXELS + 1))
    strip_rows(tmp_path, read_table(tmp_path / "cohort.tsv"))


@case
def nan(tmp_path):
    image = VOXELS.astype(np.float32)
    image[3, 3, 3] = np.nan
    strip(tmp_path, image)


@case
def constant(tmp_path):
    strip(tmp_path, np.full(SHAPE, 7, np.int16))


@case
def gzip_bit(tmp_path):
    path = save(
        tmp_path / "raw/s_t2.nii.gz", nifti(np.random.default_rng(0).integers(0, 2**15, SHAPE).astype(np.int16))
    )
    flipped(path, path.stat().st_size // 2)
    run(tmp_path, "folder", "t2", healthy=True)  # header and length are fine
    (tmp_path / "table.tsv").rename(tmp_path / "cohort.tsv")
    strip_rows(tmp_path, read_table(tmp_path / "cohort.tsv").assign(mask=str(save(tmp_path / "m.nii.gz", nifti(BALL)))))


@case
def empty_mask(tmp_path):
    strip(tmp_path, mask=np.zeros_like(BALL))


@case
def label_nowhere(tmp_path):
    label = np.zeros(SHAPE, np.uint8)
    label[0, 0, 0] = 1
    affine = AFFINE.copy()
    affine[:3, 3] = -20  # the grids overlap, the labelled corner is outside
    strip(tmp_path, label=nifti(label, affine), own_grid=True)


@case
def whole_box(tmp_path):
    strip(tmp_path, mask=np.ones_like(BALL))


@case
def tiny_mask(tmp_path):
    mask = np.zeros_like(BALL)
    mask[10:20, 10:20, 10:20] = 1
    strip(tmp_path, mask=mask)


@case
def cut_brain(tmp_path):
    strip(tmp_path, image=VOXELS[:, :, 20:], mask=BALL[:, :, 20:])


@case
def background(tmp_path):
    strip(tmp_path, image=np.where(BALL, VOXELS, -1).astype(np.int16), mask=None, stripped="1")


@case
def z_scored(tmp_path):
    strip(tmp_path, image=((VOXELS - 100) / 57).astype(np.float32))


@case
def label_tissue(tmp_path):
    strip(tmp_path, label=BALL)


@case
def label_elsewhere(tmp_path):
    label = np.zeros_like(BALL)
    label[1:4, 1:4, 1:4] = 1
    strip(tmp_path, label=label)


@case
def off_atlas(tmp_path):
    rows = strip(tmp_path, image=VOXELS * BALL, mask=None, stripped="1", registered="1", bias_corrected="1")
    nib.save(nib.Nifti1Image(np.roll(BALL, 10, 0).astype(np.float32) * 100, AFFINE), tmp_path / "atlas.nii.gz")
    register(tmp_path, rows)


@case
def not_registered(tmp_path):
    rows = strip(tmp_path, image=VOXELS * BALL, mask=None, stripped="1", registered="1")
    affine = AFFINE.copy()
    affine[:3, 3] = 100
    nib.save(nib.Nifti1Image(BALL.astype(np.float32) * 100, affine), tmp_path / "atlas.nii.gz")
    register(tmp_path, rows)


def register(tmp_path: Path, rows: pd.DataFrame) -> None:
    settings = PreprocessSettings(spacing_mm=4.0, max_failures=0, register_stripped_registered=False)
    register_shard(
        rows, read_table(tmp_path / "s.tsv"), tmp_path / "atlas.nii.gz", settings, tmp_path / "f", tmp_path / "f.tsv",
        name="x", seed=1, progress=str,
    )  # fmt: skip


@case
def float32(tmp_path):
    strip(tmp_path, VOXELS * 1e300)


@case
def subject_twice(tmp_path):
    row = {"subject": "s", "t1": "", "t2": "x.nii.gz", "mask": "", "label": ""}
    row |= dict.fromkeys(("stripped", "registered", "bias_corrected"), "0")
    strip_rows(tmp_path, pd.DataFrame([row, row]))


@case
def atlas_gone(tmp_path):
    register(tmp_path, strip(tmp_path))


# --- anomaly maps -------------------------------------------------------------------------------------------


def read_map(tmp_path: Path, values, edit=lambda path: None) -> None:
    """Read the map [Z, Y, X] of subject `s` for a brain in the first two thirds of y, and the verdict on all maps."""
    y = np.indices(MAP)[1]
    maps = load_method("maps")
    method = maps(maps.Params(folder=str(tmp_path)))
    if values is not None:
        np.save(tmp_path / "s.npy", values)
        edit(tmp_path / "s.npy")
    method.enter("mine", "t2", 0)
    brain = y < 16
    method.anomaly_map(Scan("s", np.float32(brain), brain, np.uint8(0 * y)), np.random.default_rng(0))
    method.doubts()


MAP = (16, 24, 20)
RANDOM = np.random.default_rng(0).random(MAP) * (np.indices(MAP)[1] < 16)


def with_first(value: float) -> np.ndarray:
    values = RANDOM.copy()
    values[0, 0, 0] = value
    return values


@case
def map_missing(tmp_path):
    read_map(tmp_path, None)


@case
def map_broken(tmp_path):
    read_map(tmp_path, RANDOM, lambda path: path.write_bytes(path.read_bytes()[:200]))


@case
def map_shape(tmp_path):
    read_map(tmp_path, RANDOM.transpose())


@case
def map_nan(tmp_path):
    read_map(tmp_path, with_first(np.nan))


@case
def map_negative(tmp_path):
    read_map(tmp_path, with_first(-1))


@case
def map_float32(tmp_path):
    read_map(tmp_path, RANDOM * 1e-40 / RANDOM.max())


@case
def map_constant(tmp_path):
    read_map(tmp_path, np.ones(MAP))


@case
def map_outside(tmp_path):
    read_map(tmp_path, np.float32(RANDOM == 0))


@case
def map_turned(tmp_path):
    read_map(tmp_path, RANDOM[:, ::-1])
