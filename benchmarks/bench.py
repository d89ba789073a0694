"""Time ours against the usual way, in turn in one process: `make bench`.

Prints each row as it is done and writes `<folder>/performance.csv`, `.md` and `.png`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from rows import ROWS, Row

from uad.common.files import atomic_path

ROUNDS = 5
_PACKAGES = (
    "numpy", "scipy", "scikit-learn", "scikit-image", "torch", "torchio", "mlxtend", "opensimplex", "numba", "hd-bet",
)  # fmt: skip


def timed(work: Callable[[], Any], clock: Callable[[], float]) -> tuple[Any, float]:
    start = clock()
    result = work()
    return result, clock() - start


def _cpu_seconds() -> float:
    """Of this process and its children: another's work on the machine does not count."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def measure(row: Row, rounds: int = ROUNDS) -> dict[str, Any]:
    """Medians over rounds in which both sides take turns; results are compared first.

    Raises:
        AssertionError: the results differ.
    """
    clock = _cpu_seconds if row.threads == 1 else time.perf_counter
    compared = timed(row.ours, clock), timed(row.theirs, clock)
    row.check(*(result for result, _ in compared))
    pairs = [compared] if row.once else [(timed(row.ours, clock), timed(row.theirs, clock)) for _ in range(rounds)]
    times = [(ours, theirs / row.part) for (_, ours), (_, theirs) in pairs]
    ours, theirs = (statistics.median(side) for side in zip(*times, strict=True))
    ratios = sorted(their / our for our, their in times)
    return {
        "work": row.work, "against": row.against, "ours_ms": 1e3 * ours, "theirs_ms": 1e3 * theirs,
        "ratio": theirs / ours, "lowest": ratios[0], "highest": ratios[-1], "target": row.target, "bound": row.bound,
    }  # fmt: skip


def target_text(row: Any) -> str:
    if math.isnan(row.target):
        return "none"
    return f"{row.target:g}" if row.ratio >= row.target else f"{row.target:g}, missed"


def markdown(table: pd.DataFrame) -> str:
    lines = ["| work | against | ours, ms | theirs, ms | times faster (range) | target | results |",
             "|---|---|--:|--:|--:|--:|---|"]  # fmt: skip
    lines += [
        f"| {row.work} | {row.against} | {row.ours_ms:.1f} | {row.theirs_ms:.1f} | **{row.ratio:.1f}**"
        f" ({row.lowest:.1f} to {row.highest:.1f}) | {target_text(row)} | {row.bound} |"
        for row in table.itertuples()
    ]
    versions = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    lines += ["", f"Medians of {ROUNDS} rounds, CPU time, one thread (training and inference: by the clock, two "
              f"threads); {machine()}; Python {platform.python_version()}, {versions}."]  # fmt: skip
    return "\n".join(lines) + "\n"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # numba, where not the whole benchmark runs
        return "(none)"


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def plot(table: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(7, 0.45 * len(table) + 1), layout="constrained")
    axes = figure.subplots()
    places = range(len(table))[::-1]
    axes.barh(places, table["ratio"], color="#0077BB", height=0.6)
    axes.scatter(table["target"], places, marker="|", s=160, color="#EE7733", zorder=3, label="target")
    for place, ratio in zip(places, table["ratio"], strict=True):
        axes.text(
            0.015, place, f"{ratio:.1f}", transform=axes.get_yaxis_transform(), va="center", fontsize=8, color="white"
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(places, [work.split(":")[0].split(" (")[0] for work in table["work"]], fontsize=8)
    axes.set_xlabel("times faster than the usual way")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), fontsize=8)  # off the bars
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("results/bench"))
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    results = []
    for name in arguments.rows:
        results.append(measure(ROWS[name]()))
        print(f"{name}: {results[-1]['ratio']:.1f} times faster (target {results[-1]['target']:g})", flush=True)
    table = pd.DataFrame(results)
    with atomic_path(arguments.folder / "performance.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.4g")
    with atomic_path(arguments.folder / "performance.md") as temporary:
        temporary.write_text(markdown(table))
    with atomic_path(arguments.folder / "performance.png") as temporary:
        plot(table).savefig(temporary, dpi=200)
    print(f"\n{markdown(table)}\n{arguments.folder}/performance.md, .csv, .png")


if __name__ == "__main__":
    main()
