"""Items that are folders of scans (the study on real scans), and optional cohorts that are not here."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from local_server import status
from made_up_items import nifti, sha256
from places import ROOT
from real_data import SHARED

from uad.cohorts.folder import FolderAdapter
from uad.common.errors import InputError
from uad.config import resolve
from uad.config.data_stages import ingest_settings
from uad.config.load import merge
from uad.download.inventory import Inventory, Need
from uad.download.needs import fetches_hd_bet, left_out, needs_of, read_needs, read_own, write_sources
from uad.download.plan import report
from uad.download.record import Record
from uad.download.sources import Settings, read_sources, source_of

pytestmark = pytest.mark.usefixtures("no_credentials")

IXI_HH = {f"/{file.name}": nifti(file.name) for file in read_sources()["ixi-hh"].files}
MASK = "derivatives/sub-IXI012HH1211/anat/sub-IXI012HH1211_desc-brain_mask.nii.gz"


def placed(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def real_study(data: Path, **changes):
    base, overlay = (yaml.safe_load((ROOT / name).read_text()) for name in ("config.yaml", "real/config.yaml"))
    config = resolve(merge(merge(base, overlay), {"data_dir": str(data)} | changes))
    return config, lambda cohort: f"{data}/raw/{cohort}"


# --- the lists --------------------------------------------------------------------------------------------


def test_every_scan_of_ixi_hh_has_its_hash_and_two_addresses_at_a_commit():
    files = source_of("ixi-hh", Settings()).wanted(("t1",))
    assert len(files) == 130 and len({file.digest for file in files}) == 130
    assert sum(file.bytes for file in files) == read_sources()["ixi-hh"].disk
    for file in files:
        subject = re.fullmatch(r"(sub-IXI\d+HH\d+)/anat/(sub-IXI\d+HH\d+)_T1w\.nii\.gz", file.name)
        assert subject[1] == subject[2] and re.fullmatch("[0-9a-f]{64}", file.digest[1])
        name = re.sub(r"sub-(IXI\d+)(HH)(\d+)", r"\1-\2-\3_T1.nii.gz", subject[1])
        assert all(re.search("/[0-9a-f]{40}/", url) and url.endswith(f"/{name}") for url in file.urls)
        assert len(file.urls) == 2


def test_the_scans_and_masks_of_oasis_and_the_stroke_masks_are_pinned_by_commit():
    oasis, masks = read_sources()["oasis"].files, read_sources()["stroke-masks"].files
    scans = [file.name for file in oasis if file.name.startswith("sub-")]
    assert len(scans) == 35 and len(oasis) == 70 and len(masks) == 98
    assert all(re.search("/[0-9a-f]{40}/", url) for file in (*oasis, *masks) for url in file.urls)
    assert {Path(file.name).name.split("_")[0] for file in oasis} == {name.split("/")[0] for name in scans}


def test_the_shared_copy_of_ixi_hh_has_the_hashes_of_the_list():
    copies = SHARED / "data/real/ixi-hh"
    if not copies.is_dir():
        pytest.skip(f"the scans are not at {copies} (not part of the project)")
    for file in read_sources()["ixi-hh"].files:
        content = (copies / file.name).read_bytes()
        assert (len(content), sha256(content)) == (file.bytes, file.digest[1])


# --- fetching ---------------------------------------------------------------------------------------------


def test_ixi_hh_is_fetched_checked_and_read(item):
    ixi = item("ixi-hh", IXI_HH, "t1")
    assert ixi.state().status == "fetchable"
    ixi.provide()
    assert (
        ixi.state().status == "present" and len(FolderAdapter(healthy=True).scans(ixi.folder, "none", ("t1",))) == 130
    )
    assert {entry["origin"] for entry in Record(ixi.folder).entries.values()} == {"published"}
    name = next(iter(IXI_HH))[1:]
    (ixi.folder / name).unlink()
    settings, ixi.server.files[f"/{name}"] = ixi.settings(), nifti("another")
    ixi.settings = lambda: settings
    assert "sent a file with sha256" in ixi.refused() and name not in ixi.paths()
    assert "cohorts={ixi-hh: null}" in ixi.refused()


def test_a_local_folder_gives_its_brain_masks_and_ages_too_and_needs_no_network(item, tmp_path):
    ixi = item("ixi-hh", IXI_HH, "t1")
    others = {MASK: nifti("mask", label=True), "participants.tsv": b"participant_id\tage\n", "report.pdf": b"x"}
    ixi.base = str(placed(tmp_path / "mirror", IXI_HH | others))
    ixi.offline = True
    assert ixi.state().status == "fetchable"
    ixi.provide()
    assert ixi.paths() == {name[1:] for name in IXI_HH} | {MASK, "participants.tsv", "fetched.json"}
    assert not ixi.server.requests and ixi.state().status == "present"
    (tmp_path / "mirror").rename(tmp_path / "gone")
    ixi.provide()  # all is there
    (ixi.folder / next(iter(IXI_HH))[1:]).unlink()
    assert "does not exist" in ixi.refused()


def test_a_local_folder_with_another_scan_is_refused(item, tmp_path):
    ixi = item("ixi-hh", IXI_HH, "t1")
    ixi.base = str(placed(tmp_path / "mirror", IXI_HH))
    ixi.settings = lambda: Settings(True, {"ixi-hh": ixi.base})  # with the hashes of the list
    assert re.search(r"has \d+ bytes, expected \d+", ixi.refused()) and ixi.paths() == set()
    ixi.base = str(placed(tmp_path / "other", {"notes.txt": b"x"}))
    assert "has none of the scans; correct sources.base_url.ixi-hh" in ixi.refused()


def test_other_scans_that_the_user_placed_are_left_alone(item):
    ixi = item("ixi-hh", IXI_HH, "t1")
    placed(ixi.folder, {"mine_t1.nii.gz": nifti("mine")})
    ixi.provide()
    assert ixi.paths() == {"mine_t1.nii.gz"} and ixi.state().status == "present" and not ixi.server.requests


def test_some_of_the_scans_placed_are_enough_and_a_stopped_download_is_continued(item):
    ixi = item("ixi-hh", IXI_HH, "t1")
    first, second = list(IXI_HH)[:2]
    placed(ixi.folder, {first: IXI_HH[first]})
    ixi.provide()
    assert ixi.paths() == {first[1:], "fetched.json"} and not ixi.server.requests
    for path in (ixi.folder / first[1:], ixi.folder / "fetched.json"):
        path.unlink()
    ixi.server.tricks[second] = [status(404)]
    assert "does not have this file (404)" in ixi.refused() and ixi.state().status == "fetchable"
    ixi.provide()
    assert len(ixi.paths()) == 131


def test_gliomas_are_placed_by_hand_or_copied(item, tmp_path):
    lgg = item("lgg", {}, "t1")
    lgg.settings = lambda: Settings()
    assert lgg.state().status == "needs you" and "tools/lgg_from_kaggle.py" in lgg.state().step
    assert lgg.refused().startswith("lgg: nothing in") and "CC BY-NC-SA" in lgg.refused()
    scan = {"sub-1/anat/sub-1_T1w.nii.gz": nifti("scan")}
    mask = {"derivatives/sub-1/anat/sub-1_label-lesion_mask.nii.gz": nifti("mask", label=True)}
    folder = placed(tmp_path / "mirror", scan | mask)
    lgg.settings = lambda: Settings(True, {"lgg": str(folder)})
    assert lgg.state().status == "fetchable"
    lgg.provide()
    assert lgg.paths() == {*scan, *mask, "fetched.json"} and lgg.state().status == "present"
    lgg.settings = lambda: Settings()
    lgg.provide()
    assert lgg.state().status == "present"


def test_stroke_masks_of_other_names_are_copied_from_a_local_folder(item, tmp_path):
    masks = item("stroke-masks", {})
    files = {"stroke001_mask.nii.gz": nifti("mask", label=True), "volumes.tsv": b"mask\tlesion_ml\n"}
    masks.base = str(placed(tmp_path / "mirror", files))
    masks.provide()
    assert masks.paths() == {*files, "fetched.json"} and masks.state().status == "present"


# --- a run without a cohort -------------------------------------------------------------------------------


def test_optional_cohorts_that_are_not_here_and_cannot_be_fetched_are_left_out(tmp_path):
    assert list(left_out(*real_study(tmp_path))) == ["lgg"]
    steps = left_out(*real_study(tmp_path, sources={"offline": True}))
    assert list(steps) == ["lgg", "oasis"] and "sources.offline is set" in steps["oasis"]
    local = {"offline": True, "base_url": {}}
    for name in ("lgg", "oasis"):
        scan = {"sub-1000/anat/sub-1000_T1w.nii.gz": nifti(name)}
        local["base_url"][name] = str(placed(tmp_path / "mirror" / name, scan))
    assert left_out(*real_study(tmp_path, sources=local)) == {}
    placed(tmp_path / "raw/lgg", {"sub-1/anat/sub-1_T1w.nii.gz": nifti("scan")})
    assert left_out(*real_study(tmp_path)) == {}


def test_an_optional_folder_of_the_user_and_a_data_set_are_left_out_too(tmp_path):
    common = {"subjects": 3, "splits": {"val": 1, "test": 2}, "optional": True}
    mine, brats = ({"adapter": name, "modalities": [m], **common} for name, m in (("folder", "t1"), ("brats21", "t2")))
    config, raw = real_study(tmp_path, cohorts={"mine": mine, "brats21": brats, "lgg": None})
    steps = left_out(config, raw)
    assert set(steps) == {"mine", "brats21"} and "correct cohorts.mine.raw" in steps["mine"]
    assert "KAGGLE_USERNAME" in steps["brats21"]
    placed(tmp_path / "raw/mine", {"1_t1.nii.gz": nifti("scan")})
    assert list(left_out(config, raw)) == ["brats21"]


@pytest.mark.parametrize(
    ("cohorts", "words"),
    [
        ({"ixi-hh": {"optional": True}}, "cohorts.ixi-hh.optional: the training cohort cannot be left out"),
        ({"lgg": {"adapter": "wmh"}}, "`item` is for adapter `folder`"),
        ({"lgg": {"source": "phantom"}}, "`optional` is for data that may be missing; phantoms are made"),
    ],
)
def test_what_makes_no_sense_is_refused(cohorts, words, tmp_path):
    with pytest.raises(InputError, match=re.escape(words)):
        real_study(tmp_path, cohorts=cohorts)


def test_an_item_that_is_no_folder_of_scans_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cohorts\.lgg\.item: 'lgh' is not known\. Did you mean 'lgg'"):
        needs_of(*real_study(tmp_path, cohorts={"lgg": {"item": "lgh"}}))


def test_where_scans_come_from_makes_no_job_run_again(tmp_path):
    ours, _ = real_study(tmp_path)
    theirs, _ = real_study(tmp_path, cohorts={"oasis": {"item": None, "optional": False}})
    assert ingest_settings(ours, "oasis") == ingest_settings(theirs, "oasis")


def test_the_plan_says_what_is_fetched_what_is_left_out_and_what_is_there(tmp_path):
    placed(tmp_path / "raw/oasis", {"sub-1/anat/sub-1_T1w.nii.gz": nifti("scan")})
    config, raw = real_study(tmp_path)
    absent = left_out(config, raw)
    config, raw = real_study(tmp_path, cohorts=dict.fromkeys(absent))
    path = write_sources(config, str(tmp_path / "results"), raw, absent=absent)
    needs, settings, content = read_needs(path)
    text = report(needs, settings, tmp_path, read_own(content), content["left_out"])
    assert "lgg (optional): left out of this run. Download the archive" in text
    assert re.search(r"^ixi-hh .* fetchable +76 MB", text, re.MULTILINE) and re.search(r"^oasis .* present", text, re.M)
    assert "oasis (item oasis): present." in text and "1 subjects" in text and "your own" not in text
    assert json.loads(Path(path).read_text())["left_out"] == absent


def test_hd_bet_is_not_fetched_where_the_local_folder_has_every_mask(tmp_path):
    folder = placed(tmp_path / "mirror", {"sub-1/anat/sub-1_T1w.nii.gz": nifti("scan")})
    study = real_study(tmp_path, sources={"base_url": {"ixi-hh": str(folder)}})
    assert fetches_hd_bet(study[0], "ixi-hh", study[1])
    placed(folder, {"derivatives/sub-1/anat/sub-1_desc-brain_mask.nii.gz": nifti("mask", label=True)})
    assert not fetches_hd_bet(study[0], "ixi-hh", study[1])


def test_a_link_to_the_scans_is_used_as_it_is(item, tmp_path):
    ixi = item("ixi-hh", IXI_HH, "t1")
    ixi.folder.symlink_to(placed(tmp_path / "elsewhere", IXI_HH), target_is_directory=True)
    assert (
        Inventory(Need("ixi-hh", "ixi-hh", ixi.folder, ("t1",)), ixi.settings()).missing(
            source_of("ixi-hh", ixi.settings()).files
        )
        == []
    )
