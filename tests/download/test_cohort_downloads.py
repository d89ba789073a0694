"""Cohorts that are fetched from local servers: IXI's archives, MSLUB and WMH file by file."""

from __future__ import annotations

import re

import pytest
from local_server import dataverse_listing, page, status
from made_up_items import IXI, MSLUB, WMH, WMH_OTHERS, dataverse_files, nifti, sha1, sha256

from uad.common.pinned import pinned_sha256
from uad.download import dataverse
from uad.download.record import Record
from uad.download.sources import Settings, read_sources


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
    ixi.folder.mkdir(exist_ok=True)
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
    assert ixi.said[-1] == "offline: optional file IXI.xls skipped"
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
    assert any("optional file patient_info.csv skipped" in line for line in mslub.said)


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
    assert "got a web page" in wmh.refused() and not wmh.paths()


def test_the_address_of_the_list_is_that_of_the_facts():
    """docs/paper.md#wmh"""
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
