"""Figures: what is drawn equals hand-made numbers, nothing is cut off, and equal input gives equal bytes."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import architecture
import matplotlib.colors
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from drawn_figures import assert_nothing_cut, texts_of
from matplotlib.container import BarContainer
from matplotlib.text import Text
from skimage.color import deltaE_ciede2000, rgb2lab

from uad.common import pictures
from uad.common.errors import InputError
from uad.reporting import figures, overview, panels, residuals, style

pytestmark = pytest.mark.slow

PLACES = [("brats21", "t2"), ("wmh", "t1")]


def arm(name, control=False, label=None):
    return {
        "arm": name,
        "method": name,
        "paper_model": "",
        "ssl": False,
        "control": control,
        "label": label or name,
        "postprocess": not control,
    }


ARMS = [
    arm("ae", label="AE"),
    arm("ddpm", label="DDPM"),
    arm("svae", label="SVAE"),
    arm("oracle", True),
    arm("chance", True),
]


def metric_rows(missing=()):
    """AE: Dice 20 and 30 % by fold; DDPM: 10, 20, 30 % at 250, 500, 750, 40 % as ensemble, ±2 % by fold."""
    rows = []
    for fold in (0, 1):
        scores = {("ae", ""): 0.2 + 0.1 * fold, ("oracle", ""): 1.0, ("chance", ""): 0.01}
        levels = {"250": 0.1, "500": 0.2, "750": 0.3, "ens": 0.4}
        scores |= {("ddpm", level): value + 0.04 * fold - 0.02 for level, value in levels.items()}
        for (name, level), value in scores.items():
            for cohort, modality in PLACES:
                keys = {"arm": name, "t_test": level, "fold": fold, "cohort": cohort, "modality": modality}
                rows += [{**keys, "subject": s, "split": "test", "variant": "full", "dice": value} for s in "xy"]
    return pd.DataFrame([row for row in rows if (row["arm"], row["fold"]) not in missing])


def test_noise_figure_draws_fold_means_and_flat_ensemble():
    figure = figures.t_test_figure(metric_rows(), ARMS, PLACES, [0, 1])
    panel = figure.axes[0]
    curve, flat = panel.lines[0], panel.lines[-1]
    assert list(curve.get_xdata()) == [250, 500, 750]
    assert list(curve.get_ydata()) == pytest.approx([10, 20, 30])
    assert list(flat.get_ydata()) == pytest.approx([40, 40])
    segments = panel.containers[0].lines[2][0].get_segments()
    half = 2 * math.sqrt(2)  # folds at mean ± 2: std with n-1 is sqrt(2 * 2^2)
    assert [(s[1][1] - s[0][1]) / 2 for s in segments] == pytest.approx([half] * 3)
    assert panel.get_ylabel() == "Dice (%)"
    assert panel.get_xlabel().endswith("(steps)")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["BraTS21 (T2)", "WMH (T1)"]
    texts = texts_of(figure)
    assert "DDPM" in texts and "AE" not in texts  # AE has no noise level
    assert "Missing: SVAE (all folds)" in texts
    assert_nothing_cut(figure)


def test_noise_figure_without_levels_is_refused():
    rows = metric_rows()
    with pytest.raises(InputError, match="no arm was scored at a noise level"):
        figures.t_test_figure(rows[rows["t_test"] == ""], ARMS, PLACES, [0, 1])


def test_overview_draws_bars_folds_and_controls():
    figure = overview.overview_figure(metric_rows(missing={("ddpm", 1)}), ARMS, PLACES, [0, 1])
    panel = figure.axes[0]
    bars = [box for group in panel.containers if isinstance(group, BarContainer) for box in group]
    assert [bar.get_width() for bar in bars] == pytest.approx([25, 18, 38])  # AE, DDPM fold 0 at 500, its ensemble
    dots = panel.collections[0].get_offsets().tolist()
    assert dots[:2] == [pytest.approx([20, -0.2]), pytest.approx([30, 0.2])]  # the folds of AE, whose bar is about 0
    assert dots[2:] == [pytest.approx([18, 1]), pytest.approx([38, 2])]
    whisker = panel.lines[0].get_xdata()
    assert np.nanmin(whisker) == pytest.approx(25 - math.sqrt(50))  # folds at mean ± 5: std with n-1
    assert np.nanmax(whisker) == pytest.approx(25 + math.sqrt(50))
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["AE", "DDPM", "DDPM (ENS)", "SVAE"]
    texts = texts_of(figure)
    assert texts.count("missing") == 2  # SVAE, once per panel
    assert panel.get_xlabel().endswith("beyond the axis:\noracle 100")
    assert "control: chance" in texts and "control: oracle" not in texts
    assert "Missing: DDPM (fold 1); SVAE (all folds)" in texts
    assert any(np.allclose(line.get_xdata(), 1.0) for line in panel.lines)  # chance at 1 %
    assert_nothing_cut(figure)


def test_overview_draws_the_ceiling_of_post_processing_as_a_line():
    ceiling = arm("oracle-post", True) | {"method": "oracle", "postprocess": True}
    rows = metric_rows()
    of_ceiling = rows[rows["arm"] == "oracle"].assign(arm="oracle-post", dice=0.6)
    figure = overview.overview_figure(pd.concat([rows, of_ceiling]), [*ARMS, ceiling], PLACES, [0, 1])
    for panel in figure.axes:
        assert [60] in [sorted(set(line.get_xdata())) for line in panel.lines]
        assert panel.get_xlim()[1] == pytest.approx(60 * style.HEADROOM)
        assert "oracle-post" not in panel.get_xlabel()
    assert "ceiling: a perfect map, post-processed" in texts_of(figure)


def test_overview_of_one_cohort_is_one_column_wide(tmp_path):
    figure = overview.overview_figure(metric_rows(), ARMS, PLACES[:1], [0, 1])
    png, svg = style.save(figure, tmp_path / "one")
    pixels = matplotlib.image.imread(png).shape[1]
    assert pixels == pytest.approx(8.5 / 2.54 * 300, abs=1)
    assert svg.read_text(encoding="utf-8").startswith("<?xml")
    assert_nothing_cut(figure)


@pytest.mark.parametrize("draw", [figures.t_test_figure, overview.overview_figure])
def test_same_input_gives_same_bytes(tmp_path, draw):
    written = []
    for name in ("a", "b"):
        paths = style.save(draw(metric_rows(), ARMS, PLACES[:1], [0, 1]), tmp_path / name)
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]
    assert b"<dc:date>" not in written[0][1]


@pytest.mark.parametrize("workers", [1, 3])
def test_figures_drawn_in_several_processes_are_the_same_bytes(tmp_path, workers):
    drawn = {"method": architecture.architecture_figure, "again": architecture.architecture_figure}
    style.save_all(drawn, tmp_path, workers)
    alone, *_ = style.save(architecture.architecture_figure(), tmp_path / "alone")
    assert sorted(path.name for path in tmp_path.glob("*.svg")) == ["again.svg", "alone.svg", "method.svg"]
    assert all((tmp_path / f"{stem}.png").read_bytes() == alone.read_bytes() for stem in drawn)


def test_a_mark_stands_in_a_strip_above_the_figure_and_changes_nothing_below(tmp_path):
    paths = {}
    for mark in ("", style.PHANTOM_MARK):
        figure = overview.overview_figure(metric_rows(), ARMS, PLACES, [0, 1])
        paths[mark] = style.save(figure, tmp_path / f"figure{len(mark)}", mark)
    plain, marked = (matplotlib.image.imread(paths[mark][0])[..., :3] for mark in paths)
    strip = len(marked) - len(plain)
    assert strip == 60  # 0.2 inches at 300 dpi
    assert np.array_equal(marked[strip:], plain)
    inked = marked[:strip].min(axis=2) < 0.5
    assert inked[10:-10].any() and not inked[:5].any() and not inked[-5:].any()  # whole letters
    heights = [float(re.search(r'height="([0-9.]+)pt"', path.read_text())[1]) for _, path in paths.values()]
    assert heights[1] - heights[0] == pytest.approx(0.2 * 72, abs=0.01)


def test_what_is_wrong_with_a_figure_comes_through(tmp_path):
    def refused():
        raise InputError("fold0.npz: damaged; run the arm again")

    with pytest.raises(InputError, match="damaged; run the arm again"):
        style.save_all({"bad": refused, "good": architecture.architecture_figure}, tmp_path, 2)
    with pytest.raises(InputError, match="a process that draws figures died"):
        style.save_all({"killed": lambda: os.kill(os.getpid(), 9)}, tmp_path, 2)


def test_every_arm_has_its_own_look_and_controls_take_none():
    many = [arm(f"m{i}") for i in range(30)]
    looks = style.looks(many)
    assert len({(look.colour, look.marker) for look in looks.values()}) == 30
    assert len({look.colour for look in list(looks.values())[:15]}) == 15
    mixed = style.looks([arm("oracle", True), *many])
    assert all(mixed[name] == look for name, look in looks.items())
    assert mixed["oracle"].colour in style.CONTROL_GREYS


# Linear RGB as seen without the red or the green cone (Machado, Oliveira and Fernandes 2009, severity 1).
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}


@pytest.mark.parametrize("sight", SIGHT)
def test_any_two_colours_of_arms_can_be_told_apart(sight):
    """A difference of 10 in CIEDE2000 is plain to see side by side."""
    coded = np.array([matplotlib.colors.to_rgb(colour) for colour in style.PALETTE])
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(SIGHT[sight]), 0, 1)
    seen = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(seen)
    distances = deltaE_ciede2000(lab[:, None], lab[None])
    assert distances[~np.eye(len(lab), dtype=bool)].min() > 10


def volume(reconstruction=True):
    """Brain box, lesions of 2 (slice 1) and 6 voxels (slice 4), a large excluded region in slice 2."""
    image = np.zeros((6, 20, 16), np.float32)
    image[:, 4:16, 5:12] = 0.5
    label = np.zeros(image.shape, np.uint8)
    label[1, 8, 6:8], label[4, 8:10, 6:9], label[2, 5:15, 6:11] = 1, 1, 2
    rebuilt = image * 0.9 if reconstruction else np.zeros(0, np.float32)
    arrays = {
        "image": image,
        "reconstruction": rebuilt,
        "map": np.abs(image - image * 0.9),
        "prediction": label,
        "label": label,
    }
    return {**arrays, "subject": "s1", "cohort": "brats21", "t_test": "500"}


def test_slice_with_the_largest_lesion_is_chosen():
    example = volume()
    assert (
        pictures.lesion_slice(example["label"], example["image"]) == 4
    )  # the excluded region of slice 2 does not count
    brain = np.zeros((5, 4, 4))
    brain[3, 1:3, 1:3] = 1
    assert pictures.lesion_slice(np.zeros((5, 4, 4)), brain) == 3


def test_examples_round_trip_and_crop_to_the_brain(tmp_path):
    np.savez(tmp_path / "ae.npz", **{f"mslub/{key}": value for key, value in volume().items()})
    loaded = panels.load_example(tmp_path / "ae.npz", "mslub")
    assert loaded["subject"] == "s1"
    cut = panels.slice_examples({"ae": loaded})["ae"]
    assert cut["image"].shape == (12 + 2 * 2, 7 + 2 * 2)  # brain box and two voxels around it
    assert cut["label"].sum() == 6


def test_bad_examples_are_refused(tmp_path):
    path = tmp_path / "x.examples.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match="not a readable example file"):
        panels.load_example(path, "mslub")
    np.savez(path, **{"mslub/image": np.zeros(3)})
    with pytest.raises(InputError, match="mslub lacks reconstruction, map, prediction, label, subject"):
        panels.load_example(path, "mslub")
    with pytest.raises(InputError, match="arm b: subject s2"):
        panels.slice_examples({"a": volume(), "b": {**volume(), "subject": "s2"}})
    with pytest.raises(InputError, match="no arm has an example"):
        panels.examples_figure({}, ARMS, ["ae"], "t")


def test_examples_figure_shows_every_arm_and_what_is_missing():
    slices = panels.slice_examples({"ae": volume(), "oracle": volume(reconstruction=False)})
    figure = panels.examples_figure(slices, ARMS, ["ae", "svae", "oracle"], "BraTS21 (T2), subject s1")
    scan, grid = figure.axes[:2], np.array(figure.axes[2:]).reshape(3, 3)
    assert [panel.get_title() for panel in scan] == ["input", "truth"]
    assert [panel.get_title() for panel in grid[0]] == ["reconstruction", "anomaly map", "prediction"]
    assert [panel.get_ylabel() for panel in grid[:, 0]] == ["AE", "SVAE", "oracle"]
    texts = texts_of(figure)
    assert texts.count("missing") == 3
    assert texts.count("none") == 1
    assert texts.count("max 0.05") == 2  # |0.5 - 0.45|
    assert np.array_equal(grid[0, 0].images[0].get_array(), slices["ae"]["reconstruction"])
    assert scan[0].images[0].get_clim() == grid[0, 0].images[0].get_clim() == (0, 1)
    assert grid[0, 1].images[0].get_clim() == pytest.approx((0, 0.05))
    colour = style.looks(ARMS)["oracle"].colour
    assert grid[2, 0].lines[0].get_color() == colour
    assert figure.get_figwidth() * 2.54 <= style.DOUBLE_CM + 1e-6
    assert_nothing_cut(figure)


def test_many_arms_stand_in_two_blocks_and_fit_a_page():
    many = [arm(f"m{i}", label=f"method {i}, variant") for i in range(13)]
    slices = panels.slice_examples({entry["arm"]: volume() for entry in many})
    figure = panels.examples_figure(slices, many, [entry["arm"] for entry in many], "t")
    assert len(figure.axes) == 2 + 13 * 3
    assert_nothing_cut(figure)
    corners = {panel.get_ylabel(): panel.get_position() for panel in figure.axes if panel.get_ylabel()}
    down_then_right = sorted(corners, key=lambda name: (round(corners[name].x0, 3), -corners[name].y0))
    assert down_then_right == [f"method {i},\nvariant" for i in range(13)]
    assert len({round(corner.x0, 3) for corner in corners.values()}) == 2
    width, height = figure.get_size_inches() * 2.54
    assert width <= style.DOUBLE_CM + 1e-6 and height <= 25.7  # A4 less 2 cm at either end


def test_a_healthy_scan_has_neither_truth_nor_predictions():
    slices = panels.slice_examples({"ae": volume()})
    del slices["ae"]["prediction"]
    figure = panels.examples_figure(slices, ARMS, ["ae"], "t")
    assert [panel.get_title() for panel in figure.axes] == ["input", "reconstruction", "anomaly map"]


def test_truth_names_excluded_voxels():
    example = volume()
    example["label"] = example["label"].copy()
    example["label"][4, 12, 10] = 2
    figure = panels.examples_figure(panels.slice_examples({"ae": example}), ARMS, ["ae"], "t")
    assert figure.axes[1].get_title() == "truth\n(grey: excluded)"
    assert_nothing_cut(figure)


def residual_example(shift=0):
    """A volume of 24 slices: a large lesion in slice 6, a small one in 7, and one in between in 18."""
    image, label = np.full((24, 20, 16), 0.5, np.float32), np.zeros((24, 20, 16), np.uint8)
    image[:, :3] = 0
    for z, size in ((6, 5), (7, 2), (18, 3)):
        label[z, 8 : 8 + size, 6 : 6 + size] = 1
    values = (label + 0.1 * shift).astype(np.float32)
    return {"image": image, "label": label, "map": values, "reconstruction": image, "prediction": label, "subject": "s"}


def test_residual_figure_shows_two_slices_apart_of_each_cohort(tmp_path):
    example = residual_example()
    assert residuals.two_slices(example["label"], example["image"]) == (6, 18)
    names = [arm("ae", label="AE"), arm("x", label="a label that is rather long")]
    examples = {place: {"ae": residual_example()} for place in PLACES}
    figure = residuals.residuals_figure(examples, names, ["ae", "x"], {place: place[0] for place in PLACES})
    assert_nothing_cut(figure)
    grid = np.array(figure.axes).reshape(4, 4)
    drawn = grid[1, 1].images[0].get_array()
    assert drawn.sum() == 9 and grid[0, 1].images[0].get_array().sum() == 25  # 3 x 3 and 5 x 5 voxels of lesion
    assert texts_of(figure).count("missing") == 4


@pytest.mark.parametrize(
    ("areas", "expected"),
    [
        ([0, 0, 4, 16, 9, 0], (3, 2)),  # both neighbours have enough: the first of equal distances
        ([0, 16, 9, 4, 1, 0], (1, 3)),  # 4 of 16 is a quarter, 1 is less
        ([0, 0, 16, 0, 0, 0], (2, 5)),  # lesion in one slice alone: the largest brain outside
    ],
)
def test_both_slices_show_lesion_where_two_have_enough(areas, expected):
    label, image = np.zeros((6, 4, 4), np.uint8), np.ones((6, 4, 4))
    for z, area in enumerate(areas):
        label[z].flat[:area] = 1
        image[z, 0, 0] = z == 5
    assert residuals.two_slices(label, image) == expected


def test_a_flat_volume_has_no_two_slices():
    with pytest.raises(InputError, match="one slice is too flat"):
        residuals.two_slices(np.zeros((1, 4, 4)), np.ones((1, 4, 4)))


def test_the_drawing_of_the_method_is_that_of_its_tool(tmp_path):
    for path in style.save(architecture.architecture_figure(), tmp_path / "fig1"):
        assert path.read_bytes() == Path(style.__file__).with_name(path.name).read_bytes(), "run tools/architecture.py"


def test_the_drawing_of_the_method_has_no_text_on_text():
    figure = architecture.architecture_figure()
    assert_nothing_cut(figure)
    texts = [text for text in figure.findobj(Text) if text.get_text().strip()]
    boxes = [text.get_window_extent() for text in texts]
    assert len(boxes) > 8
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
