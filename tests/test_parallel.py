"""One training on two devices, here two processes: the same as on one, also after it was stopped."""

import os
import re
import signal
import time

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from safetensors.torch import load_file
from training_job import TrainingJob

from uad.common.errors import InputError
from uad.config.model import TrainSettings
from uad.methods import known_methods, load_method
from uad.training.loop import train_arm
from uad.training.slices import SliceSource

pytestmark = pytest.mark.slow

STEPS, EVERY = 30, 5


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    # the encoder's batch statistics and dropped paths are those of the whole batch
    return TrainingJob(tmp_path_factory.mktemp("job"), "cddpm", max_steps=STEPS, validate_every=EVERY)


def trained(job, name, devices):
    process = job.start(job.folder / name, devices)
    assert process.wait() == 0, process.stderr.read() + (job.folder / name / "log.txt").read_text()
    return job.folder / name


@pytest.fixture(scope="module")
def on_one(job):
    return trained(job, "one", 1)


def assert_same(results, other):
    """Two processes add up the gradients of a batch in another order: float32 differs by 1e-7 per step, relatively,
    which Adam can raise where a gradient is nearly nothing.
    """
    curve, its_curve = (pd.read_csv(folder / "log.csv") for folder in (results, other))
    np.testing.assert_allclose(curve.to_numpy(), its_curve.to_numpy(), rtol=1e-4)
    weights, its_weights = (load_file(folder / "model.safetensors") for folder in (results, other))
    assert weights.keys() == its_weights.keys()
    ours, expected = (torch.cat([each[key].flatten().double() for key in weights]) for each in (weights, its_weights))
    assert (ours - expected).norm() / expected.norm() < 1e-4


def test_two_devices_with_the_same_batch_give_the_same_training(job, on_one):
    results = trained(job, "two", 2)
    assert_same(results, on_one)
    log = (results / "log.txt").read_text()
    assert "MEMBER: 2/2" in log  # there were two
    assert log.count(f"step {STEPS}/{STEPS}") == 1  # and one of them speaks


@pytest.mark.parametrize("asked", ["all", "second"])
def test_sigterm_stops_both_and_the_rerun_goes_on(job, on_one, asked):
    """Slurm signals every process of a job; a user may signal one, not always the first."""
    results = job.folder / f"stopped_{asked}"
    process = job.start(results, 2)
    log = results / "log.txt"
    while not (log.exists() and f"step {EVERY}/{STEPS}" in log.read_text()):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    signal_processes(process.pid, asked)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM, log.read_text()
    (step,) = re.findall(rf"^stopped by a signal after step (\d+)/{STEPS}", log.read_text(), re.MULTILINE)
    assert_same(trained(job, results.name, 2), on_one)
    assert f"resuming at step {step}" in log.read_text()


def signal_processes(shell, asked):
    """SIGTERM to a job's whole group, or to the second of its two trainings, which the first one started."""
    if asked == "all":
        os.killpg(shell, signal.SIGTERM)
        return
    family = psutil.Process(shell).children(recursive=True)
    trainings = [process for process in family if any(part.endswith("train.py") for part in process.cmdline())]
    max(trainings, key=lambda process: len(process.parents())).terminate()


def test_methods_whose_samples_influence_each_other_train_on_one_device():
    """Batch normalisation in the network, or a loss over neighbouring slices, would see half a batch."""
    shared = {name for name in known_methods() if load_method(name).shares_batches}
    assert shared == {"ddpm", "pddpm", "cddpm"}


@pytest.mark.parametrize(("name", "batch", "devices"), [("ae", 4, 2), ("ddpm", 4, 3)])
def test_devices_that_cannot_share_a_batch_are_refused(name, batch, devices, tmp_path):
    settings = TrainSettings(max_steps=2, batch_size=batch, precision="32-true")
    source = SliceSource(np.zeros((4, 4, 16, 16), np.float32), [0, 1, 2, 3], settings, 2.0)
    method = load_method(name)
    with pytest.raises(InputError, match=rf"execution\.devices is {devices}: it must divide .* \({batch}\)"):
        train_arm(
            method(method.Params()), source, source, seed=1, checkpoints=tmp_path, threads=1, progress=print,
            devices=devices,
        )  # fmt: skip
