"""What a training keeps beside its weights: checkpoints that are whole and its own, and the learning curve."""

from __future__ import annotations

import csv
import io
import math
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from uad.common.errors import InputError
from uad.common.files import atomic_path


class LearningCurve(Callback):
    """Keeps one row per validation, in the checkpoint too, and tells the reader how far training is."""

    def __init__(self, progress: Callable[[str], None], max_steps: int) -> None:
        self.rows: list[dict[str, float]] = []
        self._progress, self._max_steps, self._start = progress, max_steps, time.time()
        self._first_step = 0
        self._seen: dict[str, list[torch.Tensor]] = {}

    def on_train_start(self, trainer: lightning.Trainer, _: Any) -> None:
        self._start, self._first_step = time.time(), trainer.global_step

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        for column, value in module.noted.items():
            self._seen.setdefault(column, []).append(value)

    def on_validation_end(self, trainer: lightning.Trainer, _: Any) -> None:
        if not self._seen:
            return
        step, validation = trainer.global_step, float(trainer.callback_metrics["val_loss"])
        # on the CPU: after a resume, the values from before it come from the checkpoint
        means = {
            column: float(torch.stack([value.cpu() for value in values]).mean())
            for column, values in self._seen.items()
        }
        self._seen = {}
        if math.isfinite(validation):
            means["val_loss"] = validation
        self.rows.append({"step": step, **means})
        rate = (step - self._first_step) / max(time.time() - self._start, 1e-9)
        values = "  ".join(f"{column.removesuffix('_loss')} {value:.4f}" for column, value in means.items())
        left = (self._max_steps - step) / rate
        self._progress(f"step {step}/{self._max_steps}  {values}  {rate:.1f} steps/s  {left:.0f} s left")

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows, self._seen = list(state["rows"]), {column: list(values) for column, values in state["seen"].items()}


class RecipeMark(Callback):
    """Marks checkpoints with the recipe that made them."""

    def __init__(self, recipe: str) -> None:
        self._recipe = recipe

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["recipe"] = self._recipe


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside their place: Lightning would copy them from /tmp, which a kill leaves half done."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        content = io.BytesIO()  # torch's own writer does not tell a full disk from other failures
        torch.save(checkpoint, content)
        with atomic_path(path) as temporary:
            temporary.write_bytes(content.getbuffer())


class StopWhenAsked(Callback):
    """Writes `last` where SIGTERM ended training: Lightning finishes the step at hand, its validation included."""

    def __init__(self, last: Path, every: int) -> None:
        self._last, self._every = last, every

    def on_exception(self, trainer: lightning.Trainer, module: Any, exception: BaseException) -> None:
        # a validation has written its own checkpoint
        if isinstance(exception, SIGTERMException) and trainer.global_step % self._every:
            trainer.save_checkpoint(self._last)


def read_checkpoint(checkpoint: Path, recipe: str) -> dict[str, Any] | None:
    if not checkpoint.exists():
        return None
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise InputError(f"{checkpoint}: cannot be read; delete {checkpoint.parent} and train again") from error
    if content["recipe"] != recipe:
        raise InputError(
            f"{checkpoint}: was made by the recipe {content['recipe']!r}, this training's is {recipe!r}; "
            f"delete {checkpoint.parent} and train again"
        )
    return content


def write_curve(rows: list[dict[str, float]], path: str | Path) -> None:
    """Write the learning curve as CSV: step, training losses, val_loss, terms of the loss; empty: no value."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    losses = sorted(column for column in columns if column.startswith("train_loss"))
    first = ["step", *losses, "val_loss"]
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as stream:
        writer = csv.DictWriter(stream, [*first, *sorted(set(columns) - set(first))])
        writer.writeheader()
        writer.writerows(rows)
