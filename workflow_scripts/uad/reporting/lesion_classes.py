"""Classes of lesion volume, the same in every table of the report."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

LESION_ML = (1.0, 10.0, 50.0)  # edges in ml; a class includes its lower edge
LESION_CLASSES = (
    f"below {LESION_ML[0]:g} ml",
    *(f"{a:g} to {b:g} ml" for a, b in itertools.pairwise(LESION_ML)),
    f"{LESION_ML[-1]:g} ml and more",
)


def lesion_class(volumes: pd.Series) -> pd.Series:
    """The class of each lesion volume, in ml and above 0: one of `LESION_CLASSES`."""
    return pd.cut(volumes, [0.0, *LESION_ML, np.inf], right=False, labels=LESION_CLASSES).astype(str)
