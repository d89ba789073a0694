"""Which keys of the configuration make jobs run again, from what a dry run says about them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

from uad.common.recipe import differences, read_settings
from uad.workflow.estimate import job_blocks

_CHANGE = re.compile(r"Params have changed since last execution: .*? before: (.*?) now: (.*?)\s*(?:;|$)", re.MULTILINE)
_SETTINGS = r"[^',]+/settings/\w+-[^'/,]+-[0-9a-f]{10}\.json"  # in the quotes of a list of values


def changed_keys(dry_run: str, planned: str | Path) -> dict[tuple[str, str, str], list[str]]:
    """(key, before, now) as text -> the rules of the jobs that it makes run again, one entry per job.

    Snakemake names the settings files before and now (`uad.common.recipe`); these are compared.  Of a parameter that
    is no settings file, the rule's name stands for the key.  Settings files that are gone are passed over.

    Args:
        planned: folder with the settings files that the dry run would write (`uad.workflow.planned_files`).
    """
    found = defaultdict(list)
    for rule, block in job_blocks(dry_run):
        change = _CHANGE.search(block)
        for key in _differences(rule, *change.groups(), Path(planned)) if change else ():
            found[key].append(rule)
    return found


def _differences(rule: str, before: str, now: str, planned: Path) -> list[tuple[str, str, str]]:
    old, new = (re.search(_SETTINGS, text) for text in (before, now))
    if not (old and new):
        return [(rule, before, now)]
    made, wanted = Path(old[0]), planned / Path(new[0]).name
    if not (made.exists() and wanted.exists()):
        return []
    changed = differences(read_settings(made), read_settings(wanted))
    return [(key, repr(made), repr(wanted)) for key, made, wanted in changed]


def report(dry_run: str, planned: str | Path) -> str:
    """The changes as text, with an empty line at the end; empty: no parameter changed."""
    lines = []
    for (key, before, now), rules in changed_keys(dry_run, planned).items():
        jobs = ", ".join(f"{count} {rule}" for rule, count in Counter(rules).items())
        lines.append(f"  {key}: {before} before, {now} now ({jobs})")
    if not lines:
        return ""
    return "\n".join(["Changed since these jobs ran; what follows from them runs again too\n", *lines, "\n"])
