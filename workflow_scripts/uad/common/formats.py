"""What kind of file a file is, by its first bytes, because names are often wrong; and image formats by file name."""

from __future__ import annotations

import re

HEAD = 512  # bytes that `what_is` needs
GZIP = b"\x1f\x8b"
_AS_NIFTI = "convert it to NIfTI"
_UNPACK = "unpack it and place what it holds"
_MAGIC = (  # place, bytes, what it is, what to do
    (0, b"version https://git-lfs", "a Git LFS pointer, its content is not here", "run `git lfs pull`"),
    (0, b"/annex/objects/", "a git-annex pointer, its content is not here", "run `datalad get` or `git annex get`"),
    (0, b"../.git/annex", "a git-annex pointer, its content is not here", "run `datalad get` or `git annex get`"),
    (0, b"PK\x03\x04", "a zip archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"BZh", "compressed with bzip2", "decompress it (bunzip2), or compress it with gzip"),
    (0, b"\xfd7zXZ\x00", "compressed with xz", "decompress it (unxz), or compress it with gzip"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with Zstandard", "decompress it (unzstd), or compress it with gzip"),
    (0, b"NRRD0", "an NRRD file", f"{_AS_NIFTI} (3D Slicer, or SimpleITK)"),
    (0, b"ObjectType = Image", "a MetaImage file", f"{_AS_NIFTI} (3D Slicer, or SimpleITK)"),
    (0, b"CDF", "a MINC file", f"{_AS_NIFTI} (mnc2nii)"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 or MINC 2 file", f"{_AS_NIFTI} (mnc2nii)"),
    (0, b"\x00\x00\x00\x01\x00\x00", "a FreeSurfer volume (MGH)", f"{_AS_NIFTI} (mri_convert)"),
    (128, b"DICM", "a DICOM file", f"{_AS_NIFTI} (dcm2niix)"),
    (0, b"MATLAB 5.0", "a MATLAB file", _AS_NIFTI),
    (344, b"ni1\0", "the header of a pair of files (.hdr and .img)", f"{_AS_NIFTI} in one file"),
    (344, b"ni2\0", "the header of a pair of files (.hdr and .img)", f"{_AS_NIFTI} in one file"),
)  # fmt: skip
_WEB_PAGE = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|\?xml)", re.IGNORECASE)
_ANALYZE = (b"\x5c\x01\0\0", b"\0\0\x01\x5c")  # 348, the size of the header
_NAMES = (
    (r"\.mg[hz]", "FreeSurfer volumes", "mri_convert"),
    (r"\.hdr|\.img(?:\.gz)?", "pairs of .hdr and .img", "any NIfTI tool"),
    (r"\.nrrd|\.nhdr|\.mha|\.mhd", "NRRD or MetaImage volumes", "3D Slicer, or SimpleITK"),
    (r"\.mnc(?:\.gz)?", "MINC volumes", "mnc2nii"),
    (r"\.dcm|\.ima", "DICOM files", "dcm2niix"),
    (r"\.nii\.(?:bz2|xz|zst|zip|gz\.gz|Z)", "NIfTI files in another compression than gzip", "decompress them"),
)


def what_is(head: bytes) -> tuple[str, str] | None:
    """(what a file is, what to do about it) by its first bytes; None if unknown."""
    if not head:
        return "empty (0 bytes)", "fetch it again"
    if not head.strip(b"\0"):
        return "full of zeros, as a stopped copy leaves it", "fetch it again"
    if _WEB_PAGE.match(head):
        return "a web page in place of the file (a login or an error page)", "fetch it again"
    for place, magic, what, cure in _MAGIC:
        if head[place : place + len(magic)] == magic:
            return what, cure
    if head[:4] in _ANALYZE and head[344:348] == b"\0\0\0\0":
        return "an Analyze header, which does not say where left and right are", f"{_AS_NIFTI} from the original"
    return None


def foreign(name: str) -> tuple[str, str] | None:
    """(kind, tool that converts it) of an image file that is not NIfTI, by its name; None for any other file."""
    return next(((what, tool) for end, what, tool in _NAMES if re.search(rf"(?:{end})$", name, re.IGNORECASE)), None)
