"""The record of how a result was made: settings, code version, packages, hardware, time; written beside the result."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from uad.common.files import atomic_path

_PACKAGES = ("antspyx", "HD_BET", "lightning", "nibabel", "nnunetv2", "numpy", "pandas", "scipy", "SimpleITK",
             "snakemake", "torch", "torchmetrics")  # fmt: skip


class Provenance:
    """Create it at the start of a job, write it at the end."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._start = time.time()

    def write(self, path: str | Path, **facts: Any) -> None:
        """Write the record as JSON; `facts` are what this stage adds (seeds, inputs' hashes, counts)."""
        record = {
            "settings": self._settings,
            "code": _git_state(),
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "packages": _versions(),
            "hardware": _hardware(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._start)),
            "seconds": round(time.time() - self._start, 1),
            **facts,
        }
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(record, indent=1, sort_keys=True, default=str) + "\n")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git_state() -> dict[str, Any]:
    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "modified": None}


def _hardware() -> dict[str, Any]:
    hardware: dict[str, Any] = {"machine": platform.machine(), "cores": os.cpu_count()}
    torch = sys.modules.get("torch")  # only a job that used torch has a GPU to name
    if torch is not None and torch.cuda.is_available():
        hardware["gpu"] = torch.cuda.get_device_name()
    return hardware
