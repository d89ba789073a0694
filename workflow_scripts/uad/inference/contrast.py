"""The paper's experiments on contrast and conditioning: what its Figures 2 and 3 show.

docs/paper.md#experiments, D22, D23

Both change the contrast of an input x in [0, 1] to x^g; reconstruction and condition both see x^g.  A *conditioned* arm
(cDDPM) is set against its *unconditioned* counterpart (DDPM) on the same noise: it follows from seed and subject alone,
so neither the arm nor the contrast changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from uad.inference.arm import Arm
from uad.inference.run import run_on_scan
from uad.methods import Scan
from uad.metrics.reconstruction import histogram
from uad.networks.conditioned import ConditionedUNet

CONDITIONED, UNCONDITIONED = "conditioned", "unconditioned"
SLICE_CONTRASTS = (0.3, 0.7, 1.0, 1.5, 2.0)
HISTOGRAM_CONTRASTS = (0.5, 1.0, 2.0)
CROPPED_WIDTH = 0.5
ALL_NOISE = 1000  # t_test at which nothing of the input is left


def with_contrast(scan: Scan, exponent: float) -> Scan:
    """The scan with intensities x^exponent; 0 and 1 stay, below 1 the dark parts get brighter."""
    return scan._replace(image=np.clip(scan.image, 0, 1) ** np.float32(exponent))


class CentralWidth(nn.Module):
    """Slices [B, 1, H, W] -> the same with background 0 outside the central share of their width."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, images: Tensor) -> Tensor:
        start, stop = central_columns(images.shape[-1], self.share)
        kept = torch.zeros_like(images)
        kept[..., start:stop] = images[..., start:stop]
        return kept


def central_columns(width: int, share: float) -> tuple[int, int]:
    """First column of the central share of a width, and the one after its last."""
    kept = round(width * share)
    start = (width - kept) // 2
    return start, start + kept


def seeing_central_width(arm: Arm, share: float) -> Arm:
    """A conditioned arm whose encoder sees the central share of each slice's width; the U-Net still sees it all."""
    encoder = nn.Sequential(CentralWidth(share), arm.network.encoder)
    return arm._replace(network=ConditionedUNet(arm.network.unet, encoder, arm.network.position).eval())


def contrast_slices(arms: Mapping[str, Arm], scan: Scan, t_test: int, seed: int) -> dict[str, np.ndarray]:
    """Figure 2: the scan's slice with the largest brain at every contrast, and what the arms make of it.

    Args:
        arms: `conditioned` and `unconditioned`.
        t_test: noise level of the arms that still see some of the input.

    Returns:
        `input` and one array per column, `<role>-<t_test>` or `conditioned-<t_test>-cropped`: [G, Y, X] float32
        with G = len(SLICE_CONTRASTS), not clamped; `contrasts` [G]; `cropped` (first column seen, the one after
        the last); `t_tests`; `subject`; `slice`, the index of the slice.
    """
    index = int(np.argmax(scan.mask.sum(axis=(1, 2))))
    part = slice(index, index + 1)
    # one slice is enough, unless a network looks at its neighbours
    seen = slice(None) if any(arm.method.context != 1 for arm in arms.values()) else part
    flat = scan._replace(image=scan.image[seen], mask=scan.mask[seen], label=scan.label[seen])
    row = index if seen != part else 0
    cropped = seeing_central_width(arms[CONDITIONED], CROPPED_WIDTH)
    t_tests = [t_test, ALL_NOISE]
    columns = {f"{CONDITIONED}-{t_test}-cropped": (cropped, t_test)}
    columns |= {f"{role}-{t_test}": (arm, t_test) for role, arm in arms.items() for t_test in t_tests}
    inputs = [with_contrast(flat, exponent) for exponent in SLICE_CONTRASTS]
    pictures = {
        name: np.stack([run_on_scan(arm, x, [t_test], seed)[0, row] for x in inputs])
        for name, (arm, t_test) in columns.items()
    }
    return {
        "input": np.stack([x.image[row] for x in inputs]),
        **pictures,
        "contrasts": np.array(SLICE_CONTRASTS),
        "cropped": np.array(central_columns(scan.image.shape[2], CROPPED_WIDTH)),
        "t_tests": np.array(t_tests),
        "subject": np.array(scan.subject),
        "slice": np.array(index),
    }


def contrast_histograms(
    arms: Mapping[str, Arm],
    scans: Sequence[Callable[[], Scan]],
    ensemble: list[int],
    seed: int,
    progress: Callable[[str], None],
) -> dict[str, np.ndarray]:
    """Figure 3: histograms of the healthy brain in the inputs and in the ensemble reconstructions.

    Args:
        arms: role -> arm.
        scans: read one at a time; voxels of the brain mask with label 0 count.
        ensemble: noise levels whose reconstructions are averaged, each with noise of its own (docs/paper.md#inference).

    Returns:
        `input` and one array per role: [G, 500], shares of all scans' voxels, each row of sum 1, with
        G = len(HISTOGRAM_CONTRASTS); `contrasts` [G]; `volumes`.
    """
    sums = {name: np.zeros((len(HISTOGRAM_CONTRASTS), histogram(np.zeros(1)).size)) for name in ("input", *arms)}
    for number, read in enumerate(scans, 1):
        scan = read()
        where = scan.mask & (scan.label == 0)
        for row, exponent in enumerate(HISTOGRAM_CONTRASTS):
            changed = with_contrast(scan, exponent)
            volumes = {"input": changed.image}
            volumes |= {role: run_on_scan(arm, changed, ensemble, seed).mean(axis=0) for role, arm in arms.items()}
            for name, volume in volumes.items():
                sums[name][row] += histogram(volume[where]) * where.sum()
        progress(f"{number}/{len(scans)} {scan.subject}")
    shares = {name: counts / counts.sum(axis=1, keepdims=True) for name, counts in sums.items()}
    return {**shares, "contrasts": np.array(HISTOGRAM_CONTRASTS), "volumes": np.array(len(scans))}
