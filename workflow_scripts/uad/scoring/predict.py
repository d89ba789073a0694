"""From what an arm made of a scan to what it calls a lesion: the same for scores, figures and the report."""

from __future__ import annotations

import numpy as np

from uad.inference.outputs import Output
from uad.scoring.postprocessing import PostProcessing, remove_small_components


def anomaly_map(output: Output, image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """How unusual each voxel is, before post-processing: float32 [Z, Y, X].

    That is the map as the method drew it, or |image - reconstruction|.

    Args:
        image: of the scan, [Z, Y, X].
        mask: bool; the residual is 0 outside of it.  None: post-processing applies the mask, or none (D29).
    """
    if output.kind == "map":
        return np.asarray(output.values, np.float32)
    residual = np.abs(np.asarray(image, np.float32) - np.asarray(output.values, np.float32))
    return residual if mask is None else residual * mask


def predict(cleaned: np.ndarray, threshold: float, settings: PostProcessing) -> np.ndarray:
    """What lies above the threshold in a map [Z, Y, X] from `clean_map`, without small components: bool."""
    called = cleaned > np.float32(threshold)
    return remove_small_components(called, settings.component_max_size, settings.connectivity)
