"""How much work is left: jobs, GPU hours and CPU hours, from a dry run and this run's benchmark files.

A job's hours come from the first of these that is known:

- `measured`: the mean of the finished jobs of the same rule and cohort, or rule and arm;
- `computed`: from operations and scans (`uad.workflow.operations`);
- `other jobs`: the mean of the rule's finished jobs;
- `time limit`: what the job asks for, more than it should need.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from uad.download.checks import size
from uad.workflow.dry_run import Job


@dataclass(frozen=True)
class Work:
    """The jobs of one rule that are left.  Hours are those of the GPUs and CPUs asked for, as clusters count them.

    Attributes:
        gpu_hours, cpu_hours: likely ones; `basis` says where they come from.
        gpu_limit, cpu_limit: if each job used its time limit up.
    """

    rule: str
    jobs: int
    gpu_hours: float
    cpu_hours: float
    basis: str
    gpu_limit: float
    cpu_limit: float


def work_left(
    jobs: Iterable[Job],
    benchmarks: pd.DataFrame,
    names: Collection[str],
    computed: Mapping[tuple[str, str], float] = MappingProxyType({}),
) -> list[Work]:
    """Jobs and hours per rule, in the order of the jobs given.

    Args:
        benchmarks: one row per finished job: stage (its rule), job, s (`uad.reporting.benchmarks.read_benchmarks`).
        names: the run's cohorts and arms.
        computed: hours of one job by (rule, cohort or arm).
    """
    own, rule_wide = _mean_hours(benchmarks, names)
    left: dict[str, list[tuple[Job, float, str]]] = defaultdict(list)
    for job in jobs:
        left[job.rule].append((job, *_hours(job, own, computed, rule_wide)))
    return [
        Work(
            rule, len(rows),
            sum(job.gpus * hours for job, hours, _ in rows), sum(job.threads * hours for job, hours, _ in rows),
            ", ".join(f"{basis} ({count})" if count < len(rows) else basis
                      for basis, count in Counter(basis for _, _, basis in rows).items()),
            sum(job.gpus * job.minutes for job, _, _ in rows) / 60,
            sum(job.threads * job.minutes for job, _, _ in rows) / 60,
        )
        for rule, rows in left.items()
    ]  # fmt: skip


def report(left: list[Work]) -> str:
    """The estimate as text."""
    if not left:
        return "Nothing is left to do."
    columns = ("gpu_hours", "gpu_limit", "cpu_hours", "cpu_limit")
    rows: list[tuple[str, ...]] = [("rule", "jobs", "GPU h likely", "limit", "CPU h likely", "limit", "likely from")]
    rows += [(w.rule, str(w.jobs), *(_hours_text(getattr(w, key)) for key in columns), w.basis) for w in left]
    totals = [sum(getattr(w, key) for w in left) for key in columns]
    rows.append(("in all", str(sum(w.jobs for w in left)), *map(_hours_text, totals), ""))
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, 6)), row[6]]).rstrip()
        for row in rows
    ]
    note = (
        "Limit: what the jobs ask for. Likely: what they should need; `computed` follows from operations and scans and "
        "was not\nmeasured, `time limit` means that nothing better is known until a job of the rule has finished."
    )
    return "\n".join([*lines, note])


def disk_warnings(needed: Mapping[Path, float]) -> list[str]:
    """One sentence per disk that is too small.

    Args:
        needed: folder -> bytes that will still be written there; folders on one disk share its space.
    """
    disks: dict[int, list[Path]] = defaultdict(list)
    for folder in needed:
        disks[_existing(folder).stat().st_dev].append(folder)
    warnings = []
    for folders in disks.values():
        need, free = sum(needed[folder] for folder in folders), shutil.disk_usage(_existing(folders[0])).free
        if need > free:
            names = " and ".join(map(str, folders))
            warnings.append(
                f"The disk of {names} is too small: about {size(need)} will still be written, {size(free)} are free, "
                f"{size(need - free)} are missing."
            )
    return warnings


def bytes_below(folder: Path) -> int:
    """Bytes of the files that a folder holds; links count nothing."""
    files = (Path(parent) / name for parent, _, names in os.walk(folder) for name in names)
    return sum(file.lstat().st_size for file in files)


def gpu_warning(trainings: int, seconds: float) -> str:
    """How long the trainings that are left take without a GPU."""
    return (
        f"No GPU found, and {trainings} trainings are left: this CPU alone would need about {span(seconds)} for them "
        "(computed). On a cluster, the profile sends jobs to the GPUs."
    )


def span(seconds: float) -> str:
    """A length of time in words, e.g. `3 days`; one digit is enough for an estimate."""
    for unit, length in (("year", 365 * 86400), ("month", 30 * 86400), ("day", 86400), ("hour", 3600), ("minute", 60)):
        count = round(seconds / length)
        if seconds >= 1.5 * length or unit == "minute":
            return f"{count} {unit}s" if count > 1 else f"a {unit}".replace("a hour", "an hour")
    raise AssertionError("minutes fit everything")


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(each for each in (folder, *folder.parents) if each.exists())


def _mean_hours(
    benchmarks: pd.DataFrame, names: Collection[str]
) -> tuple[Mapping[tuple[str, str], float], Mapping[str, float]]:
    """Mean hours of finished jobs by (rule, cohort or arm), and by rule."""
    whose = [_who(job, names) for job in benchmarks["job"]]
    hours = benchmarks["s"] / 3600
    return hours.groupby([benchmarks["stage"], pd.Series(whose, benchmarks.index, dtype=str)]).mean().to_dict(), (
        hours.groupby(benchmarks["stage"]).mean().to_dict()
    )


def _who(job: str, names: Collection[str]) -> str:
    """The cohort or arm that a benchmark file is of: `cddpm-ssl-t2-fold0` is of cddpm-ssl, not of cddpm."""
    found = [name for name in names if re.match(rf"{re.escape(name)}($|[-_])", job)]
    return max(found, key=len, default="")


def _hours(
    job: Job,
    own: Mapping[tuple[str, str], float],
    computed: Mapping[tuple[str, str], float],
    rule_wide: Mapping[str, float],
) -> tuple[float, str]:
    if (job.rule, job.who) in own:
        return own[job.rule, job.who], "measured"
    if (job.rule, job.who) in computed:
        return computed[job.rule, job.who] / max(job.gpus if job.rule == "train" else 1, 1), "computed"
    if job.rule in rule_wide:
        return rule_wide[job.rule], "other jobs"
    return job.minutes / 60, "time limit" if job.minutes else "login node"


def _hours_text(hours: float) -> str:
    return f"{hours:.{1 if hours >= 10 else 2}f}" if hours else "-"
