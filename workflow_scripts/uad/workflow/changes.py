"""Which changed keys of the configuration make jobs run again, from the jobs of a dry run."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from uad.common.recipe import differences, read_settings
from uad.workflow.dry_run import Job

_SETTINGS = r"[^',]+/settings/\w+-[^'/,]+-[0-9a-f]{10}\.json"  # in the quotes of a list of values


def changed_keys(jobs: Iterable[Job], planned: Mapping[Path, str]) -> dict[tuple[str, str, str], list[str]]:
    """(key, before, now) as text -> the rules of the jobs that it makes run again, one entry per job.

    The settings files before and now (`uad.common.recipe`) are compared.  Of a parameter that is no settings file, the
    rule's name stands for the key.  Settings files that are gone are passed over.

    Args:
        planned: the files that the run would write (`uad.workflow.planned_files`): path -> text.
    """
    found = defaultdict(list)
    for job in jobs:
        for key in _differences(job, planned):
            found[key].append(job.rule)
    return found


def _differences(job: Job, planned: Mapping[Path, str]) -> list[tuple[str, str, str]]:
    old, new = (re.search(_SETTINGS, text) for text in (job.before, job.now))
    if not (old and new):
        return [(job.rule, job.before, job.now)] if job.before != job.now else []
    made, wanted = Path(old[0]), planned.get(Path(new[0]))
    if not made.exists() or wanted is None:
        return []
    changed = differences(read_settings(made), json.loads(wanted))
    return [(key, repr(made), repr(wanted)) for key, made, wanted in changed]


def report(jobs: Iterable[Job], planned: Mapping[Path, str]) -> str:
    """The changes as text, with an empty line at the end; empty: no parameter changed."""
    lines = []
    for (key, before, now), rules in changed_keys(jobs, planned).items():
        counts = ", ".join(f"{count} {rule}" for rule, count in Counter(rules).items())
        lines.append(f"  {key}: {before} before, {now} now ({counts})")
    if not lines:
        return ""
    return "\n".join(["Changed since these jobs ran (they and the jobs that depend on them run again)\n", *lines, "\n"])
