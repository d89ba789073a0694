"""A run that takes the data of another (`data_of`): it reads them, never makes them, and only if they are the same."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from places import ROOT

from uad.common.errors import InputError
from uad.common.recipe import settings_record
from uad.config import resolve
from uad.config.data_stages import (
    ingest_settings,
    pack_settings,
    planted_settings,
    register_settings,
    skull_strip_settings,
    split_settings,
)
from uad.config.load import merge
from uad.workflow.shared_data import FOLDERS, check_data, link_data, refuse_links

pytestmark = pytest.mark.slow

FULL, DEMO = (yaml.safe_load((ROOT / name).read_text()) for name in ("config.yaml", "demo/config.yaml"))
MADE = {"phantom", "download", "ingest", "splits", "skull_strip", "register", "flag_outliers", "pack"}


def config_of(run, **changes):
    """The demo's configuration for a run of that name."""
    return resolve(merge(merge(FULL, DEMO), {"run": run, **changes}))


def share_data(config, results):
    """What a start of Snakemake does that has jobs."""
    check_data(config, results)
    link_data(config, results)


def note(path, stage, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"settings": settings_record(stage, content), "seconds": 1}))


def make_data(config, results):
    """Empty files under every name that ingest to pack write, each with the record of its settings."""
    for cohort, settings in config.cohorts.items():
        note(results / f"cohorts/{cohort}.json", "ingest", ingest_settings(config, cohort))
        note(results / f"splits/{cohort}.json", "splits", split_settings(config, cohort))
        tables = [f"cohorts/{cohort}.tsv", f"splits/{cohort}.tsv", f"preprocessed/{cohort}/quality.tsv"]
        for shard in config.shards(cohort):
            strip, register = skull_strip_settings(config, cohort), register_settings(config, cohort)
            note(results / f"skull_stripped/{cohort}/shard-{shard}.json", "skull_strip", strip)
            note(results / f"preprocessed/{cohort}/shard-{shard}.json", "register", register)
            tables += [f"{folder}/{cohort}/shard-{shard}.tsv" for folder in ("skull_stripped", "preprocessed")]
        for modality in settings.modalities:
            stem = f"store/{cohort}_{modality}"
            note(results / f"{stem}.json", "pack", pack_settings(config, cohort, modality))
            tables += [f"{stem}{end}" for end in (".images.npy", ".masks.npy", ".labels.npy", ".tsv")]
        for table in tables:
            (results / table).touch()


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    make_data(config_of("a"), folder / "a")
    return folder


def test_the_folders_are_links_and_stay_so(results):
    config = config_of("b", data_of="a")
    for _ in range(2):  # every start of Snakemake asks again
        share_data(config, results / "b")
    assert sorted(path.name for path in (results / "b").iterdir()) == sorted(FOLDERS)
    for name in FOLDERS:
        assert (results / "b" / name).samefile(results / "a" / name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pack": {"percentiles": [2.0, 98.0]}}, r"store/\w+\.json: made with pack\.percentiles \[1\.0, 99\.0\]"),
        ({"seed": 5}, r"splits/ixi\.json: made with seed 3141, this run has 5"),
        ({"preprocess": {"n4": {"levels": 3}}}, r"preprocessed/.*: made with preprocess\.n4\.levels 2, this run has 3"),
        ({"cohorts": {"wmh": {"exclude_label": 3}}}, r"cohorts/wmh\.json: made with cohort\.exclude_label"),
        ({"execution": {"shard_size": 3}}, r"give both runs the same execution\.shard_size"),
    ],
)
def test_data_that_this_run_would_make_differently_are_refused(results, change, message):
    with pytest.raises(InputError, match=message):
        check_data(config_of("b", data_of="a", **change), results / "b")
    assert not (results / "b").exists()


def test_planted_data_are_compared_too(tmp_path):
    cohort = {"adapter": "folder", "source": "planted", "modalities": ["t1"], "subjects": 4}
    cohorts = {"x": cohort | {"splits": {"val": 1, "test": 1}}}
    here = config_of("b", data_of="a", cohorts=cohorts, planted={"of": "ixi"})
    make_data(here, tmp_path / "a")
    with pytest.raises(InputError, match=r"acquired/x\.json does not exist"):
        check_data(here, tmp_path / "b")
    note(tmp_path / "a/acquired/x.json", "planted", planted_settings(here, "x"))
    (tmp_path / "a/acquired/x.tsv").touch()
    check_data(here, tmp_path / "b")
    darker = config_of("b", data_of="a", cohorts=cohorts, planted={"of": "ixi", "contrast": [0.5, 0.9]})
    with pytest.raises(InputError, match=r"acquired/x\.json: made with planted\.contrast \[0\.3, 0\.8\]"):
        check_data(darker, tmp_path / "b")


def test_what_changes_no_data_may_differ(results):
    share_data(config_of("b", data_of="a", train={"max_steps": 7}, threshold={"search": "greedy"}), results / "b")


def test_data_of_an_older_version_of_a_stage_are_refused(results):
    record = results / "a/store/ixi_t2.json"
    content = json.loads(record.read_text())
    content["settings"]["versions"]["packing"] = 0
    record.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"made with versions\.packing 0, this run has \d"):
        share_data(config_of("b", data_of="a"), results / "b")


def test_unfinished_data_are_refused(results):
    (results / "a/store/ixi_t2.json").unlink()
    with pytest.raises(InputError, match=r"ixi_t2\.json does not exist; let run 'a' make its data first"):
        share_data(config_of("b", data_of="a"), results / "b")
    with pytest.raises(InputError, match=r"results/c/.* does not exist; let run 'c'"):
        share_data(config_of("b", data_of="c"), results / "b")


@pytest.mark.parametrize("file", ["store/ixi_t2.labels.npy", "splits/wmh.tsv", "preprocessed/ixi/shard-1.tsv"])
def test_data_that_lie_no_longer_beside_their_record_are_refused(results, file):
    (results / "a" / file).unlink()
    with pytest.raises(InputError, match=rf"{file} does not exist; let run 'a' make its data first"):
        share_data(config_of("b", data_of="a"), results / "b")


def test_a_run_does_not_change_whose_data_it_uses(results):
    share_data(config_of("b", data_of="a"), results / "b")
    make_data(config_of("c"), results / "c")
    with pytest.raises(
        InputError, match=r"cohorts is a link to \.\./a/cohorts already, not to \.\./c/cohorts; "
    ) as refused:
        share_data(config_of("b", data_of="c"), results / "b")
    follow(refused.value)
    share_data(config_of("b", data_of="c"), results / "b")


def test_data_of_its_own_are_not_hidden(results):
    shutil.copytree(results / "a", results / "b")
    with pytest.raises(InputError, match="is there already and holds this run's own data") as refused:
        share_data(config_of("b", data_of="a"), results / "b")
    follow(refused.value)
    share_data(config_of("b", data_of="a"), results / "b")


def test_links_left_behind_are_refused(results):
    share_data(config_of("b", data_of="a"), results / "b")
    with pytest.raises(InputError, match="is a link to the data of run 'a', which this run would change") as refused:
        refuse_links(results / "b")
    refuse_links(results / "a")
    before = state(results / "a")
    follow(refused.value)
    refuse_links(results / "b")
    assert state(results / "a") == before


def follow(message):
    """Run the command that a message names."""
    subprocess.run(re.search(r"rm [^;(]+", str(message))[0], shell=True, check=True)


def test_a_run_is_not_its_own_source():
    with pytest.raises(InputError, match=r"data_of.*this run itself"):
        config_of("b", data_of="b")


@pytest.fixture
def checkout(results):
    """The workflow beside these results."""
    for name in ("Snakefile", "rules", "workflow_scripts", "envs", "demo", "config.yaml"):
        (results.parent / name).symlink_to(ROOT / name)
    return results.parent


def test_the_run_plans_no_job_that_makes_data_and_one_without_the_key_all(checkout):
    before = state(checkout / "results/a")
    documented = re.search(r"snakemake --config (run=b data_of=a) -n", (ROOT / "docs/cluster.md").read_text())
    said = dry_run(checkout, *documented[1].split())
    assert not MADE & set(said) and {"train", "score", "html_report"} <= set(said)
    assert not MADE & set(dry_run(checkout, "run=b", "data_of=a", options=["--forceall"]))
    assert MADE - {"download"} <= set(dry_run(checkout, "run=d"))
    assert state(checkout / "results/a") == before
    # and the run may still be given data of its own
    assert not (checkout / "results/b").exists()
    assert MADE - {"download"} <= set(dry_run(checkout, "run=b"))


@pytest.mark.parametrize("arguments", [["--lint"], ["--list-rules"], ["--summary"], ["plan"]])
def test_what_makes_no_results_makes_no_links(checkout, arguments):
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments, "--configfile", "demo/config.yaml"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    run = subprocess.run(
        [*command, "--config", "run=b", "data_of=a"], cwd=checkout, capture_output=True, text=True, env=environment
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert not [path for path in (checkout / "results").rglob("*") if path.is_symlink()]


def test_the_first_jobs_find_the_links(checkout):
    target = "results/b/experiments/t2/fold0.npz"
    for path in ("results/b/models/cddpm", "results/b/models/ddpm"):
        (checkout / path / "t2/fold0").mkdir(parents=True)
    run = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", "demo/config.yaml", "--config", "run=b",
         "data_of=a", "--", target], cwd=checkout, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 1  # the stores of this test are empty files
    assert all((checkout / "results/b" / name).samefile(checkout / "results/a" / name) for name in FOLDERS)


@pytest.mark.parametrize("target", ["plan", "parity", "scores", "html_report"])
def test_other_targets_work_on_the_data_of_another_run(checkout, target):
    before = state(checkout / "results/a")
    said = dry_run(checkout, "run=b", "data_of=a", options=[target])
    assert target in said and not MADE & set(said)
    assert state(checkout / "results/a") == before


def state(folder):
    """Time and content of every file."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def dry_run(folder, *config, options=()):
    """Rules with jobs in the plan."""
    command = [sys.executable, "-m", "snakemake", *options, "-n", "--cores", "1", "--quiet", "rules"]
    run = subprocess.run(
        [*command, "--configfile", "demo/config.yaml", "--config", *config], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    lines = (run.stdout + run.stderr).split("Job stats:")[1].splitlines()
    return [line.split()[0] for line in lines if len(line.split()) == 2 and line.split()[1].isdigit()]
