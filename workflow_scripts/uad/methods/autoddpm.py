"""AutoDDPM (Bercea et al. 2023): mask what a first restoration changes, then stitch scan and restoration anew.

docs/methods/autoddpm.md
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import pydantic

from uad.common.settings import Probability
from uad.methods.base import Batch
from uad.methods.ddpm import ChainHead

if TYPE_CHECKING:
    import numpy as np
    from torch import Generator, Tensor

Level = Annotated[int, pydantic.Field(ge=1, le=1000)]
Count = Annotated[int, pydantic.Field(ge=1)]
EPSILON = 1e-8


class AutoDDPMParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    t_coarse: Level = 200  # noise level of the first restoration
    coarse_steps: Count = 20  # of DDIM, from there
    threshold: Probability = 0.13  # of the soft mask
    t_fine: Level = 50  # noise level at which scan and restoration are stitched
    fine_steps: Count = 10  # ancestral ones, from there
    rounds: Count = 5  # of each: down, and up again


class AutoDDPM(ChainHead):
    """Residual of the stitched slice, weighted with how likely the first restoration found an anomaly."""

    Params = AutoDDPMParams
    params: AutoDDPMParams

    def __init__(self, params: AutoDDPMParams) -> None:
        super().__init__(params)
        self.passes = params.coarse_steps + params.fine_steps * params.rounds

    def anomaly_map(self, network: Any, volume: Batch, generator: Generator) -> Tensor:
        import torch
        from scipy import ndimage

        from uad.diffusion.process import to_signed, to_unit

        predict, x = self.source.predictor(network, volume), to_signed(volume.images)
        coarse = self.restored(predict, x, generator)
        image, mask = (tensor.squeeze(1).cpu().numpy() for tensor in (volume.images, volume.masks))
        soft = soft_mask(image, to_unit(coarse).squeeze(1).cpu().numpy(), mask)
        found = ndimage.binary_dilation(soft > self.params.threshold, [[[True] * 3] * 3]) & mask
        stitched = self.stitched(predict, x, coarse, torch.from_numpy(found).to(x.device)[:, None], generator)
        residual = (volume.images - to_unit(stitched).clamp(0, 1)).abs()
        return residual * torch.from_numpy(soft * found).to(x)[:, None]

    def restored(self, predict: Any, x: Tensor, generator: Generator) -> Tensor:
        """The first restoration of slices in [-1, 1], clamped to that range."""
        from uad.diffusion.noise import noise_like
        from uad.diffusion.sampling import descent, noised, restored

        schedule, start = self.source.denoiser.schedule, self.params.t_coarse
        x_t = noised(x, start, noise_like(x, generator, self.source.denoiser.noise), schedule)
        return restored(predict, x_t, descent(start, self.params.coarse_steps), schedule).clamp(-1, 1)

    def stitched(self, predict: Any, x: Tensor, coarse: Tensor, found: Tensor, generator: Generator) -> Tensor:
        """Slices in [-1, 1] that are restored anew where `found` (bool) says so, and are x elsewhere.

        The chain starts from `coarse`.  At each level the scan, noised to that level, is set around what the network
        made inside, and both go up and down together until they agree (RePaint, Lugmayr et al. 2022).
        """
        from uad.diffusion.noise import noise_like
        from uad.diffusion.sampling import descent, noised, renoised, stepped

        denoiser, schedule = self.source.denoiser, self.source.denoiser.schedule
        levels = descent(self.params.t_fine, self.params.fine_steps)
        x_t = noised(coarse, levels[0], noise_like(x, generator, denoiser.noise), schedule)
        for t, s in pairwise(levels):
            for remaining in reversed(range(self.params.rounds)):
                # one field for both sides of the seam, as noise without a mask would be
                noise = noise_like(x, generator, denoiser.noise)
                inside = stepped(x_t, predict(x_t, t), t, s, schedule, noise)
                x_s = inside.where(found, noised(x, s, noise, schedule))
                if remaining:
                    x_t = renoised(x_s, s, t, noise_like(x, generator, denoiser.noise), schedule)
            x_t = x_s
        return x_t


def soft_mask(image: np.ndarray, restored: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """How anomalous a first restoration makes each voxel, 0 to 1: all [Z, Y, X], float32.

    The absolute difference, 1 from its 95th percentile in the slice's brain on, times the perceptual distance.
    """
    import numpy as np

    from uad.metrics.reconstruction import multiscale_dissimilarity

    difference = abs(image - restored) * mask
    highest = np.array([np.percentile(d[m], 95) if m.any() else 0 for d, m in zip(difference, mask, strict=True)])
    scaled = (difference / (highest[:, None, None] + EPSILON)).clip(0, 1)
    return (scaled * multiscale_dissimilarity(image, restored * mask)).astype(np.float32)


METHOD = AutoDDPM
