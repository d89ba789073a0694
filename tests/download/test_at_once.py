"""Two runs that need one file: it is fetched once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from local_server import LocalServer, pausing, serve
from made_up_items import sha256, write_settings
from places import ROOT

from uad.download.sources import Settings

WEIGHTS = os.urandom(400_000)
NAME = "resnet_10_23dataset.pth"
PATIENCE = 30  # seconds


@pytest.fixture
def server():
    with serve(LocalServer({f"/{NAME}": WEIGHTS})) as running:
        yield running


class Run:
    """`download_item.py` for MedicalNet's weights as a process of its own."""

    def __init__(self, server, folder, log):
        self.target, self.log = folder / NAME, log
        mirror = Settings(base_url={"medicalnet": server.url}, sha256={NAME: sha256(WEIGHTS)})
        settings = write_settings(log.with_suffix(".json"), "medicalnet", folder, mirror)
        self.process = subprocess.Popen(
            [sys.executable, "workflow_scripts/download_item.py", "--item", "medicalnet", "--files", self.target,
             "--sources", settings],
            cwd=ROOT, stdout=log.open("w"), stderr=subprocess.STDOUT,
        )  # fmt: skip

    def until(self, condition):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def waits(self):
        return "waiting: another run" in self.log.read_text()


def two_runs(server, folder, logs):
    """The first is half-way through its download while the second waits."""
    part = folder / f"{NAME}.part"
    first = Run(server, folder, logs / "first.log")
    first.until(lambda: part.exists() and part.stat().st_size >= 100_000)
    second = Run(server, folder, logs / "second.log")
    second.until(second.waits)
    return first, second


def test_of_two_runs_one_fetches_and_the_other_finds_the_file(server, tmp_path):
    released = tmp_path / "released"
    server.tricks[f"/{NAME}"] = [pausing(100_000, released.exists)]
    first, second = two_runs(server, tmp_path / "medicalnet", tmp_path)
    released.touch()
    assert first.process.wait(PATIENCE) == second.process.wait(PATIENCE) == 0
    assert len(server.requests) == 1 and server.sent(f"/{NAME}") == len(WEIGHTS)
    assert first.target.read_bytes() == WEIGHTS
    assert sorted(path.name for path in first.target.parent.iterdir()) == ["fetched.json", NAME]
    assert len(second.log.read_text().splitlines()) == 1  # it only waited


def test_the_one_that_waits_goes_on_where_a_killed_one_stopped(server, tmp_path):
    killed = tmp_path / "killed"
    server.tricks[f"/{NAME}"] = [pausing(100_000, killed.exists)]
    first, second = two_runs(server, tmp_path / "medicalnet", tmp_path)
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    assert second.process.wait(PATIENCE) == 0
    killed.touch()
    assert second.target.read_bytes() == WEIGHTS
    assert server.ranges(f"/{NAME}") == [None, "bytes=100000-"]  # the first part came once
