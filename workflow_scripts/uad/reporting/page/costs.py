"""Time and memory per stage, from the benchmark files that Snakemake writes for every job."""

from __future__ import annotations

import pandas as pd

from uad.reporting.elements import Cell, Table, duration, number

# Stages in the order in which they run; others come after them.
_ORDER = (
    *("download", "phantom", "plant", "unpack", "sri24", "hd_bet", "medicalnet", "authors_splits", "ingest", "splits"),
    *("skull_strip", "register", "flag_outliers", "pack", "backbone", "pretrain", "train", "reconstruct"),
    *("score", "experiments", "tables", "reproduction", "figures", "check"),
)


def stage_table(jobs: pd.DataFrame) -> Table:
    """Jobs, time and memory of each stage."""
    heads = ["Stage", "Jobs", "Time, all jobs", "Median job", "Longest job", "CPU time", "Peak memory (MB)"]
    lines = []
    for stage in sorted(jobs["stage"].unique(), key=_rank):
        part = jobs[jobs["stage"] == stage]
        longest = part.loc[part["s"].idxmax()]
        time = duration(longest["s"])
        named = Cell(f"{time.text} ({longest['job']})" if longest["job"] else time.text, time.sort)
        lines.append([
            Cell(stage), Cell(str(len(part)), len(part)), duration(part["s"].sum()), duration(part["s"].median()),
            named, duration(part["cpu_time"].sum()), number(part["max_rss"].max(), 0),
        ])  # fmt: skip
    total = duration(jobs["s"].sum())
    note = f"Total job time {total.text} (jobs that ran in parallel are added up)." if len(jobs) else ""
    return Table(heads, lines, note)


def job_table(jobs: pd.DataFrame) -> Table:
    """Every job."""
    lines = [
        [Cell(f"{job.stage} {job.job}".strip()), duration(job.s), duration(job.cpu_time), number(job.max_rss, 0)]
        for job in sorted(jobs.itertuples(), key=lambda job: (_rank(job.stage), job.job))
    ]
    return Table(["Job", "Time", "CPU time", "Peak memory (MB)"], lines)


def _rank(stage: str) -> tuple[int, str]:
    return (_ORDER.index(stage) if stage in _ORDER else len(_ORDER), stage)
