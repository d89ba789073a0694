"""Training under a cluster's hand: SIGTERM at any step keeps everything, the rerun ends bit-equal."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch
from packed_arrays import store_of
from places import ROOT
from safetensors.torch import load_file
from tiny import TINY
from training_job import TrainingJob, shell_of

import uad.training.loop
from uad.common.errors import Interrupted
from uad.config.model import TrainSettings
from uad.methods import load_method
from uad.training.loop import train_arm
from uad.training.slices import SliceSource

pytestmark = pytest.mark.slow

VOLUMES = np.random.default_rng(0).random((10, 6, 16, 16)).astype(np.float32)
STEPS, EVERY = 13, 4


class Signalled:
    """A step that gets SIGTERM in its middle, number `at`."""

    at = None
    step = uad.training.loop._Training.training_step

    @staticmethod
    def training_step(module, batch, index):
        if batch[0] == Signalled.at:  # as Slurm does it: every process of the job
            for process in [os.getpid(), *(worker.pid for worker in active_children())]:
                os.kill(process, signal.SIGTERM)
        return Signalled.step(module, batch, index)


@pytest.fixture(autouse=True)
def _signalled(monkeypatch):
    monkeypatch.setattr(uad.training.loop._Training, "training_step", Signalled.training_step)


def trained(name, folder, at=None):
    """Weights, learning curve and progress lines of the smallest form of an arm."""
    settings = TrainSettings(
        max_steps=STEPS, batch_size=4, precision="32-true", validate_every=EVERY, validation_slices=2
    )
    method, store = load_method(name), store_of(VOLUMES)
    method = method(method.Params(**TINY[name]))
    Signalled.at = at
    lines = []
    network, curve = train_arm(
        method,
        SliceSource(store, list(range(8)), settings, 2.0, method),
        SliceSource(store, [8, 9], settings, 2.0, method),
        seed=3,
        checkpoints=folder,
        threads=1,
        progress=lines.append,
        recipe="r",
    )
    return network.state_dict(), curve, lines


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Lazily, the result of an arm that nobody disturbs."""
    made = {}

    def of(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            made[name] = (*trained(name, folder)[:2], torch.load(folder / "best.ckpt", weights_only=True))
        return made[name]

    return of


# counted from 0: step 3 ends with a validation, 4 follows one, 12 is the last and is never validated
@pytest.mark.parametrize(
    ("name", "at"),
    [*[("ae", at) for at in (0, 2, 3, 4, 6, 12)], ("cddpm", 5), ("cddpm", 7), ("fanogan", 1), ("fanogan", 10)],
)
def test_sigterm_checkpoints_the_step_at_hand_and_the_rerun_ends_bit_equal(name, at, tmp_path, undisturbed):
    weights, curve, best = undisturbed(name)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match=rf"stopped by a signal after step {at + 1}/{STEPS}"):
        trained(name, tmp_path, at)
    assert signal.getsignal(signal.SIGTERM) == before
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == at + 1
    resumed, resumed_curve, lines = trained(name, tmp_path)
    assert f"resuming at step {at + 1}" in lines
    assert resumed_curve == curve
    assert all(torch.equal(weights[key], resumed[key]) for key in weights)
    kept = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert kept["global_step"] == best["global_step"]


def test_a_training_that_is_stopped_again_and_again_ends_bit_equal(tmp_path, undisturbed):
    weights, curve, _ = undisturbed("ae")
    draw, first = random.Random(7), 0
    while first < STEPS:
        at = draw.randint(first, STEPS - 1)
        with pytest.raises(Interrupted):
            trained("ae", tmp_path, at)
        first = at + 1
    resumed, resumed_curve, _ = trained("ae", tmp_path)
    assert resumed_curve == curve and all(torch.equal(weights[key], resumed[key]) for key in weights)


def test_workers_that_load_data_outlive_sigterm(tmp_path, undisturbed, monkeypatch):
    # on a GPU, slices are drawn in processes of their own
    loader = uad.training.loop.DataLoader
    monkeypatch.setattr(
        uad.training.loop, "DataLoader", lambda data, **options: loader(data, **options | workers_of(data))
    )
    with pytest.raises(Interrupted, match="after step 7/"):
        trained("ae", tmp_path, 6)
    assert not active_children()
    assert trained("ae", tmp_path)[1] == undisturbed("ae")[1]


def workers_of(data):
    return {"num_workers": 2} if isinstance(data, uad.training.loop.Steps) else {}


def test_a_training_that_was_complete_keeps_its_learning_curve(tmp_path, undisturbed):
    # stopped after the last checkpoint, before the model was written: here at step 12, which is never validated
    with pytest.raises(Interrupted):
        trained("ae", tmp_path, STEPS - 1)
    assert trained("ae", tmp_path)[1] == trained("ae", tmp_path)[1] == undisturbed("ae")[1]


@pytest.fixture
def job(tmp_path):
    return TrainingJob(tmp_path, "ae", max_steps=100, validate_every=20).start


def test_sigterm_to_every_process_of_the_job_reaches_the_training(job, tmp_path):
    # Slurm signals each process of a step: shell, python and tee; python alone may act on it
    assert job(tmp_path / "whole").wait() == 0
    log, draw = tmp_path / "stopped/log.txt", random.Random(5)
    process = job(tmp_path / "stopped")
    while not (log.exists() and "step 20/100" in log.read_text()):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    time.sleep(draw.random() * 0.3)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    (step,) = re.findall(r"^stopped by a signal after step (\d+)/100; .*last\.ckpt is written", log.read_text(), re.M)
    assert not (tmp_path / "stopped/model.safetensors").exists()
    assert job(tmp_path / "stopped").wait() == 0
    assert f"resuming at step {step}" in log.read_text()
    assert (tmp_path / "stopped/log.csv").read_text() == (tmp_path / "whole/log.csv").read_text()
    whole, stopped = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)


def test_both_rules_that_train_let_the_signal_through():
    assert all(shell_of(rule).startswith("trap : TERM INT; python ") for rule in ("pretrain", "train"))


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_stopping_the_driver_checkpoints_its_training(tmp_path, asked):
    """Ctrl-C reaches every process of the terminal, `kill` the driver alone; both keep the step at hand."""
    driver = Driver(tmp_path)
    process = driver.start()
    while "step 20/" not in driver.log():
        assert process.poll() is None, driver.said()
        time.sleep(0.05)
    if asked == signal.SIGINT:
        os.killpg(process.pid, asked)
    else:
        process.send_signal(asked)
    assert process.wait(timeout=60) != 0
    (step,) = re.findall(r"^stopped by a signal after step (\d+)/", driver.log(), re.M)
    assert "Trying to restart" not in driver.said()
    assert driver.start().wait() == 0, driver.said()
    assert f"resuming at step {step}" in driver.log()


class Driver:
    """A real Snakemake, in a terminal of its own, that trains one arm of the demo on made-up slices."""

    def __init__(self, folder):
        for name in ("Snakefile", "rules", "workflow_scripts", "envs", "demo", "config.yaml"):
            (folder / name).symlink_to(ROOT / name)
        self.folder, self.results = folder, folder / "results/small"
        (self.results / "store").mkdir(parents=True)
        (self.results / "splits").mkdir()
        TrainingJob(self.results / "store", "ae")
        (self.results / "store/s.tsv").rename(self.results / "splits/ixi.tsv")
        (self.results / "leaks.tsv").touch()
        keys = {"max_steps": 1500, "batch_size": 4, "validate_every": 20, "validation_slices": 2}
        overlay = {"run": "small", "train": keys, "arms": {"ae": {"train": keys}}}
        (folder / "small.json").write_text(json.dumps(overlay))

    def start(self, *arguments):
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with open(self.folder / "driver.log", "w") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "snakemake", "--cores", "1", "--retries", "2", "--allowed-rules", "train",
                 "--configfile", "demo/config.yaml", "small.json", *arguments,
                 "--", "results/small/models/ae/t2/fold0/model.safetensors"],
                cwd=self.folder, env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
                stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip

    def log(self):
        log = self.results / "logs/train/ae-t2-fold0.log"
        return log.read_text() if log.exists() else ""

    def said(self):
        return (self.folder / "driver.log").read_text()
