"""Archives made to harm: nothing may be written outside the target, nor more than the data set can need."""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import stat
import struct
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from uad.cohorts import ADAPTERS
from uad.cohorts.unpack import MARKER, unpack
from uad.common.errors import InputError

WANTED = [re.compile(r"(?:^|/)keep\d*\.bin$")]
BOUNDS = {"max_bytes": 10**6, "max_members": 100}


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def written(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if not path.is_dir() and path.name != MARKER)
    return {path.relative_to(folder).as_posix() for path in paths}


def refused(archive: Path, tmp_path: Path, match: str) -> None:
    before = written(tmp_path)
    with pytest.raises(InputError, match=match) as error:
        unpack(archive, tmp_path / "deep" / "out", WANTED, **BOUNDS)
    assert str(error.value).startswith(f"{archive}: ")
    assert "\n" not in str(error.value)
    assert written(tmp_path) == before


# --- leaving the target -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_that_is_not_wanted_is_never_made_so_nothing_is_written_through_it(kind, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = tar_of(
        tmp_path / "x.tar", (member("door", kind, link=str(outside)), b""), (member("door/keep.bin"), b"1")
    )
    target = unpack(archive, tmp_path / "out", WANTED, **BOUNDS)
    assert written(target) == {"door/keep.bin"}
    assert not (target / "door").is_symlink()
    assert not list(outside.iterdir())


def test_a_wanted_name_behind_a_link_inside_the_archive_is_refused(tmp_path):
    archive = tar_of(
        tmp_path / "x.tar", (member("keep.bin", tarfile.SYMTYPE, link="../../victim"), b""), (member("keep.bin"), b"1")
    )
    refused(archive, tmp_path, "'keep.bin' is a link or device")


@pytest.mark.parametrize("kind", [tarfile.BLKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_devices_are_refused(kind, tmp_path):
    refused(tar_of(tmp_path / "x.tar", (member("keep.bin", kind), b"")), tmp_path, "is a link or device")


@pytest.mark.parametrize("name", ["/etc/keep.bin", "../keep.bin", "a/../../keep.bin", "..\\keep.bin", "C:\\keep.bin"])
@pytest.mark.parametrize("form", ["tar", "tar.gz", "zip", "tar in zip"])
def test_no_form_of_archive_leads_outside(name, form, tmp_path):
    if form == "zip":
        archive = tmp_path / "x.zip"
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr(zipfile.ZipInfo(name), b"1")
    elif form == "tar in zip":
        inner, archive = tar_of(tmp_path / "inner.tar", (member(name), b"1")), tmp_path / "x.zip"
        with zipfile.ZipFile(archive, "w") as packed:
            packed.write(inner, "inner.tar")
    else:
        archive = tar_of(tmp_path / f"x.{form}", (member(name), b"1"), mode="w:gz" if form == "tar.gz" else "w")
    refused(archive, tmp_path, "would be written outside the target folder")


def test_modes_and_owners_of_a_member_do_not_count(tmp_path):
    info = member("keep.bin")
    info.mode, info.uid = 0o6777, 0  # set-user-id root
    target = unpack(tar_of(tmp_path / "x.tar", (info, b"1")), tmp_path / "out", WANTED, **BOUNDS)
    assert not (target / "keep.bin").stat().st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH)


# --- bombs --------------------------------------------------------------------------------------------------


def test_a_gzip_bomb_is_refused_before_it_is_unrolled(tmp_path):
    """4 GB of zeros in a member that nobody asked for."""
    archive = tmp_path / "x.tar.gz"
    header = member("filler.bin", size=4 * 10**9).tobuf()
    archive.write_bytes(gzip.compress(header + bytes(10**6)))
    start = time.perf_counter()
    refused(archive, tmp_path, r"unpacks to more than 0\.001 GB")
    assert time.perf_counter() - start < 5


def test_many_tiny_members(tmp_path):
    archive = tar_of(tmp_path / "x.tar", *[(member(f"d{i}/keep.bin"), b"1") for i in range(101)])
    refused(archive, tmp_path, "has more than 100 members")


def test_a_comment_too_large_for_memory(tmp_path):
    """tarfile would read the 8 GB that a pax header announces in one piece."""
    archive = tmp_path / "x.tar"
    archive.write_bytes(member("pax", tarfile.XHDTYPE, size=8 * 10**9 - 1).tobuf() + bytes(1024))
    refused(archive, tmp_path, "announces 7999999999 bytes")


def test_a_negative_size(tmp_path):
    """It would move the reader backwards, to the same header again."""
    header = bytearray(member("keep.bin").tobuf())
    header[124:136] = b"\xff" * 11 + b"\x00"  # base-256: -256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "x.tar").write_bytes(bytes(header) + bytes(1024))
    refused(tmp_path / "x.tar", tmp_path, "announces -256 bytes")


def test_a_zip_that_lies_about_its_sizes(tmp_path):
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("keep.bin", bytes(10**7))
    data = bytearray(archive.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 10)
    archive.write_bytes(data)
    refused(archive, tmp_path, "damaged")


@pytest.mark.parametrize("name", [name for name, adapter in ADAPTERS.items() if adapter.parts])
def test_bounds_follow_from_the_published_sizes(name):
    """docs/paper.md#ixi to docs/paper.md#wmh: unpacked sizes in GB; the bound leaves room and is no blank cheque."""
    published = {
        "ixi": (4.84, 581),
        "brats21": (13.4, 6255),
        "mslub": (0, 180),
        "atlas": (10.6, 1610),
        "wmh": (8.8, 1791),
    }
    gigabytes, files = published[name]
    largest = max(part.gigabytes for part in ADAPTERS[name].parts)
    assert gigabytes < largest < 150
    assert files <= max(part.members for part in ADAPTERS[name].parts) <= 500_000


# --- contradictions and damage ------------------------------------------------------------------------------


def test_a_member_that_is_there_twice(tmp_path):
    refused(
        tar_of(tmp_path / "x.tar", (member("keep.bin"), b"1"), (member("./keep.bin"), b"2")), tmp_path, "is there twice"
    )


def test_a_file_where_a_folder_has_to_be(tmp_path):
    archive = tar_of(tmp_path / "x.tar", (member("keep.bin"), b"1"), (member("keep.bin/keep2.bin"), b"2"))
    refused(archive, tmp_path, "cannot be unpacked into")


def test_a_name_that_breaks_a_table(tmp_path):
    archive = tar_of(tmp_path / "x.tar", (member("a\tb\n/keep.bin"), b"1"))
    refused(archive, tmp_path, r"'a\\tb\\n/keep\.bin' has an unprintable name")


def test_a_flipped_bit_in_a_compressed_tar(tmp_path):
    archive = tar_of(tmp_path / "x.tar.gz", (member("keep.bin"), os.urandom(50_000)), mode="w:gz")
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    refused(archive, tmp_path, "truncated, damaged")


def test_a_flipped_bit_in_a_tar_inside_a_zip(tmp_path):
    inner = tar_of(tmp_path / "inner.tar", (member("keep.bin"), os.urandom(50_000)))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.write(inner, "inner.tar")
    data = bytearray((tmp_path / "x.zip").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "x.zip").write_bytes(data)
    refused(tmp_path / "x.zip", tmp_path, "truncated, damaged")


def test_a_bomb_behind_the_last_member(tmp_path):
    archive = tar_of(tmp_path / "x.tar", (member("keep.bin"), b"1"))
    bomb = tmp_path / "x.tar.gz"
    bomb.write_bytes(gzip.compress(archive.read_bytes() + bytes(2**25)))
    refused(bomb, tmp_path, "16777216 bytes after its last member")


def test_an_unknown_compression_in_a_zip(tmp_path):
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("keep.bin", b"1")
    data = bytearray(archive.read_bytes())
    for marker, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        place = data.index(marker) + offset
        data[place : place + 2] = struct.pack("<H", 97)
    archive.write_bytes(data)
    refused(archive, tmp_path, "compression")


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_a_full_disk_is_named(form, small_disk, tmp_path):
    (tmp_path / "keep.bin").write_bytes(os.urandom(600_000))
    archive = Path(shutil.make_archive(str(tmp_path / "x"), form, tmp_path, "keep.bin"))
    with pytest.raises(InputError, match=r"No space left on device.*make room and run again") as caught:
        unpack(archive, small_disk / "out", WANTED)
    assert "\n" not in str(caught.value) and not list(small_disk.iterdir())


def test_a_zip_may_hold_names_that_other_systems_forbid(tmp_path):
    archive = tmp_path / "x.zip"
    name = "test/Amsterdam/Philips_VU .PETMR_01./160/keep.bin"  # WMH: a space and a trailing dot
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(name, b"1")
        packed.writestr("__MACOSX/._keep.bin", b"junk")
    assert written(unpack(archive, tmp_path / "out", WANTED, **BOUNDS)) == {name}
