"""What `plan` says about changed keys and misspelt targets."""

import logging

import pytest

from uad.common.recipe import write_settings
from uad.workflow.changes import changed_keys, report
from uad.workflow.dry_run import Job
from uad.workflow.planned_files import PlannedFiles
from uad.workflow.target_hint import TargetHint, hint

ARMS = ["ae", "cddpm", "pca"]


def rerun(rule, before, now):
    """A job that runs again because of one parameter, given as Snakemake keeps it."""
    return Job(rule, "", 0, 1, 0, repr(before), repr(now))


def test_jobs_of_one_change_are_counted_together(tmp_path):
    planned, files = PlannedFiles(), {}
    for stage in ("splits", "register"):
        content = [{"seed": seed, "n4": {"levels": seed + 1}} for seed in (1, 2)]
        files[stage] = [
            write_settings(tmp_path / "settings", stage, "a", content[0]),
            write_settings(tmp_path / "settings", stage, "a", content[1], planned.put),
        ]
    jobs = [rerun(stage, *files[stage]) for stage in ("splits", "register", "register")]
    assert changed_keys(jobs, planned.texts) == {
        ("n4.levels", "2", "3"): ["splits", "register", "register"],
        ("seed", "1", "2"): ["splits", "register", "register"],
    }
    assert "  seed: 1 before, 2 now (1 splits, 2 register)\n" in report(jobs, planned.texts)


def test_a_parameter_that_is_no_settings_file_stands_as_it_is():
    assert changed_keys([rerun("phantom", 6, 7)], {}) == {("phantom", "6", "7"): ["phantom"]}


def test_nothing_is_said_of_settings_that_are_gone_or_of_other_reasons():
    gone = "results/a/settings/splits-a-0123456789.json"
    assert changed_keys([rerun("splits", gone, gone.replace("0", "1"))], {}) == {}
    assert report([Job("train", "ae", 1, 1, 60)], {}) == ""


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("parrity", "did you mean 'parity'? A target is packed, plan, parity, "),
        ("quatsch", "A target is packed, plan, parity, "),
        ("results/x/metrics/cdpm/t2/fold0.parquet", "did you mean 'cddpm'? The arms of this configuration are ae, "),
        ("results/y/metrics/ae/t2/fold0.parquet", "This configuration makes files below results/x; "),
    ],
)
def test_a_misspelt_target_is_answered(target, said):
    assert hint(target, ["parity", "plan", "packed", "train"], "x", ARMS).startswith(said)
    record = logging.LogRecord("a", logging.ERROR, "", 0, "No rule to produce %s (if you ...).", (target,), None)
    assert TargetHint(["parity"], "x", ARMS).filter(record)
    assert record.getMessage().startswith(f"No rule to produce {target} (if you ...).\n")
