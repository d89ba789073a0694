"""What a run consists of, from its configuration; and what its driver says and deletes."""

from types import SimpleNamespace

import pytest
import yaml
from places import ROOT
from snakemake.exceptions import WorkflowError

from uad.common.errors import InputError
from uad.config import arm_settings, resolve
from uad.config.load import merge
from uad.download.needs import fetches_hd_bet, needs_of, own_folders, write_sources
from uad.workflow.banners import failure_banner, start_banner, success_banner
from uad.workflow.driver import Driver
from uad.workflow.left_out import find_left_out, read_left_out
from uad.workflow.operations import operations
from uad.workflow.planned_files import PlannedFiles
from uad.workflow.run_plan import RunPlan


def plan_of(**changes):
    return RunPlan(resolve(merge(yaml.safe_load((ROOT / "config.yaml").read_text()), changes)))


def test_the_papers_run_has_its_folds_cohorts_and_tables():
    plan = plan_of()
    assert plan.modalities == ["t1", "t2"] and plan.results == plan.data == "results/paper"
    assert plan.cohorts_with("t1") == ["ixi", "atlas", "wmh"] and plan.cohorts_with("t2") == ["ixi", "brats21", "mslub"]
    assert plan.places(True) == [["ixi", "t2"], ["ixi", "t1"]] and ["brats21", "t2"] in plan.places(False)
    assert list(plan.folds_of("cddpm")) == [0, 1, 2, 3, 4] and list(plan.folds_of("thresh")) == [0]
    assert "results/paper/metrics/cddpm/t2/fold4.parquet" in plan.scores()
    assert "results/paper/tallies/cddpm/t2/fold4.parquet" in plan.tallies() and len(plan.tallies()) == len(
        plan.scores()
    )
    assert plan.table_files("csv") == [f"results/paper/tables/table{n}.csv" for n in (1, 2, 3, 4, 5)]
    assert "results/paper/lesions/cddpm/t2/fold4.parquet" in plan.lesions()
    assert len(plan.all_stores()) == 6 * 4 and len(plan.store_tables()) == 6


def test_a_run_on_the_data_of_another_reads_there_and_writes_here():
    plan = plan_of(run="mine", data_of="theirs")
    assert {path.split("/")[1] for path in plan.packed()} == {"theirs"}
    assert {path.split("/")[1] for path in [*plan.scores(), *plan.figures("png")]} == {"mine"}


def test_data_folders_are_the_runs_own_for_phantoms_only():
    overlay = yaml.safe_load((ROOT / "demo/config.yaml").read_text())
    demo, paper = plan_of(**overlay), plan_of(data_dir="/big", cohorts={"ixi": {"raw": "/scans/ixi"}})
    assert demo.phantoms and demo.raw_folder("ixi") == "results/demo/raw/ixi"
    assert demo.unpacked_folder("ixi") == "results/demo/unpacked/ixi"
    assert paper.raw_folder("ixi") == "/scans/ixi" and paper.raw_folder("wmh") == "/big/raw/wmh"
    assert paper.unpacked_folder("ixi") == "/big/unpacked/ixi"


def test_a_planted_cohort_is_made_by_the_run_of_another(tmp_path):
    cohort = {"adapter": "folder", "source": "planted", "modalities": ["t1"], "subjects": 4}
    plan = plan_of(
        planted={"of": "ixi", "masks": str(tmp_path)}, cohorts={"x": cohort | {"splits": {"val": 1, "test": 1}}}
    )
    assert plan.planted == ["x"] and "x" not in [*plan.archives, *plan.phantoms]
    assert plan.raw_folder("x") == "results/paper/raw/x" and plan.unpacked_folder("x") == "results/paper/unpacked/x"
    assert ["x", "t1"] in plan.places(False) and "x" not in plan.paper_cohorts()
    # brain masks are those of the healthy scans, so nothing is fetched for it but the shapes, nor asked of the user
    assert not fetches_hd_bet(plan.config, "x", plan.raw_folder) and not own_folders(plan.config, plan.raw_folder)
    needs = {need.name: need.folder for need in needs_of(plan.config, plan.raw_folder)}
    assert "x" not in needs and needs["stroke-masks"] == tmp_path
    assert "stroke-masks" not in {need.name for need in needs_of(plan_of().config, plan.raw_folder)}


def test_a_study_of_centres_knows_what_its_arms_saw_and_reads_the_contrast_experiments():
    arms = {"x": {"method": "ddpm", "train": {"without_sites": ["HH"]}}}
    plan = plan_of(arms=arms, study={"question": "centres", "arms": ["ddpm", "cddpm", "x"]})
    rows = {row["arm"]: row for row in plan.study_settings()["arms"]}
    assert {arm: row["without_sites"] for arm, row in rows.items()} == {"ddpm": [], "cddpm": [], "x": ["HH"]}
    assert rows["x"]["params"] == rows["ddpm"]["params"] != rows["cddpm"]["params"]
    assert rows["x"]["train_cohort"] == "ixi"
    assert plan.study_experiments() == ["results/paper/experiments/t2/fold0.npz"]
    # nothing is trained for the experiments alone, nor run for a study that does not read them
    assert plan_of(study={"question": "centres", "arms": ["ddpm", "ae"]}).study_experiments() == []
    assert plan_of(study={"question": "post-processing", "arms": ["ddpm", "cddpm"]}).study_experiments() == []


def test_an_arm_may_be_another_one_read_at_other_levels():
    read = {"method": "cddpm", "from": "cddpm-ssl", "inference": {"t_test": [100, 250, 500, 750]}}
    plan = plan_of(arms={"levels": read})
    config, ours = plan.config, arm_settings(plan.config, "levels")
    assert {**ours, "arm": "cddpm-ssl"} == arm_settings(config, "cddpm-ssl") and ours["arm"] == "levels"
    assert plan.trained_model("levels", "t1", "0") == plan.trained_model("cddpm-ssl", "t1", "0")
    assert plan.levels_to_read("levels") == {"t_tests": [100, 250, 500, 750]}
    assert plan.levels_to_read("cddpm") == {"t_tests": [250, 500, 750]}
    assert plan.reading_minutes("pddpm") == plan.reading_minutes("cddpm") == plan.reading_minutes("thresh") == 60
    assert not plan.trains("levels") and not any("levels" in log for log in plan.learning_curves())
    work = operations(config)
    assert ("train", "levels") not in work
    assert work["reconstruct", "levels"] == pytest.approx(work["reconstruct", "cddpm-ssl"] * 4 / 3)


def test_heads_that_run_a_network_often_have_more_time():
    heads = {"mhd": {"method": "mhd", "from": "pddpm"}, "iqa": {"method": "iqa", "from": "pddpm"}}
    plan = plan_of(arms=heads)
    assert plan.reading_minutes("mhd") == 5 * 10 * 4  # ten samples, each of four boxes
    assert plan.reading_minutes("iqa") == 60


def test_without_a_conditioned_arm_there_are_no_contrast_experiments():
    plan = plan_of(arms={"cddpm": None, "cddpm-ssl": None})
    with_them = plan_of()
    assert "cddpm" not in {arm.method for arm in plan.config.arms.values()}
    assert plan.experiments() == [] and "fig2" not in " ".join(plan.figures("png"))
    assert with_them.experiments() == ["results/paper/experiments/t2/fold0.npz"]
    assert with_them.experiment_places() == [["ixi", "t2"], ["brats21", "t2"]]


def test_a_healthy_cohort_that_only_tests_is_no_pathological_one():
    elsewhere = {"adapter": "folder", "raw": "/oasis", "healthy": True, "modalities": ["t1"], "subjects": 30}
    plan = plan_of(cohorts={"oasis": elsewhere | {"splits": {"val": 0, "test": 30}}})
    assert ["oasis", "t1"] in plan.places(True) and ["oasis", "t1"] not in plan.places(False)
    assert plan.experiment_cohorts("t1") == ["ixi", "atlas"]


def test_without_lesions_there_are_no_figures_of_dice():
    cohorts = dict.fromkeys(("brats21", "mslub", "atlas", "wmh"))
    with_them, without = ({path.split("/")[-1] for path in plan_of(**more).figures("png")}
                          for more in ({}, {"cohorts": cohorts}))  # fmt: skip
    of_scores = {"fig5", "fig6", "overview", "volumes", "differences", "ranks", "detection", "thresholds",
                 "distributions", "lesion-size", "agreement"}  # fmt: skip
    assert with_them - without == {f"{stem}.png" for stem in of_scores} | {
        name for name in with_them if name.startswith("fig4-") and "ixi" not in name
    }


def test_figures_that_compare_arms_need_arms_to_compare():
    every = set(plan_of().config.arms)
    drawn = {}
    for kept in ((), ("ae",), ("ae", "vae")):
        arms = dict.fromkeys(every - {*kept, "oracle", "oracle-post", "chance", "copy"})
        drawn[len(kept)] = {path.split("/")[-1] for path in plan_of(arms=arms).figures("svg")}
    assert drawn[2] - drawn[1] == {"differences.svg", "ranks.svg"}
    assert {"volumes.svg", "agreement.svg"} <= drawn[1] - drawn[0] and "overview.svg" in drawn[0]


@pytest.fixture
def driver_of(tmp_path, monkeypatch):
    """A driver in an empty folder, of a workflow with these rules and settings."""
    monkeypatch.chdir(tmp_path)

    def make(rules, **changes):
        return Driver(SimpleNamespace(rules=rules), plan_of(**changes), PlannedFiles(), "sources.json")

    return make


def test_an_arm_that_reads_what_nobody_makes_is_refused(driver_of):
    arms = {"theirs": {"method": "maps", "params": {"table": "{results}/theirs/{modality}/fold{fold}/maps.tsv"}}}
    message = r"arms\.theirs\.params: results/paper/theirs/t1/fold0/maps\.tsv does not exist and no rule makes it"
    pca = SimpleNamespace(name="pca", is_producer=lambda path: "baselines/pca" in path)
    theirs = SimpleNamespace(name="theirs", is_producer=lambda path: path.startswith("results/paper/theirs"))
    with pytest.raises(WorkflowError, match=message):
        driver_of([pca], arms=arms).check_rules()
    driver_of([pca, theirs], arms=arms).check_rules()


def test_weights_that_a_network_starts_from_are_an_input_of_its_training(driver_of, tmp_path):
    given = {"weights": "data/resnet18.pth", "sha256": "0" * 64}
    arms = {"fae": {"method": "fae"}, "fae-imagenet": {"method": "fae", "params": given}}
    plan = plan_of(arms=arms)
    assert plan.pretrained_model("fae-imagenet", "t2", "1") == ["data/resnet18.pth"]
    assert plan.pretrained_model("fae", "t2", "1") == ["results/paper/pretrained/fae/t2/fold1/model.safetensors"]
    assert plan.pretrained_model("ddpm", "t2", "1") == []
    pca = SimpleNamespace(name="pca", is_producer=lambda path: "baselines/pca" in path)
    message = r"arms\.fae-imagenet\.params: data/resnet18\.pth does not exist and no rule makes it"
    with pytest.raises(WorkflowError, match=message):
        driver_of([pca], arms=arms).check_rules()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/resnet18.pth").write_bytes(b"")
    driver_of([pca], arms=arms).check_rules()


def test_on_the_data_of_another_run_its_cohorts_count(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = plan_of(run="mine", data_of="theirs", cohorts={"wmh": {"optional": True}, "mslub": {"optional": True}})
    there = tmp_path / "results/theirs/cohorts/wmh.tsv"
    there.parent.mkdir(parents=True)
    there.touch()
    absent = find_left_out(plan)
    assert list(absent) == ["mslub"] and "run 'theirs' does not have it" in absent["mslub"]
    write_sources(plan.config, plan.results, plan.raw_folder, absent=absent)
    assert read_left_out(plan) == absent  # what a job goes by


def test_banners_say_what_is_made_and_where():
    plan = plan_of(run="r", data_of="other", arms={"cddpm": None, "cddpm-ssl": None})
    start = start_banner(plan, "not read", whole=True)
    assert "run 'r'" in start and "left out figures 2 and 3" in start and "data     of run 'other'" in start
    assert "left out" not in start_banner(plan, "not read", whole=False)
    without_lgg = RunPlan(plan.config, ["lgg"])
    assert "left out lgg: optional, not here" in start_banner(without_lgg, "not read", whole=False)
    assert "is complete" in success_banner(plan, [], whole=True)
    assert success_banner(plan, [], whole=False) == ""
    assert "snakemake -c1 scores" in success_banner(plan, ["score"], whole=False)
    assert "scores" not in success_banner(plan, ["train"], whole=False)
    assert "(1 pack, 2 train)" in success_banner(plan, ["train", "pack", "train"], whole=False)
    assert "results/r/logs/<rule>/" in failure_banner(plan)


PSEUDO_HEALTHY = {"question": "pseudo-healthy", "arms": ["ae"]}


def test_a_study_of_planted_lesions_reads_of_which_scan_each_was_made():
    cohort = {
        "adapter": "folder",
        "source": "planted",
        "modalities": ["t1"],
        "subjects": 4,
        "splits": {"val": 1, "test": 3},
    }
    plan = plan_of(cohorts={"strokes": cohort}, planted={"of": "ixi"}, study=PSEUDO_HEALTHY)
    assert plan.study_planted("t1") == ["results/paper/acquired/strokes.tsv"] and plan.study_planted("t2") == []
    assert plan.study_keys()["planted_of"] == "ixi"


def test_a_study_of_planted_lesions_is_refused_where_there_are_none():
    with pytest.raises(InputError, match="needs a cohort of `source: planted`"):
        plan_of(study=PSEUDO_HEALTHY)
