"""How much work is left: jobs, GPU hours and CPU hours, from a dry run and this run's benchmark files.

The dry run knows which jobs are left and what each asks for.  A job's hours come from the best of these:

- `measured`: the mean of the finished jobs of the same rule and cohort, or rule and arm;
- `method`: for trainings, the hours that the method names (`gpu_hours`), which are what the job asks for;
- `other jobs`: the mean of the rule's finished jobs;
- `time limit`: what the job asks for, which is more than it should need.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

_TRAINING = ("train", "pretrain")


@dataclass(frozen=True)
class Job:
    """One job of a dry run.

    Attributes:
        who: its cohort or arm; empty for jobs of the whole run.
        gpus, threads: what it asks for.
        minutes: its time limit on the first attempt; 0 for what runs on the login node.
    """

    rule: str
    who: str
    gpus: int
    threads: int
    minutes: float


@dataclass(frozen=True)
class Work:
    """The jobs of one rule that are left.  Hours are those of the GPUs and CPUs asked for, as clusters count them."""

    rule: str
    jobs: int
    gpu_hours: float
    cpu_hours: float
    basis: str


def job_blocks(dry_run: str) -> list[tuple[str, str]]:
    """(rule, what Snakemake says about the job) of every job that `snakemake -n` names."""
    blocks = re.split(r"^(?:local)?rule (?=\w+:$)", dry_run, flags=re.MULTILINE)[1:]
    return [(block.split(":", 1)[0], block) for block in blocks]


def jobs_of(dry_run: str) -> list[Job]:
    """The jobs that `snakemake -n` names; the target rule `all` does nothing and is left out."""
    jobs = []
    for rule, block in job_blocks(dry_run):
        values = dict(re.findall(r"^    (wildcards|threads|resources): (.+)$", block, re.MULTILINE))
        wildcards, resources = (_pairs(values.get(key, "")) for key in ("wildcards", "resources"))
        who = wildcards.get("cohort") or wildcards.get("arm", "")
        gpus, minutes = int(resources.get("gpu", 0)), float(resources.get("runtime", 0))
        if rule != "all":
            jobs.append(Job(rule, who, gpus, int(values.get("threads", 1)), minutes))
    return jobs


def work_left(jobs: Iterable[Job], benchmarks: pd.DataFrame, names: Collection[str]) -> list[Work]:
    """Jobs and hours per rule, in the order of the dry run.

    Args:
        benchmarks: one row per finished job: stage (its rule), job, s (`uad.benchmarks.read_benchmarks`).
        names: the run's cohorts and arms.
    """
    own, rule_wide = _mean_hours(benchmarks, names)
    left: dict[str, list[tuple[Job, float, str]]] = defaultdict(list)
    for job in jobs:
        left[job.rule].append((job, *_hours(job, own, rule_wide)))
    return [
        Work(
            rule, len(rows),
            sum(job.gpus * hours for job, hours, _ in rows), sum(job.threads * hours for job, hours, _ in rows),
            ", ".join(f"{basis} ({count})" if count < len(rows) else basis
                      for basis, count in Counter(basis for _, _, basis in rows).items()),
        )
        for rule, rows in left.items()
    ]  # fmt: skip


def report(left: list[Work]) -> str:
    """The estimate as text."""
    if not left:
        return "Nothing is left to do."
    rows = [("rule", "jobs", "GPU hours", "CPU hours", "from")]
    rows += [(w.rule, str(w.jobs), _hours_text(w.gpu_hours), _hours_text(w.cpu_hours), w.basis) for w in left]
    total = [sum(getattr(w, key) for w in left) for key in ("jobs", "gpu_hours", "cpu_hours")]
    rows.append(("in all", str(total[0]), *(_hours_text(hours) for hours in total[1:]), ""))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in (1, 2, 3)), row[4]]).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "Hours from a time limit are an upper bound; they get better with each finished job."])


def _pairs(text: str) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=([^,]+)", text))


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


def _hours(job: Job, own: Mapping[tuple[str, str], float], rule_wide: Mapping[str, float]) -> tuple[float, str]:
    if (job.rule, job.who) in own:
        return own[job.rule, job.who], "measured"
    if job.rule in _TRAINING:
        return job.minutes / 60, "method"
    if job.rule in rule_wide:
        return rule_wide[job.rule], "other jobs"
    return job.minutes / 60, "time limit" if job.minutes else "login node"


def _hours_text(hours: float) -> str:
    return f"{hours:.{1 if hours >= 10 else 2}f}" if hours else "-"
