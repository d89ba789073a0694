"""Recipes: what makes a result stale, and how each result says how it was made."""

import json

import pytest

from uad.common.files import atomic_path
from uad.common.recipe import STAGES, VERSIONS, read_settings, write_settings
from uad.common.seeds import seed_for
from uad.workflow.provenance import Provenance


def test_every_version_belongs_to_a_stage():
    assert {word for words in STAGES.values() for word in words} == set(VERSIONS)


def test_settings_files_are_named_by_their_content(tmp_path):
    first = write_settings(tmp_path, "train", "ae-t1", {"lr": 1e-4})
    assert write_settings(tmp_path, "train", "ae-t1", {"lr": 1e-4}) == first
    assert write_settings(tmp_path, "train", "ae-t1", {"lr": 2e-4}) != first
    assert read_settings(first)["lr"] == 1e-4
    assert read_settings(first)["versions"] == {"training": VERSIONS["training"]}


def test_a_raised_version_makes_another_recipe(tmp_path, monkeypatch):
    first = write_settings(tmp_path, "train", "ae-t1", {})
    monkeypatch.setitem(VERSIONS, "training", 99)
    assert write_settings(tmp_path, "train", "ae-t1", {}) != first


def test_seeds_differ_by_purpose_and_repeat():
    seeds = [
        seed_for(3141, arm, modality, fold)
        for arm in ("ddpm", "cddpm")
        for modality in ("t1", "t2")
        for fold in range(5)
    ]
    assert len(set(seeds)) == 20 and all(0 <= seed < 2**31 for seed in seeds)
    assert seed_for(1, "ab", "c") != seed_for(1, "a", "bc")
    assert seed_for(3141, "x") == seed_for(3141, "x")


def test_provenance_says_settings_code_packages_and_time(tmp_path):
    Provenance({"arm": "ae"}).write(tmp_path / "p.json", seed=5)
    record = json.loads((tmp_path / "p.json").read_text())
    assert record["settings"] == {"arm": "ae"} and record["seed"] == 5
    assert {"python", "torch", "numpy"} <= set(record["packages"])
    assert {"commit", "modified"} == set(record["code"]) and record["seconds"] >= 0


def test_a_failed_write_leaves_nothing(tmp_path):
    (tmp_path / "a.tsv").write_text("old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.tsv") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a.tsv"]
    assert (tmp_path / "a.tsv").read_text() == "old"
    with atomic_path(tmp_path / "new.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")  # writers choose the format by the suffix
        temporary.write_text("x")
    assert (tmp_path / "new.nii.gz").stat().st_mode & 0o044
