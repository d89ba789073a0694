"""What N4 leaves of lesions and of a coil's field, in real brains.  The tables of docs/preprocessing.md

    python benchmarks/n4_lesions.py ../shared/data/real/ixi-hh ../shared/data/mslub/cross_sectional/MNI/patient07

A ball of one grey value takes the place of the brain, half way from its centre to the rim. Contrast is the median of
the ball over the median of the other brain voxels. The field is a random polynomial of second order, at most 30 %
from 1; what is left of it is the standard deviation, over the brain, of the log ratio of the corrected scan with the
field to the corrected scan without.
"""

import argparse
import itertools
import statistics
from pathlib import Path

import numpy as np

from uad.common.volumes import Volume, read_image, read_label
from uad.config.model import BiasFieldSettings
from uad.preprocessing.bias_field import correct_bias_field
from uad.preprocessing.crop import bounding_box, crop
from uad.preprocessing.itk import ants, to_ants

RADII_MM = (5, 10, 15, 20, 25, 30)
CONTRASTS = (1.68, 0.6)
STRONGEST_FIELD = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="a BIDS folder with masks, or a patient of MSLUB in MNI")
    parser.add_argument("--scans", type=int, default=3, help="scans of a BIDS folder")
    arguments = parser.parse_args()
    scans = [scan for folder in arguments.folders for scan in read_scans(folder, arguments.scans)]
    print("scans:", *(name for name, _, _ in scans))
    print("| planted |" + "".join(f" {name} |" for name in RECIPES), flush=True)
    for planted, radius in itertools.product(CONTRASTS, RADII_MM):
        found = {name: [_contrast(image, brain, planted, radius, recipe) for _, image, brain in scans]
                 for name, recipe in RECIPES.items()}  # fmt: skip
        print(f"| {planted}, {radius} mm |{_cells(found, 2)}", flush=True)
    left = {name: [] for name in RECIPES}
    fields = []
    for seed, (_, image, brain) in enumerate(scans):
        inside = brain.data > 0
        field = _field(inside, np.random.default_rng(seed))
        fields.append(float(np.log(field[inside]).std()))
        for name, recipe in RECIPES.items():
            with_field = recipe(image.with_data((image.data * field).astype(np.float32)), brain)
            ratio = with_field[inside] / np.maximum(recipe(image, brain)[inside], 1e-6)
            left[name].append(float(np.log(ratio[ratio > 0]).std()))
    print(f"| field of {statistics.mean(fields):.3f} |{_cells(left, 3)}")


def _cells(found, digits):
    return "".join(
        f" {statistics.mean(each):.{digits}f} ({min(each):.{digits}f} to {max(each):.{digits}f}) |"
        for each in found.values()
    )


def read_scans(folder, most):
    """(name, image x brain mask, brain mask) of each scan at about 2 mm, cropped to the brain as in preprocessing.

    The crop counts: control points divide the image's box into equal parts of at most the distance asked for.
    """
    for path in sorted(folder.glob("sub-*/anat/*_T1w.nii.gz"))[:most]:
        subject = path.name.split("_")[0]
        image = read_image(path)
        brain = read_label(next((folder / "derivatives").rglob(f"{subject}*mask.nii.gz")))
        box = bounding_box(brain.data, "keep")
        yield subject, crop(image.with_data(image.data * brain.data), box), crop(brain, box)
    for path in sorted(folder.glob("T[12]_*brain*.nii.gz")):
        full = read_image(path)
        image = Volume(full.data[::2, ::2, ::2], full.affine @ np.diag([2, 2, 2, 1]))
        box = bounding_box(image.data > 0, "keep")
        image = crop(image, box)
        yield f"{folder.name} {path.name[:2]}", image, image.with_data((image.data > 0).astype(np.uint8))


def _contrast(image, brain, planted, radius_mm, recipe):
    inside = brain.data > 0
    places = np.argwhere(inside)
    middle = places.mean(0)
    middle[0] = (middle[0] + places[:, 0].max()) / 2
    points = np.stack(np.meshgrid(*map(np.arange, inside.shape), indexing="ij"), -1)
    ball = ((((points - middle) * brain.spacing) ** 2).sum(-1) < radius_mm**2) & inside
    rest = inside & ~ball
    data = np.where(ball, planted * np.median(image.data[rest]), image.data).astype(np.float32)
    after = recipe(image.with_data(data), brain)
    return float(np.median(after[ball]) / np.median(after[rest]))


def _field(inside, rng):
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in inside.shape), indexing="ij")
    sums = sum(rng.normal() * a for a in axes) + sum(rng.normal() * a * b / 2 for a in axes for b in axes)
    sums = sums - sums[inside].mean()
    return np.exp(STRONGEST_FIELD * sums / np.abs(sums[inside]).max())


def _ours(**keys):
    return lambda image, brain: correct_bias_field(image, brain, BiasFieldSettings(**keys), brain)[0].data


def _defaults_of_antspyx_06(image, brain):
    weights = ants.smooth_image(to_ants(brain), 1.0)
    convergence = {"iters": [200] * 4, "tol": 5e-4}
    return ants.n4_bias_field_correction(to_ants(image), convergence=convergence, weight_mask=weights).numpy()


RECIPES = {
    "4 levels, defaults of antspyx 0.6": _defaults_of_antspyx_06,
    "4 levels, 200 mm, get_mask (authors)": _ours(levels=4, mask="get_mask", tolerance=5e-4),
    "4 levels, 200 mm, brain": _ours(levels=4, tolerance=5e-4),
    "3 levels, 200 mm, brain": _ours(levels=3, tolerance=5e-4),
    "2 levels, 200 mm, brain": _ours(levels=2, tolerance=5e-4),
    "2 levels, 200 mm, brain, to the end (clean)": _ours(),
}

if __name__ == "__main__":
    main()
