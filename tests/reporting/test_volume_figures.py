"""Figures of single test volumes: what is drawn equals hand-made numbers, and many arms and cohorts fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from drawn_figures import assert_nothing_cut, texts_of
from matplotlib.text import Text
from scipy import stats

from uad.common.errors import InputError
from uad.reporting import style
from uad.reporting.agreement import agreement_figure, limits_of_agreement
from uad.reporting.differences import can_reach_significance, differences_figure, paired_differences
from uad.reporting.lesion_size import binned_means, lesion_size_figure
from uad.reporting.ranks import rank_table, ranks_figure
from uad.reporting.volume_scores import VolumeScores, label_of
from uad.reporting.volumes import volumes_figure

pytestmark = pytest.mark.slow

BRATS, WMH = ("brats21", "t2"), ("wmh", "t1")


def arm(name, **changes):
    usual = {"method": name, "control": False, "label": name.upper(), "postprocess": True}
    return {"arm": name, **usual, **changes}


AE, DDPM, VAE = arm("ae"), arm("ddpm"), arm("vae")
CEILING = arm("ideal", method="oracle", control=True)
ARMS = [AE, DDPM, VAE, arm("oracle", control=True, postprocess=False), CEILING]


def rows_of(name, dice, place=BRATS, t_test="", fold=0, lesion=10.0, predicted=12.0, **more):
    """A test row per volume; a scalar holds for every volume."""
    frame = pd.DataFrame({"dice": dice, "lesion_ml": lesion, "predicted_ml": predicted, **more})
    keys = {"arm": name, "cohort": place[0], "modality": place[1], "t_test": t_test, "fold": fold, "threshold": 0.5}
    subjects = [f"s{i}" for i in range(len(frame))]
    auprc = frame["dice"] / 2
    return frame.assign(subject=subjects, split="test", variant="full", auprc=auprc, **keys)


def three_arms(places=(BRATS, WMH)):
    """AE of two folds, DDPM at two noise levels and as ensemble, and the ceiling; VAE has no row."""
    frames = []
    for place in places:
        for fold in (0, 1):
            frames.append(rows_of("ae", np.array([0.1, 0.2, 0.3]) + 0.1 * fold, place, fold=fold))
            frames += [rows_of("ddpm", [0.4, 0.4, 0.7], place, level, fold) for level in ("500", "750")]
            frames.append(rows_of("ddpm", [0.5, 0.6, 0.7], place, "ens", fold))
            frames.append(rows_of("ideal", [0.8, 0.9, 1.0], place, fold=fold))
    return pd.concat(frames)


def scores(rows=None, arms=ARMS, folds=2):
    return VolumeScores(three_arms() if rows is None else rows, arms, range(folds), "500")


def test_a_volume_counts_once_with_its_mean_over_folds():
    found = scores()
    volumes = found.of(BRATS, (AE, 0))
    assert volumes["dice"].tolist() == pytest.approx([15, 25, 35])
    assert volumes["auprc"].tolist() == pytest.approx([7.5, 12.5, 17.5])
    assert volumes["lesion_ml"].tolist() == [10, 10, 10] and volumes["predicted_ml"].tolist() == [12, 12, 12]
    assert found.ceiling(WMH)["dice"].tolist() == pytest.approx([80, 90, 100])
    assert found.of(BRATS, (VAE, 0)).empty and found.missing([BRATS, WMH]) == {"VAE": ["all folds"]}


def test_lines_are_the_readings_of_the_tables_and_the_main_one_is_the_ensemble():
    found = scores()
    assert [label_of(line) for line in found.lines] == ["AE", "DDPM", "DDPM (ENS)", "VAE"]
    assert [label_of(line) for line in found.main] == ["AE", "DDPM (ENS)", "VAE"]
    assert found.of(BRATS, (DDPM, 0))["dice"].tolist() == pytest.approx([40, 40, 70])  # at 500, not at 750


def test_thresholds_are_those_of_the_main_reading():
    rows = pd.concat([rows_of("ddpm", [0.5], t_test="500"), rows_of("ddpm", [0.5], t_test="ens")])
    rows["threshold"] = [0.1, 0.2]
    assert scores(rows, folds=1).thresholds["ddpm", "brats21", "t2", 0] == 0.2


def test_scores_without_predicted_volumes_are_refused():
    with pytest.raises(InputError, match="predicted_ml are missing; score the arms again"):
        scores(three_arms().drop(columns="predicted_ml"))


def test_a_run_without_the_control_has_no_ceiling():
    figure = volumes_figure(scores(arms=ARMS[:3]), [BRATS])
    assert not any("ceiling" in text for text in texts_of(figure))


def test_volumes_are_points_over_a_box_with_the_ceiling():
    figure = volumes_figure(scores(), [BRATS, WMH])
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["BraTS21 (T2)"] * 2 + ["WMH (T1)"] * 2
    panel = figure.axes[0]
    (points,) = (group.get_offsets() for group in panel.collections)
    assert sorted(points[:, 0]) == pytest.approx(sorted([15, 25, 35, 40, 40, 70, 50, 60, 70]))
    assert np.abs(points[:, 1] - np.repeat([0, 1, 2], 3)).max() < 0.3  # within their line
    medians = [line.get_xdata()[0] for line in panel.lines if len(set(line.get_xdata())) == 1]
    assert {25.0, 40.0, 60.0, 90.0} <= set(np.round(medians, 9))  # boxes and, at 90, the ceiling
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["AE", "DDPM", "DDPM (ENS)", "VAE"]
    assert texts_of(figure).count("missing") == 4
    assert panel.get_xlabel() == "Dice (%)" and figure.axes[1].get_xlabel() == "AUPRC (%)"
    assert_nothing_cut(figure)


def test_differences_are_paired_with_intervals_around_their_mean():
    rng = np.random.default_rng(5)
    ae, ddpm = rng.uniform(0, 1, 12), rng.uniform(0, 1, 12) + 0.3
    best, found = paired_differences(
        scores(pd.concat([rows_of("ae", ae), rows_of("ddpm", ddpm)]), folds=1), BRATS, "dice", 10_000, 0
    )
    assert best is not None and best[0]["arm"] == "ddpm" and list(found) == ["ae"]
    difference = found["ae"]
    assert difference.mean == pytest.approx(100 * (ae.mean() - ddpm.mean())) and difference.n == 12
    reference = stats.permutation_test(
        (ae, ddpm), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    assert difference.p == pytest.approx(reference.pvalue, abs=0.005)
    half = stats.t.ppf(0.975, 11) * (ae - ddpm).std(ddof=1) / np.sqrt(12) * 100
    assert (difference.high - difference.low) / 2 == pytest.approx(half, rel=0.25)


def test_a_filled_marker_is_a_significant_difference():
    worse = np.linspace(0.1, 0.3, 8)  # 0.4 below in every volume: p = 2 / 2^8
    mixed = 0.7 + np.array([0.1, -0.1, 0.1, -0.1, 0.1, -0.1, 0.1, -0.1])  # as often above as below: p = 1
    best = np.linspace(0.5, 0.7, 8)
    rows = pd.concat([rows_of("ae", worse), rows_of("ddpm", best + 0.1), rows_of("vae", best + mixed - 0.7 + 0.09)])
    figure = differences_figure(scores(rows, folds=1), [BRATS], 1000, 0)
    panel = figure.axes[0]
    fills = {line.get_ydata()[0]: line.get_markerfacecolor() for line in panel.lines if len(line.get_xdata()) == 1}
    looks = style.looks(ARMS)
    assert fills == {0: looks["ae"].colour, 1: "white", 2: "white"}
    assert panel.get_title(loc="left") == "BraTS21 (T2), n = 8" and "no test" not in panel.get_xlabel()


def test_five_volumes_cannot_be_significant_and_six_can():
    assert not can_reach_significance(5) and can_reach_significance(6)  # 2 / 2^5 = 6.25 %, 2 / 2^6 = 3.1 %
    figure = differences_figure(scores(), [BRATS], 1000, 0)
    assert figure.axes[0].get_xlabel().endswith("n = 3: no test can reach 5 %")
    points = [line for line in figure.axes[0].lines if line.get_marker() not in ("None", "none")]
    assert len(points) == 2 and {line.get_markerfacecolor() for line in points} == {"white"}
    assert {"best", "undefined"} <= set(texts_of(figure))
    assert_nothing_cut(figure)


def test_bins_hold_equally_many_volumes_and_at_least_five():
    volumes = pd.DataFrame({"lesion_ml": 2.0 ** np.arange(10), "dice": np.arange(10.0)})
    means = binned_means(volumes.sample(frac=1, random_state=0))
    assert means["dice"].tolist() == [2, 7]
    assert means["lesion_ml"].tolist() == pytest.approx([2**2, 2**7])  # geometric means
    assert binned_means(volumes.iloc[:9]).empty
    assert len(binned_means(pd.concat([volumes] * 10))) == 8


def test_lesion_size_has_a_point_per_volume_and_a_line_of_means():
    sizes = 2.0 ** np.arange(10)
    rows = [rows_of(name, np.arange(10) / 20 + shift, lesion=sizes) for name, shift in (("ae", 0), ("ideal", 0.5))]
    figure = lesion_size_figure(scores(pd.concat(rows), folds=1), [BRATS])
    (panel,) = figure.axes
    assert panel.get_xscale() == "log"
    assert panel.collections[0].get_offsets()[:, 1].tolist() == pytest.approx(list(np.arange(10) * 5))
    drawn = {line.get_color(): line.get_ydata() for line in panel.lines if len(line.get_ydata())}
    assert list(drawn[style.looks(ARMS)["ae"].colour]) == pytest.approx([10, 35])
    assert list(drawn[style.CEILING["color"]]) == pytest.approx([60, 85])
    assert_nothing_cut(figure)


def test_a_place_without_a_defined_dice_says_so():
    # no validation scan, hence no threshold and no Dice
    figure = lesion_size_figure(scores(rows_of("ae", [np.nan, np.nan]), folds=1), [BRATS])
    assert "undefined" in texts_of(figure)


def test_few_volumes_are_points_without_a_line():
    figure = lesion_size_figure(scores(), [BRATS])
    (panel,) = figure.axes
    assert [len(line.get_xdata()) for line in panel.lines if line.get_color() != style.CEILING["color"]] == [0, 0]
    assert [len(group.get_offsets()) for group in panel.collections] == [3, 3]


def test_agreement_is_bias_and_196_standard_deviations():
    assert limits_of_agreement(pd.Series([1.0, 3.0])) == pytest.approx((2, 2 - 1.96 * 2**0.5, 2 + 1.96 * 2**0.5))
    assert np.isnan(limits_of_agreement(pd.Series([1.0])).low) and np.isnan(limits_of_agreement(pd.Series([])).bias)


def test_agreement_draws_difference_against_mean():
    rows = rows_of("ae", [0.5, 0.5], lesion=[10.0, 20.0], predicted=[12.0, 26.0])
    figure = agreement_figure(scores(rows, folds=1), [BRATS])
    points, bars = figure.axes
    assert points.collections[0].get_offsets().tolist() == [[11, 2], [23, 6]]
    limits, bias = bars.lines[0].get_xdata(), bars.lines[1].get_xdata()
    half = 1.96 * 8**0.5  # differences 2 and 6: the standard deviation is sqrt(8)
    assert list(limits) == pytest.approx([4 - half, 4 + half]) and list(bias) == [4]
    assert [tick.get_text() for tick in bars.get_yticklabels()] == ["AE", "DDPM", "VAE"]
    assert texts_of(figure).count("undefined") == 2
    assert_nothing_cut(figure)


def test_ranks_start_at_the_best_and_ties_share():
    rows = [rows_of(name, [score]) for name, score in (("ae", 0.2), ("ddpm", 0.5), ("vae", 0.2))]
    rows += [rows_of(name, [score], WMH) for name, score in (("ae", 0.9), ("ddpm", 0.5))]
    found = scores(pd.concat(rows), folds=1)
    table = rank_table(found, [BRATS, WMH], "dice")
    assert table[0].tolist() == [2.5, 1, 2.5]
    assert table[1].tolist()[:2] == [1, 2] and np.isnan(table[1]["vae"])
    figure = ranks_figure(found, [BRATS, WMH])
    assert list(figure.axes[0].lines[0].get_ydata()) == [2.5, 1]
    bottom, top = figure.axes[0].get_ylim()
    assert bottom > top  # rank 1 is on top
    assert_nothing_cut(figure)


def differences(found, places):
    return differences_figure(found, places, 100, 0)


FIGURES = [volumes_figure, differences, lesion_size_figure, agreement_figure, ranks_figure]


@pytest.mark.parametrize("draw", FIGURES)
def test_twenty_arms_in_six_places_fit_a_page_wide(draw):
    arms = [arm(f"arm{i}", label=f"A method, variant {i}") for i in range(20)]
    places = [(cohort, modality) for cohort in ("brats21", "mslub", "own") for modality in ("t1", "t2")]
    levels = ["500", "ens"]
    rows = [
        rows_of(entry["arm"], np.linspace(0.1, 0.9, 12), place, level)
        for entry in arms
        for place in places
        for level in levels
    ]
    figure = draw(scores(pd.concat(rows), arms, folds=1), places)
    assert_nothing_cut(figure)
    assert figure.get_figwidth() * 2.54 <= style.DOUBLE_CM + 1e-6
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 6


@pytest.mark.parametrize("draw", FIGURES)
def test_same_volumes_give_the_same_bytes(tmp_path, draw):
    written = []
    for name in ("a", "b"):
        paths = style.save(draw(scores(), [BRATS]), tmp_path / name)
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]
