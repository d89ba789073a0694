"""What the process that drives a run does besides running jobs: it holds the run, stops it, cleans up and reports."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
from snakemake.exceptions import WorkflowError

from uad.common.errors import InputError
from uad.common.files import exclusive, holder_of
from uad.workflow.banners import failure_banner, start_banner, success_banner
from uad.workflow.planned_files import PlannedFiles
from uad.workflow.run_plan import RunPlan
from uad.workflow.shared_data import link_data
from uad.workflow.slurm import missing_for_slurm
from uad.workflow.target_hint import TargetHint


class Driver:
    """Answers Snakemake's onstart, onsuccess and onerror.

    Args:
        workflow: Snakemake's own object.
        plan: of the run.
        planned: files that the jobs read; written when the run starts.
        sources: the run's file of what it fetches and from where.
    """

    def __init__(self, workflow: Any, plan: RunPlan, planned: PlannedFiles, sources: str) -> None:
        self._workflow, self._plan, self._planned, self._sources = workflow, plan, planned, sources
        self._held = contextlib.ExitStack()  # until this process ends
        self._holds_run = False

    def check_rules(self) -> None:
        """To be called when all rules are known.

        Raises:
            WorkflowError: an arm reads what neither exists nor is made by a rule.  Snakemake itself would go on with
                older results of the arm, if there are any.
        """
        rules = list(self._workflow.rules)
        for arm, file in self._plan.all_other_inputs():
            if not Path(file).exists() and not any(rule.is_producer(file) for rule in rules):
                raise WorkflowError(
                    f"config: arms.{arm}.params: {file} does not exist and no rule makes it; correct the path,"
                    " make the file, or add a rule to rules/baselines"
                )
        config = self._plan.config
        hint = TargetHint([rule.name for rule in rules], config.run, config.arms)
        logging.getLogger("snakemake.logging").addFilter(hint)

    def start(self) -> None:
        self._refuse_unready_slurm()
        if self._makes_files():
            self._hold_run()
        self._write_planned_files()
        # SIGTERM does what Ctrl-C does; Snakemake itself would wait for jobs that run, which may take hours
        signal.signal(signal.SIGTERM, _stop_with_jobs)
        if self._makes_files():
            print(start_banner(self._plan, self._sources, self._is_whole()), end="", file=sys.stderr)

    def succeed(self) -> None:
        if not self._plan.config.execution.keep_reconstructions:
            self._drop_reconstructions()
        made = [job.rule.name for job in self._workflow.dag.finished_jobs if job.output]
        print(success_banner(self._plan, made, self._is_whole()), end="", file=sys.stderr)

    def fail(self) -> None:
        print(failure_banner(self._plan), file=sys.stderr)

    def _makes_files(self) -> bool:
        """Whether this call has jobs that write results; `plan` has none."""
        return any(job.output for job in self._workflow.dag.needrun_jobs(exclude_finished=False))

    def _is_whole(self) -> bool:
        """Whether all was asked for: `--until`, `--omit-from` and `--batch` take `all` from the targets."""
        return any(job.rule.name == "all" for job in self._workflow.dag.targetjobs)

    def _refuse_unready_slurm(self) -> None:
        """Say at once what only the first submitted job would notice, after all downloads."""
        jobs = [job for job in self._workflow.dag.needrun_jobs() if not job.is_local]
        if self._workflow.executor_plugin.name != "slurm" or not jobs:
            return
        if missing := missing_for_slurm({job.resources.get("slurm_account") for job in jobs}):
            raise WorkflowError("; ".join(missing))

    def _hold_run(self) -> None:
        """One driver per run.  Snakemake's own locks go as soon as any Snakemake of the checkout ends."""
        plan = self._plan
        self._holds_run = self._held.enter_context(exclusive(plan.results, self._refuse_second_driver))
        if plan.config.data_of:
            link_data(plan.config, Path(plan.results))

    def _refuse_second_driver(self) -> None:
        # no exception: Snakemake would print the Snakefile's lines below it
        sys.exit(
            f"error: run '{self._plan.config.run}' is being made by another Snakemake: "
            f"{holder_of(self._plan.results)}; wait for it, or end it first (docs/cluster.md, Two runs, two people)"
        )

    def _write_planned_files(self) -> None:
        """What the jobs of this call read; a job's own process finds it written."""
        for job in self._workflow.dag.needrun_jobs():
            job.params  # noqa: B018  names the job's settings file
        try:
            self._planned.write()
        except InputError as error:
            sys.exit(f"error: {error}")

    def _drop_reconstructions(self) -> None:
        """Free the disk space of what this whole run has scored, records apart.

        A changed score recipe makes them again.
        """
        plan = self._plan
        made = all(Path(path).exists() for path in [*plan.scores(), *plan.viewer_scans()])
        if not (self._is_whole() and self._holds_run and made) or self._workflow.touch:
            return
        for table in plan.of_every_score("reconstructions/{arm}/{modality}/fold{fold}/arrays.tsv"):
            folder = Path(table).parent
            Path(table).unlink(missing_ok=True)  # first: without it, all is made again
            for file in set(folder.glob("*")) - {folder / "provenance.json"}:
                file.unlink()


def _stop_with_jobs(*_: Any) -> None:
    """Trainings checkpoint at SIGTERM; SIGINT would be ignored where a script has started the driver with `&`."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    raise KeyboardInterrupt
