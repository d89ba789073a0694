"""Archives: one function per row of docs/bad-input.md makes the defect and runs into it."""

from __future__ import annotations

import gzip
import tarfile
import zipfile

import numpy as np
from bad_files import IXI, case, flipped, info, ixi_tar, nifti, run, tar


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
