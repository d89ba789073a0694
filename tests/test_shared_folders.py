"""Two runs at once: in one checkout, on one data folder; a run started twice; a lock that was left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from uad.files import exclusive
from uad.recipe import write_settings

ROOT = Path(__file__).parents[1]


# --- what is outside Snakemake's view: archives and what is unpacked from them ---------------------------------------


def test_a_folder_is_held_by_one_process_and_free_when_that_is_killed(tmp_path):
    folder = tmp_path / "raw" / "ixi"
    program = """
import sys, time
from uad.files import exclusive
from uad.recipe import write_settings
with exclusive(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow_scripts")}
    holder = subprocess.Popen(
        [sys.executable, "-c", program, folder], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    told = []

    def hold():
        with exclusive(folder, lambda: told.append(time.time())):
            return time.time()

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(hold)
        while not told:
            time.sleep(0.01)
        time.sleep(0.3)
        assert not held.done()
        killed = time.time()
        holder.send_signal(signal.SIGKILL)
        assert killed <= held.result(timeout=30)
    holder.wait()
    assert not folder.exists()  # who asks for it makes it


def test_a_disk_that_takes_no_lock_is_used_without(tmp_path):
    (tmp_path / "raw").write_text("a file where a folder is looked for")
    with exclusive(tmp_path / "raw" / "ixi", lambda: pytest.fail("nobody holds it")):
        pass


def test_what_fetches_or_unpacks_waits_for_another_run(tmp_path):
    (tmp_path / "raw" / "ixi").mkdir(parents=True)
    sources = {"run": "a", "data_dir": str(tmp_path), "needs": [], "offline": True, "base_url": {}, "sha256": {}}
    (tmp_path / "sources.json").write_text(json.dumps(sources))
    cohort = {"adapter": "ixi", "modalities": ["t1"], "subjects": 1, "splits": {"val": 1, "test": 0}}
    settings = write_settings(tmp_path, "ingest", "ixi", {"cohort": cohort})
    programs = {
        "raw/ixi": ["acquire.py", "--cohort", "ixi", "--adapter", "ixi", "--folder", tmp_path / "raw/ixi", "--sources",
                    tmp_path / "sources.json", "--table", tmp_path / "acquired.tsv"],
        "unpacked/ixi": ["ingest.py", "--settings", settings, "--raw", tmp_path / "raw/ixi", "--unpacked",
                         tmp_path / "unpacked/ixi", "--table", tmp_path / "ixi.tsv"],
    }  # fmt: skip
    for folder, (program, *arguments) in programs.items():
        with exclusive(tmp_path / folder):
            process = subprocess.Popen(
                [sys.executable, ROOT / "workflow_scripts" / program, *arguments], stderr=subprocess.PIPE, text=True
            )
            assert "waits for another run" in process.stderr.readline()
        assert "error: " in process.communicate()[1]  # goes on, and finds that there is nothing


# --- what Snakemake guards -------------------------------------------------------------------------------------------

STAGE = ["--cores", "1", "--quiet", "rules", "--configfile", "demo/config.yaml", "tests/slurm/config.yaml"]


@pytest.fixture
def checkout(tmp_path):
    for name in ("Snakefile", "rules", "workflow_scripts", "envs", "demo", "tests", "config.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def started(checkout, run):
    """A run that makes its phantoms of BraTS and the table of that cohort."""
    target = f"results/{run}/cohorts/brats21.tsv"
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", *STAGE, "--config", f"run={run}", "--", target],
        cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def wait_for_lock(checkout, count):
    deadline = time.time() + 60
    while len(list((checkout / ".snakemake/locks").glob("*.output.lock"))) < count:
        assert time.time() < deadline
        time.sleep(0.02)


def test_two_runs_go_on_at_once_and_one_run_started_twice_is_refused(checkout):
    first = started(checkout, "a")
    wait_for_lock(checkout, 1)
    second, again = started(checkout, "b"), started(checkout, "a")
    said = again.communicate()[0]
    assert again.returncode == 1 and "Directory cannot be locked" in said, said
    assert first.poll() is None  # it was at work all the while
    assert (first.wait(), second.wait()) == (0, 0)
    tables = [(checkout / f"results/{run}/cohorts/brats21.tsv").read_text() for run in "ab"]
    assert tables[0].replace("results/a/", "results/b/") == tables[1]


def test_a_lock_left_by_a_killed_driver_is_removed_as_the_message_says(checkout):
    first = started(checkout, "a")
    wait_for_lock(checkout, 1)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    refused = started(checkout, "a")
    said = refused.communicate()[0]
    assert refused.returncode == 1 and "--unlock" in said
    unlock = subprocess.run(
        [sys.executable, "-m", "snakemake", "--unlock"], cwd=checkout, capture_output=True, text=True
    )
    assert unlock.returncode == 0, unlock.stderr
    assert started(checkout, "a").wait() == 0
