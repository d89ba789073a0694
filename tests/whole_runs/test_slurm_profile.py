"""`snakemake --profile slurm` against a mock of Slurm: the submit line of every kind of rule.  No job computes."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from known_rules import known_rules
from places import ROOT

from uad.methods import load_method
from uad.methods.pretraining import PRETRAININGS

pytestmark = pytest.mark.slow

PROGRAMS = ("sbatch", "squeue", "sacct", "sinfo", "sacctmgr", "sshare", "scontrol", "scancel")
OVERLAYS = ["demo/config.yaml", "tests/whole_runs/slurm/config.yaml"]
GPU_RULES = {"pretrain", "train", "skull_strip", "reconstruct", "experiments"}
TRAINING = {"pretrain", "train"}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The workflow in a folder of its own: links to the code, results of its own."""
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("Snakefile", "rules", "workflow_scripts", "envs", "demo", "tests", "config.yaml"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "slurm").mkdir()
    profile = (ROOT / "slurm/config.yaml").read_text()
    (folder / "slurm/config.yaml").write_text(profile.replace("CHANGE-ME", "lab-17"))
    (folder / "bin").mkdir()
    for name in PROGRAMS:
        (folder / "bin" / name).symlink_to(ROOT / "tests/whole_runs/slurm/mock.py")
    return folder


def snakemake(folder, *arguments, path=None):
    path = path or f"{folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
    profile = [] if "--profile" in arguments else ["--profile", "slurm"]
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *profile, "--configfile", *OVERLAYS, *arguments],
        cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PATH": path, "MOCK_SLURM": str(folder)},
    )  # fmt: skip


def jobs_of(plan):
    """What each job of a dry run makes: {"rule:key=value,...": [path, ...]}."""
    jobs = {}
    for block in re.split(r"^(?:local)?rule ", plan, flags=re.MULTILINE)[1:]:
        rule = block.split(":")[0]
        value = dict(re.findall(r"^    (\w+): (.+)$", block, re.MULTILINE))
        wildcards = value.get("wildcards", "").replace(", ", ",")
        jobs[f"{rule}:{wildcards}"] = [*value.get("output", "").split(", "), *value.get("benchmark", "").split(", ")]
    return jobs


@pytest.fixture(scope="module")
def submitted(copy):
    """(rule, job, options of sbatch) of every submission of a whole run, and what the driver said."""
    plan = snakemake(copy, "-n")
    assert plan.returncode == 0, plan.stdout + plan.stderr
    jobs = jobs_of(plan.stdout)
    (copy / "jobs.json").write_text(json.dumps(jobs))
    run = snakemake(copy, "--slurm-init-seconds-before-status-checks", "1", "--max-jobs-per-timespan", "1000/1s")
    assert run.returncode == 0, run.stdout + run.stderr
    lines = [json.loads(line) for line in (copy / "submitted.jsonl").read_text().splitlines()]
    return jobs, [(line["job"].split(":")[0], line["job"], line["options"]) for line in lines]


def asked(options):
    """The options that say what a job asks for; names, logs and folders left out."""
    text = shlex.join(options)
    for name in ("--job-name", "--output", "--comment", "-D"):
        text = re.sub(rf"{name} \S+ ?", "", text)
    return text.strip().removesuffix(" --wrap")


def only(submitted, job):
    (options,) = [options for _, name, options in submitted[1] if name == job]
    return asked(options)


def test_lines_of_rules_on_cpus(submitted):
    account, common = "-A lab-17 -p batch", "--parsable --export=ALL"
    assert only(submitted, "register:cohort=ixi,shard=0") == (
        f"{common} {account} -t 120 --mem 3000 --requeue --ntasks=1 --cpus-per-task=1"
    )


def test_lines_of_rules_on_gpus(submitted):
    common = "--parsable --export=ALL -A lab-17 -p gpu"
    # no --ntasks beside --gpus: clusters differ in what they make of it
    assert only(submitted, "skull_strip:cohort=ixi,shard=0") == (
        f"{common} -t 60 --mem 16000 --requeue --cpus-per-task=1 --gpus=1"
    )
    # half an hour of AE on a GPU; SIGTERM two minutes before it ends
    assert only(submitted, "train:arm=ae,modality=t2,fold=0") == (
        f"{common} -t 30 --mem 16000 --requeue --cpus-per-task=1 --signal=TERM@120 --gpus=1"
    )
    assert only(submitted, "reconstruct:arm=thresh,modality=t2,fold=0") == (
        f"{common} -t 60 --mem 16000 --requeue --cpus-per-task=1 --gpus=1"
    )


def test_every_job_goes_to_the_queue_once_but_for_the_local_ones(submitted):
    jobs, lines = submitted
    names = [name for _, name, _ in lines]
    assert len(names) == len(set(names))
    assert "all:" in jobs and set(names) == set(jobs) - {"all:"}
    for rule, _, options in lines:
        text = asked(options)
        assert ("--gpus=1" in text) == ("-p gpu" in text) == (rule in GPU_RULES), rule
        assert ("--signal" in text) == (rule in TRAINING), rule


def test_the_variant_for_clusters_without_gpus_option(copy, tmp_path):
    text = (ROOT / "slurm/config.yaml").read_text()
    text = re.sub(r"^    gpu: 1 .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^    # (gpu: 0|gres: .*?)( +#.*)?$", r"    \1", text, flags=re.MULTILINE)
    settings = yaml.safe_load(text)["set-resources"]
    assert set(settings) == GPU_RULES
    assert all(entry["gpu"] == 0 and entry["gres"] == "'gpu:1'" for entry in settings.values())


def test_no_attempt_asks_for_more_than_the_caps_of_the_profile(copy, tmp_path):
    profile = (copy / "slurm/config.yaml").read_text()
    profile, lines = re.subn(r"^  # - (runtime=|mem_mb=)\d+ ", r"  - \g<1>50 ", profile, flags=re.MULTILINE)
    assert lines == 2
    (copy / "capped").mkdir()
    (copy / "capped/config.yaml").write_text(profile)
    (copy / "submitted.jsonl").unlink(missing_ok=True)
    (copy / "jobs.json").write_text(json.dumps(jobs_of(snakemake(copy, "-n", "--config", "run=capped").stdout)))
    start = time.monotonic()
    run = snakemake(copy, "--profile", "capped", "--config", "run=capped", "--slurm-init-seconds-before-status-checks",
                    "1", "--max-jobs-per-timespan", "1000/1s", "--until", "phantom")  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert time.monotonic() - start < 60
    texts = [asked(json.loads(line)["options"]) for line in (copy / "submitted.jsonl").read_text().splitlines()]
    assert len(texts) == 2 and all("-t 50 --mem 50 " in text for text in texts)
    # the cap is one job's, not of all jobs together: both were in the queue before either was through
    said = run.stdout + run.stderr
    assert said.rindex("submitted with SLURM jobid") < said.index("Finished jobid")


@pytest.mark.parametrize(("account", "word"), [("CHANGE-ME", "slurm_account is still CHANGE-ME"), ("lab-17", "sbatch")])
def test_an_unready_start_is_refused_before_anything_runs(copy, account, word):
    (copy / account).mkdir()
    profile = (ROOT / "slurm/config.yaml").read_text().replace("CHANGE-ME", account)
    (copy / account / "config.yaml").write_text(profile)
    tools = copy / account / "tools"  # this machine's, but for Slurm's
    tools.mkdir()
    for tool in Path("/usr/bin").iterdir():
        if tool.name != "sbatch":
            (tools / tool.name).symlink_to(tool)
    path = f"{Path(sys.executable).parent}:{tools}"
    run = snakemake(copy, "--profile", account, "--config", "run=unready", path=path)
    assert run.returncode != 0 and word in run.stdout + run.stderr
    assert not (copy / "results/unready/logs").exists() and "Trying to restart" not in run.stderr


def test_gpu_rules_of_the_profile_are_those_of_the_rule_files():
    found = {name for name, rule in known_rules().items() if "gpu" in rule["first"]}
    assert found == GPU_RULES == set(yaml.safe_load((ROOT / "slurm/config.yaml").read_text())["set-resources"])


def table_of(heading):
    """Rows of the first table below a heading of docs/cluster.md: {first cell: other cells}."""
    text = (ROOT / "docs/cluster.md").read_text().split(heading)[1]
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines() if line[:1] == "|"]
    width = len(rows[0])
    end = next((i for i, row in enumerate(rows) if len(row) != width), len(rows))
    return {row[0]: row[1:] for row in rows[2:end]}


def numbers(text):
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]


def test_the_table_of_resources_says_what_the_rules_ask():
    table = table_of("## What each rule asks for")
    assert set(table) == set(known_rules())
    execution = yaml.safe_load((ROOT / "config.yaml").read_text())["execution"]
    hours = load_method("cddpm").gpu_hours, PRETRAININGS["spark"].gpu_hours
    for name, rule in known_rules().items():
        gpu, cpus, memory, minutes = table[name]
        if rule["local"]:
            assert gpu == "login node", name
            continue
        assert (gpu == "1") == ("gpu" in rule["first"]), name
        threads = execution[cpus.strip("`")] if cpus.startswith("`") else int(cpus)
        assert threads == rule["first"]["_cores"], name
        assert sum(numbers(memory)) == rule["first"]["mem_mb"], name  # `2000 + 1000 per CPU`, of one CPU
        factor = {"train": hours[0], "pretrain": hours[1]}.get(name, 1)
        assert numbers(minutes)[0] * factor == rule["first"]["runtime"], name


def test_downloads_are_not_repeated_by_snakemake():
    fetching = {"download", "sri24", "hd_bet", "medicalnet", "authors_splits", "stroke_masks"}
    assert {name for name, rule in known_rules().items() if rule["retries"] == 0} == fetching


def test_every_retry_asks_for_more_memory_and_time():
    for name, rule in known_rules().items():
        for resource in () if rule["local"] else ("mem_mb", "runtime"):
            assert rule["second"][resource] == 2 * rule["first"][resource], f"{name}: {resource}"


def test_what_downloads_runs_where_snakemake_runs():
    # compute nodes may have no internet
    local = {name for name, rule in known_rules().items() if rule["local"]}
    assert local >= {"download", "sri24", "hd_bet", "medicalnet", "authors_splits", "stroke_masks"}


def test_the_hours_of_the_docs_are_those_of_the_methods():
    hours = {name: method.gpu_hours for name, method in trained_methods()}
    hours |= {f"{name} (pre-training)": method.gpu_hours for name, method in PRETRAININGS.items()}
    text = (ROOT / "docs/cluster.md").read_text()
    stated = dict(re.findall(r"^\| ([\w ()-]+) \| ([\d.]+) \|$", text, re.MULTILINE))
    assert {name: float(value) for name, value in stated.items()} == hours


def trained_methods():
    files = ("config.yaml", "studies/newer-arms.yaml")
    arms = [arm for file in files for arm in yaml.safe_load((ROOT / file).read_text())["arms"].values()]
    for name in {arm["method"] for arm in arms}:
        if load_method(name).trains:
            yield name, load_method(name)
