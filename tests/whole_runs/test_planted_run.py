"""Strokes planted into healthy scans by the real workflow, as far as the check for leaks."""

import pytest
from planted_heads import brain_moved_by, stroke_masks
from small_run import OVERLAY, Bench, save

from uad.cohorts.splits import read_splits
from uad.common.tabular import read_table

pytestmark = pytest.mark.whole_run

T1 = {"adapter": "folder", "modalities": ["t1"]}
HEALTHY = T1 | {"healthy": True, "subjects": 4, "splits": {"train": 1, "val": 1, "test": 2}}
PLANTED = T1 | {"source": "planted", "subjects": 4, "splits": {"val": 1, "test": 1}}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("planted"), "planted")
    raw = bench.folder / "data" / "raw" / "healthy"
    for number in range(4):
        image, mask, affine = brain_moved_by(2 * number, 1 - 0.02 * number, (number, -number, 2))
        name = f"sub-AB00{number}"
        save(raw / name / "anat" / f"{name}_T1w.nii.gz", image, affine)
        save(raw / "derivatives" / name / "anat" / f"{name}_desc-brain_mask.nii.gz", mask, affine)
    cohorts = OVERLAY["cohorts"] | {"healthy": HEALTHY, "planted": PLANTED}
    offline = {"offline": True}
    bench.overlay(OVERLAY | {"run": "planted", "cohorts": cohorts, "planted": {"of": "healthy"}, "sources": offline})
    return bench


def targets(bench, *names):
    return ["--", *(str((bench.results / name).relative_to(bench.folder)) for name in names)]


def test_a_planted_cohort_goes_through_the_workflow(bench):
    code, said = bench.run(*targets(bench, "cohorts/planted.tsv"))
    assert code and "stroke-masks" in said and "Place bwsrsub-*_lesion.nii.gz" in said

    stroke_masks(bench.folder / "data" / "raw" / "stroke-masks")
    code, said = bench.run(*targets(bench, "splits/planted.tsv", "leaks.tsv"))
    assert code == 0, said
    healthy = read_splits(bench.results / "splits" / "healthy.tsv")
    tested = set(healthy["subject"][healthy["split"] == "test"])
    table = read_table(bench.results / "acquired" / "planted.tsv")
    assert set(table["healthy"]) == tested and len(table) == 4
    splits = read_splits(bench.results / "splits" / "planted.tsv")
    people = splits["subject"].str.partition("_")[0].groupby(splits["split"]).agg(set)
    assert people["val"] | people["test"] == tested and not people["val"] & people["test"]

    code, said = bench.run(*targets(bench, "splits/planted.tsv", "leaks.tsv"))
    assert code == 0 and "Nothing to be done" in said


def test_other_masks_are_planted_again(bench):
    masks = sorted((bench.folder / "data" / "raw" / "stroke-masks").glob("*.nii.gz"))
    masks[0].unlink()
    code, said = bench.run("-n", *targets(bench, "acquired/planted.tsv"))
    assert code == 0 and "rule plant" in said and "params" in said.lower()
