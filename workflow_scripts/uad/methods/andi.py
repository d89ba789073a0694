"""ANDi (Frotscher et al. 2023): one-step errors of a diffusion model, pooled over levels.  docs/methods/andi.md"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic

from uad.methods.base import Batch, Head

if TYPE_CHECKING:
    from torch import Generator, Tensor


class ANDiParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    t_tests: list[Annotated[int, pydantic.Field(ge=1, le=1000)]] = pydantic.Field(
        list(range(75, 200, 15)), min_length=1
    )
    noise: Literal["source", "gaussian"] = "source"  # gaussian: whatever the network was trained with


class ANDi(Head):
    """Geometric mean over noise levels of what the network cannot restore in one step."""

    Params = ANDiParams
    params: ANDiParams

    def __init__(self, params: ANDiParams) -> None:
        super().__init__(params)
        self.passes = len(params.t_tests)

    def anomaly_map(self, network: Any, volume: Batch, generator: Generator) -> Tensor:
        import torch

        reading = self.source if self.params.noise == "source" else self._with_gaussian_noise()
        logs = torch.zeros_like(volume.images)
        for t_test in self.params.t_tests:
            restored = reading.reconstruct(network, volume, [t_test], generator)[0].float()
            logs += (volume.images - restored).abs().log()
        return (logs / len(self.params.t_tests)).exp() * volume.masks

    def _with_gaussian_noise(self) -> Any:
        noise = self.source.params.noise.model_copy(update={"kind": "gaussian"})
        reading = type(self.source)(self.source.params.model_copy(update={"noise": noise}))
        reading.slices_per_pass = self.source.slices_per_pass
        return reading


METHOD = ANDi
