"""Training of one arm on one fold with Lightning: seeded per step, so that a killed job resumes exactly.

Every batch, noise field and dropout mask of step s follows from (seed, s) alone.  A run resumed at step s
therefore sees what an uninterrupted run would have seen (docs/paper.md#slices,
docs/cluster.md#stop-preemption-time-limits-resume).
"""

from __future__ import annotations

import contextlib
import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader

from uad.common.errors import InputError, Interrupted
from uad.common.memory import keep_freed_memory
from uad.common.packed import Batch
from uad.common.seeds import seed_for
from uad.methods import Method, TrainsInParts
from uad.training.checkpoints import LearningCurve, RecipeMark, StopWhenAsked, WholeCheckpoints, read_checkpoint
from uad.training.slices import SliceSource, Steps


def _leave_signals_to_the_parent(_: int) -> None:
    """Slurm and a terminal signal every process of a job; a loader's worker that ends takes the training with it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _ctrl_c_as_sigterm() -> Iterator[None]:
    """SIGINT becomes SIGTERM, on which Lightning ends after the step at hand; at SIGINT itself it keeps nothing."""
    before = signal.signal(signal.SIGINT, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Training(lightning.LightningModule):
    """One update of the whole network per step."""

    judged_from = 0  # steps before the first validation that says anything

    def __init__(
        self, method: Method, network: torch.nn.Module, training: SliceSource, validation: SliceSource, seed: int
    ) -> None:
        super().__init__()
        self.method, self.network, self.seed = method, network, seed
        self.training_source, self.validation, self.settings = training, validation, training.settings
        self.noted: dict[str, torch.Tensor] = {}  # what the learning curve shows of the last step

    def _generator(self, *purpose: str | int) -> torch.Generator:
        seed = seed_for(self.seed, *purpose)
        # Dropout and drop path draw from the device's own generator.  torch.manual_seed would seed it too, but notes a
        # stack trace for every kind of device that is not in use, which takes longer and longer lists.
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)
        return torch.Generator(self.device).manual_seed(seed)

    def training_step(self, drawn: tuple[int, Batch], _: int) -> torch.Tensor:
        step, batch = drawn
        self.method.terms.clear()
        return self._loss_of_step(step, batch, self._generator("step", step))

    def _loss_of_step(self, step: int, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        return self._checked(self.method.loss(self.network, batch, generator), step)

    def _checked(self, loss: torch.Tensor, step: int, suffix: str = "") -> torch.Tensor:
        if not torch.isfinite(loss):
            scans = self.training_source.scans_of_step(step, self.seed)
            raise InputError(
                f"training loss is {loss.item()} at step {step}, batch of {scans}; lower train.learning_rate, "
                "or look at these scans"
            )
        self.noted = {f"train_loss{suffix}": loss.detach(), **self.method.terms}
        return loss

    def validation_step(self, _: int, __: int) -> None:
        if self.global_step <= self.judged_from:
            self.log("val_loss", torch.inf, batch_size=1)
            return
        fixed = self.settings.validation == "fixed"
        purpose = ("validation",) if fixed else ("validation", self.global_step)
        generator = self._generator(*purpose)
        losses, weights = [], []
        for batch in self.validation.validation_batches(seed_for(self.seed, *purpose)):
            losses.append(self.method.loss(self.network, batch.to(self.device), generator))
            weights.append(len(batch))
        counts = torch.tensor(weights, device=self.device)
        self.log("val_loss", (torch.stack(losses).float() * counts).sum() / counts.sum(), batch_size=1)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.method.optimizer(self.network.parameters(), self.settings.learning_rate)]


class _TrainingInParts(_Training):
    """One update per step, of the part whose turn it is."""

    method: TrainsInParts

    def __init__(self, method: TrainsInParts, *rest: Any) -> None:
        super().__init__(method, *rest)
        self.automatic_optimization = False
        self.judged_from = method.judged_from(self.settings.max_steps)

    def _loss_of_step(self, step: int, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        part = self.method.part_of_step(step, self.settings.max_steps)
        optimizer = self.optimizers()[self.method.parts.index(part)]  # type: ignore[index]  # one per part
        self.toggle_optimizer(optimizer)
        loss = self._checked(self.method.part_loss(part, self.network, batch, generator), step, f"_{part}")
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.untoggle_optimizer(optimizer)
        return loss.detach()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        weights = {part: getattr(self.network, part).parameters() for part in self.method.parts}
        rate = self.settings.learning_rate
        return [self.method.part_optimizer(part, moved, rate) for part, moved in weights.items()]


def precision_here(asked: str) -> str:
    """The precision that trains on this machine, of one that the configuration names; `auto` is decided here.

    A processor without instructions for bfloat16 imitates them, slower than it computes float32.
    """
    if asked != "auto":
        return asked
    if torch.cuda.is_available():
        half = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu.get_capabilities()
        half = any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last is ARM's
    return "bf16-mixed" if half else "32-true"


def narrow_in_float32(network: torch.nn.Module) -> None:
    """Let convolutions with a stride compute in float32 between images of one column and wider ones.

    There oneDNN's bfloat16 kernels read memory that is not theirs (PyTorch 2.13, a processor with AMX): a gradient is
    now and then 1e20 or NaN.  Kernels of 2 to 7, strides 2 and 3 and up to 12 columns were tried; no other width was
    touched.  A ResNet meets it in images of up to 32 pixels.
    """
    for module in network.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)) and module.stride[1] > 1:
            module.forward = partial(_narrow, module, module.forward)  # type: ignore[method-assign]


def _narrow(
    module: torch.nn.Conv2d | torch.nn.ConvTranspose2d,
    forward: Callable[..., torch.Tensor],
    images: torch.Tensor,
    *rest: Any,
) -> torch.Tensor:
    columns = images.shape[-1]  # of the narrower side
    if isinstance(module, torch.nn.Conv2d):
        columns = (columns + 2 * int(module.padding[1]) - module.kernel_size[1]) // module.stride[1] + 1
    if columns > 1:
        return forward(images, *rest)
    with torch.autocast(images.device.type, enabled=False):
        return forward(images.float(), *rest)


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
) -> tuple[torch.nn.Module, list[dict[str, float]]]:
    """Train a method's network; returns the best network by healthy validation loss and its learning curve.

    Args:
        checkpoints: folder of this recipe's `best` and `last` checkpoints; training resumes from `last`.
        threads: CPU threads of the job; on a GPU all but one load data.
        recipe: what checkpoints belong to; one of another recipe is refused.
        start_from: model file of the arm's pre-training, or its `weights_file`.

    Raises:
        InputError: the loss is not finite, or a checkpoint is damaged or of another recipe.
        Interrupted: SIGTERM came, as a cluster sends it, or Ctrl-C; `last` is the state after the step it came in.
    """
    settings = training.settings
    torch.set_num_threads(threads)
    torch.manual_seed(seed_for(seed, "init"))
    network = method.network(training.store.images.shape[2:])
    if start_from:
        method.start_from(network, start_from)
    elif method.pretraining() is not None or method.weights_file() is not None:
        raise ValueError("start_from is missing: this network does not start from random weights")
    kind: type[_Training] = _TrainingInParts if isinstance(method, TrainsInParts) else _Training
    module = kind(method, network, training, validation, seed)
    gpu = torch.cuda.is_available()
    precision = precision_here(settings.precision)
    if not gpu:
        keep_freed_memory()
        if precision != "32-true":
            narrow_in_float32(network)
    last = checkpoints / "last.ckpt"
    written = read_checkpoint(last, recipe)
    first_step = int(written["global_step"]) if written else 0
    every = min(settings.validate_every, settings.max_steps)
    curve = LearningCurve(progress, settings.max_steps)
    best = ModelCheckpoint(checkpoints, "best", monitor="val_loss", save_last=True, enable_version_counter=False)
    workers = max(threads - 1, 1) if gpu else 0
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")  # advice on loaders that this loop does not need
        trainer = lightning.Trainer(
            accelerator="gpu" if gpu else "cpu", devices=1,
            precision=precision,  # type: ignore[arg-type]  # one of Lightning's words
            max_steps=settings.max_steps, val_check_interval=every, check_val_every_n_epoch=None,
            num_sanity_val_steps=0, logger=False, enable_progress_bar=False, enable_model_summary=False,
            log_every_n_steps=every, callbacks=[curve, best, RecipeMark(recipe), StopWhenAsked(last, every)],
            # this process alone, whatever Slurm's variables say about tasks
            plugins=[LightningEnvironment(), WholeCheckpoints()],
        )  # fmt: skip
        drawn = Steps(training, seed, first_step)
        steps = DataLoader(drawn, batch_size=None, num_workers=workers, worker_init_fn=_leave_signals_to_the_parent)
        if first_step:
            progress(f"resuming at step {first_step}")
        if first_step < settings.max_steps:
            try:
                with _ctrl_c_as_sigterm():
                    trainer.fit(
                        module,
                        steps,
                        DataLoader([0], batch_size=None),  # type: ignore[arg-type]  # a list will do
                        ckpt_path=last if first_step else None,
                        weights_only=True,
                    )
            except SIGTERMException:  # a SystemExit with code 0: Snakemake would miss the model, not retry
                raise Interrupted(
                    f"stopped by a signal after step {trainer.global_step}/{settings.max_steps}; {last} is written, "
                    "the next start continues from it"
                ) from None
        elif written:
            curve.load_state_dict(written["callbacks"][curve.state_key])
    if not any("val_loss" in row for row in curve.rows):
        raise InputError(
            f"no checkpoint can be judged: train.max_steps {settings.max_steps} and train.validate_every {every} "
            f"leave no validation after step {module.judged_from}; validate more often"
        )
    checkpoint = torch.load(best.best_model_path or checkpoints / "best.ckpt", map_location="cpu", weights_only=True)
    module.load_state_dict(checkpoint["state_dict"])
    return module.network.eval(), curve.rows
