"""What a method is: one small class that says how it trains and how it runs on a scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pydantic

from uad.common.packed import WHOLE_VOLUME, Batch, Scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import numpy as np
    from torch import Generator, Tensor, nn
    from torch.optim import Optimizer

__all__ = ["WHOLE_VOLUME", "ArrayMethod", "Batch", "Head", "Method", "NoParams", "Scan", "ScoringHead", "TrainsInParts"]


class NoParams(pydantic.BaseModel):
    """A method without hyper-parameters."""

    model_config = pydantic.ConfigDict(extra="forbid")


class Method:
    """Base class of all methods.

    A method either reconstructs (`gives = "reconstruction"`; the anomaly map is then the absolute difference
    inside the brain) or draws an anomaly map itself (`gives = "map"`).  Hooks import torch inside, because the
    Snakefile reads the class attributes at every start.  The `network` they get is the one that `network` made.
    """

    Params: ClassVar[type[pydantic.BaseModel]] = NoParams
    section: ClassVar[str | None] = None  # configuration section that holds shared defaults of `Params`
    gives: ClassVar[str] = "reconstruction"
    trains: ClassVar[bool] = True
    starts_from: ClassVar[Literal["weights", "outputs"] | None] = None  # what an arm takes over from another (`from`)
    reads_noise_levels: ClassVar[bool] = False  # diffusion: runs at each t_test, and as an ensemble
    postprocess: bool = True  # False: the map enters after post-processing (controls)
    control: ClassVar[bool] = False  # proves the metrics; not a competitor
    context: int = 1  # consecutive slices that each slice brings along (`Batch.context`), or WHOLE_VOLUME
    learns_context: ClassVar[bool] = False  # the loss is of all of them: each counts in train.batch_size
    asks_for_training: bool = False  # at inference: `see_training` gets the training scans
    gpu_hours: ClassVar[float] = 1.0  # time limit of one training on one GPU, asked from the cluster
    passes: int = 1  # of the network per slice and noise level; of a head: in units of the other arm's passes
    RECIPE_VERSION: ClassVar[int] = 1  # raise when the numbers change
    params: Any  # an instance of `Params`: a method names the class, and mypy checks the keys it reads

    def __init__(self, params: pydantic.BaseModel) -> None:
        self.params = params
        self.per_fold = self.trains  # a method that learns nothing gives the same in every fold
        self.terms: dict[str, Tensor] = {}  # named parts of the last loss, for the learning curve
        self.slices_per_pass: int | None = None  # bounds memory at inference; None: a whole volume at once

    def input_files(self, cohorts: list[str], modality: str, fold: int) -> list[str]:
        """Files or folders that the method reads besides its model and the packed scans."""
        return []

    def enter(self, cohort: str, modality: str, fold: int) -> None:
        """Called before the method runs on a cohort; for methods that read files of their own."""

    def see_training(self, scans: Sequence[Callable[[], Scan]]) -> None:
        """Called once before the method runs, where it `asks_for_training`: the training scans of the fold, each read
        when it is called."""

    def doubts(self) -> list[str]:
        """Called after the method has run on a cohort: what speaks against the output, for log and report.

        Raises:
            InputError: the output cannot be right.
        """
        return []

    def network(self, shape: tuple[int, int]) -> nn.Module:
        """The network to train, for slices of `shape` (height, width)."""
        raise TypeError(f"{type(self).__name__} has nothing to train")

    def pretraining(self) -> Method | None:
        """What is trained first, in a job of its own; None: the network starts from random weights."""
        return None

    def weights_file(self) -> str | None:
        """A file of the user's that the network starts from where nothing is pre-trained."""
        return None

    def start_from(self, network: Any, weights: str | Path) -> None:
        """Fill the fresh network with the model file that `pretraining` made, or with `weights_file`.

        Raises:
            InputError: the file is not what the arm's parameters say.
        """
        raise TypeError(f"{type(self).__name__} is not pre-trained")

    def loss(self, network: Any, batch: Batch, generator: Generator) -> Tensor:
        """Training loss of a batch of slices; all randomness from `generator`, which lives on their device.

        On healthy validation slices it picks the best checkpoint.
        """
        raise TypeError(f"{type(self).__name__} has nothing to train")

    def optimizer(self, weights: Iterable[nn.Parameter], learning_rate: float) -> Optimizer:
        import torch

        return torch.optim.Adam(weights, learning_rate, fused=True)

    def by_slices(self, module: Callable[..., Tensor], first: Tensor, *rest: Tensor | None) -> Tensor:
        """module(first, *rest) for tensors of equal length (or None), `slices_per_pass` at a time."""
        import torch

        count = len(first)
        size = self.slices_per_pass or count
        portions = (
            [tensor if tensor is None else tensor[start : start + size] for tensor in (first, *rest)]
            for start in range(0, count, size)
        )
        return torch.cat([module(*portion) for portion in portions])

    def reconstruct(self, network: Any, volume: Batch, t_tests: list[int], generator: Generator) -> Tensor:
        """Reconstruct a volume of Z slices once per noise level: [T, Z, 1, H, W], in [0, 1] but not clamped.

        T is 1, and `t_tests` empty, for methods without noise levels; a level that stands twice is drawn twice.
        `generator` lives on the CPU, so that a GPU sees the same noise.
        """
        raise TypeError(f"{type(self).__name__} gives no reconstruction")

    def anomaly_map(self, network: Any, volume: Batch, generator: Generator) -> Tensor:
        """The anomaly map of a volume of Z slices: [Z, 1, H, W], not negative; `generator` lives on the CPU."""
        raise TypeError(f"{type(self).__name__} draws no map of its own")


class TrainsInParts(Method):
    """A method whose network has parts that train in turns; a step is one update of one part.

    `loss` is only asked on validation slices.
    """

    parts: ClassVar[tuple[str, ...]]  # by their attribute of the network

    def part_of_step(self, step: int, max_steps: int) -> str:
        """Which of the `parts` moves in this step."""
        raise NotImplementedError

    def part_loss(self, part: str, network: Any, batch: Batch, generator: Generator) -> Tensor:
        """Training loss of one of the `parts`; the weights of the others are frozen meanwhile."""
        raise NotImplementedError

    def part_optimizer(self, part: str, weights: Iterable[nn.Parameter], learning_rate: float) -> Optimizer:
        return self.optimizer(weights, learning_rate)

    def judged_from(self, max_steps: int) -> int:
        """Number of steps before `loss` says anything about the network: checkpoints up to there are never best."""
        return 0


class ArrayMethod(Method):
    """A method without a network that works on NumPy arrays: its jobs do not wait for torch."""

    gives = "map"
    trains = False

    def draw(self, scan: Scan, rng: np.random.Generator) -> np.ndarray:
        """The anomaly map [Z, Y, X] of a scan, float32, not negative."""
        raise NotImplementedError


class Head(Method):
    """A method that trains nothing and runs the trained network of another arm, which `from` names.

    `source` is that arm's method.  `network` in `anomaly_map` is its network, and `source.reconstruct` runs it.  A head
    that gives reconstructions has the other arm's noise, so that the two differ in nothing but what the head does.
    """

    gives = "map"
    trains = False
    starts_from: ClassVar[Literal["weights", "outputs"] | None] = "weights"
    source: Method

    def attach(self, source: Method) -> None:
        """Called once, before any other hook.

        Raises:
            ValueError: an arm of this kind cannot be started from; says what kind can.
        """
        if not source.reads_noise_levels:
            raise ValueError("has no noise levels; name a diffusion arm")
        self.source, self.per_fold, self.context = source, source.per_fold, source.context


class ScoringHeadParams(pydantic.BaseModel):
    """Which of the other arm's reconstructions a scoring head looks at."""

    model_config = pydantic.ConfigDict(extra="forbid")

    reading: str = ""  # a noise level or `ens`; "": the one that the other arm's own rows show last


class ScoringHead(Head):
    """A head that works on the reconstructions that another arm has left; no network runs."""

    Params: ClassVar[type[pydantic.BaseModel]] = ScoringHeadParams
    params: ScoringHeadParams
    starts_from = "outputs"

    def attach(self, source: Method) -> None:
        if source.gives != "reconstruction":
            raise ValueError("gives no reconstruction; name an arm that does")
        self.source, self.per_fold = source, source.per_fold

    def rate(self, scan: Scan, reconstruction: np.ndarray) -> np.ndarray:
        """What the head gives, [Z, Y, X] float32, of a scan and its reconstruction; a map is not negative."""
        raise NotImplementedError
