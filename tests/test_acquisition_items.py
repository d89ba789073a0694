"""Items of the source table: what is there, fetched from local servers, decrypted, unpacked, planned."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import xlwt
import yaml
from local_server import LocalServer, cut, dataverse_listing, page, serve, status

from uad.acquisition import credentials, dataverse
from uad.acquisition.download import Downloader, Patience
from uad.acquisition.inventory import Inventory, Need
from uad.acquisition.needs import needs_of, read_needs, write_sources
from uad.acquisition.plan import missing_lines, report, state_of
from uad.acquisition.provide import provide
from uad.acquisition.record import Record, pinned_sha256
from uad.acquisition.sources import Settings, read_sources, source_of
from uad.cohorts import ADAPTERS, ingest
from uad.config import resolve
from uad.errors import InputError
from uad.preprocessing.templates import find_atlas

ROOT = Path(__file__).parents[1]
KEY = "open sesame 42"
SECRETS = ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR", "ATLAS_KEY")
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="the program openssl is not installed")


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch, tmp_path):
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def nifti(name: str, label: bool = False) -> bytes:
    """A 4x4x4 scan whose voxels follow from its name."""
    values = np.frombuffer(hashlib.sha256(name.encode()).digest() * 2, np.uint8).reshape(4, 4, 4)
    image = nibabel.Nifti1Image((values > 200).astype(np.uint8) if label else values, np.eye(4))
    return gzip.compress(image.to_bytes(), mtime=0)


def scans(*names: str) -> dict[str, bytes]:
    return {name: nifti(name, any(word in name for word in ("seg", "gt", "mask", "wmh"))) for name in names}


def tar(members: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def ages() -> bytes:
    book = xlwt.Workbook()
    sheet = book.add_sheet("Table")
    for row, cells in enumerate([("IXI_ID", "AGE"), (2, 35.8), (12, 38.7)]):
        for column, cell in enumerate(cells):
            sheet.write(row, column, cell)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def encrypted(content: bytes, folder: Path, *options: str) -> bytes:
    (folder / "plain").write_bytes(content)
    subprocess.run(
        ["openssl", "aes-256-cbc", "-md", "sha256", "-a", "-salt", *options, "-in", "plain", "-out", "secret",
         "-pass", "env:TEST_KEY"],
        cwd=folder, env=os.environ | {"TEST_KEY": KEY}, check=True, capture_output=True,
    )  # fmt: skip
    return (folder / "secret").read_bytes()


IXI = {
    "/IXI-T1.tar": tar(scans("IXI002-Guys-0828-T1.nii.gz", "IXI012-HH-1211-T1.nii.gz")),
    "/IXI-T2.tar": tar(scans("IXI002-Guys-0828-T2.nii.gz", "IXI012-HH-1211-T2.nii.gz")),
    "/IXI.xls": ages(),
}
MSLUB = {
    f"/coregistered/{name}": content
    for n in range(1, 31)
    for name, content in scans(f"patient{n:02d}/T2W.nii.gz", f"patient{n:02d}/consensus_gt.nii.gz").items()
}
WMH = scans(
    "training/Utrecht/0/orig/3DT1.nii.gz",
    "training/Utrecht/0/wmh.nii.gz",
    "training/Amsterdam/GE3T/100/orig/3DT1.nii.gz",
    "training/Amsterdam/GE3T/100/wmh.nii.gz",
    "training/Singapore/50/orig/3DT1.nii.gz",
    "training/Singapore/50/wmh.nii.gz",
)
WMH_OTHERS = scans(
    "training/Utrecht/0/pre/FLAIR.nii.gz",
    "test/Amsterdam/Philips_VU .PETMR_01./160/orig/3DT1.nii.gz",
    "test/Amsterdam/GE3T/110/orig/3DT1.nii.gz",
) | {"readme.pdf": b"%PDF"}
ATLAS_STEM = "ATLAS_2/Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym"
ATLAS = tar(scans(f"{ATLAS_STEM}_T1w.nii.gz", f"{ATLAS_STEM}_label-L_desc-T1lesion_mask.nii.gz"), "w:gz")
BRATS = tar(scans(*(f"./BraTS2021_00000/BraTS2021_00000_{kind}.nii.gz" for kind in ("t1", "t2", "seg"))))


def dataverse_files() -> dict[str, bytes]:
    files = WMH | WMH_OTHERS
    listing = {"/api/datasets/:persistentId/": dataverse_listing(files, sha1)}
    return listing | {f"/api/access/datafile/{n}": content for n, content in enumerate(files.values(), start=1)}


class Item:
    """An item that is provided from a local server."""

    def __init__(self, folder: Path, item: str, files: dict[str, bytes], *modalities: str):
        self.folder = folder / item
        self.server, self.item, self.modalities, self.said = LocalServer(files), item, modalities, []
        self.offline, self.base = False, None

    def settings(self) -> Settings:
        known = {file.name for file in read_sources()[self.item].files}
        served = {path[1:]: sha256(content) for path, content in self.server.files.items() if path[1:] in known}
        return Settings(self.offline, {self.item: self.base or self.server.url}, served)

    def inventory(self) -> Inventory:
        return Inventory(Need(self.item, self.item, self.folder, self.modalities), self.settings())

    def provide(self) -> None:
        downloader = Downloader(self.said.append, Patience(timeout=5, attempts=2, back_off=0.01), lambda _: None)
        provide(self.inventory(), self.said.append, downloader)

    def refused(self) -> str:
        with pytest.raises(InputError) as caught:
            self.provide()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def state(self):
        return state_of(Need(self.item, self.item, self.folder, self.modalities), self.settings())

    def paths(self) -> set[str]:
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}

    def subjects(self) -> list[str]:
        table, _ = ingest(
            ADAPTERS[self.item](), self.folder, self.folder.parent / "unpacked", self.modalities,
            self.folder.parent / "table.tsv", published=False,
        )  # fmt: skip
        return list(table["subject"])


@pytest.fixture
def item(tmp_path):
    with contextlib.ExitStack() as stack:

        def make(name: str, files: dict[str, bytes], *modalities: str) -> Item:
            made = Item(tmp_path, name, dict(files), *modalities)
            stack.enter_context(serve(made.server))
            return made

        yield make


# --- the table ------------------------------------------------------------------------------------


def test_the_table_says_what_the_facts_say():
    """data_and_tools_facts 1, 4, 6, 9."""
    sources = read_sources()
    assert set(ADAPTERS) - {"folder"} | {"sri24", "hd-bet", "medicalnet", "authors-splits"} == set(sources)
    for source in sources.values():
        assert source.access in ("open", "token", "form") and source.licence and source.citation and source.by_hand
        assert source.base_url.startswith("https://") and "\n" not in source.by_hand
    files = {file.name: file for source in sources.values() for file in source.files}
    assert files["IXI-T1.tar"].bytes == 4_840_816_640 and files["IXI-T2.tar"].bytes == 3_853_445_120
    assert files["IXI-T1.tar"].digest[1].startswith("56bbe911fbe9")
    assert files["ATLAS_R2.0_encrypted.tar.gz"].bytes == 14_393_499_795
    assert files["sri24_anatomy_nifti.zip"].digest[1].startswith("c2a66abd5bb3")
    assert files["resnet_10_23dataset.pth"].bytes == 57_456_599 and len(files["resnet_10_23dataset.pth"].urls) == 2
    for name in ("BraTS2021_Training_Data.tar", "release_v1.5.0.zip", "IXI.xls"):
        assert files[name].digest is None  # nobody publishes them
    assert all(re.fullmatch("[0-9a-f]{64}", file.digest[1]) for file in files.values() if file.digest)


def test_the_shared_copies_of_the_split_files_have_the_hashes_of_the_table():
    copies = ROOT.parent / "shared" / "data" / "splits"
    if not copies.is_dir():
        pytest.skip(f"the authors' split files are not at {copies} (not part of the project)")
    for file in read_sources()["authors-splits"].files:
        content = (copies / file.name).read_bytes()
        assert (len(content), sha256(content)) == (file.bytes, file.digest[1])


def test_a_cohort_of_one_modality_needs_the_files_of_that_modality():
    assert [file.name for file in source_of("ixi", Settings()).wanted(("t2",))] == ["IXI-T2.tar", "IXI.xls"]
    mslub = source_of("mslub", Settings()).wanted(("t2",))
    assert len(mslub) == 61 and mslub[0].urls[0].endswith("/6570490/cross_sectional/coregistered/patient01/T2W.nii.gz")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"base_url": {"ixy": "http://x"}}, "sources.base_url.ixy: no such item; known: ixi"),
        ({"base_url": {"ixi": "https://me:secret@host/x"}}, "holds a user name; use ~/.netrc"),
        ({"base_url": {"ixi": "ftp://host/x"}}, "use http, https, file or a folder, not ftp"),
        ({"sha256": {"IXI-T9.tar": "0" * 64}}, "sources.sha256.IXI-T9.tar: no item"),
    ],
)
def test_wrong_settings_are_refused(wrong, words):
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        Settings(**wrong)
    assert "secret" not in str(caught.value)


# --- archives: IXI --------------------------------------------------------------------------------


def test_ixi_is_fetched_checked_and_ingested(item):
    ixi = item("ixi", IXI, "t1", "t2")
    assert ixi.state().status == "fetchable"
    ixi.provide()
    assert ixi.paths() == {"IXI-T1.tar", "IXI-T2.tar", "IXI.xls", "fetched.json"}
    assert ixi.subjects() == ["IXI002-Guys-0828", "IXI012-HH-1211"]
    assert ixi.state().status == "present"
    before = len(ixi.server.requests)
    ixi.provide()
    assert len(ixi.server.requests) == before  # nothing is asked for again


def test_placed_files_are_checked_and_never_replaced(item):
    ixi = item("ixi", IXI, "t1")
    ixi.folder.mkdir()
    placed = ixi.folder / "IXI-T1.tar"
    placed.write_bytes(IXI["/IXI-T1.tar"][:-100])
    line = ixi.refused()
    assert str(placed) in line and "published is" in line and "sources.sha256" in line
    assert placed.stat().st_size == len(IXI["/IXI-T1.tar"]) - 100 and not ixi.server.requests
    ixi.settings = lambda: Settings(base_url={"ixi": ixi.server.url})  # the real size is known
    assert "has 10140 bytes, the published file 4840816640" in ixi.refused()


@pytest.mark.parametrize("name", ["IXI-T1.zip", "scans/IXI002-Guys-0828-T1.nii.gz"])
def test_what_is_placed_in_another_form_is_not_fetched(item, name):
    ixi = item("ixi", IXI, "t1", "t2")
    place = ixi.folder / name
    place.parent.mkdir(parents=True)
    place.write_bytes(b"placed")
    ixi.provide()
    assert {request.path for request in ixi.server.requests} == {"/IXI-T2.tar", "/IXI.xls"}
    assert place.read_bytes() == b"placed"


def test_offline_uses_what_is_there_and_says_what_is_missing(item):
    ixi = item("ixi", IXI, "t1", "t2")
    ixi.offline = True
    line = ixi.refused()
    assert "IXI-T1.tar, IXI-T2.tar not in" in line and "sources.offline is set" in line and "CC BY-SA 3.0" in line
    assert line.endswith("or run without it: --config 'cohorts={ixi: null}'")
    assert ixi.state().status == "needs you" and not ixi.server.requests
    ixi.folder.mkdir()
    for name in ("IXI-T1.tar", "IXI-T2.tar"):
        (ixi.folder / name).write_bytes(IXI[f"/{name}"])
    ixi.provide()
    assert not ixi.server.requests


def test_a_table_that_could_not_be_fetched_is_tried_again(item):
    ixi = item("ixi", IXI, "t1")
    ixi.server.tricks["/IXI.xls"] = [status(403)]
    ixi.provide()
    ixi.offline = True
    ixi.provide()
    assert ixi.said[-1] == "offline, goes without IXI.xls"
    ixi.offline = False
    ixi.provide()
    assert "IXI.xls" in ixi.paths()


def test_a_local_folder_serves_a_whole_item(item, tmp_path):
    ixi = item("ixi", IXI, "t1", "t2")
    (tmp_path / "mirror").mkdir()
    for path, content in IXI.items():
        (tmp_path / "mirror" / path[1:]).write_bytes(content)
    ixi.base = (tmp_path / "mirror").as_uri()
    ixi.provide()
    assert ixi.subjects() == ["IXI002-Guys-0828", "IXI012-HH-1211"] and not ixi.server.requests


# --- single files: MSLUB, WMH ---------------------------------------------------------------------


def test_mslub_is_fetched_file_by_file_and_continued(item):
    mslub = item("mslub", MSLUB, "t2")
    mslub.server.tricks["/coregistered/patient21/T2W.nii.gz"] = [status(404)]
    assert "patient21/T2W.nii.gz: the server does not have this file (404)" in mslub.refused()
    assert mslub.state().status == "fetchable"
    mslub.provide()
    counts = [mslub.server.sent(path) == len(content) for path, content in MSLUB.items()]
    assert all(counts) and len(mslub.subjects()) == 30
    assert any("goes without patient_info.csv" in line for line in mslub.said)


def test_without_a_published_hash_the_first_one_is_pinned_and_holds(item):
    mslub = item("mslub", MSLUB, "t2")
    mslub.settings = lambda: Settings(base_url={"mslub": mslub.server.url})
    mslub.provide()
    name = "coregistered/patient07/T2W.nii.gz"
    digest = sha256(MSLUB[f"/{name}"])
    assert f"pinned {name}: sha256 {digest}" in mslub.said
    entry = Record(mslub.folder).entries[name]
    assert entry["origin"] == "pinned" and entry["url"] == f"{mslub.server.url}/{name}"
    assert pinned_sha256(mslub.folder / name, mslub.folder) == digest
    (mslub.folder / name).write_bytes(nifti("another"))
    line = mslub.refused()
    assert f"{name}: has sha256" in line and "pinned (in fetched.json) is" in line
    (mslub.folder / name).unlink()
    mslub.server.files[f"/{name}"] = nifti("another")
    assert f"expected {digest[:12]}..." in mslub.refused() and name not in mslub.paths()


def test_wmh_is_fetched_by_the_list_of_the_server(item):
    wmh = item("wmh", dataverse_files(), "t1")
    assert wmh.state().fetch is None
    wmh.provide()
    assert wmh.paths() == {*WMH, "fetched.json", ".dataverse.json"}
    assert all((wmh.folder / name).read_bytes() == content for name, content in WMH.items())
    assert wmh.subjects() == ["GE3T_100", "Singapore_50", "Utrecht_0"]
    assert {entry["origin"] for entry in Record(wmh.folder).entries.values()} == {"published"}
    assert wmh.server.requests[0].headers["User-Agent"] == "uadbench"
    (wmh.folder / "training/Utrecht/0/wmh.nii.gz").unlink()
    state = wmh.state()
    assert (state.status, state.fetch) == ("fetchable", len(WMH["training/Utrecht/0/wmh.nii.gz"]))
    wmh.provide()
    assert wmh.state().status == "present"


def test_a_wmh_file_with_another_checksum_is_refused(item):
    wmh = item("wmh", dataverse_files(), "t1")
    wmh.server.files["/api/access/datafile/1"] = WMH["training/Utrecht/0/wmh.nii.gz"]
    assert re.search("offers .* bytes|sent a file with sha1", wmh.refused())
    assert "training/Utrecht/0/orig/3DT1.nii.gz" not in wmh.paths()


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        (b"{}", "did not send a Dataverse file list (KeyError"),
        (b"[1, 2]", "did not send a Dataverse file list (TypeError"),
        (b"{", "did not send a Dataverse file list"),
        (dataverse_listing({"a/b.txt": b""}, sha1), "its list of 1 files has none of the scans"),
        (dataverse_listing({"../training/Utrecht/0/wmh.nii.gz": b""}, sha1), "lies outside the data set"),
    ],
)
def test_a_list_that_is_none_is_refused(item, listing, words):
    wmh = item("wmh", {"/api/datasets/:persistentId/": listing}, "t1")
    assert words in wmh.refused() and "wmh" not in wmh.paths() and ".dataverse.json" not in wmh.paths()


def test_wmh_from_a_local_folder(item, tmp_path):
    wmh = item("wmh", {}, "t1")
    wmh.base = str(tmp_path / "mirror")
    assert "has none of the scans; correct sources.base_url.wmh" in wmh.refused()
    assert wmh.state().status == "needs you" and "none of the scans" in wmh.state().step
    for name, content in (WMH | WMH_OTHERS).items():
        (tmp_path / "mirror" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mirror" / name).write_bytes(content)
    wmh.provide()
    assert wmh.paths() == {*WMH, "fetched.json"} and wmh.state().status == "present"


def test_a_page_instead_of_the_list_is_refused(item):
    wmh = item("wmh", dataverse_files(), "t1")
    wmh.server.tricks["/api/datasets/:persistentId/"] = [page]
    assert "a web page came" in wmh.refused() and not wmh.paths()


def test_the_address_of_the_list_is_that_of_the_facts():
    """data_and_tools_facts 5."""
    source = read_sources()["wmh"]
    url = dataverse.listing_url(source.base_url, source.dataverse)
    assert url == "https://dataverse.nl/api/datasets/:persistentId/?persistentId=doi:10.34894/AECRSD"


def test_wmh_placed_by_hand_needs_no_list(item):
    wmh = item("wmh", {}, "t1")
    for name, content in WMH.items():
        (wmh.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (wmh.folder / name).write_bytes(content)
    wmh.provide()
    assert wmh.state().status == "present" and not wmh.server.requests


# --- keys: ATLAS, BraTS ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def atlas_archive(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl is not installed")
    return encrypted(ATLAS, tmp_path_factory.mktemp("openssl"))


def test_atlas_without_key_is_asked_for_before_hours_of_fetching(item, atlas_archive):
    atlas = item("atlas", {"/ATLAS_R2.0_encrypted.tar.gz": atlas_archive}, "t1")
    line = atlas.refused()
    assert line.startswith("atlas: ATLAS_KEY is not set") and "Ask for the key" in line and not atlas.server.requests
    assert atlas.state().status == "needs you"


def test_atlas_is_fetched_and_decrypted(item, atlas_archive, monkeypatch):
    atlas = item("atlas", {"/ATLAS_R2.0_encrypted.tar.gz": atlas_archive}, "t1")
    monkeypatch.setenv("ATLAS_KEY", "open sesame 43")
    line = atlas.refused()
    assert "ATLAS_KEY is not the key of this file" in line and "sesame" not in line
    assert atlas.paths() == {"ATLAS_R2.0_encrypted.tar.gz", "fetched.json"}
    monkeypatch.setenv("ATLAS_KEY", f" {KEY}\n")  # as it is copied from a mail
    assert atlas.state().status == "fetchable"
    atlas.provide()
    assert (atlas.folder / "ATLAS_R2.0.tar.gz").read_bytes() == ATLAS
    assert atlas.server.sent("/ATLAS_R2.0_encrypted.tar.gz") == len(atlas_archive)  # once
    assert atlas.subjects() == ["sub-r001s001"]
    (atlas.folder / "ATLAS_R2.0_encrypted.tar.gz").unlink()
    assert atlas.state().status == "present"
    assert not any("sesame" in line for line in atlas.said)


@needs_openssl
def test_another_encryption_is_told_from_a_wrong_key(item, monkeypatch):
    monkeypatch.setenv("ATLAS_KEY", KEY)
    other = item("atlas", {"/ATLAS_R2.0_encrypted.tar.gz": b"ccrypt" * 100}, "t1")
    assert "openssl has not encrypted this" in other.refused()


def test_atlas_without_openssl(item, atlas_archive, monkeypatch, tmp_path):
    atlas = item("atlas", {"/ATLAS_R2.0_encrypted.tar.gz": atlas_archive}, "t1")
    monkeypatch.setenv("ATLAS_KEY", KEY)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "needs the program openssl" in atlas.refused()


def test_brats_needs_a_key_or_an_archive(tmp_path):
    need = Need("brats21", "brats21", tmp_path / "brats21", ("t2",))
    with pytest.raises(InputError, match=r"KAGGLE_USERNAME and KAGGLE_KEY .* Synapse .* TCIA .* CC BY 4.0"):
        provide(Inventory(need, Settings()), print)
    assert state_of(need, Settings()).status == "needs you"
    need.folder.mkdir()
    (need.folder / "BraTS2021_Training_Data.tar").write_bytes(BRATS)
    provide(Inventory(need, Settings()), print)
    assert state_of(need, Settings()).status == "present"


def test_brats_comes_with_the_kaggle_key_or_from_a_mirror_without_it(item, monkeypatch):
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    monkeypatch.setenv("KAGGLE_KEY", "s3cret")
    brats = item("brats21", {"/BraTS2021_Training_Data.tar": BRATS}, "t2")
    assert state_of(Need("brats21", "brats21", brats.folder, ("t2",)), Settings()).status == "fetchable"
    brats.provide()
    assert brats.subjects() == ["BraTS2021_00000"]
    assert "Authorization" not in brats.server.requests[0].headers  # it is Kaggle's key, not the mirror's
    key = credentials.kaggle()
    assert key.hosts == ("www.kaggle.com", "kaggle.com") and key.header == "Basic bWU6czNjcmV0"
    assert "czNjcmV0" not in repr(key)


def test_kaggles_own_file_is_read_and_not_shown(monkeypatch, tmp_path):
    assert credentials.kaggle() is None
    folder = tmp_path / "home" / ".kaggle"
    folder.mkdir(parents=True)
    (folder / "kaggle.json").write_text(json.dumps({"username": "me", "key": "s3cret"}))
    assert credentials.kaggle().header == "Basic bWU6czNjcmV0"
    (folder / "kaggle.json").write_text('{"key": "s3cret"}')
    with pytest.raises(InputError, match="has no username and key") as caught:
        credentials.kaggle()
    assert "s3cret" not in str(caught.value)


# --- tools ----------------------------------------------------------------------------------------

HD_BET = {"dataset.json": b"{}", "plans.json": b"{}", "fold_all/checkpoint_final.pth": b"weights"}


def test_hd_bet_is_unpacked_and_its_checkpoint_pinned(item):
    hd_bet = item("hd-bet", {"/release_v1.5.0.zip": zipped(HD_BET | {"extra.txt": b"x", "../evil": b""})})
    hd_bet.settings = lambda: Settings(base_url={"hd-bet": hd_bet.server.url})
    assert "lies outside the archive" in hd_bet.refused()
    shutil.rmtree(hd_bet.folder)
    hd_bet.server.files["/release_v1.5.0.zip"] = zipped(HD_BET | {"extra.txt": b"x"})
    hd_bet.provide()
    assert hd_bet.paths() == {*HD_BET, "fetched.json"}
    checkpoint = hd_bet.folder / "fold_all/checkpoint_final.pth"
    assert pinned_sha256(checkpoint, hd_bet.folder) == sha256(b"weights")
    assert any(f"pinned fold_all/checkpoint_final.pth: sha256 {sha256(b'weights')}" in line for line in hd_bet.said)
    assert hd_bet.state().status == "present"


def test_an_archive_without_its_members_is_refused(item):
    sri24 = item("sri24", {"/sri24_anatomy_nifti.zip": zipped({"late.nii": b"T2"})})
    assert "holds no spgr.nii" in sri24.refused() and "spgr.nii" not in sri24.paths()
    shutil.rmtree(sri24.folder)
    sri24.server.files["/sri24_anatomy_nifti.zip"] = zipped({"late.nii": b"T2", "spgr.nii": b"T1"})
    sri24.provide()
    assert (sri24.folder / "spgr.nii").read_bytes() == b"T1" and sri24.paths() == {"spgr.nii", "fetched.json"}


def test_the_other_tools_come_as_they_are(item):
    medicalnet = item("medicalnet", {"/resnet_10_23dataset.pth": b"weights"})
    medicalnet.server.tricks["/resnet_10_23dataset.pth"] = [cut(3)]
    medicalnet.provide()
    assert medicalnet.paths() == {"resnet_10_23dataset.pth", "fetched.json"}
    names = [file.name for file in read_sources()["authors-splits"].files]
    splits = item("authors-splits", {f"/{name}": name.encode() for name in names})
    splits.provide()
    assert splits.paths() == {*names, "fetched.json"} and len(names) == 20


# --- the plan -------------------------------------------------------------------------------------


def config(folder, **changes):
    raw = yaml.safe_load((ROOT / "config.yaml").read_text())
    weights = raw["perceptual"] | {"weights": f"{folder}/medicalnet/resnet_10_23dataset.pth"}
    return resolve(raw | {"data_dir": str(folder), "perceptual": weights} | changes)


def test_the_plan_names_every_item_with_its_next_step(tmp_path):
    needs = needs_of(config(tmp_path), lambda cohort: f"{tmp_path}/raw/{cohort}")
    assert [need.item for need in needs] == ["ixi", "brats21", "mslub", "atlas", "wmh", "sri24", "hd-bet", "medicalnet"]
    text = report(needs, Settings(), tmp_path)
    rows = {row.split()[0]: row for row in text.splitlines() if row and not row.startswith(" ")}
    assert "fetchable" in rows["ixi"] and "8.7 GB" in rows["ixi"] and "CC BY-SA 3.0" in rows["ixi"]
    assert "needs you" in rows["brats21"] and "needs you" in rows["atlas"] and "14.4 GB" in rows["atlas"]
    assert "fetches it from dataverse.nl" in text and "Ask for the key" in text
    assert "0 present, 6 fetchable, 2 needs you" in text and "Free in" in text
    assert missing_lines(needs, Settings())[:2] == ["ixi: fetchable, 8.7 GB", "brats21: needs you"]
    offline = report(needs, Settings(offline=True), tmp_path)
    assert "0 present, 0 fetchable, 8 needs you" in offline


def test_the_plan_counts_what_a_stopped_download_left(tmp_path):
    need = Need("ixi", "ixi", tmp_path, ("t1",))
    with open(tmp_path / "IXI-T1.tar.part", "wb") as stream:
        stream.truncate(840_816_640)
    assert state_of(need, Settings()).fetch == 4_000_000_000


def test_the_settings_file_keeps_its_name_and_holds_no_credential(tmp_path, monkeypatch):
    monkeypatch.setenv("ATLAS_KEY", KEY)
    monkeypatch.setenv("KAGGLE_KEY", "s3cret")
    for sources in ({}, {"offline": True}, {"base_url": {"ixi": "/mnt/ixi"}}):
        path = write_sources(
            config(tmp_path, sources=sources), str(tmp_path / "results"), lambda cohort: f"raw/{cohort}"
        )
        assert path == str(tmp_path / "results" / "settings" / "sources.json")
        _, settings, content = read_needs(path)
        assert settings == Settings(**sources) and content["run"] == "paper"
        assert KEY not in Path(path).read_text() and "s3cret" not in Path(path).read_text()
    with pytest.raises(InputError, match="no such item"):
        write_sources(config(tmp_path, sources={"base_url": {"ixy": "x"}}), str(tmp_path), str)


# --- the programs ---------------------------------------------------------------------------------


def write_settings(path, item, folder, settings, modalities=()):
    needs = [{"item": item, "name": item, "folder": str(folder), "modalities": list(modalities)}]
    content = {"run": "test", "data_dir": str(folder.parent), "needs": needs, "offline": settings.offline,
               "base_url": dict(settings.base_url), "sha256": dict(settings.sha256)}  # fmt: skip
    path.write_text(json.dumps(content))
    return path


def processes(stop: threading.Event, seen: set[str]):
    """Note the command lines of all processes until `stop`."""
    while not stop.is_set():
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    seen.add((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        time.sleep(0.005)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="the process list is read from /proc")
def test_the_key_is_in_no_log_no_table_and_no_process_list(item, tmp_path):
    """A larger archive, so that openssl runs for a while."""
    plain = tar(scans(f"{ATLAS_STEM}_T1w.nii.gz") | {"noise.bin": os.urandom(6_000_000)}, "w:gz")
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl is not installed")
    atlas = item("atlas", {"/ATLAS_R2.0_encrypted.tar.gz": encrypted(plain, tmp_path)}, "t1")
    sources = write_settings(tmp_path / "sources.json", "atlas", atlas.folder, atlas.settings(), ["t1"])
    stop, seen = threading.Event(), set()
    watcher = threading.Thread(target=processes, args=(stop, seen))
    watcher.start()
    done = subprocess.run(
        [sys.executable, "workflow_scripts/acquire.py", "--cohort", "atlas", "--adapter", "atlas",
         "--folder", atlas.folder, "--modalities", "t1", "--sources", sources, "--table", tmp_path / "table.tsv"],
        cwd=ROOT, env=os.environ | {"ATLAS_KEY": KEY}, capture_output=True, text=True,
    )  # fmt: skip
    stop.set()
    watcher.join()
    assert done.returncode == 0, done.stderr
    assert any("openssl aes-256-cbc" in line for line in seen)
    written = (tmp_path / "table.tsv").read_text() + (atlas.folder / "fetched.json").read_text()
    assert not any("sesame" in text for text in [*seen, done.stdout, done.stderr, written])
    assert "ATLAS_R2.0.tar.gz" in written and "fetched.json" not in (tmp_path / "table.tsv").read_text()


def test_fetch_and_plan_are_programs(item, tmp_path, monkeypatch, capsys):
    names = {file.name for file in read_sources()["authors-splits"].files}
    splits = item("authors-splits", {f"/{name}": name.encode() for name in names})
    sources = write_settings(tmp_path / "sources.json", "authors-splits", splits.folder, splits.settings())
    target = splits.folder / "WMH_val.csv"

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        try:
            runpy.run_path(str(ROOT / "workflow_scripts" / f"{name}.py"), run_name="__main__")
        except SystemExit as stopped:
            return stopped.code, capsys.readouterr()
        return 0, capsys.readouterr()

    code, said = run("plan", "--sources", sources)
    assert code == 0 and "authors-splits" in said.out and "fetchable" in said.out
    code, _ = run("fetch", "--item", "authors-splits", "--files", target, "--sources", sources)
    assert code == 0 and target.read_text() == "WMH_val.csv"
    target.unlink()
    splits.server.tricks["/WMH_val.csv"] = [status(403)]
    code, said = run("fetch", "--item", "authors-splits", "--files", target, "--sources", sources)
    last = said.err.splitlines()[-1]
    assert code == 1 and not target.exists() and last.startswith("error: ") and "refuses access (403)" in last


def test_a_missing_atlas_says_how_to_get_it(tmp_path):
    with pytest.raises(InputError, match="NITRC project sri24"):
        find_atlas("sri24", tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        find_atlas(str(tmp_path / "mine.nii"), tmp_path)
    assert find_atlas("mni152", tmp_path).exists()
