"""Recipes: what a result depends on besides its input files.

Snakemake reruns a job when its `params` change, but does not see the library or the configuration.  Each job
therefore gets the path of a *settings file* as a parameter: the slice of the resolved configuration that the job
reads, plus the versions of what makes its numbers.  The file's name carries the hash of its content, so another
recipe is another parameter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from uad.common.files import write_text

# Raise a version when the numbers, files or pictures change that its words name, in whatever module that happens; a
# method has its own, in its file.  Words, not modules, so that a module may move without any run being made again.
VERSIONS = {
    "phantoms": 2,
    "planted strokes": 1,
    "cohort table": 3,
    "splits": 2,
    "leaks": 1,
    "brain masks": 3,
    "registration": 5,
    "quality": 2,
    "contact sheets": 3,
    "packing": 3,
    "perceptual distance": 1,
    "training": 2,
    "reconstruction": 3,
    "post-processing": 1,
    "metrics": 2,
    "thresholds and scores": 5,
    "contrast experiments": 2,
    "tables": 6,
    "reproduction": 1,
    "parity": 1,
    "figures": 5,
    "checks": 1,
    "report": 6,
    "study": 1,
}

# What each stage's result consists of.
STAGES: dict[str, tuple[str, ...]] = {
    "plan": (),
    "phantoms": ("phantoms",),
    "planted": ("planted strokes", "registration"),
    "ingest": ("cohort table",),
    "splits": ("splits",),
    "leaks": ("leaks",),
    "skull_strip": ("brain masks",),
    "register": ("registration",),
    "quality": ("quality", "contact sheets"),
    "pack": ("packing",),
    "backbone": ("perceptual distance", "phantoms"),
    "pretrain": ("training",),
    "train": ("training",),
    "reconstruct": ("reconstruction",),
    "score": ("post-processing", "metrics", "thresholds and scores"),
    "experiments": ("contrast experiments", "reconstruction"),
    "tables": ("tables",),
    "reproduction": ("tables", "reproduction"),
    "parity": ("parity",),
    "scores": (),
    "figures": ("figures",),
    "check": ("checks",),
    "report": ("report", "post-processing"),
    "measure": ("study", "post-processing", "metrics", "thresholds and scores"),
    "study": ("study",),
}


def versions_of(stage: str) -> dict[str, int]:
    """The versions of what a stage's result consists of."""
    return {word: VERSIONS[word] for word in STAGES[stage]}


def write_settings(
    folder: str | Path,
    stage: str,
    name: str,
    content: dict[str, Any],
    put: Callable[[str | Path, str], None] = write_text,
) -> str:
    """Write a stage's settings file; returns its path, which names stage, job and recipe.

    Args:
        folder: where settings files of the run live.
        stage: a key of `STAGES`.
        name: which job of the stage, e.g. `cddpm-t2`.
        content: plain types only.
        put: writes the text to the path, now or later.
    """
    text = json.dumps(settings_record(stage, content), indent=1, sort_keys=True) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    path = Path(folder) / f"{stage}-{name}-{digest}.json"
    put(path, text)
    return str(path)


def settings_record(stage: str, content: dict[str, Any]) -> dict[str, Any]:
    """What a stage's settings file holds: its content, the stage and the versions of what it consists of."""
    return {"stage": stage, "versions": versions_of(stage), **content}


def differences(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The keys whose values differ between two settings, by name: (a.b.c, before, now); None: no such key."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted({*before, *now}):
            yield from differences(before.get(name), now.get(name), f"{key}.{name}".lstrip("."))
    elif before != now:
        yield key, before, now


def read_settings(path: str | Path) -> dict[str, Any]:
    """The content of a settings file."""
    return json.loads(Path(path).read_text())
