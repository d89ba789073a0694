"""What N4's levels do to healthy white matter and to raw intensity as a score.  Two tables of docs/preprocessing.md

    python benchmarks/n4_levels.py results/real/preprocessed/ixi-hh ../shared/data/real/ixi-hh ../shared/data/sri24

The first argument is a cohort that a run has preprocessed at 2 mm, for its transforms; then its raw folder and that of
SRI24. White matter is SRI24's, eroded by one voxel; what counts is standard deviation over mean between the 10th and
the 99th percentile. The score is the average precision of intensity (of darkness for lesions darker than 1) for one
ball per scan, half way from the centre of the brain to its rim, along the three axes of the array and back in turn.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np
from n4_lesions import read_scans
from scipy.ndimage import binary_erosion
from sklearn.metrics import average_precision_score

from uad.common.volumes import Volume, read_image, read_label, reorient
from uad.config.model import BiasFieldSettings
from uad.preprocessing.atlas import load_atlas
from uad.preprocessing.bias_field import correct_bias_field
from uad.preprocessing.crop import bounding_box, crop
from uad.preprocessing.itk import move, move_label, resample_spacing

SPACING_MM = 2.0
WHITE_MATTER = 3  # in tissues.nii.gz
EVERY = 6  # of the cohort's scans
SCANS = 6  # with a planted ball
LESIONS = [(contrast, radius) for contrast in (1.68, 0.6) for radius in (5, 10, 15, 25)]
RECIPES = {"without N4": None, "1 level": (1, 5e-4), "2 levels": (2, 5e-4), "2 levels to the end": (2, 1e-4),
           "3 levels": (3, 5e-4), "4 levels": (4, 5e-4)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("preprocessed", "raw", "sri24"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    print("| measure |" + "".join(f" {name} |" for name in RECIPES), flush=True)
    spreads = list(_white_matter(arguments.preprocessed, arguments.raw, arguments.sri24))
    print(f"| white matter, {len(spreads)} scans |" + _means(spreads, "{:.3f}"), flush=True)
    scans = list(read_scans(arguments.raw, SCANS))
    for contrast, radius in LESIONS:
        found = [_precisions(image, brain, contrast, radius, n) for n, (_, image, brain) in enumerate(scans)]
        print(f"| {contrast}, {radius} mm |" + _means(found, "{:.1%}"), flush=True)


def _means(rows, form):
    return "".join(f" {form.format(statistics.mean(column))} |" for column in zip(*rows, strict=True))


def _corrected(image, brain):
    for recipe in RECIPES.values():
        if recipe is None:
            yield image.data
        else:
            levels, tolerance = recipe
            yield correct_bias_field(image, brain, BiasFieldSettings(levels=levels, tolerance=tolerance), brain)[0].data


def _white_matter(preprocessed, raw, sri24):
    atlas = load_atlas(str(sri24 / "spgr.nii.gz"), "RAI", SPACING_MM).image
    tissues = read_label(sri24 / "tissues.nii.gz")
    tissues = move(Volume(tissues.data.astype(np.float32), tissues.affine), atlas, [], "nearestNeighbor").round()
    white = binary_erosion(tissues == WHITE_MATTER)
    for transform in sorted(preprocessed.rglob("[!.]*.mat"))[::EVERY]:
        subject = transform.stem.rsplit("_", 1)[0]
        image, _ = resample_spacing(reorient(read_image(next((raw / subject).rglob("*T1w.nii.gz")))), SPACING_MM)
        brain = reorient(read_label(next((raw / "derivatives" / subject).rglob("*brain_mask.nii.gz"))))
        moved = move(image.with_data(np.maximum(image.data, 0) * brain.data), atlas, [str(transform)], "linear")
        brain = move_label(brain, atlas, [str(transform)], "nearestNeighbor")
        box = bounding_box(brain.data, "keep")
        inside = white[box] & (brain.data[box] > 0)
        yield [_spread(data[inside]) for data in _corrected(crop(atlas.with_data(moved), box), crop(brain, box))]


def _spread(values):
    low, high = np.percentile(values, (10, 99))
    values = values[(values > low) & (values < high)]
    return float(values.std() / values.mean())


def _precisions(image, brain, contrast, radius_mm, side):
    inside = brain.data > 0
    places = np.argwhere(inside)
    middle, axis = places.mean(0), side % 3
    middle[axis] = (middle[axis] + (places[:, axis].max() if side < 3 else places[:, axis].min())) / 2
    points = np.stack(np.meshgrid(*map(np.arange, inside.shape), indexing="ij"), -1)
    ball = ((((points - middle) * brain.spacing) ** 2).sum(-1) < radius_mm**2) & inside
    data = np.where(ball, contrast * np.median(image.data[inside & ~ball]), image.data).astype(np.float32)
    sign = 1 if contrast > 1 else -1
    return [
        average_precision_score(ball[inside], sign * each[inside]) for each in _corrected(image.with_data(data), brain)
    ]


if __name__ == "__main__":
    main()
