"""Training of one arm on one fold with Lightning: seeded per step, so that a killed job resumes exactly.

Every batch, noise field and dropout mask of step s follows from (seed, s) alone.  A run resumed at step s
therefore sees what an uninterrupted run would have seen (paper_spec 4, 9; DESIGN decision 7).
"""

from __future__ import annotations

import csv
import io
import logging
import math
import pickle
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from uad.augmentation import draw_augmented, draw_plain
from uad.config.model import TrainSettings
from uad.errors import InputError, Interrupted
from uad.files import atomic_path
from uad.memory import keep_freed_memory
from uad.methods import Method
from uad.parallel import SharedPass, any_process, is_first_process
from uad.seeds import seed_for

RECIPE_VERSION = 2


class SliceSource:
    """Draws training and validation slices from a packed store.

    Args:
        images: memory-mapped volumes [N, Z, Y, X] in [0, 1].
        rows: rows of the volumes of one split.
        spacing_mm: voxel size of the store, for the blur of the augmentation.
        chunk: consecutive slices per drawn volume; a batch of B slices is B / chunk volumes.
        subjects: names of all rows of the store, for messages.

    Raises:
        InputError: the batch size is no multiple of `chunk`, or the volumes have fewer slices.
    """

    def __init__(
        self,
        images: np.ndarray,
        rows: list[int],
        settings: TrainSettings,
        spacing_mm: float,
        chunk: int = 1,
        subjects: Sequence[str] = (),
    ) -> None:
        if settings.batch_size % chunk or images.shape[1] < chunk:
            raise InputError(
                f"params.chunk is {chunk}: it must divide train.batch_size ({settings.batch_size}) and be at most "
                f"the number of slices per volume ({images.shape[1]}); change one of them"
            )
        self.images = images
        self.rows = np.asarray(rows)
        self.settings = settings
        self.spacing_mm = spacing_mm
        self.chunk = chunk
        self.subjects = subjects

    def in_chunks(self, chunk: int) -> SliceSource:
        """The same source with another number of consecutive slices per drawn volume."""
        return SliceSource(self.images, self.rows, self.settings, self.spacing_mm, chunk, self.subjects)

    def scans_of_step(self, step: int, seed: int) -> str:
        """Names of the scans that a step reads."""
        rows = self.volumes_of_step(step, seed).tolist()
        return ", ".join(self.subjects[row] if self.subjects else f"row {row}" for row in rows)

    def volumes_of_step(self, step: int, seed: int) -> np.ndarray:
        """Which volumes a step reads [B / chunk]: each once per epoch, the epoch's incomplete batch dropped.

        With fewer volumes than a batch takes, epochs follow each other without a gap.
        """
        batch, count = self.settings.batch_size // self.chunk, len(self.rows)
        usable = count - count % batch if count >= batch else count
        positions = step * batch + np.arange(batch)
        orders = {
            epoch: np.random.default_rng(seed_for(seed, "epoch", epoch)).permutation(count)
            for epoch in np.unique(positions // usable).tolist()
        }
        return self.rows[[orders[p // usable][p % usable] for p in positions.tolist()]]

    def draw(self, rows: np.ndarray, seed: int) -> torch.Tensor:
        """Uniformly drawn axial slices, `chunk` in a row per volume, augmented if the arm asks: [B, 1, Y, X]."""
        generator = torch.Generator().manual_seed(seed)
        starts = torch.randint(self.images.shape[1] - self.chunk + 1, (len(rows),), generator=generator)
        positions = self._consecutive(torch.from_numpy(rows), starts)
        if not self.settings.augment:
            return draw_plain(self.images, *positions)
        chance = self.settings.augmentation
        return draw_augmented(
            self.images, *positions, generator, self.spacing_mm, chunk=self.chunk,
            p_gamma=chance.gamma, p_bias=chance.bias_field, p_blur=chance.blur, p_ghosting=chance.ghosting,
        )  # fmt: skip

    def _consecutive(self, rows: torch.Tensor, starts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Row and slice of each image where `chunk` slices begin at each start: both [V] -> both [V * chunk]."""
        slices = starts[:, None] + torch.arange(self.chunk)
        return rows.repeat_interleave(self.chunk), slices.flatten()

    def validation_batches(self, seed: int) -> list[torch.Tensor]:
        """Slices of the healthy validation set in batches: fixed ones, or drawn and augmented anew (D14)."""
        batch = self.settings.batch_size // self.chunk
        if self.settings.validation == "random":
            return [
                self.draw(self.rows[i : i + batch], seed_for(seed, "validation", i))
                for i in range(0, len(self.rows), batch)
            ]
        depth = self.images.shape[1]
        count = max(min(self.settings.validation_slices, depth) // self.chunk, 1)
        starts = torch.linspace(0, depth - self.chunk, count + 2)[1:-1].round().long()
        rows, starts = torch.from_numpy(self.rows).repeat_interleave(count), starts.repeat(len(self.rows))
        return [
            draw_plain(self.images, *self._consecutive(rows[i : i + batch], starts[i : i + batch]))
            for i in range(0, len(rows), batch)
        ]


class _Steps(IterableDataset):
    """Batches of the steps from `first_step` on, shared out over the loader's workers step by step."""

    def __init__(self, source: SliceSource, seed: int, first_step: int) -> None:
        self.source, self.seed, self.first_step = source, seed, first_step

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor]]:
        worker = get_worker_info()
        start, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for step in range(self.first_step + start, self.source.settings.max_steps, stride):
            rows = self.source.volumes_of_step(step, self.seed)
            yield step, self.source.draw(rows, seed_for(self.seed, "slices", step))


def _leave_sigterm_to_the_parent(_: int) -> None:
    """Slurm signals every process of a job; a loader's worker that ends would take the training with it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class _Training(lightning.LightningModule):
    """One update per step: of the whole network, or of the part whose turn it is."""

    def __init__(
        self, method: Method, network: torch.nn.Module, training: SliceSource, validation: SliceSource, seed: int
    ) -> None:
        super().__init__()
        self.method, self.network, self.seed = method, network, seed
        self.training_source, self.validation, self.settings = training, validation, training.settings
        self.automatic_optimization = not method.parts
        self.noted: dict[str, torch.Tensor] = {}  # what the learning curve shows of the last step

    def _generator(self, *purpose: str | int) -> torch.Generator:
        seed = seed_for(self.seed, *purpose)
        torch.manual_seed(seed)  # dropout and drop path draw from the global generator
        return torch.Generator(self.device).manual_seed(seed)

    def training_step(self, batch: tuple[int, torch.Tensor], _: int) -> torch.Tensor:
        step, images = batch
        self.method.terms.clear()
        generator = self._generator("step", step)
        if self.method.parts:
            part = self.method.part_of_step(step, self.settings.max_steps)
            return self._move(part, step, images, generator)
        devices = self.trainer.world_size
        if devices == 1:
            return self._checked(self.method.loss(self.network, images, generator), step)
        loss = self._checked(self.method.loss(SharedPass(self.network), images, generator), step)
        return loss * devices  # Lightning takes the mean of the processes' gradients, their sum is wanted

    def _move(self, part: str, step: int, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        optimizer = self.optimizers()[self.method.parts.index(part)]
        self.toggle_optimizer(optimizer)
        loss = self._checked(self.method.part_loss(part, self.network, images, generator), step, f"_{part}")
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.untoggle_optimizer(optimizer)
        return loss.detach()

    def _checked(self, loss: torch.Tensor, step: int, suffix: str = "") -> torch.Tensor:
        if not torch.isfinite(loss):
            scans = self.training_source.scans_of_step(step, self.seed)
            raise InputError(
                f"training loss is {loss.item()} at step {step}, batch of {scans}; lower train.learning_rate, "
                "or look at these scans"
            )
        self.noted = {f"train_loss{suffix}": loss.detach(), **self.method.terms}
        return loss

    def validation_step(self, batch: int, _: int) -> None:
        if self.global_step <= self.method.judged_from(self.settings.max_steps):
            self.log("val_loss", torch.inf, batch_size=1)
            return
        fixed = self.settings.validation == "fixed"
        purpose = ("validation",) if fixed else ("validation", self.global_step)
        batches = self.validation.validation_batches(seed_for(self.seed, *purpose))
        generator = self._generator(*purpose)
        losses = [self.method.loss(self.network, images.to(self.device), generator) for images in batches]
        weights = torch.tensor([len(images) for images in batches], device=self.device)
        self.log("val_loss", (torch.stack(losses).float() * weights).sum() / weights.sum(), batch_size=1)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        rate = self.settings.learning_rate
        if not self.method.parts:
            return [self.method.optimizer(self.network.parameters(), rate)]
        return [
            self.method.optimizer(getattr(self.network, part).parameters(), rate, part) for part in self.method.parts
        ]


class _LearningCurve(Callback):
    """Keeps one row per validation, in the checkpoint too, and tells the reader how far training is."""

    def __init__(self, progress: Callable[[str], None], max_steps: int) -> None:
        self.rows: list[dict[str, float]] = []
        self._progress, self._max_steps, self._start = progress, max_steps, time.time()
        self._first_step = 0
        self._seen: dict[str, list[torch.Tensor]] = {}

    def on_train_start(self, trainer: lightning.Trainer, _: Any) -> None:
        self._start, self._first_step = time.time(), trainer.global_step

    def on_train_batch_end(self, trainer: Any, module: _Training, outputs: Any, batch: Any, index: int) -> None:
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


class _Recipe(Callback):
    """Marks checkpoints with the recipe that made them."""

    def __init__(self, recipe: str) -> None:
        self._recipe = recipe

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["recipe"] = self._recipe


class _WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside their place: Lightning would copy them from /tmp, which a kill leaves half done."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        content = io.BytesIO()  # torch's own writer does not tell a full disk from other failures
        torch.save(checkpoint, content)
        with atomic_path(path) as temporary:
            temporary.write_bytes(content.getbuffer())


class _StopWhenAsked(Callback):
    """Writes `last` where SIGTERM ended training: Lightning finishes the step at hand, its validation included.

    Several processes agree on that step.  Lightning's own handler would speak to the others at once, while they may be
    in the middle of a step and wait for something else.
    """

    def __init__(self, last: Path, every: int) -> None:
        self._last, self._every = last, every
        self._asked = False

    def setup(self, trainer: lightning.Trainer, module: Any, stage: str) -> None:
        if trainer.world_size > 1:
            trainer._signal_connector._sigterm_notifier_fn = self._note

    def _note(self, *_: Any) -> None:
        self._asked = True

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.world_size > 1 and any_process(self._asked, trainer.strategy.root_device):
            trainer._signal_connector.received_sigterm = True

    def on_exception(self, trainer: lightning.Trainer, module: Any, exception: BaseException) -> None:
        # a validation has written its own checkpoint
        if isinstance(exception, SIGTERMException) and trainer.global_step % self._every:
            trainer.save_checkpoint(self._last)


def train_arm(
    method: Method,
    training: SliceSource,
    validation: SliceSource,
    *,
    seed: int,
    checkpoints: Path,
    threads: int,
    progress: Callable[[str], None],
    recipe: str = "",
    start_from: Path | None = None,
    devices: int = 1,
) -> tuple[torch.nn.Module, list[dict[str, float]]]:
    """Train a method's network; returns the best network by healthy validation loss and its learning curve.

    Args:
        checkpoints: folder of this recipe's `best` and `last` checkpoints; training resumes from `last`.
        threads: CPU threads of the job; on a GPU all but one load data.
        recipe: what checkpoints belong to; one of another recipe is refused.
        start_from: model file of the arm's pre-training.
        devices: GPUs (without one: processes) that share each batch.  Lightning starts the program once more for each
            further one; all of them return the same.

    Raises:
        InputError: the loss is not finite, a checkpoint is damaged or of another recipe, the arm's chunks do
            not fit the batch or the volumes, or the devices cannot share the batch.
        Interrupted: SIGTERM came, as a cluster sends it; `last` is the state after the step it came in.
    """
    settings = training.settings
    training, validation = training.in_chunks(method.chunk), validation.in_chunks(method.chunk)
    if devices > 1 and (not method.shares_batches or settings.batch_size % devices):
        raise InputError(
            f"execution.devices is {devices}: it must divide train.batch_size ({settings.batch_size}), and only "
            "diffusion arms train on several"
        )
    torch.set_num_threads(threads)
    torch.manual_seed(seed_for(seed, "init"))
    network = method.network(training.images.shape[2:])
    if start_from:
        method.start_from(network, start_from)
    module = _Training(method, network, training, validation, seed)
    gpu = torch.cuda.is_available()
    if not gpu:
        keep_freed_memory()
    last = checkpoints / "last.ckpt"
    written = _read_checkpoint(last, recipe)
    first_step = int(written["global_step"]) if written else 0
    every = min(settings.validate_every, settings.max_steps)
    progress = progress if is_first_process() else (lambda line: None)
    curve = _LearningCurve(progress, settings.max_steps)
    best = ModelCheckpoint(checkpoints, "best", monitor="val_loss", save_last=True, enable_version_counter=False)
    workers = max(threads - 1, 1) if gpu else 0
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")  # advice on loaders that this loop does not need
        trainer = lightning.Trainer(
            accelerator="gpu" if gpu else "cpu", devices=devices, strategy="ddp" if devices > 1 else "auto",
            precision=settings.precision,
            max_steps=settings.max_steps, val_check_interval=every, check_val_every_n_epoch=None,
            num_sanity_val_steps=0, logger=False, enable_progress_bar=False, enable_model_summary=False,
            log_every_n_steps=every, callbacks=[curve, best, _Recipe(recipe), _StopWhenAsked(last, every)],
            # this process alone, whatever Slurm's variables say about tasks
            plugins=[LightningEnvironment(), _WholeCheckpoints()],
        )  # fmt: skip
        drawn = _Steps(training, seed, first_step)
        steps = DataLoader(drawn, batch_size=None, num_workers=workers, worker_init_fn=_leave_sigterm_to_the_parent)
        if first_step:
            progress(f"resuming at step {first_step}")
        if first_step < settings.max_steps:
            try:
                trainer.fit(
                    module,
                    steps,
                    DataLoader([0], batch_size=None),
                    ckpt_path=last if first_step else None,
                    weights_only=True,
                )
            except SIGTERMException:  # a SystemExit with code 0: Snakemake would miss the model, not retry
                if not is_first_process():
                    raise  # with another code Lightning would kill the first process
                raise Interrupted(
                    f"stopped by SIGTERM after step {trainer.global_step}/{settings.max_steps}; {last} is written, "
                    "the next start continues from it"
                ) from None
        else:
            curve.load_state_dict(written["callbacks"][curve.state_key])
    if not any("val_loss" in row for row in curve.rows):
        raise InputError(
            f"no checkpoint can be judged: train.max_steps {settings.max_steps} and train.validate_every {every} "
            f"leave no validation after step {method.judged_from(settings.max_steps)}; validate more often"
        )
    checkpoint = torch.load(best.best_model_path or checkpoints / "best.ckpt", map_location="cpu", weights_only=True)
    module.load_state_dict(checkpoint["state_dict"])
    return module.network.eval(), curve.rows


def _read_checkpoint(checkpoint: Path, recipe: str) -> dict[str, Any] | None:
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
