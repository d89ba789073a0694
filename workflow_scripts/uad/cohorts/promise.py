"""What a data set's publisher states about its scans.

The Snakefile imports the adapters, so plain types only.
"""

from __future__ import annotations

from dataclasses import dataclass

Shape = tuple[int, int, int]
Matrix = tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Promise:
    """What a data set's publisher states about its images. Empty fields are not checked.

    Attributes:
        shapes: array shapes that images may have.
        affine: of every image, the upper 3 x 4 part in rows.
        voxel_mm: smallest and largest voxel edge of the images.
        firm: an image with another shape or affine is refused, because the grid has a meaning (the scan is not
            registered again); else it is only reported.
        label_values: values that a lesion label may have; others are refused.
        meanings: what label values mean, for the report.
    """

    shapes: tuple[Shape, ...] = ()
    affine: Matrix = ()
    voxel_mm: tuple[float, float] = (0.3, 5.0)
    firm: bool = False
    label_values: tuple[int, ...] = ()
    meanings: tuple[tuple[int, str], ...] = ()
