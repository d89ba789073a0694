"""`kill -9` in every stage of a run, then the same command again: `make test-kills`.

Twelve rounds with a fixed seed.  Each strikes a moment after a job of the next stage has started: the driver alone,
whose jobs go on as orphans beside those of the next driver; the driver with all its jobs; or a single job.
"""

import contextlib
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
from PIL import Image
from places import ROOT
from safetensors.torch import load_file

RESULTS = Path("results/kills")
# rules in the order of a run, and what is struck there
ROUNDS = [
    ("phantom", "all"), ("ingest", "driver"), ("skull_strip", "job"), ("skull_strip", "driver"), ("register", "all"),
    ("pack", "driver"), ("train", "job"), ("reconstruct", "all"), ("score", "driver"), ("figures", "all"),
    ("tables", "job"), ("html_report", "driver"),
]  # fmt: skip
# programs of the stages in which single jobs are struck
SCRIPTS = {
    "skull_strip": "workflow_scripts/skull_strip.py",
    "train": "workflow_scripts/train.py",
    "tables": "workflow_scripts/make_tables.py",
}
READERS = {
    ".tsv": lambda path: pd.read_csv(path, sep="\t"),
    ".csv": pd.read_csv,
    ".json": lambda path: json.loads(path.read_text()),
    ".parquet": pd.read_parquet,
    ".npy": lambda path: np.load(path, mmap_mode="r"),
    ".npz": lambda path: [np.load(path)[name] for name in np.load(path).files],
    ".gz": lambda path: gzip.decompress(path.read_bytes()),
    ".ckpt": lambda path: torch.load(path, weights_only=True),
    ".safetensors": load_file,
    ".png": lambda path: Image.open(path).load(),
}


def workspace(folder):
    """The workflow in a folder of its own: links to the code, results of its own."""
    for name in ("Snakefile", "rules", "workflow_scripts", "envs", "demo", "tests", "profiles", "config.yaml"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def start(folder, *arguments):
    overlays = ["demo/config.yaml", "tests/whole_runs/slurm/config.yaml", "tests/whole_runs/kills/config.yaml"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    with open(folder / "driver.log", "a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "2", "--resources", "gpu=0", "--quiet", "rules", "host",
             "--configfile", *overlays, *arguments],
            cwd=folder, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


def wait_for(process, logs, rule, draw):
    """Whether a job of the stage started before the run ended; returns within its first seconds."""
    begin = time.time()
    while process.poll() is None:
        written = [*logs.glob(f"{rule}/*.log"), *logs.glob(f"{rule}.log")]
        if any(log.stat().st_mtime > begin for log in written):
            time.sleep(draw.uniform(0, 2))  # the tables take 4 s, the report 3
            return process.poll() is None
        time.sleep(0.02)
    return False


def jobs_of(session):
    """Processes of a driver's session but the driver, which may be dead."""
    return [process for process in psutil.process_iter() if process.pid != session and in_session(process, session)]


def in_session(process, session):
    try:
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def strike(process, rule, what):
    """Whether anything was struck: a job may have ended, unlike a driver that still waits."""
    killed = 1
    if what == "driver":
        process.kill()
    elif what == "all":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        killed = 0
        for job in jobs_of(process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                if SCRIPTS[rule] in job.cmdline()[:2]:
                    job.kill()
                    killed += 1
    process.wait(timeout=300)
    return killed > 0


def end(session):
    for job in jobs_of(session):
        with contextlib.suppress(psutil.NoSuchProcess):
            job.kill()


def unreadable(results):
    """Files under a final name that cannot be read as what they are; hidden ones are drafts, logs grow."""
    found = []
    for path in results.rglob("*"):
        parts = path.relative_to(results).parts
        if path.suffix not in READERS or parts[0] in ("logs", "benchmarks") or any(p.startswith(".") for p in parts):
            continue
        try:
            READERS[path.suffix](path)
        except FileNotFoundError:  # an orphan or the next driver has just replaced it
            continue
        except Exception as error:
            found.append(f"{path}: {type(error).__name__}: {error}")
    return found


def finished_scans(results):
    """When each finished scan was noted."""
    notes = [*results.glob("skull_stripped/*/*_t2.json"), *results.glob("preprocessed/*/*_t2.json")]
    return {note.relative_to(results): note.stat().st_mtime_ns for note in notes}


def files(results, *patterns):
    return {path.relative_to(results): path.read_bytes() for pattern in patterns for path in results.glob(pattern)}


def test_kills_leave_no_half_files_and_the_same_command_ends_with_the_same_tables(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole, killed = workspace(tmp_path / "whole"), workspace(tmp_path / "killed")
    draw, struck, scans, orphans = random.Random(6), [], {}, None
    undisturbed = start(whole)
    try:
        for rule, what in ROUNDS:
            process = start(killed)
            hit = wait_for(process, killed / RESULTS / "logs", rule, draw)
            if hit and strike(process, rule, what):
                struck.append((rule, what))
            if orphans:
                end(orphans)
            assert not unreadable(killed / RESULTS), (rule, what)
            now = finished_scans(killed / RESULTS)
            assert {note: now.get(note) for note in scans} == scans, (rule, what)  # nothing is done twice
            scans, orphans = now, process.pid
            start(killed, "--unlock").wait()
        print(struck)
        assert len(struck) >= 10, struck
        log = killed / "driver.log"
        assert start(killed).wait() == 0, log.read_text()[-3000:]
        assert {note: finished_scans(killed / RESULTS).get(note) for note in scans} == scans
        assert undisturbed.wait() == 0, (whole / "driver.log").read_text()[-3000:]
    finally:
        for session in (undisturbed.pid, process.pid):
            end(session)
        undisturbed.kill()
        process.kill()
    patterns = ("tables/table*", "store/*.npy", "store/*.tsv", "models/*/*/*/model.safetensors", "models/*/*/*/log.csv")
    expected = files(whole / RESULTS, *patterns)
    assert len(expected) > 20
    made = files(killed / RESULTS, *patterns)
    assert made.keys() == expected.keys()
    assert [str(name) for name in expected if made[name] != expected[name]] == []
