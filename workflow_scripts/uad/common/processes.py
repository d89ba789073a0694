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
    """A pool of so many forked processes, each prepared by `prepare(*given)`, which need not be picklable.

    On Linux they end with this process however it ends: after `kill -9` or out of memory, they would otherwise wait for
    work for ever and keep their memory.
    """
    context = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(count, context, initializer=_start, initargs=(os.getpid(), prepare, given))


def _start(parent: int, prepare: Callable[..., None] | None, given: tuple[Any, ...]) -> None:
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it died before this process could ask to be told
            os._exit(1)
    if prepare is not None:
        prepare(*given)
