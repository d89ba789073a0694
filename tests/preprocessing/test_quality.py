"""Quality of preprocessing: mutual information, robust scores, flags."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from places import SCRIPTS
from scipy.ndimage import gaussian_filter, shift
from scipy.stats import median_abs_deviation
from sklearn.metrics import mutual_info_score

from uad.common.volumes import Volume, write_volume
from uad.preprocessing.quality import mutual_information, outliers, robust_scores
from uad.preprocessing.shard import COLUMNS


def everywhere(image: np.ndarray) -> np.ndarray:
    return np.ones(image.shape, bool)


class TestMutualInformation:
    def test_of_an_image_with_itself_is_its_entropy(self):
        levels = np.repeat(np.arange(32.0), 125).reshape(20, 20, 10)  # 32 equally frequent values
        for other in (levels, -levels, levels * 3 + 7):  # any contrast
            assert mutual_information(levels, other, everywhere(levels)) == pytest.approx(np.log(32), rel=0.01)

    def test_of_independent_images_is_the_known_bias(self):
        rng = np.random.default_rng(0)
        first, second = rng.uniform(size=(2, 60, 60, 60))
        bias = 31**2 / (2 * 60**3)  # (bins - 1)^2 / 2N nats
        assert mutual_information(first, second, everywhere(first)) == pytest.approx(bias, rel=0.15)

    def test_agrees_with_scikit_learn(self):
        rng = np.random.default_rng(1)
        first = rng.integers(0, 32, (12, 12, 12)).astype(float)
        second = (first + rng.integers(0, 9, first.shape)) % 32
        found = mutual_information(first, second, everywhere(first))
        assert found == pytest.approx(mutual_info_score(first.ravel(), second.ravel()), rel=0.02)

    def test_falls_with_every_voxel_of_a_shift(self):
        atlas = gaussian_filter(np.random.default_rng(2).normal(size=(30, 30, 30)), 2)
        scan = -(atlas**3)  # another contrast
        inside = np.zeros(atlas.shape, bool)
        inside[6:-6, 6:-6, 6:-6] = True
        found = [mutual_information(shift(scan, (n, 0, 0), order=0), atlas, inside) for n in range(4)]
        assert found == sorted(found, reverse=True) and found[3] < found[0] / 3

    def test_nothing_to_compare(self):
        image = np.arange(8.0).reshape(2, 2, 2)
        assert mutual_information(image, image, np.zeros(image.shape, bool)) == 0
        assert mutual_information(image, np.ones_like(image), everywhere(image)) == 0


def test_robust_scores_are_those_of_scipy():
    values = np.random.default_rng(0).normal(10, 3, 50)
    expected = (values - np.median(values)) / median_abs_deviation(values, scale="normal")
    np.testing.assert_allclose(robust_scores(values), expected, rtol=1e-3)
    np.testing.assert_array_equal(robust_scores(np.full(9, 5.0)), 0)
    # more than half equal: the mean deviation takes over, a normal distribution's being 0.798 of its sigma
    mostly = np.array([0.0] * 9 + [1.0])
    assert robust_scores(mostly)[-1] == pytest.approx(1 / (0.1 / np.sqrt(2 / np.pi)), rel=1e-3)


def shard(count=20, modality="t2", **planted) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame("", index=range(count), columns=list(COLUMNS))
    rows["subject"], rows["modality"], rows["status"] = [f"s{i:02d}" for i in range(count)], modality, "ok"
    for column, mean, spread in (
        ("brain_ml", 1400, 80), ("atlas_dice", 0.95, 0.005), ("mutual_information", 0.6, 0.02), ("n4_min", 0.9, 0.01),
        ("n4_max", 1.2, 0.02), ("clipped_fraction", 0.0001, 0.00001),
    ):  # fmt: skip
        rows[column] = rng.normal(mean, spread, count).round(5)
    for column, value in planted.items():
        rows.loc[3, column] = value
    return rows


class TestOutliers:
    def test_an_ordinary_cohort_has_none(self):
        assert (outliers(shard()) == "").all()

    @pytest.mark.parametrize(
        ("planted", "named"),
        [
            ({"brain_ml": 2100.0}, "brain_ml 2100 (z "), ({"brain_ml": 700.0}, "brain_ml 700 (z -"),
            ({"atlas_dice": 0.7}, "atlas_dice 0.7 (z -"), ({"mutual_information": 0.3}, "mutual_information 0.3 (z -"),
            ({"n4_max": 3.0}, "n4_ratio 3."), ({"clipped_fraction": 0.05}, "clipped_fraction 0.05 (z "),
        ],
    )  # fmt: skip
    def test_one_planted_fault_is_named_and_nothing_else(self, planted, named):
        found = outliers(shard(**planted))
        assert found[3].startswith(named) and ";" not in found[3]
        assert (found.drop(3) == "").all()

    @pytest.mark.parametrize("planted", [{"atlas_dice": 1.0}, {"mutual_information": 2.0}, {"clipped_fraction": 0.002}])
    def test_too_good_or_trivial_is_not_flagged(self, planted):
        assert (outliers(shard(**planted)) == "").all()

    def test_cohort_of_few_scans_or_failed_ones(self):
        assert (outliers(shard(7, brain_ml=9000.0)) == "").all()
        rows = shard(brain_ml=9000.0)
        rows.loc[3, "status"] = "failed"
        assert (outliers(rows) == "").all()

    def test_modalities_are_compared_apart_and_text_is_read(self):
        other = shard(modality="t1")
        other["mutual_information"] += 0.5
        rows = pd.concat([shard(), other], ignore_index=True).astype(str)
        assert (outliers(rows) == "").all()

    def test_without_bias_correction_there_is_no_field(self):
        rows = shard()
        rows[["n4_min", "n4_max"]] = ""
        assert (outliers(rows) == "").all()


def test_program(tmp_path):
    rows = shard(atlas_dice=0.5, flag="atlas_dice is 0.5")
    rows["image"] = rows["mask"] = str(tmp_path / "scan.nii.gz")
    write_volume(rows["image"][0], Volume(np.pad(np.ones((4, 4, 4), np.float32), 1), np.eye(4)))
    for number, part in enumerate((rows[::2], rows[1::2])):
        part.to_csv(tmp_path / f"shard-{number}.tsv", sep="\t", index=False)
    command = [sys.executable, SCRIPTS / "flag_outliers.py", "--table", tmp_path / "quality.tsv",
               "--shards", tmp_path / "shard-0.tsv", tmp_path / "shard-1.tsv",
               "--sheets", tmp_path / "sheets"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "[quality] s03 t2 stands out: atlas_dice 0.5 (z -" in done.stderr
    assert "[quality] s03 t2 is flagged: atlas_dice is 0.5" in done.stderr
    table = pd.read_csv(tmp_path / "quality.tsv", sep="\t", keep_default_na=False)
    assert table["flag"].tolist() == [""] * 3 + ["atlas_dice is 0.5"] + [""] * 16
    assert table["subject"].tolist() == rows["subject"].tolist()
    assert (table["outlier"] != "").sum() == 1
    assert [path.name for path in (tmp_path / "sheets").iterdir()] == ["t2-01.png"]
