"""The user's own scans and the maps of another program, through the real workflow.  docs/own-data.md

Every run happens in a folder of its own: links to the configuration and the scripts, results beside them.
"""

import nibabel
import numpy as np
import pandas as pd
import pytest
from real_data import SHARED
from scipy import ndimage
from small_run import AFFINE, OVERLAY, READY, SPACING, Bench, made_up_scan, save

from uad.cohorts.splits import read_splits
from uad.common.store import Store
from uad.common.tabular import read_table
from uad.inference.outputs import Output
from uad.methods import load_method
from uad.preprocessing.itk import ants
from uad.preprocessing.templates import find_atlas
from uad.scoring.postprocessing import PostProcessing
from uad.scoring.protocol import RowKeys, ScoreSettings, VolumeToScore, healthy_thresholds, score_cohort

pytestmark = pytest.mark.whole_run

MSLUB = SHARED / "data" / "mslub" / "cross_sectional" / "MNI" / "patient07"


def box_of(mask):
    return tuple(slice(places.min(), places.max() + 1) for places in np.nonzero(mask))


# --- own scans and own maps -----------------------------------------------------------------------


SETTINGS = ScoreSettings(voxel_ml=SPACING**3 / 1000, variants={"full": PostProcessing(median_size=3)})


@pytest.fixture(scope="module")
def doors(tmp_path_factory):
    """Three runs: with a damaged scan, with leave to fail, and with the maps of another program."""
    bench = Bench(tmp_path_factory.mktemp("doors"), "doors")
    raw = bench.folder / "data" / "raw"
    for number in range(4):
        save(raw / "healthy" / f"h{number}_t2.nii.gz", made_up_scan(number)[0])
    for number in range(5):
        image, label = made_up_scan(10 + number, lesion_edge=5 + number % 2)
        save(raw / "mine" / f"sub-{number}" / "anat" / f"sub-{number}_T2w.nii.gz", image)
        lesions = raw / "mine" / "derivatives" / f"sub-{number}" / "anat"
        save(lesions / f"sub-{number}_label-lesion_mask.nii.gz", label)
    bench.overlay(OVERLAY | {
        "run": "doors",
        "pack": {"crop": [30, 34, 26], "factor": 1},
        "postprocess": {"median_size": 3},
        "cohorts": OVERLAY["cohorts"] | {"mine": READY | {"subjects": 5, "splits": {"val": 2, "test": 3}}},
    })  # fmt: skip

    bench.damaged = raw / "mine" / "sub-2" / "anat" / "sub-2_T2w.nii.gz"
    image = made_up_scan(12)[0]
    image[10] = np.nan  # the header is right, so ingest lets it pass
    save(bench.damaged, image)
    bench.stopped = bench.run("--until", "pack", "--keep-going")
    bench.failed_tables = sorted(bench.results.glob("*/mine/*.failed.tsv"))
    bench.failures = read_table(bench.failed_tables[0]).set_index("subject")
    bench.finished = sorted(path.name for path in bench.results.glob("skull_stripped/mine/*_mask.nii.gz"))

    bench.overlay({"preprocess": {"max_failures": 1}})
    bench.packed = bench.run("--until", "pack")
    bench.written = (bench.results / "store" / "mine_t2.images.npy").stat().st_mtime_ns

    for cohort in ("healthy", "mine"):
        store = Store.open(bench.results / "store" / f"{cohort}_t2")
        folder = bench.folder / "theirs" / cohort
        folder.mkdir(parents=True)
        for subject, image, mask in zip(store.subjects, store.images, store.masks, strict=True):
            smooth = ndimage.gaussian_filter(image.astype(np.float32), 4)
            np.save(folder / f"{subject}.npy", np.abs(image - smooth).astype(np.float16) * mask)
    theirs = {"method": "maps", "label": "theirs", "params": {"folder": "theirs/{cohort}"}}
    bench.overlay({"arms": {"theirs": theirs}})
    bench.whole = bench.run()
    return bench


def test_a_damaged_scan_stops_the_run_and_is_named(doors):
    code, output = doors.stopped
    assert code != 0
    assert "1 of 5 scans failed (allowed 0)" in output and str(doors.damaged.name) in output
    assert "Traceback" not in output
    (table,) = doors.failed_tables
    assert table.name == "shard-0.failed.tsv"
    assert doors.failures["status"].to_dict() == {f"sub-{n}": "failed" if n == 2 else "ok" for n in range(5)}
    assert doors.damaged.name in doors.failures.loc["sub-2", "message"]
    assert doors.finished == [f"sub-{n}_t2_mask.nii.gz" for n in (0, 1, 3, 4)]


def test_a_failure_that_is_allowed_is_left_out(doors):
    code, output = doors.packed
    assert code == 0, output
    assert len([line for line in output.splitlines() if " kept" in line and "[mine shard 0]" in line]) == 4
    assert Store.open(doors.results / "store" / "mine_t2").subjects == ["sub-0", "sub-1", "sub-3", "sub-4"]
    assert not list(doors.results.glob("*/mine/*.failed.tsv"))
    table = read_table(doors.results / "preprocessed" / "mine" / "shard-0.tsv").set_index("subject")
    assert table.loc["sub-2", "status"] == "failed" and doors.damaged.name in table.loc["sub-2", "message"]


def test_the_run_goes_on_without_it_and_says_so(doors):
    code, output = doors.whole
    assert code == 0, output
    assert (read_splits(doors.results / "splits" / "mine.tsv")["subject"] == "sub-2").any()
    note = "skipped, not in the store because preprocessing failed: sub-2"
    for arm in ("thresh", "theirs"):
        for stage, prefix in (("reconstruct", f"[reconstruct {arm} t2 mine]"), ("score", f"[score {arm} t2] mine:")):
            (log,) = (doors.results / "logs" / stage).glob(f"{arm}-t2-fold0.log")
            assert log.read_text().splitlines().count(f"{prefix} {note}") == 1
        assert sorted(doors.rows(arm).query("cohort == 'mine'")["subject"]) == ["sub-0", "sub-1", "sub-3", "sub-4"]


def test_ready_scans_are_only_cropped(doors):
    """No brain extraction, no registration, no N4: the voxels of the input come out."""
    for name, seed in [("healthy/h0", 0), ("mine/sub-0", 10), ("mine/sub-4", 14)]:
        image, label = made_up_scan(seed, 0 if name.startswith("h") else 5 + (seed - 10) % 2)
        box = box_of(image > 0)
        stem = doors.results / "preprocessed" / f"{name}_t2"
        found = nibabel.load(f"{stem}.nii.gz")
        assert np.array_equal(found.get_fdata(dtype=np.float32), image[box])
        corner = AFFINE @ [*(side.start for side in box), 1]
        np.testing.assert_allclose(found.affine[:, 3], corner, atol=1e-4)
        assert np.array_equal(np.asarray(nibabel.load(f"{stem}_mask.nii.gz").dataobj), (image > 0)[box])
        transform = ants.read_transform(f"{stem}.mat")
        np.testing.assert_allclose(transform.parameters, [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0])
        if label.any():
            assert np.array_equal(np.asarray(nibabel.load(f"{stem}_label.nii.gz").dataobj), label[box])
    for cohort in ("healthy", "mine"):
        table = read_table(doors.results / "preprocessed" / cohort / "shard-0.tsv")
        assert set(table["n4_min"]) == {""}


def test_the_controls_and_the_tables(doors):
    tables = doors.results / "tables"
    for name in ("table1", "table2", "table3", "table4", "table5"):
        assert all((tables / f"{name}.{kind}").stat().st_size for kind in ("csv", "md", "tex", "html"))
    table = pd.read_csv(tables / "table3.csv").query("cohort == 'mine'").set_index(["arm", "metric"])["mean"]
    assert table["oracle", "dice"] == 100 and table["oracle", "auprc"] == 100
    assert table["copy", "dice"] == 0
    assert 0 < table["chance", "auprc"] < table["theirs", "auprc"] < 100
    ablated = pd.read_csv(tables / "table4.csv")
    assert ablated.groupby("arm", sort=False)["removed"].agg(list).to_dict() == {
        arm: ["CC", "MF", "BE"] for arm in ("thresh", "theirs")
    }
    detected = pd.read_csv(tables / "table5.csv").set_index(["arm", "metric", "size"])["mean"]
    assert detected["oracle", "found_any", "all"] == detected["oracle", "found_share", "all"] == 100
    assert detected["copy", "found_any", "all"] == 0
    assert set(ablated["status"]) == {"ok"} and (doors.results / "reproduction.md").stat().st_size
    figures = doors.results / "figures"
    drawn = {path.stem for path in figures.glob("*.png")}
    of_scores = {"overview", "volumes", "differences", "ranks", "detection", "thresholds", "distributions"}
    of_lesions = {"lesion-size", "agreement"}
    assert drawn == {"fig1", "fig4-healthy-t2", "fig4-mine-t2", "fig6"} | of_scores | of_lesions
    assert "oracle: Dice and AUPRC are 1" in (doors.results / "check.txt").read_text()


def test_maps_of_another_program_score_as_the_library_scores_them(doors):
    def volumes(cohort):
        store = Store.open(doors.results / "store" / f"{cohort}_t2")
        splits = read_splits(doors.results / "splits" / f"{cohort}.tsv").set_index("subject")["split"]

        def of(split):
            for subject in sorted(set(splits.index[splits == split]) & set(store.subjects)):
                scan = store.scan(subject)
                theirs = np.load(doors.folder / "theirs" / cohort / f"{subject}.npy").astype(np.float32)
                yield VolumeToScore(subject, split, "", scan.image, scan.mask, scan.label, Output("map", theirs))

        return of

    healthy = healthy_thresholds(volumes("healthy"), SETTINGS)
    expected = []
    for cohort in ("healthy", "mine"):
        keys = RowKeys("theirs", "maps", "t2", 0, cohort)
        expected += score_cohort(volumes(cohort), keys, SETTINGS, healthy).rows
    pd.testing.assert_frame_equal(doors.rows("theirs"), pd.DataFrame(expected), check_dtype=False)
    assert doors.rows("theirs").query("cohort == 'mine'")["dice"].notna().all()


def test_a_new_arm_leaves_the_store_alone(doors):
    assert "rule pack" not in doors.whole[1] and "rule register" not in doors.whole[1]
    assert (doors.results / "store" / "mine_t2.images.npy").stat().st_mtime_ns == doors.written


def test_an_exchanged_map_is_an_input_that_changed(tmp_path):
    maps = load_method("maps")
    method = maps(maps.Params(folder=str(tmp_path / "{cohort}")))
    assert method.input_files(["a"], "t2", 0) == [str(tmp_path / "a")]  # missing, so Snakemake names it
    (tmp_path / "a").mkdir()
    for name in ("s1.npy", "s2.nii.gz", "notes.txt"):
        (tmp_path / "a" / name).write_text("")
    assert method.input_files(["a"], "t2", 0) == [str(tmp_path / "a" / name) for name in ("s1.npy", "s2.nii.gz")]


# --- a real scan ----------------------------------------------------------------------------------


@pytest.mark.skipif(not MSLUB.is_dir(), reason=f"real scans are not at {MSLUB} (not part of the project)")
def test_one_real_scan_to_metrics_and_picture(tmp_path):
    """Lesjak et al. 2018, doi 10.1007/s12021-017-9348-7 (CC BY): in MNI space, without skull, N4-corrected."""
    bench = Bench(tmp_path, "real")
    raw = tmp_path / "data" / "raw"
    (raw / "mslub07").mkdir(parents=True)
    for pattern, name in (("T2_*", "patient07_t2.nii.gz"), ("GOLD_STANDARD_*", "patient07_seg.nii.gz")):
        (file,) = MSLUB.glob(pattern)
        (raw / "mslub07" / name).symlink_to(file)
    atlas = nibabel.load(find_atlas("mni152", ""))
    template = atlas.get_fdata(dtype=np.float32)
    brain = ndimage.binary_fill_holes(template > 0.05 * template.max())
    rng = np.random.default_rng(7)
    for number in range(4):
        data = brain * np.maximum(template * rng.uniform(0.8, 1.2) + rng.normal(0, 3, template.shape), 1)
        save(raw / "healthy" / f"h{number}_t2.nii.gz", np.round(data).astype(np.int16), atlas.affine)
    only = {"subjects": 1, "splits": {"val": 0, "test": 1}}
    bench.overlay(OVERLAY | {
        "run": "real",
        "preprocess": {"spacing_mm": 1.0, "atlas": {"image": "mni152"}},
        "cohorts": OVERLAY["cohorts"] | {"mslub07": READY | only},
        "arms": OVERLAY["arms"] | dict.fromkeys(["chance", "copy"]),
    })  # fmt: skip
    code, output = bench.run()
    assert code == 0, output

    store = Store.open(bench.results / "store" / "mslub07_t2")
    assert store.images.shape == (1, 50, 96, 96)  # docs/paper.md#packing: 192 x 192 x 100 at 1 mm, halved
    lesion_ml = float(store.index["lesion_ml"].iloc[0])
    assert lesion_ml == pytest.approx(1.3, rel=0.1)  # 1300 voxels of 1 mm in the file
    row = bench.rows("thresh").query("cohort == 'mslub07'").iloc[0]
    print(f"MSLUB patient07, thresh: AUPRC {row.auprc:.4f}, prevalence {row.prevalence:.6f}, {lesion_ml} ml")
    assert row.prevalence < row.auprc < 1
    assert np.isnan(row.dice) and np.isnan(row.threshold)  # docs/own-data.md: no validation volume, no Dice
    assert bench.rows("oracle").query("cohort == 'mslub07'")["auprc"].tolist() == [1.0]
    assert "no Dice for mslub07" in (bench.results / "check.txt").read_text()
    assert (bench.results / "figures" / "fig4-mslub07-t2.png").stat().st_size > 10_000
