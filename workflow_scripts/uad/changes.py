"""Which keys of the configuration make jobs run again, from what a dry run says about them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from uad.recipe import differences, read_settings

_CHANGE = re.compile(r"Params have changed since last execution: .*? before: (.*?) now: (.*?)\s*(?:;|$)", re.MULTILINE)


def changed_keys(dry_run: str) -> dict[tuple[str, Any, Any], list[str]]:
    """(key, before, now) -> the rules of the jobs that it makes run again, one entry per job.

    Snakemake names the settings files before and now (`uad.recipe`); these are compared.  Of a parameter that is no
    settings file, the rule's name stands for the key.  Settings files that are gone are passed over.
    """
    found = defaultdict(list)
    for block in re.split(r"^(?:local)?rule (?=\w+:$)", dry_run, flags=re.MULTILINE)[1:]:
        rule, change = block.split(":", 1)[0], _CHANGE.search(block)
        for key, before, now in _differences(rule, *change.groups()) if change else ():
            found[key, repr(before), repr(now)].append(rule)
    return found


def _differences(rule: str, before: str, now: str) -> list[tuple[str, Any, Any]]:
    files = [[path for path in text.split(",") if _is_settings(path)] for text in (before, now)]
    if not all(files):
        return [(rule, before, now)]
    if not all(Path(path).exists() for paths in files for path in paths):
        return []
    return list(differences(*(read_settings(paths[0]) for paths in files)))


def _is_settings(path: str) -> bool:
    return re.search(r"/settings/\w+-.*-[0-9a-f]{10}\.json$", path) is not None


def report(dry_run: str) -> str:
    """The changes as text, with an empty line at the end; empty: no parameter changed."""
    lines = []
    for (key, before, now), rules in changed_keys(dry_run).items():
        jobs = ", ".join(f"{count} {rule}" for rule, count in Counter(rules).items())
        lines.append(f"  {key}: {before} before, {now} now ({jobs})")
    if not lines:
        return ""
    return "\n".join(["Changed since these jobs ran; what follows from them runs again too\n", *lines, "\n"])
