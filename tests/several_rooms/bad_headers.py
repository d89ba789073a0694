"""Headers and labels: one function per row of docs/bad-input.md makes the defect and runs into it."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
from bad_files import AFFINE, BALL, SHAPE, VOXELS, bids, brats, case, nifti, own, own_label, run, save


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
