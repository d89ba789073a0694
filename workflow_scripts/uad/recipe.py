"""Recipes: what a result depends on besides its input files.

Snakemake reruns a job when its `params` change, but it sees neither the library nor the configuration.  Each job
therefore gets the path of a *settings file* as a parameter: the slice of the resolved configuration that the job
reads, plus the `RECIPE_VERSION` integers of the modules that make its numbers.  The file's name carries the hash
of its content, so another recipe is another parameter.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uad.files import atomic_path

_LIBRARY = Path(__file__).parent

# The modules whose numbers each stage's result consists of; each holds a line `RECIPE_VERSION = <integer>`.
STAGES: dict[str, tuple[str, ...]] = {
    "plan": (),
    "ingest": ("cohorts/base.py",),
    "splits": ("cohorts/splits.py",),
    "skull_strip": ("preprocessing/skull_strip.py",),
    "register": ("preprocessing/register.py",),
    "pack": ("store.py", "packing.py"),
    "backbone": ("metrics/perceptual.py", "cohorts/phantom/__init__.py"),
    "pretrain": ("training.py",),
    "train": ("training.py",),
    "reconstruct": ("reconstruction.py",),
    "score": ("scoring.py",),
    "experiments": ("experiments.py", "reconstruction.py"),
    "tables": ("reporting/tables.py",),
    "reproduction": ("reporting/tables.py", "reporting/reproduction.py"),
    "parity": ("reporting/parity.py",),
    "figures": (
        "reporting/architecture.py",
        "reporting/curves.py",
        "reporting/experiments.py",
        "reporting/figures.py",
        "reporting/overview.py",
        "reporting/panels.py",
        "reporting/residuals.py",
    ),
    "report": ("reporting/report/build.py",),
}


def module_version(module: str) -> int:
    """The `RECIPE_VERSION` of a library module, read as text so that nothing heavy is imported."""
    found = re.search(r"^\s*RECIPE_VERSION\b[^=\n]*= (\d+)", (_LIBRARY / module).read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{module} has no line 'RECIPE_VERSION = <integer>'")
    return int(found.group(1))


def write_settings(folder: str | Path, stage: str, name: str, content: dict[str, Any]) -> str:
    """Write a stage's settings file unless it exists; returns its path, which names stage, job and recipe.

    Args:
        folder: where settings files of the run live.
        stage: a key of `STAGES`.
        name: which job of the stage, e.g. `cddpm-t2`.
        content: plain types only.
    """
    text = json.dumps(settings_record(stage, content), indent=1, sort_keys=True) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    path = Path(folder) / f"{stage}-{name}-{digest}.json"
    if not path.exists():
        with atomic_path(path) as temporary:
            temporary.write_text(text)
    return str(path)


def settings_record(stage: str, content: dict[str, Any]) -> dict[str, Any]:
    """What a stage's settings file holds: its content, the stage and the versions of its modules."""
    return {"stage": stage, "versions": {module: module_version(module) for module in STAGES[stage]}, **content}


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
