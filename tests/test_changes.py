"""What `plan` says about changed keys and misspelt targets, from Snakemake's own words."""

import logging

import pytest

from uad.common.recipe import write_settings
from uad.workflow.changes import changed_keys, report
from uad.workflow.target_hint import TargetHint, hint

ARMS = ["ae", "cddpm", "pca"]
BLOCK = """
rule {rule}:
    output: x
    reason: Missing output files: y; Params have changed since last execution: Union of exclusive params before and \
now across all output: before: {before} now: {now}
    wildcards: cohort=a
"""


def dry_run(*blocks):
    return "".join(BLOCK.format(rule=rule, before=before, now=now) for rule, before, now in blocks)


def test_jobs_of_one_change_are_counted_together(tmp_path):
    files = [
        [repr(write_settings(tmp_path / when / "settings", stage, "a", {"seed": seed, "n4": {"levels": seed + 1}}))
         for seed, when in ((1, "before"), (2, "now"))]
        for stage in ("splits", "register")
    ]  # fmt: skip
    said = dry_run(("splits", *files[0]), ("register", *files[1]), ("register", *files[1]))
    planned = tmp_path / "now" / "settings"
    assert changed_keys(said, planned) == {
        ("n4.levels", "2", "3"): ["splits", "register", "register"],
        ("seed", "1", "2"): ["splits", "register", "register"],
    }
    assert "  seed: 1 before, 2 now (1 splits, 2 register)\n" in report(said, planned)


def test_a_parameter_that_is_no_settings_file_stands_as_it_is(tmp_path):
    assert changed_keys(dry_run(("phantom", "6", "7")), tmp_path) == {("phantom", "6", "7"): ["phantom"]}


def test_nothing_is_said_of_settings_that_are_gone_or_of_other_reasons(tmp_path):
    gone = "'results/a/settings/splits-a-0123456789.json'"
    assert changed_keys(dry_run(("splits", gone, gone.replace("0", "1"))), tmp_path) == {}
    assert report("rule train:\n    reason: Missing output files: model\n", tmp_path) == ""


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
