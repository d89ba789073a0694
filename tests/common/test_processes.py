"""Workers that end with the process that started them."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from uad.common.processes import forked_workers

WORKING = """
import os, time
from uad.common.processes import forked_workers
with forked_workers(2) as pool:
    work = [pool.submit(time.sleep, 0.5) for _ in range(4)]
    work[1].result()  # both have worked
    print(*pool._processes, flush=True)
    work[3].result()
    time.sleep(60)
"""


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_workers_of_a_killed_process_are_gone():
    command = [sys.executable, "-c", WORKING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        workers = program.stdout.readline().split()
        assert len(workers) == 2 and all(map(alive, workers))
        program.send_signal(signal.SIGKILL)
    end = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(alive, workers))


PREPARED = []


def prepared():
    return PREPARED


def test_workers_are_prepared_with_what_cannot_be_pickled():
    with forked_workers(1, lambda number: PREPARED.append(number), 7) as pool:
        assert pool.submit(prepared).result() == [7]
    assert PREPARED == []  # of this process
