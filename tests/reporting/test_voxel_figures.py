"""Figures of pooled voxels: curves and percentiles of tallies with known answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from drawn_figures import assert_nothing_cut, texts_of
from sklearn.metrics import f1_score, precision_recall_curve, roc_curve

from uad.reporting import style
from uad.reporting.detection import FALSE_RATES, RECALLS, detection_figure
from uad.reporting.distributions import distributions_figure, relative_percentiles
from uad.reporting.tally_curves import OperatingPoints, Tallies, dice_at, percentiles
from uad.reporting.thresholds import MULTIPLES, thresholds_figure
from uad.reporting.volume_scores import VolumeScores

pytestmark = pytest.mark.slow

BRATS, WMH, IXI = ("brats21", "t2"), ("wmh", "t1"), ("ixi", "t2")


def arm(name, label=None):
    return {"arm": name, "method": name, "control": False, "label": label or name.upper(), "postprocess": True}


AE, DDPM = arm("ae"), arm("ddpm")
THRESHOLD = 0.25


def scores(arms=(AE, DDPM), places=(BRATS, WMH), folds=1, threshold=THRESHOLD):
    keys = [(entry["arm"], *place, fold) for entry in arms for place in places for fold in range(folds)]
    frame = pd.DataFrame(keys, columns=["arm", "cohort", "modality", "fold"])
    frame = frame.assign(subject="s", split="test", variant="full", t_test="", threshold=threshold)
    return VolumeScores(
        frame.assign(dice=0.5, auprc=0.5, lesion_ml=1.0, predicted_ml=1.0), list(arms), range(folds), "500"
    )


def tally(values, lesion, brain=None):
    """Of voxels that lie on edges of bins."""
    frame = pd.DataFrame({"value": values, "lesion": lesion})
    frame["healthy"] = 1 - frame["lesion"]
    frame["brain"] = frame["healthy"] if brain is None else brain
    return frame.groupby("value", as_index=False).sum()


def voxels(seed=0, octaves=6, count=300):
    """Values on edges of bins, and which are lesion: lesions are brighter."""
    rng = np.random.default_rng(seed)
    lesion = (rng.uniform(size=count) < 0.2).astype(int)
    values = 2.0 ** (rng.integers(-16 * octaves, 0, count) / 16 + lesion)
    values[(lesion == 0) & (rng.uniform(size=count) < 0.3)] = 0.0
    return values, lesion


def filed(parts):
    """(arm, place, split, fold) -> tally, as one table of a run."""
    frames = [
        found.assign(arm=name, cohort=place[0], modality=place[1], split=split, fold=fold, t_test="")
        for (name, place, split, fold), found in parts.items()
    ]
    return pd.concat(frames, ignore_index=True)


def of_run(places=(BRATS, WMH, IXI), arms=(AE, DDPM)):
    parts = {
        (entry["arm"], place, split, 0): tally(*voxels(seed))
        for entry in arms
        for place in places
        for seed, split in enumerate(("val", "test"))
    }
    return filed(parts)


def test_operating_points_are_those_of_scikit_learn():
    values, lesion = voxels()
    points = OperatingPoints.of(tally(values, lesion))
    precision, recall, _ = precision_recall_curve(lesion, values)
    wanted = [precision[np.flatnonzero(recall >= asked)[-1]] for asked in recall[:-1]]  # thresholds rise
    assert points.precision_at(recall[:-1]) == pytest.approx(wanted)
    false_rate, found, _ = roc_curve(lesion, values, drop_intermediate=False)
    highest = [found[false_rate <= asked].max() for asked in false_rate]
    assert points.recall_at(false_rate) == pytest.approx(highest)
    assert points.prevalence == pytest.approx(lesion.mean())


def test_dice_of_pooled_voxels_is_that_of_the_prediction():
    values, lesion = voxels(1)
    edges = 2.0 ** (np.arange(-64, 16, 8) / 16)
    wanted = [f1_score(lesion, values >= edge, zero_division=0) for edge in edges]
    assert dice_at(tally(values, lesion), edges) == pytest.approx(wanted)
    between = edges * 2 ** (1 / 32)  # a bin that holds the threshold is not above it
    wanted = [f1_score(lesion, values > threshold, zero_division=0) for threshold in between]
    assert dice_at(tally(values, lesion), between) == pytest.approx(wanted)


def test_voxels_without_lesion_have_no_curves():
    healthy = tally([0.0, 0.5, 1.0], [0, 0, 0])
    points = OperatingPoints.of(healthy)
    assert np.isnan(points.precision_at(np.array([0.5]))).all() and np.isnan(points.recall_at(np.array([0.5]))).all()
    assert np.isnan(dice_at(healthy, np.array([0.5]))).all() and points.prevalence == 0


def test_percentiles_are_the_lowest_value_with_the_share_below():
    rng = np.random.default_rng(3)
    values, counts = rng.permutation(np.arange(8.0)), rng.integers(0, 50, 8)
    shares = (1, 5, 25, 50, 75, 95, 100)
    wanted = np.percentile(np.repeat(values, counts), shares, method="inverted_cdf")
    assert percentiles(values, counts, shares).tolist() == wanted.tolist()
    assert np.isnan(percentiles(np.zeros(0), np.zeros(0), shares)).all()


def test_detection_draws_curves_of_the_test_scans_and_their_prevalence():
    run = of_run()
    figure = detection_figure(scores(), Tallies(run, scores().thresholds), [BRATS, WMH])
    left, right = figure.axes[:2]
    values, lesion = voxels(1)  # the test scans
    prevalence, ae, ddpm = left.lines
    assert set(prevalence.get_ydata()) == {lesion.mean()}
    assert ae.get_ydata()[-1] == pytest.approx(lesion.sum() / (values >= values[lesion == 1].min()).sum())
    assert list(ae.get_xdata()) == list(RECALLS) and list(ae.get_ydata()) == list(ddpm.get_ydata())
    assert right.get_xscale() == "log" and right.get_xlim() == (1e-4, 1)
    assert list(right.lines[0].get_xdata()) == list(FALSE_RATES) and right.lines[0].get_ydata()[-1] == 1
    assert_nothing_cut(figure)


def test_folds_are_averaged_at_equal_recall():
    perfect, useless = tally([0.5, 1.0], [0, 1]), tally([0.5, 0.5], [0, 1])
    run = filed({("ae", BRATS, "test", 0): perfect, ("ae", BRATS, "test", 1): useless})
    found = scores([AE], [BRATS], folds=2)
    figure = detection_figure(found, Tallies(run, found.thresholds), [BRATS])
    assert set(figure.axes[0].lines[1].get_ydata()) == {0.75}  # precision 1 and 1 / 2
    assert figure.axes[1].lines[0].get_ydata()[0] == 0.5  # recall 1 and 0 without a false positive


def test_thresholds_are_multiples_of_the_chosen_one():
    run = of_run()
    figure = thresholds_figure(scores(), Tallies(run, scores().thresholds), [BRATS])
    (panel,) = figure.axes
    chosen, test, validation = panel.lines[:3]
    assert list(chosen.get_xdata()) == [1, 1]
    for line, dash, seed in ((test, "-", 1), (validation, "--", 0)):
        values, lesion = voxels(seed)
        wanted = [100 * f1_score(lesion, values >= THRESHOLD * x, zero_division=0) for x in MULTIPLES]
        assert line.get_ydata() == pytest.approx(wanted) and line.get_linestyle() == dash
    assert panel.get_xlim() == (1 / 8, 8)
    ticks = [panel.xaxis.get_major_formatter()(x) for x in panel.get_xticks()]
    assert ticks == ["1/8", "1/4", "1/2", "1", "2", "4", "8"]
    assert_nothing_cut(figure)


@pytest.mark.parametrize("threshold", [0.0, np.nan])
def test_an_arm_without_threshold_has_neither_curve_nor_boxes(threshold):
    found = scores(threshold=threshold)
    tallies = Tallies(of_run(), found.thresholds)
    assert len(thresholds_figure(found, tallies, [BRATS]).axes[0].lines) == 1
    figure = distributions_figure(found, tallies, [BRATS], [IXI])
    assert texts_of(figure).count("no threshold") == 2 and not figure.axes[0].patches


def test_values_are_compared_with_the_threshold_of_the_place_and_fold():
    run = filed({
        ("ae", BRATS, "test", 0): tally([1.0, 4.0], [0, 1]),
        ("ae", BRATS, "test", 1): tally([2.0, 8.0], [0, 1]),
        ("ae", IXI, "test", 0): tally([0.0, 0.5, 0.5], [0, 0, 0], brain=[0, 1, 1]),
        ("ae", IXI, "val", 0): tally([64.0], [0]),
    })  # fmt: skip
    thresholds = pd.Series({("ae", "brats21", "t2", 0): 0.5, ("ae", "brats21", "t2", 1): 1.0})
    tallies = Tallies(run, thresholds)
    assert set(relative_percentiles(tallies, "ae", BRATS, ["brats21"], "lesion")) == {8}
    assert set(relative_percentiles(tallies, "ae", BRATS, ["brats21"], "brain")) == {2}
    assert set(relative_percentiles(tallies, "ae", BRATS, ["ixi"], "brain")) == {1}  # test scans, inside the brain
    assert np.isnan(relative_percentiles(tallies, "ae", BRATS, [], "brain")).all()


def test_distributions_are_three_boxes_of_each_arm():
    values = 2.0 ** np.arange(-3, 2)  # 1/8 to 2; the threshold is 1/4
    sick = pd.concat([tally(values, [0] * 5), tally(values[1:] * 2, [1] * 4)]).groupby("value", as_index=False).sum()
    run = filed({("ae", BRATS, "test", 0): sick, ("ae", IXI, "test", 0): tally(values, [0] * 5)})
    figure = distributions_figure(scores([AE], [BRATS]), Tallies(run, scores().thresholds), [BRATS], [IXI])
    (panel,) = figure.axes
    spans = [tuple(box.get_extents().intervalx) for box in (patch.get_path() for patch in panel.patches)]
    # quartiles of 1/2, 1, 2, 4, 8 are 1 and 4; lesions are 2, 4, 8, 16 thresholds bright
    assert spans == [(1, 4), (1, 4), (2, 8)]
    assert panel.get_xscale() == "log"
    assert {"healthy scans", "patients, healthy tissue", "lesions"} <= set(texts_of(figure))
    assert_nothing_cut(figure)


def distributions(found, tallies, places):
    return distributions_figure(found, tallies, places, [IXI])


FIGURES = [detection_figure, thresholds_figure, distributions]


@pytest.mark.parametrize("draw", FIGURES)
def test_twenty_arms_in_six_places_fit_a_page_wide(draw):
    arms = [arm(f"arm{i}", f"A method, variant {i}") for i in range(20)]
    places = [(cohort, modality) for cohort in ("brats21", "mslub", "own") for modality in ("t1", "t2")]
    found = scores(arms, places)
    figure = draw(found, Tallies(of_run([*places, IXI], arms), found.thresholds), places)
    assert_nothing_cut(figure)
    assert figure.get_figwidth() * 2.54 <= style.DOUBLE_CM + 1e-6


@pytest.mark.parametrize("draw", FIGURES)
def test_same_tallies_give_the_same_bytes(tmp_path, draw):
    written = []
    for name in ("a", "b"):
        figure = draw(scores(), Tallies(of_run(), scores().thresholds), [BRATS, WMH])
        written.append([path.read_bytes() for path in style.save(figure, tmp_path / name)])
    assert written[0] == written[1]
