"""Strokes planted into healthy scans: where, how dark, into whom, and what is refused."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from planted_heads import brain_moved_by, stroke_masks
from small_heads import RAI, ball, save

from uad.cohorts import ingest
from uad.cohorts.folder import FolderAdapter
from uad.cohorts.people import person_of
from uad.cohorts.splits import check_splits, draw_splits
from uad.common.errors import InputError
from uad.common.volumes import Volume, read_image, read_label
from uad.config.model import PlantedSettings, RegistrationSettings
from uad.phantoms.planted import plant_cohort
from uad.phantoms.stroke import Stroke, fluid_intensity, place, plant
from uad.preprocessing.itk import ants

SHAPE = (20, 24, 18)
BRAIN = Volume(ball(SHAPE, 8), RAI)


# --- one stroke ---------------------------------------------------------------------------------------------


@pytest.fixture
def moved_by(tmp_path):
    """Writes a transform that takes points of MNI space `mm` (LPS) further, to where they are in the scan."""

    def write(*mm):
        path = str(tmp_path / "to-mni.mat")
        parameters = [*np.eye(3).ravel(), *map(float, mm)]
        made = ants.new_ants_transform(transform_type="AffineTransform", dimension=3, parameters=parameters)
        ants.write_transform(made, path)
        return path

    return write


def box(*corner, edge=3):
    data = np.zeros(SHAPE, np.uint8)
    data[tuple(slice(start, start + edge) for start in corner)] = 1
    return Volume(data, RAI)


def placed(mask, transform, edge_mm=0.0, brain=BRAIN, seed=0):
    return place(mask, brain, transform, edge_mm, np.random.default_rng(seed))


def test_a_stroke_lies_where_the_inverse_transform_puts_it(moved_by):
    # the axes of RAI run as those of LPS, 1 mm per voxel, so the voxel index grows by the translation
    stroke = placed(box(7, 9, 8), moved_by(2, -1, 1))
    assert np.array_equal(stroke.truth, box(9, 8, 9).data)
    assert np.array_equal(stroke.weight, box(9, 8, 9).data)


def test_a_blurred_edge_keeps_the_border_of_the_truth(moved_by):
    half = np.zeros(SHAPE, np.uint8)
    half[:10] = 1
    whole = Volume(np.ones(SHAPE, np.uint8), RAI)
    stroke = placed(Volume(half, RAI), moved_by(0, 0, 0), edge_mm=2.0, brain=whole)
    profile = stroke.weight[:, 12, 9]
    # a step that is blurred by a symmetric kernel is 1 less its mirror image, and goes from 1 to 0
    assert np.allclose(profile + profile[::-1], 1, atol=1e-6) and np.all(np.diff(profile) <= 1e-6)
    assert 0.5 < profile[9] < profile[7] <= 1 and np.array_equal(stroke.truth, half)


def test_the_intensity_is_pulled_to_the_fluid_by_the_contrast():
    image = Volume(np.random.default_rng(0).uniform(100, 900, SHAPE).astype(np.float32), RAI)
    weight = box(8, 9, 8).data.astype(np.float32)
    planted = plant(image, Stroke(weight, weight), contrast=0.25, fluid=50.0).data
    inside = weight > 0
    assert np.allclose(planted[inside], 0.75 * image.data[inside] + 0.25 * 50, rtol=1e-6)
    assert np.array_equal(planted != image.data, Stroke(weight, weight).truth > 0)
    # whatever the unevenness, nothing goes beyond the fluid
    beyond = plant(image, Stroke(weight, 1.3 * weight), contrast=0.9, fluid=50.0).data
    assert np.allclose(beyond[inside], 50, rtol=1e-5)


def test_unevenness_changes_the_contrast_by_at_most_three_tenths(moved_by):
    stroke = placed(box(6, 8, 6, edge=7), moved_by(0, 0, 0))
    ratio = stroke.pull[stroke.weight > 0] / stroke.weight[stroke.weight > 0]
    assert 0.7 <= ratio.min() < ratio.max() <= 1.3
    assert np.array_equal(placed(box(6, 8, 6, edge=7), moved_by(0, 0, 0)).pull, stroke.pull)
    assert not np.array_equal(placed(box(6, 8, 6, edge=7), moved_by(0, 0, 0), seed=1).pull, stroke.pull)


def test_a_stroke_outside_of_the_brain_is_none(moved_by):
    brain = np.zeros(SHAPE, np.uint8)
    brain[:10] = 1
    half = Volume(brain, RAI)
    # of the ten planes of the stroke eight lie in the brain, and seven
    assert placed(box(2, 11, 8, edge=10), moved_by(0, 0, 0), brain=half) is not None
    assert placed(box(3, 11, 8, edge=10), moved_by(0, 0, 0), brain=half) is None


def test_the_fluid_is_the_darkest_twentieth_of_the_brain():
    brain = np.zeros((10, 10, 10), np.uint8)
    brain[:, :, :2] = 1
    image = np.full(brain.shape, -7, np.float32)
    image[brain > 0] = np.arange(1, 201)
    # the percentile p of 1 to n is 1 + p (n - 1)
    assert fluid_intensity(Volume(image, RAI), Volume(brain, RAI)) == pytest.approx(1 + 0.05 * 199)


# --- a cohort -----------------------------------------------------------------------------------------------

SETTINGS = PlantedSettings(of="healthy", contrast=(0.4, 0.6), edge_mm=1.0)
FAST = RegistrationSettings(iterations=[200, 100, 10, 0])
TESTED = ["sub-AB0011", "sub-AB0022_ses-1", "sub-AB0022_ses-2", "sub-AB0033"]
OTHERS = {"sub-AB0044": ["train", "train"], "sub-AB0055": ["val", "test"], "sub-AB0066_ses-1": ["test", "test"],
          "sub-AB0066_ses-2": ["train", "train"], "sub-AB0077": ["test", None]}  # fmt: skip


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """Cohort table, split table of two folds, and folder of masks."""
    folder = tmp_path_factory.mktemp("healthy")
    image, mask, affine = brain_moved_by(5, 0.95, (4, -3, 2))
    files = {"t1": save(folder / "t1.nii.gz", image, affine), "mask": save(folder / "mask.nii.gz", mask, affine)}
    subjects = [*TESTED, *OTHERS]
    table = pd.DataFrame({"subject": subjects, "site": "A", "scanner": "", "age": 30.5, **files})
    where = {subject: ["test", "test"] for subject in TESTED} | OTHERS
    rows = [(subject, split, fold) for subject in subjects for fold, split in enumerate(where[subject]) if split]
    splits = pd.DataFrame(rows, columns=["subject", "split", "fold"])
    return table, splits, stroke_masks(folder / "masks")


def planted(healthy, folder, **changes):
    table, splits, masks = healthy
    options = {
        "name": "planted",
        "subjects": 8,
        "person": None,
        "masks": masks,
        "seed": 11,
        "progress": lambda line: None,
    }
    return plant_cohort(table, splits, SETTINGS, FAST, folder=folder, **options | changes)


@pytest.fixture(scope="module")
def cohort(healthy, tmp_path_factory):
    """Folder and table of a planted cohort."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "old").mkdir()
    return folder, planted(healthy, folder)


def test_only_scans_that_are_tested_in_every_fold_get_strokes(cohort):
    folder, table = cohort
    assert table["healthy"].value_counts().to_dict() == dict.fromkeys(TESTED, 2)
    assert not (folder / "old").exists()
    assert {person_of(subject) for subject in table["subject"]} == {person_of(subject) for subject in TESTED}


def test_the_sizes_come_from_every_quarter_and_no_mask_comes_twice(cohort):
    # 12 cubes of edges 10 to 21 mm: every quarter of sizes has three
    _, table = cohort
    quarter = table["mask"].str.extract(r"(\d+)")[0].astype(int).sub(10) // 3
    assert quarter.value_counts().to_dict() == {0: 2, 1: 2, 2: 2, 3: 2} and table["mask"].is_unique
    assert np.allclose(table["mask_ml"], table["mask"].str.extract(r"(\d+)")[0].astype(float) ** 3 / 1000, rtol=1e-6)


def test_the_planted_scans_differ_from_the_untouched_in_the_lesion_only(cohort, healthy):
    folder, table = cohort
    untouched, brain = read_image(healthy[0]["t1"][0]).data, read_label(healthy[0]["mask"][0]).data > 0
    for row in table.itertuples():
        where = row.subject.replace("_", "/", 1)
        stem = folder / "derivatives" / where / "anat" / row.subject
        image = read_image(folder / where / "anat" / f"{row.subject}_T1w.nii.gz").data
        truth = read_label(f"{stem}_label-lesion_mask.nii.gz").data > 0
        assert np.array_equal(read_image(f"{stem}_desc-untouched_T1w.nii.gz").data, untouched)
        assert np.array_equal(read_label(f"{stem}_desc-brain_mask.nii.gz").data > 0, brain)
        assert not (image != untouched)[~brain].any()
        share = (untouched - image)[brain] / (untouched - np.float32(row.fluid))[brain]
        assert 0.4 <= row.contrast <= 0.6 and share.min() > -1e-3 and share.max() < 1.3 * row.contrast + 1e-3
        # mostly lesion: at least half of the weight, at least 0.7 of the contrast
        assert truth.any() and share[truth[brain]].min() > 0.35 * row.contrast - 1e-3
        assert share[~truth[brain]].max() < 0.65 * row.contrast + 1e-3
        assert row.lesion_ml == pytest.approx(truth.sum() * 4**3 / 1000, abs=1e-3)


def test_the_folder_is_a_cohort_whose_people_stay_in_one_split(cohort, tmp_path):
    folder, table = cohort
    read, notes = ingest(FolderAdapter(), folder, tmp_path / "unpacked", ["t1"], tmp_path / "planted.tsv")
    assert (
        list(read["subject"]) == sorted(table["subject"]) and (read["label"] != "").all() and (read["mask"] != "").all()
    )
    assert set(read["age"]) == {30.5} and set(read["site"]) == {"A"}
    assert any("8 image files passed over" in note and "untouched" in note for note in notes)
    splits = draw_splits(read, {"val": 1, "test": 2}, 2, 5)
    check_splits(splits)
    assert sorted(splits["subject"].unique()) == sorted(table["subject"])


def hashes(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_gives_the_same_bytes(cohort, healthy, tmp_path):
    folder, table = cohort
    again = planted(healthy, tmp_path / "again", workers=2)
    assert hashes(tmp_path / "again") == hashes(folder)
    pd.testing.assert_frame_equal(again, table)
    other = planted(healthy, tmp_path / "other", subjects=1, seed=12)
    assert other["contrast"][0] != table["contrast"][0]


def test_what_is_missing_is_said(healthy, tmp_path):
    table, splits, masks = healthy
    (tmp_path / "none").mkdir()
    for folder in ("none", "not-there"):
        with pytest.raises(InputError, match=rf"{folder}: 0 stroke masks here, .*planted\.masks"):
            planted(healthy, tmp_path / "x", masks=tmp_path / folder)
    with pytest.raises(InputError, match=r"sub-AB0011 of healthy has no brain mask, .*desc-brain_mask"):
        planted((table.assign(mask=""), splits, masks), tmp_path / "x")
    with pytest.raises(InputError, match="no subject of healthy is in its test set in every fold"):
        planted((table, splits.assign(split="val"), masks), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_scan_whose_brain_no_mask_fits_is_named(healthy, tmp_path):
    table, splits, _ = healthy
    outside = stroke_masks(tmp_path / "masks", centre_mm=(0, 95, 60))
    with pytest.raises(
        InputError, match=r"t1\.nii\.gz: once it is registered, none of .*cube1.*\.nii\.gz.* fits into its"
    ):
        planted((table, splits, outside), tmp_path / "x", subjects=1)
