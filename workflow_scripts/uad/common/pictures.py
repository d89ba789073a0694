"""Pictures of single scans, for preprocessing's contact sheets and the report; nothing of it needs Matplotlib."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_BRAIN, _LESION = (230, 159, 0), (86, 180, 233)  # outlines, colours of the example figures
_HEIGHT = 130  # pixels, at least about this


def lesion_slice(label: np.ndarray, image: np.ndarray) -> int:
    """Index of the axial slice of [Z, Y, X] volumes with the largest lesion area (label 1); of the largest
    brain without a lesion.
    """
    area = (label == 1).sum(axis=(1, 2))
    return int(np.argmax(area if area.any() else (image > 0).sum(axis=(1, 2))))


def scan_picture(image: np.ndarray, mask: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Axial, coronal and sagittal slice of a packed scan [Z, Y, X] side by side, with outlines of brain and lesion.

    The axial slice is that with the largest lesion (or brain), the others cut the middle of the brain.

    Returns:
        uint8 [height, width, 3].
    """
    middle = np.argwhere(mask).mean(axis=0).round().astype(int) if mask.any() else np.array(mask.shape) // 2
    cuts = (
        (lesion_slice(label, image), ...),
        (slice(None, None, -1), middle[1]),
        (slice(None, None, -1), ..., middle[2]),
    )
    factor = max(1, round(_HEIGHT / image.shape[1]))
    views = [_view(image[cut], mask[cut], label[cut] == 1, factor) for cut in cuts]
    height = max(len(view) for view in views)
    padded = [np.pad(view, ((_half(height, view), height - len(view) - _half(height, view)), (0, 0), (0, 0)))
              for view in views]  # fmt: skip
    return np.concatenate(padded, axis=1)


def _half(height: int, view: np.ndarray) -> int:
    return (height - len(view)) // 2


def _view(image: np.ndarray, mask: np.ndarray, lesion: np.ndarray, factor: int) -> np.ndarray:
    enlarged = [np.kron(part, np.ones((factor, factor), part.dtype)) for part in (image, mask > 0, lesion)]
    picture = np.repeat((enlarged[0].clip(0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)
    for region, colour in zip(enlarged[1:], (_BRAIN, _LESION), strict=True):
        picture[region & ~ndimage.binary_erosion(region, border_value=1)] = colour
    return picture
