"""Reading the benchmark files that Snakemake writes for every job."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from uad.common.tabular import read_table

_MISSING = ["-", "NA"]  # Snakemake's words for what it could not measure


def read_benchmark(path: Path) -> pd.DataFrame:
    """One row per repeat of a job: s, cpu_time (seconds), max_rss (MB) and more; NaN for what was not measured."""
    return read_table(path, numbers=("s", "cpu_time", "max_rss"), missing=_MISSING)


def read_benchmarks(folder: Path) -> pd.DataFrame:
    """One row per job: stage, job, s, cpu_time (seconds) and max_rss (MB).

    A file `benchmarks/<stage>/<job>.tsv` or `benchmarks/<stage>.tsv` holds one line per repeat of its job.
    """
    frames = [
        read_benchmark(path).assign(
            stage=path.relative_to(folder).parts[0].removesuffix(".tsv"),
            job=path.stem if path.parent != folder else "",
        )
        for path in sorted(folder.glob("**/*.tsv"))
    ]
    columns = ["stage", "job", "s", "cpu_time", "max_rss"]
    return (
        pd.concat(frames, ignore_index=True)[columns].dropna(subset=["s"]) if frames else pd.DataFrame(columns=columns)
    )
