"""Another arm's reconstruction, matched to the scan's intensities afterwards.  docs/methods/matched.md"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from uad.methods.base import Scan, ScoringHead, ScoringHeadParams

if TYPE_CHECKING:
    import numpy as np

MOST_GAIN = 4.0  # the gain lies between 1 / MOST_GAIN and this


class MatchedParams(ScoringHeadParams):
    how: Literal["gain", "histogram"]
    sigma: float = Field(8.0, gt=0)  # of `gain`: standard deviation of the Gaussian, in voxels


class Matched(ScoringHead):
    """What matching intensities does without a condition: a control for arms that have one."""

    Params = MatchedParams
    params: MatchedParams
    gives = "reconstruction"

    def rate(self, scan: Scan, reconstruction: np.ndarray) -> np.ndarray:
        """The matched reconstruction [Z, Y, X], float32, 0 outside the brain."""
        if self.params.how == "gain":
            return with_local_gain(scan.image, reconstruction, scan.mask, self.params.sigma)
        return with_histogram(scan.image, reconstruction, scan.mask)


def with_local_gain(image: np.ndarray, reconstruction: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
    """The reconstruction times the smoothed image over the smoothed reconstruction, all [Z, Y, X]; 0 outside `mask`.

    Both are smoothed within the mask alone (normalised convolution, Knutsson and Westin 1993); the weights by which
    they would be divided are the same, so that the quotient goes without them.

    Args:
        mask: bool, brain.  sigma: of the Gaussian, in voxels.
    """
    import numpy as np
    from scipy import ndimage

    ours, theirs = (
        ndimage.gaussian_filter(np.where(mask, values, 0).astype(np.float64), sigma, mode="constant")
        for values in (image, reconstruction)
    )
    # where nothing is left of the reconstruction no gain brings it back
    gain = np.divide(ours, theirs, out=np.full(mask.shape, MOST_GAIN), where=mask & (theirs > 0))
    return np.where(mask, reconstruction * gain.clip(1 / MOST_GAIN, MOST_GAIN), 0).astype(np.float32)


def with_histogram(image: np.ndarray, reconstruction: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The reconstruction with the image's histogram inside `mask`, 0 outside; the order of its values stays.

    Each value goes to the image's value of the same rank; equal values stay equal and go to that of their last rank.

    Args:
        image, reconstruction: [Z, Y, X].  mask: bool, brain.
    """
    import numpy as np

    matched = np.zeros(mask.shape, np.float32)
    _, place, counts = np.unique(reconstruction[mask], return_inverse=True, return_counts=True)
    matched[mask] = np.sort(image[mask])[counts.cumsum() - 1][place]
    return matched


METHOD = Matched
