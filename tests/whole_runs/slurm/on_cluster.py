"""`snakemake --profile slurm` on a real Slurm, with what happens on clusters: `make test-slurm`.

One run of the demo, made smaller, while its training is cancelled and the controller restarted; beside it two
jobs that exceed their time and their memory.  Needs root and Debian's packages, else it is skipped.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import cluster as slurm
import pytest
import torch
from places import ROOT
from safetensors.torch import load_file

OURS = "tests/whole_runs/slurm"
RESULTS = Path("results/slurm-test")
TRAIN_LOG = RESULTS / "logs/train/ae-t2-fold0.log"
MOST_JOBS = 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    try:
        slurm.install()
    except subprocess.SubprocessError as error:
        pytest.skip(f"Slurm cannot be installed: {error}")
    if reason := slurm.what_is_missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("cluster")
    # should this process be killed, no daemon stays behind
    stop = [sys.executable, slurm.__file__, "stop", str(folder), "--after", str(os.getpid())]
    guard = subprocess.Popen(stop, start_new_session=True)
    try:
        try:
            slurm.start(folder)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no Slurm runs in this environment: {error}")
        yield folder
    finally:
        guard.kill()
        guard.wait()
        slurm.stop(folder)
        left = slurm.processes_of(folder)
        assert not left, left


def workspace(folder):
    """The workflow in a folder of its own: links to the code, results of its own, the profile with both edits made."""
    for name in ("Snakefile", "rules", "workflow_scripts", "envs", "demo", "tests", "config.yaml"):
        (folder / name).symlink_to(ROOT / name)
    lines = (ROOT / "slurm/config.yaml").read_text().splitlines(keepends=True)
    (folder / "slurm").mkdir()
    # EDIT 1 where no accounts are in use; EDIT 2 stays: the partition is called gpu here
    (folder / "slurm/config.yaml").write_text("".join(line for line in lines if "EDIT 1" not in line))
    return folder


def driver(cluster, folder, *arguments):
    """`snakemake --profile slurm`, quicker than the profile says and without accounting.

    Snakemake ends only when the time span of its last submission has passed.
    """
    environment = {**os.environ, **slurm.environment(cluster), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{cluster}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
    with open(folder / "driver.log", "w") as log:
        return subprocess.Popen(
            [sys.executable, f"{OURS}/driver.py", "--profile", "slurm", "--slurm-status-command", "squeue",
             "--latency-wait", "10", "--max-jobs-per-timespan", "30/2s", *arguments],
            cwd=folder, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip


def queue(cluster, folder):
    """(id, state, comment) of the jobs of one driver that wait or run; empty while no controller answers."""
    lines = slurm.client(cluster, "squeue", "--noheader", "--format=%A|%T|%k|%Z").splitlines()
    rows = [line.strip().split("|") for line in lines]
    return [row[:3] for row in rows if len(row) == 4 and row[3] == str(folder) and row[1] != "COMPLETING"]


class Misfortune:
    """What befalls the run, each once: the controller restarts in preprocessing, the training is cancelled."""

    def __init__(self, cluster, folder):
        self.cluster, self.folder, self.most_jobs = cluster, folder, 0
        self.restarted_with, self.cancelled = [], ""

    def strike(self):
        jobs = queue(self.cluster, self.folder)
        self.most_jobs = max(self.most_jobs, len(jobs))
        running = {comment: job for job, state, comment in jobs if state == "RUNNING"}
        # a step that is about to start would wait two minutes for the controller
        registering = any((self.folder / RESULTS / "logs/register").glob("*.log"))
        if not self.restarted_with and registering and any("register" in comment for comment in running):
            self.restarted_with = list(running.values())
            slurm.stop_daemon(self.cluster, "slurmctld")
            time.sleep(3)
            slurm.launch_controller(self.cluster)
        log = self.folder / TRAIN_LOG
        training = [job for comment, job in running.items() if "rule_train" in comment]
        if not self.cancelled and training and log.exists() and "step 20/" in log.read_text():
            slurm.client(self.cluster, "scancel", *training)
            deadline = time.time() + 20
            while "stopped" not in log.read_text() and time.time() < deadline:
                time.sleep(0.05)
            self.cancelled = log.read_text()


@pytest.fixture(scope="module")
def runs(cluster, tmp_path_factory):
    """Folders of both drivers when they are through, and what befell the first."""
    greedy = workspace(tmp_path_factory.mktemp("greedy"))
    folder = workspace(tmp_path_factory.mktemp("run"))
    overlays = ["--configfile", "demo/config.yaml", f"{OURS}/config.yaml", "--config", "arms={thresh: null}"]
    drivers = [
        driver(cluster, greedy, "--snakefile", f"{OURS}/greedy.smk"),
        driver(cluster, folder, "--jobs", str(MOST_JOBS), *overlays, "--", str(RESULTS / "tables/table3.md")),
    ]
    misfortune = Misfortune(cluster, folder)
    try:
        while drivers[1].poll() is None:
            misfortune.strike()
            time.sleep(0.4)
        drivers[0].wait(timeout=300)
    finally:
        for each in drivers:
            each.kill()
    return {"greedy": (greedy, drivers[0]), "demo": (folder, drivers[1]), "misfortune": misfortune}


def test_the_run_ends_with_its_table(runs):
    folder, process = runs["demo"]
    assert process.returncode == 0, (folder / "driver.log").read_text()[-6000:]
    table = (folder / RESULTS / "tables/table3.md").read_text()
    assert re.search(r"^\| AE ", table, re.MULTILINE)


def test_never_more_jobs_in_the_queue_than_allowed(runs):
    assert 1 < runs["misfortune"].most_jobs <= MOST_JOBS


def test_a_restarted_controller_loses_no_job(runs):
    folder, _ = runs["demo"]
    (job,) = runs["misfortune"].restarted_with[:1]
    log = (folder / "driver.log").read_text()
    assert re.search(rf"submitted with SLURM jobid {job} ", log) and f"SLURM-job '{job}' failed" not in log


def test_a_cancelled_training_resumes_and_ends_bit_equal(runs, tmp_path):
    folder, _ = runs["demo"]
    (step,) = re.findall(r"stopped by a signal after step (\d+)/", runs["misfortune"].cancelled)
    assert f"resuming at step {step}" in (folder / TRAIN_LOG).read_text()
    (settings,) = (folder / RESULTS / "settings").glob("train-ae-t2-*.json")
    store = folder / RESULTS / "store/ixi_t2"
    subprocess.run(
        [sys.executable, "workflow_scripts/train.py", "--settings", settings, "--store", store, "--splits",
         folder / RESULTS / "splits/ixi.tsv", "--fold", "0", "--model", tmp_path / "model.safetensors"],
        cwd=ROOT, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    whole = load_file(tmp_path / "model.safetensors")
    resumed = load_file(folder / RESULTS / "models/ae/t2/fold0/model.safetensors")
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_job_that_exceeds_its_time_or_memory_is_retried_with_more(runs):
    folder, process = runs["greedy"]
    log = (folder / "driver.log").read_text()
    assert process.returncode == 0, log[-6000:]
    assert (folder / "slow.txt").read_text() == "5\n" and (folder / "hungry.txt").read_text() == "1200\n"
    assert "SLURM status is: 'TIMEOUT'" in log and "Trying to restart job" in log
