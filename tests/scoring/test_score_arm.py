"""One arm from cached arrays to rows and pictures, on a small made-up run folder.  docs/formats.md"""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from places import ROOT

from uad.common.errors import InputError
from uad.common.store import INDEX_COLUMNS, Store
from uad.config.model import ReportSettings
from uad.inference.arm import Arm
from uad.inference.outputs import Outputs
from uad.inference.run import run_on_cohort
from uad.methods import load_method
from uad.reporting.panels import load_example
from uad.scoring.kept_scans import VIEWER_SCANS, extremes, spread_over
from uad.scoring.lesions import lesion_table
from uad.scoring.score_arm import score_arm

pytestmark = pytest.mark.slow

SHAPE = (8, 24, 26)
VOXEL_ML = 0.064
LEVELS = [250, 500, 750]
SPLITS = {
    "ixi": {"train": ["h1"], "val": ["h2"], "test": ["h3"]},
    "mslub": {"val": ["m1", "m2"], "test": ["m3", "m4", "m5"]},
}
SIZES = {"m1": 5, "m2": 4, "m3": 3, "m4": 6, "m5": 4}  # edge of the lesion in voxels
DIFFUSION = {
    "unet": {"base": 8, "multipliers": [1, 2], "blocks": 1, "attention_heads": 1, "head_channels": 8},
    "noise": {"octaves": 3, "wavelength": 16},
}


def documented_columns(title="Metrics"):
    """Column names of a section's table of docs/formats.md."""
    section = (ROOT / "docs" / "formats.md").read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("|")]
    return {name for cell in cells[2:] for name in cell.split(", ")}


def volume(subject, seed=0):
    """Image in [0, 1], mask and label: a noisy ellipsoid with a bright cube."""
    rng = np.random.default_rng([seed, *map(ord, subject)])
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    mask = (sum(axis**2 for axis in axes) < 0.95).astype(np.uint8)
    label = np.zeros(SHAPE, np.uint8)
    edge = SIZES.get(subject, 0)
    corner = rng.integers((2, 8, 8), (5, 11, 11))
    label[tuple(slice(start, start + edge) for start in corner)] = 1
    label *= mask
    image = mask * (0.4 + 0.1 * rng.random(SHAPE) + 0.4 * label)
    return image.astype(np.float16), mask, label


def write_store(results, cohort, subjects, seeds=None):
    """The documented files of a store, written without the library."""
    arrays = [np.stack(parts) for parts in zip(*(volume(s, (seeds or {}).get(s, 0)) for s in subjects), strict=True)]
    folder = results / "store"
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(("images", "masks", "labels"), arrays, strict=True):
        np.save(folder / f"{cohort}_t2.{name}.npy", array)
    index = pd.DataFrame({"row": range(len(subjects)), "subject": subjects, "site": "siteA", "scanner": "", "age": ""})
    index["lesion_ml"] = [float((label == 1).sum()) * VOXEL_ML for label in arrays[2]]
    index[list(INDEX_COLUMNS)].to_csv(folder / f"{cohort}_t2.tsv", sep="\t", index=False)


def write_splits(results, cohort):
    (results / "splits").mkdir(exist_ok=True)
    rows = [(subject, split, 0) for split, subjects in SPLITS[cohort].items() for subject in subjects]
    table = pd.DataFrame(rows, columns=["subject", "split", "fold"])
    table.to_csv(results / "splits" / f"{cohort}.tsv", sep="\t", index=False)


@pytest.fixture
def results(tmp_path):
    for cohort, splits in SPLITS.items():
        write_store(tmp_path, cohort, sorted(subject for subjects in splits.values() for subject in subjects))
        write_splits(tmp_path, cohort)
    return tmp_path


def settings_of(arm, params=None, cohorts=("ixi", "mslub"), **changes):
    """A score job's settings as the Snakefile writes them: plain JSON types."""
    settings = {
        "arm": arm, "method": arm, "params": params or {}, "modality": "t2", "cohorts": list(cohorts),
        "train_cohort": "ixi", "voxel_ml": VOXEL_ML, "seed": 1,
        "inference": {"t_test": LEVELS, "single": 500, "ensemble": LEVELS},
        "postprocess": {"order": ["erode", "median"], "median_size": 3, "component_max_size": 7},
        "threshold": {"search": "exact"}, "perceptual": {"weights": None}, "ablation": False,
        "dice_without_lesion": "left_out", **changes,
    }  # fmt: skip
    return json.loads(json.dumps(settings))


def network_of(method):
    """A network that is not trained, but whose last layer is not zero either."""
    if not method.trains:
        return None
    network = method.network(SHAPE[1:]).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05, generator=generator)
    return network


def cache_arm(results, settings):
    """Run an arm on the cohorts' validation and test volumes; the table of its arrays."""
    method_class = load_method(settings["method"])
    method = method_class(method_class.Params(**settings["params"]))
    arm = Arm(method, network_of(method))
    rows = []
    for cohort in settings["cohorts"]:
        store = Store.open(results / "store" / f"{cohort}_t2")
        subjects = [s for split in ("val", "test") for s in SPLITS[cohort][split] if s in store.subjects]
        path = results / "reconstructions" / settings["arm"] / f"{cohort}.npy"
        row = run_on_cohort(arm, store, subjects, LEVELS, 5, path, lambda _: None)
        rows.append({"cohort": cohort, **row})
    table = results / "reconstructions" / settings["arm"] / "arrays.tsv"
    pd.DataFrame(rows).to_csv(table, sep="\t", index=False)
    return table


def read_and_score(results, settings, fold=0, progress=lambda _: None):
    table = cache_arm(results, settings)
    return score_cached(results, settings, table, fold, progress)


def score_cached(results, settings, table, fold=0, progress=lambda _: None):
    stores = {cohort: Store.open(results / "store" / f"{cohort}_t2") for cohort in settings["cohorts"]}
    splits = {cohort: results / "splits" / f"{cohort}.tsv" for cohort in settings["cohorts"]}
    return score_arm(settings, stores, splits, fold, table, None, progress)


def score(results, settings, cohort="mslub", progress=lambda _: None):
    """The scores of an arm, and of one cohort the rows as a table."""
    scores = read_and_score(results, settings, progress=progress)
    rows = pd.DataFrame(scores.rows)
    return scores, rows[rows["cohort"] == cohort].reset_index(drop=True)


# --- readings -------------------------------------------------------------------------------------


def test_an_arm_without_noise_levels_has_one_reading(results):
    _, rows = score(results, settings_of("thresh"))
    assert set(rows["t_test"]) == {""}
    assert rows["subject"].tolist() == ["m1", "m2", "m3", "m4", "m5"]
    assert rows["split"].tolist() == ["val"] * 2 + ["test"] * 3


def test_a_diffusion_arm_is_read_per_level_and_as_the_mean_of_its_reconstructions(results):
    inference = {"t_test": LEVELS, "single": 500, "ensemble": [250, 750]}
    settings = settings_of("ddpm", DIFFUSION, cohorts=["mslub"], inference=inference)
    scores, rows = score(results, settings)
    names = ["250", "500", "750", "ens"]
    assert rows.groupby("t_test").size().to_dict() == dict.fromkeys(names, 5)
    assert set(scores.thresholds) == {"mslub 250", "mslub 500", "mslub 750", "mslub ens"}

    cached = np.load(results / "reconstructions" / "ddpm" / "mslub.npy").astype(np.float64)
    assert cached.shape == (3, 5, *SHAPE)
    assert not np.array_equal(cached[0], cached[2])
    for position, subject in enumerate(["m1", "m2", "m3", "m4", "m5"]):
        image = volume(subject)[0].astype(np.float64)
        readings = [*cached[:, position], cached[[0, 2], position].mean(axis=0)]
        for name, reconstruction in zip(names, readings, strict=True):
            row = rows[(rows["subject"] == subject) & (rows["t_test"] == name)].iloc[0]
            assert row["l1"] == pytest.approx(np.abs(image - reconstruction).mean(), rel=1e-5), (subject, name)
    example = cached[[0, 2], 4].mean(axis=0)  # m5 has the median lesion of the test volumes
    np.testing.assert_allclose(scores.examples["mslub/reconstruction"], example, atol=1e-3)
    assert scores.examples["mslub/t_test"] == "ens"


# --- rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["oracle", "copy"])
def test_rows_have_the_documented_columns(results, arm):
    _, rows = score(results, settings_of(arm))
    assert set(rows.columns) == documented_columns()
    assert set(rows[["arm", "method", "modality", "cohort", "site", "variant"]].agg(",".join, axis=1)) == {
        f"{arm},{arm},t2,mslub,siteA,full"
    }
    lesions = {subject: np.count_nonzero(volume(subject)[2]) * VOXEL_ML for subject in SIZES}
    assert dict(zip(rows["subject"], rows["lesion_ml"], strict=True)) == pytest.approx(lesions)


def test_tallies_are_made_of_the_readings_that_are_printed(results):
    scores, _ = score(results, settings_of("ddpm", DIFFUSION))
    table = pd.concat(scores.tallies)
    assert set(table.columns) == documented_columns("Tallies")
    places = {(cohort, split) for cohort in SPLITS for split in ("val", "test")}
    found = set(table[["cohort", "split", "t_test"]].itertuples(index=False, name=None))
    assert found == {(*place, reading) for place in places for reading in ("500", "ens")}
    counts = table[(table["cohort"] == "mslub") & (table["split"] == "test")].groupby("t_test")[["lesion", "healthy"]]
    lesions = sum(np.count_nonzero(volume(subject)[2]) for subject in SPLITS["mslub"]["test"])
    assert (counts.sum()["lesion"] == lesions).all()
    assert (counts.sum().sum(axis=1) == 3 * np.prod(SHAPE)).all()


@pytest.mark.parametrize(("arm", "found"), [("oracle", 1), ("copy", 0)])
def test_each_lesion_of_a_test_scan_has_a_row(results, arm, found):
    """A cube, cut by the brain's rim, is one lesion."""
    scores, _ = score(results, settings_of(arm))
    table = lesion_table(scores.lesions)
    assert set(table.columns) == documented_columns("Lesions")
    sizes = {subject: np.count_nonzero(volume(subject)[2]) * VOXEL_ML for subject in SPLITS["mslub"]["test"]}
    assert dict(zip(table["subject"], table["lesion_ml"], strict=True)) == pytest.approx(sizes)
    assert set(table["overlap"]) == {found} and set(table["number"]) == {1}
    assert set(table["cohort"]) == {"mslub"} and set(table["split"]) == {"test"}


def test_lesions_are_looked_at_in_every_reading(results):
    scores, _ = score(results, settings_of("ddpm", DIFFUSION, cohorts=["mslub"]))
    assert lesion_table(scores.lesions).groupby("t_test").size().to_dict() == dict.fromkeys(
        ["250", "500", "750", "ens"], 3
    )


def test_scans_of_the_controls_are_told_apart_as_far_as_the_control_says(results):
    """The truth scores above 0 where there is a lesion; uniform numbers score about 0.995 and 0.9995 anywhere."""
    for arm, limits in (("oracle", None), ("chance", {"score_top1": 0.995, "score_top01": 0.9995})):
        scores, _ = score(results, settings_of(arm))
        rows = pd.DataFrame(scores.rows).query("split == 'test'").set_index("subject")
        for column in ("score_top1", "score_top01"):
            found = rows[column]
            if limits is None:
                assert found["h3"] == 0 < found[["m3", "m4", "m5"]].min()
            else:
                assert found.between(limits[column] - 0.005, 1).all()


def test_rows_survive_parquet(results, tmp_path):
    _, rows = score(results, settings_of("thresh"))
    rows.to_parquet(tmp_path / "fold0.parquet", index=False)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "fold0.parquet"), rows)


def test_oracle_is_perfect(results):
    _, rows = score(results, settings_of("oracle"))
    assert (rows[["dice", "auprc", "auroc"]] == 1).all(axis=None)


def test_copy_finds_nothing_and_loses_nothing(results):
    _, rows = score(results, settings_of("copy"))
    assert (rows["dice"] == 0).all()
    assert (rows[["l1", "l1_lesion", "l1_healthy"]] == 0).all(axis=None)  # the store is float16, as the cache
    assert np.allclose(rows["ssim"], 1)


def test_chance_has_the_auprc_of_the_prevalence(results):
    _, rows = score(results, settings_of("chance"))
    share = [np.count_nonzero(volume(subject)[2]) / np.prod(SHAPE) for subject in rows["subject"]]
    assert rows["prevalence"].tolist() == pytest.approx(share)
    # 27 to 216 of 4992 voxels are lesion: five means of that many random precisions
    assert (rows["auprc"] / rows["prevalence"]).between(0.5, 2).all()
    assert (rows["auprc"] / rows["prevalence"]).mean() == pytest.approx(1, abs=0.3)
    assert rows["auroc"].mean() == pytest.approx(0.5, abs=0.1)


def test_a_healthy_cohort_has_no_detection_scores(results):
    scores, rows = score(results, settings_of("thresh"), "ixi")
    assert rows["subject"].tolist() == ["h2", "h3"]
    assert rows[["dice", "auprc", "threshold"]].isna().all(axis=None)
    assert np.isnan(scores.thresholds["ixi"]["full"])
    assert scores.examples["ixi/prediction"].size == 0


# --- ablations ------------------------------------------------------------------------------------


def test_table4_reading_is_scored_with_each_step_left_out(results):
    settings = settings_of("ddpm", DIFFUSION, ablation=True)
    scores, rows = score(results, settings)
    _, before = score(results, settings_of("ddpm", DIFFUSION))
    found = rows.groupby(["t_test", "variant"]).size().to_dict()
    full = dict.fromkeys([("250", "full"), ("500", "full"), ("750", "full"), ("ens", "full")], 5)
    assert found == full | dict.fromkeys([("ens", "no_cc"), ("ens", "no_median"), ("ens", "no_erosion")], 5)
    pd.testing.assert_frame_equal(
        rows[rows["variant"] == "full"].reset_index(drop=True), before, check_dtype=False
    )  # `voxels` is a float beside rows that have none
    assert scores.examples["mslub/prediction"].size
    assert {row["variant"] for row in scores.rows if row["cohort"] == "ixi"} == {"full"}
    assert set(scores.thresholds["ixi ens"]) == {"full"}


@pytest.mark.parametrize(("arm", "variants"), [("copy", 4), ("oracle", 1)])
def test_arms_that_skip_post_processing_have_nothing_to_leave_out(results, arm, variants):
    _, rows = score(results, settings_of(arm, ablation=True))
    assert rows["variant"].nunique() == variants
    assert set(rows.columns) == documented_columns()


# --- thresholds -----------------------------------------------------------------------------------


def test_thresholds_come_from_validation_volumes_only(results):
    def thresholds(seeds):
        write_store(results, "mslub", sorted(SIZES), seeds)
        scores, rows = score(results, settings_of("thresh"))
        return scores.thresholds["mslub"]["full"], rows

    before, rows = thresholds({})
    assert set(rows["threshold"]) == {before}
    other_test, changed = thresholds({"m3": 9, "m4": 9, "m5": 9})
    assert other_test == before
    assert not np.allclose(changed["auprc"].iloc[2:], rows["auprc"].iloc[2:])  # the change was seen
    other_val, _ = thresholds({"m1": 9, "m2": 9})
    assert other_val != before


def test_healthy_false_positive_thresholds_need_the_training_cohort(results):
    _, rows = score(results, settings_of("thresh"))
    _, alone = score(results, settings_of("thresh", cohorts=["mslub"]))
    columns = ["dice_fpr01", "dice_fpr05", "dice_fpr10"]
    assert rows[columns].notna().all(axis=None) and alone[columns].isna().all(axis=None)
    pd.testing.assert_frame_equal(rows.drop(columns=columns), alone.drop(columns=columns))


# --- what is there --------------------------------------------------------------------------------


@pytest.mark.parametrize(("arm", "params"), [("chance", {}), ("ddpm", DIFFUSION)])
def test_an_arm_runs_on_a_scan_alike_whatever_else_is_there(results, arm, params):
    method = load_method(arm)(load_method(arm).Params(**params))
    trained = Arm(method, network_of(method))

    def run(name, subjects):
        path = results / f"{name}.npy"
        store = Store.open(results / "store" / "mslub_t2")
        row = run_on_cohort(trained, store, subjects, LEVELS, 5, path, lambda _: None)
        assert row["volumes"] == len(subjects)
        index = pd.read_csv(row["index"], sep="\t")
        assert index["subject"].tolist() == subjects and index["row"].tolist() == list(range(len(subjects)))
        return dict(zip(subjects, np.load(path).swapaxes(0, 1), strict=True))

    forward = run("forward", ["m1", "m3", "m5"])
    backward = run("backward", ["m5", "m4", "m3", "m2", "m1"])
    write_store(results, "mslub", ["m3", "m5"])  # another store, in which the rows have moved
    fewer = run("fewer", ["m5"])
    for subject in forward:
        assert np.array_equal(forward[subject], backward[subject])
    assert np.array_equal(fewer["m5"], forward["m5"])
    assert not np.array_equal(forward["m1"], forward["m3"])


def test_a_scan_that_failed_in_preprocessing_is_skipped_and_named(results):
    _, before = score(results, settings_of("thresh"))
    write_store(results, "mslub", ["m1", "m2", "m4", "m5"])
    lines = []
    _, rows = score(results, settings_of("thresh"), progress=lines.append)
    assert rows["subject"].tolist() == ["m1", "m2", "m4", "m5"]
    (line,) = [line for line in lines if "skipped" in line]
    assert line.startswith("mslub: skipped") and line.endswith(": m3")
    kept = before[before["subject"] != "m3"].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, kept)


def test_a_cohort_without_test_volumes_is_refused(results):
    write_store(results, "mslub", ["m1", "m2"])
    with pytest.raises(InputError, match=r"^mslub: no test volume in fold 0"):
        score(results, settings_of("thresh"))


def test_a_changed_or_missing_cache_is_refused(results):
    settings = settings_of("thresh")
    table = cache_arm(results, settings)
    path = results / "reconstructions" / "thresh" / "mslub.npy"
    scan = Store.open(results / "store" / "mslub_t2").scan("m3")
    Outputs(table).volume("mslub", scan)
    array = np.load(path, mmap_mode="r+")
    array[0, 0, 3, 10, 10] += 0.25
    array.flush()
    with pytest.raises(InputError, match=r"mslub\.npy: changed since it was written"):
        score_cached(results, settings, table)
    path.unlink()
    with pytest.raises(InputError, match=r"mslub\.npy: missing"):
        Outputs(table).volume("mslub", scan)


def test_output_that_is_not_finite_is_refused(results):
    class Broken(load_method("copy")):
        def reconstruct(self, network, volume, t_tests, generator):
            return volume.images[None] * float("nan")

    broken = Broken(Broken.Params())
    store = Store.open(results / "store" / "mslub_t2")
    with pytest.raises(InputError, match=r"^m2: the arm's output is not finite"):
        run_on_cohort(Arm(broken, None), store, ["m2"], [], 5, results / "broken.npy", lambda _: None)
    assert not (results / "broken.npy").exists()


# --- pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arm", "reconstructs"), [("thresh", False), ("copy", True)])
def test_examples_can_be_drawn(results, arm, reconstructs):
    scores, rows = score(results, settings_of(arm))
    np.savez_compressed(results / "fold0.npz", **scores.examples)
    example = load_example(results / "fold0.npz", "mslub")
    image, mask, label = volume("m5")  # of the lesions of 3, 6 and 4 voxels the last is the median
    assert (example["subject"], example["cohort"], example["t_test"]) == ("m5", "mslub", "")
    assert np.array_equal(example["image"], image) and np.array_equal(example["label"], label)
    assert example["reconstruction"].shape == (SHAPE if reconstructs else (0,))
    assert np.array_equal(example["map"], np.zeros(SHAPE) if reconstructs else image * mask)
    found = np.count_nonzero(example["prediction"] & (label == 1))
    total = np.count_nonzero(example["prediction"]) + np.count_nonzero(label)
    assert 2 * found / total == pytest.approx(rows.loc[rows["subject"] == "m5", "dice"].iloc[0])


def test_what_the_viewer_shows_is_kept_with_the_prediction_that_was_scored(results):
    settings = settings_of("ddpm", DIFFUSION)
    scores, rows = score(results, settings)
    names = {key.rsplit("/", 1)[0] for key in scores.viewer if key.startswith("mslub")}
    assert names == {f"mslub/{subject}/{reading}" for subject in ("m3", "m4", "m5") for reading in ("500", "ens")}
    array = np.load(results / "reconstructions" / "ddpm" / "mslub.npy")
    for place, subject in enumerate(["m3", "m4", "m5"], 2):
        for reading, output in {"500": array[1, place], "ens": array[:, place].mean(0, np.float32)}.items():
            kept = scores.viewer[f"mslub/{subject}/{reading}/reconstruction"]
            assert kept.dtype == np.float16
            np.testing.assert_allclose(kept, output, rtol=1e-3, atol=1e-6)
            called = scores.viewer[f"mslub/{subject}/{reading}/prediction"] == 1
            truth = volume(subject)[2] == 1
            row = rows[(rows["subject"] == subject) & (rows["t_test"] == reading) & (rows["variant"] == "full")].iloc[0]
            assert 2 * (called & truth).sum() / (called.sum() + truth.sum()) == pytest.approx(row["dice"])


def test_a_map_is_kept_as_it_is_and_only_of_the_fold_that_is_shown(results):
    settings = settings_of("thresh")
    scores, _ = score(results, settings)
    image, mask, _ = volume("m4")
    assert np.array_equal(scores.viewer["mslub/m4//map"], image.astype(np.float32) * mask)
    for cohort in SPLITS:
        table = results / "splits" / f"{cohort}.tsv"
        table.write_text(table.read_text().replace("\t0\n", "\t1\n"))
    other = read_and_score(results, settings, fold=1)
    assert other.viewer == {} and other.rows


def test_kept_scans_are_spread_evenly_over_lesion_volumes():
    volumes = pd.Series({"b": 3.0, "a": 5.0, "c": 1.0, "d": 4.0, "e": 2.0})
    assert spread_over(volumes, 3) == ["c", "b", "a"]
    assert spread_over(volumes, 9) == ["c", "e", "b", "d", "a"]
    assert spread_over(volumes.head(0), 3) == []
    assert spread_over(pd.Series({"y": 0.0, "x": 0.0}), 1) == ["x"]  # of equal ones the first by name


def test_extremes_are_the_lowest_the_middle_and_the_highest_dice():
    dice = pd.Series({"e": 0.9, "d": float("nan"), "c": 0.1, "b": 0.5, "a": 0.5})
    assert extremes(dice) == {"worst": "c", "median": "b", "best": "e"}  # c a b e: the upper of the middle
    assert extremes(dice.loc[["a", "b"]]) == {"worst": "a", "median": "b", "best": "b"}
    assert extremes(dice.loc[["d"]]) == {}
    assert extremes(dice.head(0)) == {}


def kept_subjects(scores, cohort="mslub"):
    return [key.split("/")[1] for key in scores.viewer if key.startswith(f"{cohort}/") and key.endswith("/map")]


def test_the_extremes_of_an_arm_are_kept_beside_the_spread_over_lesion_volume(results, monkeypatch):
    """With none spread over the volumes, what is left is the arm's own worst, median and best of four scans."""
    monkeypatch.setitem(SPLITS, "mslub", {"val": ["m5"], "test": ["m1", "m2", "m3", "m4"]})
    write_splits(results, "mslub")
    monkeypatch.setattr("uad.scoring.score_arm.VIEWER_SCANS", 0)
    scores, rows = score(results, settings_of("thresh"))
    tested = rows[rows["split"] == "test"].sort_values("dice")
    worst, neither, median, best = tested["subject"]
    assert tested["dice"].is_unique and neither not in kept_subjects(scores)
    assert sorted(kept_subjects(scores)) == sorted([worst, median, best])
    assert kept_subjects(scores, "ixi") == []  # healthy: no Dice


def test_all_test_scans_are_kept_on_request(results, monkeypatch):
    monkeypatch.setattr("uad.scoring.score_arm.VIEWER_SCANS", 1)
    scores, _ = score(results, settings_of("oracle", viewer_scans="all"))
    assert kept_subjects(scores) == ["m3", "m5", "m4"]  # by lesion volume
    assert kept_subjects(scores, "ixi") == ["h3"]


def test_as_many_scans_are_kept_as_the_report_may_show():
    assert ReportSettings(viewer_scans=VIEWER_SCANS) and ReportSettings(viewer_scans="all")
    assert ReportSettings(viewer_scans="2").viewer_scans == 2  # as Snakemake's --config gives it
    with pytest.raises(ValueError, match="from 0 to 5, or all"):
        ReportSettings(viewer_scans=VIEWER_SCANS + 1)
