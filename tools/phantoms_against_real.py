"""How far the demo's phantoms are from real scans: figures of two stores of healthy T1 of the same voxel size.

    python tools/phantoms_against_real.py --phantoms results/demo/store/ixi_t1 --real results/real/store/ixi-hh_t1

Both stores are cut to as many scans as the smaller one has, so that no figure gains from more scans.
"""

import argparse
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from uad.common.store import Store

VOXEL_ML = 0.064  # both stores have voxels of 4 mm
COMPONENTS = 8
DEEP = 3  # voxels from the brain's surface: 12 mm
BINS = np.linspace(0, 1, 51)

Scans = tuple[np.ndarray, np.ndarray]  # images and brain masks [N, Z, Y, X]


def pca_error(scans: Scans) -> float:
    """RMS error of PCA on brains it has not seen, as a share of the brain's standard deviation.

    Slice by slice over all scans but every fourth, which are tested on, with COMPONENTS components at each height.
    """
    images, masks = scans
    tested = np.arange(len(images)) % 4 == 3
    squares, total = 0.0, 0.0
    for z in range(images.shape[1]):
        seen = images[~tested, z].reshape((~tested).sum(), -1)
        new = images[tested, z].reshape(tested.sum(), -1)
        mean = seen.mean(0)
        basis = np.linalg.svd(seen - mean, full_matrices=False)[2][:COMPONENTS]
        rest = (new - mean) - (new - mean) @ basis.T @ basis
        inside = masks[tested, z].reshape(new.shape) > 0
        squares += float((rest[inside] ** 2).sum())
        total += int(inside.sum())
    return float(np.sqrt(squares / total) / images[masks > 0].std())


def histogram_distance(one: Scans, other: Scans) -> float:
    """Total variation distance of the brains' mean histograms: 0 the same, 1 nothing in common."""
    one_mean, other_mean = (mean_histogram(scans) for scans in (one, other))
    return float(np.abs(one_mean - other_mean).sum() / 2)


def mean_histogram(scans: Scans) -> np.ndarray:
    """Share of the brain in each bin of intensity, mean over scans."""
    shares = [np.histogram(image[mask > 0], BINS)[0] / (mask > 0).sum() for image, mask in zip(*scans, strict=True)]
    return np.mean(shares, axis=0)


def quartiles(scans: Scans) -> str:
    images, masks = scans
    return " / ".join(f"{value:.2f}" for value in np.quantile(images[masks > 0], [0.05, 0.25, 0.5, 0.75, 0.95]))


def deep_fluid(scans: Scans) -> tuple[float, float]:
    """Mean and standard deviation over scans of the dark volume in ml deep in the brain: mostly the ventricles.

    Dark on T1 is less than half of the brain's median.
    """
    volumes = []
    for image, mask in zip(*scans, strict=True):
        volumes.append(float((image[deep_in(mask > 0)] < np.median(image[mask > 0]) / 2).sum() * VOXEL_ML))
    return float(np.mean(volumes)), float(np.std(volumes, ddof=1))


def spread(scans: Scans, where: Callable[[np.ndarray], np.ndarray]) -> float:
    """Standard deviation between scans, mean over voxels that lie in every brain, relative to the brain's own."""
    images, masks = scans
    chosen = where((masks > 0).all(0))
    return float(images[:, chosen].std(0, ddof=1).mean() / images[masks > 0].std())


def deep_in(brain: np.ndarray) -> np.ndarray:
    return ndimage.binary_erosion(brain, iterations=DEEP)


def texture(scans: Scans) -> float:
    """Standard deviation of what a Gaussian of one voxel takes away, deep in the brain, relative to the brain's own."""
    images, masks = scans
    values = []
    for image, mask in zip(images, masks, strict=True):
        fine = image - ndimage.gaussian_filter(image, 1)
        values.append(fine[deep_in(mask > 0)].std())
    return float(np.mean(values) / images[masks > 0].std())


def rows(phantoms: Scans, real: Scans) -> list[tuple[str, str, str]]:
    """(figure, phantoms, real) as they are printed."""
    table = []
    for title, value in (
        (f"PCA with {COMPONENTS} components, error on unseen subjects", pca_error),
        ("between-subject SD, whole brain", lambda scans: spread(scans, lambda brain: brain)),
        ("between-subject SD, deeper than 12 mm", lambda scans: spread(scans, deep_in)),
        ("fine texture, deeper than 12 mm", texture),
    ):
        table.append((f"{title} (share of the brain's SD)", f"{value(phantoms):.2f}", f"{value(real):.2f}"))
    fluid = ["{:.0f} ± {:.0f}".format(*deep_fluid(scans)) for scans in (phantoms, real)]
    table.append(("dark volume deeper than 12 mm, ml (mean ± SD)", *fluid))  # type: ignore[arg-type]  # two
    table.append(("intensity in the brain: 5, 25, 50, 75, 95 %", quartiles(phantoms), quartiles(real)))
    half = len(real[0]) // 2
    halves = histogram_distance((real[0][:half], real[1][:half]), (real[0][half:], real[1][half:]))
    apart = histogram_distance(phantoms, real)
    table.append(
        ("distance of mean histograms: phantoms to real, two halves of the real ones", f"{apart:.2f}", f"{halves:.2f}")
    )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", required=True, help="prefix of a store")
    parser.add_argument("--real", required=True, help="prefix of a store")
    arguments = parser.parse_args()
    stores = [Store.open(prefix) for prefix in (arguments.phantoms, arguments.real)]
    count = min(len(store.images) for store in stores)
    phantoms, real = ((np.array(s.images[:count], np.float64), np.array(s.masks[:count])) for s in stores)
    print(f"| figure of {count} healthy T1 | phantoms | real |\n|---|--:|--:|")
    for row in rows(phantoms, real):
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
