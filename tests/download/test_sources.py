"""The table of sources, its settings, and the plan."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from made_up_items import KEY, sha256
from places import ROOT
from real_data import SHARED

from uad.cohorts import ADAPTERS
from uad.common.errors import InputError
from uad.config import resolve
from uad.download.inventory import Need
from uad.download.needs import needs_of, read_needs, read_own, write_sources
from uad.download.plan import missing_lines, report, state_of
from uad.download.sources import Settings, read_sources, source_of
from uad.preprocessing.templates import find_atlas

pytestmark = pytest.mark.usefixtures("no_credentials")


def test_the_table_says_what_the_facts_say():
    """docs/paper.md#ixi, docs/paper.md#atlas, docs/paper.md#sri24, docs/paper.md#medicalnet"""
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
    copies = SHARED / "data" / "splits"
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


def test_the_plan_names_the_stroke_masks(tmp_path):
    cohort = {"adapter": "folder", "source": "planted", "modalities": ["t1"], "subjects": 4}
    raw = yaml.safe_load((ROOT / "config.yaml").read_text())["cohorts"]
    cohorts = raw | {"x": cohort | {"splits": {"val": 1, "test": 1}}}
    planted = config(tmp_path, cohorts=cohorts, planted={"of": "ixi"})
    placed = read_own(read_needs(write_sources(planted, str(tmp_path), lambda name: f"raw/{name}"))[2])
    folder = tmp_path / "raw" / "stroke-masks"
    assert (
        f"stroke masks (for x): needs you. place masks of strokes in MNI152 space (*.nii.gz) in {folder}"
        in " ".join(report([], Settings(), tmp_path, placed).split())
    )
    assert missing_lines([], Settings(), placed) == [f"stroke masks: nothing in {folder}"]
    folder.mkdir(parents=True)
    (folder / "one_mask.nii.gz").touch()
    assert "stroke masks (for x): present." in report([], Settings(), tmp_path, placed)
    assert missing_lines([], Settings(), placed) == []


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


def test_a_missing_atlas_says_how_to_get_it(tmp_path):
    with pytest.raises(InputError, match="NITRC project sri24"):
        find_atlas("sri24", tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        find_atlas(str(tmp_path / "mine.nii"), tmp_path)
    assert find_atlas("mni152", tmp_path).exists()
