"""What a run still has to do, as Snakemake plans it in a dry run inside this process."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snakemake.api import SnakemakeApi
from snakemake.exceptions import RuleException, WorkflowError
from snakemake.settings.enums import Quietness
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings
from snakemake.workflow import Workflow

from uad.common.errors import InputError

_ENOUGH_CORES = 10_000  # more than any job asks for, so that no number of threads is cut


@dataclass(frozen=True)
class Job:
    """One job that is left.

    Attributes:
        who: its cohort or arm; empty for jobs of the whole run.
        gpus, threads: what it asks for.
        minutes: its time limit on the first attempt; 0 for what runs on the login node.
        before, now: the parameters that differ from when it ran last, as Python text; empty: none does.
    """

    rule: str
    who: str
    gpus: int
    threads: int
    minutes: float
    before: str = ""
    now: str = ""


def dry_run(config: Mapping[str, Any]) -> Workflow:
    """Plan the whole run of a configuration with the Snakefile of the current folder; writes nothing.

    Raises:
        InputError: there is no plan, e.g. because a file is missing.
    """
    # with just these two, Snakemake stops where it would list the jobs one by one
    quiet = {Quietness.RULES, Quietness.PROGRESS}
    output = OutputSettings(dryrun=True, quiet=quiet, log_level_override=logging.ERROR)
    with SnakemakeApi(output) as api:
        try:
            plan = api.workflow(ResourceSettings(cores=_ENOUGH_CORES), ConfigSettings(config=config))
            plan.dag(DAGSettings(force_incomplete=True)).execute_workflow(executor="dryrun")  # as profiles/default
        except (RuleException, WorkflowError) as error:
            raise InputError("no plan can be made: " + " ".join(str(error).split())) from error
    return plan._workflow  # the API prints plans and returns none


def jobs_of(workflow: Workflow) -> list[Job]:
    """The jobs of a dry run, in the order of the rules; the target rule `all` does nothing and is left out."""
    order = {rule.name: place for place, rule in enumerate(workflow.rules)}
    jobs = []
    for job in sorted(workflow.dag.needrun_jobs(), key=lambda job: order[job.rule.name]):
        who = job.wildcards_dict.get("cohort") or job.wildcards_dict.get("arm", "")
        gpus, minutes = job.resources.get("gpu", 0), job.resources.get("runtime", 0)
        if job.rule.name != "all":
            change = workflow.dag.reason(job).params_changed
            before, now = (",".join(sorted(values)) for values in (change.only_old, change.only_new))
            jobs.append(Job(job.rule.name, who, gpus, job.threads, minutes, before, now))
    return jobs
