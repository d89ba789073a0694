"""Positive control: the ground truth as anomaly map.  docs/methods/oracle.md"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydantic

from uad.methods.base import ArrayMethod, Scan

if TYPE_CHECKING:
    import numpy as np


class OracleParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    postprocess: bool = False  # True: through post-processing, which shows the ceiling it leaves


class Oracle(ArrayMethod):
    """The lesion mask itself: Dice and AUPRC are 1, or the metrics are wrong."""

    Params = OracleParams
    params: OracleParams
    control = True

    def __init__(self, params: OracleParams) -> None:
        super().__init__(params)
        self.postprocess = params.postprocess

    def draw(self, scan: Scan, rng: np.random.Generator) -> np.ndarray:
        import numpy as np

        return (scan.label == 1).astype(np.float32)


METHOD = Oracle
