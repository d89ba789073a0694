"""Processes that share a job's work."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

_PARENT_DEATH_SIGNAL = 1  # prctl(2) of Linux


def forked_workers(count: int, prepare: Callable[..., None] | None = None, *given: Any) -> ProcessPoolExecutor:
    """A pool of forked processes; each first calls `prepare(*given)`, which need not be picklable.

    On Linux workers are killed when the parent dies (PR_SET_PDEATHSIG), also after kill -9; otherwise they would wait
    for work forever and keep their memory.
    """
    context = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(count, context, initializer=_start, initargs=(os.getpid(), prepare, given))


def _start(parent: int, prepare: Callable[..., None] | None, given: tuple[Any, ...]) -> None:
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before prctl was called
            os._exit(1)
    if prepare is not None:
        prepare(*given)
