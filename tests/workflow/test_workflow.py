"""The workflow: plans of both configurations, lint, environments, messages.  No job is run here."""

import re
import subprocess
import sys

import plan_scale
import pytest
import yaml
from known_rules import known_rules
from places import ROOT

from uad.config.load import load
from uad.download.sources import read_sources
from uad.methods import known_methods
from uad.workflow.run_plan import RunPlan

pytestmark = pytest.mark.slow

ALL_ARMS = ("demo/config.yaml", "demo/all.yaml")
NEWER_ARMS = (*ALL_ARMS, "studies/newer-arms.yaml", "demo/newer-arms.yaml")


def snakemake(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
    )


def jobs_of(plan):
    """Job counts per rule of a dry run."""
    table = plan.split("Job stats:")[-1]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}


def plan_of(*overlays):
    run = snakemake("-n", "--quiet", "rules", "--configfile", *overlays, "--config", "run=plan-test")
    assert run.returncode == 0, run.stdout + run.stderr
    return jobs_of(run.stdout + run.stderr)


def test_the_plan_of_the_demo_has_every_stage():
    jobs = plan_of("demo/config.yaml")
    arms, trained = 9, 3  # thresh, AE, DDPM, cDDPM, PCA and four controls
    assert jobs["phantom"] == jobs["ingest"] == jobs["splits"] == jobs["flag_outliers"] == 5
    assert jobs["pack"] == 6  # ixi twice, the others once
    assert jobs["train"] == trained * 2 and jobs["reconstruct"] == jobs["score"] == arms * 2
    assert jobs["pca"] == 2 and "pretrain" not in jobs
    single = ("backbone", "experiments", "tables", "figures", "check", "html_report", "reproduction")
    assert all(jobs[rule] == 1 for rule in single)


def test_all_arms_of_the_full_study_are_planned_on_the_demos_data(tmp_path):
    (tmp_path / "own.yaml").write_text("data_of: null")  # there may be no demo here
    jobs = plan_of(*ALL_ARMS, str(tmp_path / "own.yaml"))
    arms, trained = 17, 9  # the thirteen rows of the paper are read from ten arms; with our own rows and four controls
    assert jobs["train"] == trained * 2 and jobs["reconstruct"] == jobs["score"] == arms * 2
    assert jobs["pretrain"] == jobs["pca"] == 2


def test_the_newer_arms_add_their_own_jobs(tmp_path):
    newer = load(*(ROOT / name for name in ("config.yaml", *NEWER_ARMS)))
    plan, before = RunPlan(newer), load(*(ROOT / name for name in ("config.yaml", *ALL_ARMS)))
    added = [arm for arm in newer.arms if arm not in before.arms]
    trained = {"ddpm-pyramid", "mddpm", "disyre", "itermask", "ra", "fae"}
    assert len(added) == 20 and {arm for arm in added if plan.trains(arm)} == trained
    # every method is an arm somewhere
    study = load(ROOT / "config.yaml", ROOT / "studies/conditioning.yaml")
    assert {arm.method for config in (newer, study) for arm in config.arms.values()} == set(known_methods())


def test_an_arm_is_the_same_in_the_full_study_and_among_all_arms_of_the_demo():
    full, ours = load(ROOT / "config.yaml"), load(*(ROOT / name for name in ("config.yaml", *ALL_ARMS)))
    assert list(full.arms) and set(full.arms) == set(ours.arms)
    for name, arm in full.arms.items():
        other = ours.arms[name]
        assert (other.method, other.label, other.paper) == (arm.method, arm.label, arm.paper), name


def test_open_data_need_no_form_and_no_account():
    config = load(ROOT / "config.yaml", ROOT / "open/config.yaml")
    assert sorted(config.cohorts) == ["ixi", "mslub", "wmh"]
    assert {read_sources()[cohort.adapter].access for cohort in config.cohorts.values()} == {"open"}


def test_the_plan_of_the_full_study_is_small():
    run = snakemake("-n", "--quiet", "rules", "--config", "run=plan-test")
    assert run.returncode == 0, run.stdout + run.stderr
    jobs = jobs_of(run.stdout + run.stderr)
    # 577 x 2 and 1251, 30, 655, 60 scans in shards of 50: 24 + 26 + 1 + 14 + 2
    assert jobs["skull_strip"] == jobs["register"] == 67
    assert jobs["train"] == 9 * 2 * 5 and jobs["pretrain"] == 2 * 5
    assert jobs["total"] < 600


def test_a_run_goes_without_an_optional_cohort_that_is_not_here(tmp_path):
    here = f"data_dir={tmp_path}"
    run = snakemake("-n", "--quiet", "rules", "--configfile", "real/config.yaml", "--config", "run=plan-test", here)
    assert run.returncode == 0, run.stdout + run.stderr
    assert jobs_of(run.stdout + run.stderr)["ingest"] == 3  # ixi-hh, oasis, planted
    scan = tmp_path / "raw/lgg/sub-1/anat/sub-1_T1w.nii.gz"
    scan.parent.mkdir(parents=True)
    scan.touch()
    run = snakemake("-n", "--quiet", "rules", "--configfile", "real/config.yaml", "--config", "run=plan-test", here)
    assert jobs_of(run.stdout + run.stderr)["ingest"] == 4  # and lgg


@pytest.mark.timing
def test_the_plan_takes_no_more_time_per_job_for_a_larger_study(tmp_path):
    study, larger = plan_scale.dry_run(tmp_path, 1), plan_scale.dry_run(tmp_path, 4)
    assert study.jobs < 600 and larger.jobs > 3.5 * study.jobs
    assert study.cpu_seconds < 15  # 5 s on an idle machine
    # quadratic growth would make it three times as much
    assert larger.cpu_seconds / larger.jobs < 1.5 * study.cpu_seconds / study.jobs
    assert larger.peak_mb < 2 * study.peak_mb


@pytest.mark.timing
def test_parsing_the_snakefile_is_quick(tmp_path):
    # each cluster job pays for it twice
    plan_scale.link_checkout(tmp_path)
    _, _, start, _ = plan_scale.measured(tmp_path, "-c", "import snakemake.cli")
    _, _, parsed, _ = plan_scale.measured(tmp_path, "-m", "snakemake", "--list-rules")
    assert parsed - start < 2


def test_a_cohort_and_an_arm_are_left_out_on_the_command_line():
    run = snakemake(
        "-n", "--quiet", "rules", "--config", "run=plan-test", "cohorts={brats21: null}", "arms={pca: null}"
    )
    assert run.returncode == 0, run.stdout + run.stderr
    jobs = jobs_of(run.stdout + run.stderr)
    assert jobs["ingest"] == 4 and "pca" not in jobs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("traning=1", "config: unknown key at top level: 'traning' is not known. Did you mean 'train'?"),
        ("arms={x: {method: cdpm}}", "config: arms.x.method: 'cdpm' is not known. Did you mean 'cddpm'?"),
    ],
)
def test_a_wrong_configuration_stops_with_one_line(change, message):
    run = snakemake("-n", "--config", change)
    output = run.stdout + run.stderr
    assert run.returncode != 0
    assert message in output and "Traceback" not in output


def test_only_all_scans_of_the_viewer_make_scores_again():
    def settings_of(scans):
        """Name of the settings file of a score job, which carries the hash of what it reads."""
        run = snakemake(
            "-n", "--printshellcmds", "--configfile", "demo/config.yaml",
            "--config", "run=plan-test", f"report={{viewer_scans: {scans}}}",
            "--", "results/plan-test/metrics/thresh/t2/fold0.parquet",
        )  # fmt: skip
        assert run.returncode == 0, run.stdout + run.stderr
        (name,) = re.findall(r"score\.py --settings (\S+)", run.stdout + run.stderr)
        return name

    assert settings_of(2) == settings_of(4) != settings_of("all")


@pytest.mark.parametrize("look", [["-n", "--quiet", "rules"], ["--list-rules"], ["--lint"]])
def test_looking_writes_nothing(tmp_path, look):
    for name in ("Snakefile", "config.yaml", "rules", "workflow_scripts", "demo", "envs", "profiles"):
        (tmp_path / name).symlink_to(ROOT / name)

    def files():
        found = (path for path in tmp_path.rglob("*") if ".snakemake" not in path.parts)
        return {path: path.is_symlink() or path.is_dir() or path.read_bytes() for path in found}

    before = files()
    run = snakemake("--configfile", "demo/config.yaml", *look, cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert files() == before


def test_lint_finds_nothing():
    run = snakemake("--lint")
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_rule_has_a_log_a_benchmark_and_an_environment():
    for name, rule in known_rules().items():
        assert rule["log"] and rule["conda"], name
        # a benchmark counts as an output: a rule that only prints would do so once
        assert bool(rule["benchmark"]) == bool(rule["output"]), name
        # the reader sees progress, the log keeps it
        assert rule["shell"].rstrip(")").endswith(("2>&1 | tee {log}", "2>&1 | (trap '' TERM INT; tee {log}")), name


def test_environments_pin_what_the_lock_pins():
    lock = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if "==" in line:
            name, version = line.split("==")
            lock[name.lower().replace("_", "-")] = version
    files = sorted((ROOT / "envs").glob("*.yaml"))
    assert len(files) == 5
    for path in files:
        (pip,) = [d["pip"] for d in yaml.safe_load(path.read_text())["dependencies"] if isinstance(d, dict)]
        for pin in pip:
            name, version = pin.split("==")
            assert lock[name.lower().replace("_", "-")] == version, f"{path.name}: {pin}"


def test_the_lock_leaves_out_what_breaks_torch():
    # docs/paper.md#torchvision: their wheels break `import torchmetrics` beside a CPU build of torch
    names = {line.split("==")[0].lower() for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert not names & {"torchvision", "timm", "monai"}


def test_missing_raw_data_is_asked_for_in_one_line(tmp_path):
    run = subprocess.run(
        [sys.executable, "workflow_scripts/download_cohort.py", "--cohort", "brats21", "--adapter", "brats21",
         "--folder", str(tmp_path / "nothing"), "--table", str(tmp_path / "table.tsv")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.startswith("error: brats21: nothing in") and "CC BY 4.0" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1 and not (tmp_path / "table.tsv").exists()


def test_the_library_of_another_checkout_is_refused(tmp_path):
    for name in ("Snakefile", "config.yaml", "rules", "envs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "workflow_scripts/uad").mkdir(parents=True)
    (tmp_path / "workflow_scripts/uad/__init__.py").touch()
    run = snakemake("-n", cwd=tmp_path)
    output = run.stdout + run.stderr
    assert run.returncode != 0 and "is the library of another checkout" in output and "Traceback" not in output
