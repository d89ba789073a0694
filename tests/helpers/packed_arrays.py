"""Made-up arrays in the forms in which methods and trainings get packed scans."""

import numpy as np
import pandas as pd

from uad.common.packed import Batch
from uad.common.store import Store


def store_of(images, names=None, sites=""):
    """A store of volumes [N, Z, Y, X]; brain is what is above 0.  `sites`: one for all, or one per volume."""
    rows = range(len(images))
    names = names or [f"scan{row}" for row in rows]
    about = {"site": sites, "scanner": "", "age": np.nan, "lesion_ml": 0.0}
    index = pd.DataFrame({"row": rows, "subject": names, **about})
    masks = (images > 0).astype(np.uint8)
    return Store(images, masks, np.zeros_like(masks), index, "t2")


def batch_of(images, context=1):
    """Slices [Z, 1, Y, X] of one T2 volume; brain is what is above 0."""
    return Batch.of_volume(images, images > 0, "t2", context)
