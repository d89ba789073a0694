"""The trained network of a conditioned arm under another condition.  docs/methods/recondition.md"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import pydantic

from uad.common.packed import Batch, Scan
from uad.methods.base import Head, Method
from uad.methods.cddpm import ConditionedDDPM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Generator, Tensor


class ReconditionParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    condition: Literal["own", "zeros", "other", "mean", "noised"]  # what the U-Net is told


class Recondition(Head):
    """Reconstructs as the other arm does, with the same noise, but tells its U-Net something else."""

    Params = ReconditionParams
    params: ReconditionParams
    gives = "reconstruction"
    reads_noise_levels = True
    source: ConditionedDDPM

    def __init__(self, params: ReconditionParams) -> None:
        super().__init__(params)
        self.asks_for_training = params.condition in ("other", "mean")
        self._training: Sequence[Callable[[], Scan]] = ()
        self._mean: Tensor | None = None  # of the training scans' conditions, once they have been read

    def attach(self, source: Method) -> None:
        if not isinstance(source, ConditionedDDPM):
            raise ValueError("has no condition; name a cddpm arm")
        super().attach(source)

    def see_training(self, scans: Sequence[Callable[[], Scan]]) -> None:
        self._training = scans

    def reconstruct(self, network: Any, volume: Batch, t_tests: list[int], generator: Generator) -> Tensor:
        import torch

        from uad.diffusion.process import to_signed, to_unit

        denoiser, unet = self.source.denoiser, partial(self.source.by_slices, network)
        x0 = to_signed(volume.images)
        condition = None if self.params.condition == "noised" else self._condition(network, volume, generator)
        levels = []
        for t_test in t_tests:
            x_t = denoiser.noised(x0, denoiser.indices(t_test, x0), generator)
            told = condition
            if told is None:
                noised = Batch.of_volume(to_unit(x_t), volume.masks, volume.modality, self.context)
                told = self.source.condition(network, noised)
            levels.append(to_unit(denoiser.predictor(unet, x0, told)(x_t, t_test)))
        return torch.stack(levels)

    def _condition(self, network: Any, volume: Batch, generator: Generator) -> Tensor:
        """The condition of each slice, for all noise levels; draws nothing from `generator`."""
        import torch

        if self.params.condition == "mean":
            if self._mean is None:
                found = [self.source.condition(network, self._batch_of(read(), volume)) for read in self._training]
                self._mean = torch.stack(found).mean(dim=0)
            return self._mean
        shown = volume
        if self.params.condition == "other":
            # a generator of its own, so that the noise stays that of the other arm
            pick = torch.Generator().manual_seed(generator.initial_seed())
            number = int(torch.randint(len(self._training), (1,), generator=pick))
            shown = self._batch_of(self._training[number](), volume)
        condition = self.source.condition(network, shown)
        return torch.zeros_like(condition) if self.params.condition == "zeros" else condition

    def _batch_of(self, scan: Scan, like: Batch) -> Batch:
        """A scan as slices on the device of another volume."""
        import torch

        images, masks = (torch.from_numpy(array).to(like.images.device)[:, None] for array in (scan.image, scan.mask))
        return Batch.of_volume(images, masks, scan.modality, self.context)


METHOD = Recondition
