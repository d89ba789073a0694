"""Work in processes of their own."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

import torch


class OwnProcess:
    """Work that another process makes ready and then does once per call."""

    def __init__(self, make: Callable[[], Callable[[], Any]], threads: int) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        context.Process(target=_serve, args=(theirs, make, threads), daemon=True).start()
        theirs.close()

    def begin(self) -> None:
        self._pipe.send(None)

    def end(self) -> Any:
        return self._pipe.recv()

    def __call__(self) -> Any:
        self.begin()
        return self.end()


def _serve(pipe: Any, make: Callable[[], Callable[[], Any]], threads: int) -> None:
    torch.set_num_threads(threads)
    work = make()
    while True:
        try:
            pipe.recv()
        except EOFError:  # the benchmark has ended
            return
        pipe.send(work())
