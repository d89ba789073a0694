"""Which optional cohorts a run goes without, because their data are neither here nor to be fetched."""

from __future__ import annotations

from pathlib import Path

from uad.download.needs import left_out, read_needs
from uad.workflow.run_plan import RunPlan


def find_left_out(plan: RunPlan) -> dict[str, str]:
    """Optional cohorts that are not here -> what the user can do, in one line.

    With `data_of` the other run's data count, for the raw data need not be here.
    """
    config = plan.config
    if not config.data_of:
        return left_out(config, plan.raw_folder)
    return {
        name: f"run '{config.data_of}' does not have it; place its data, and let that run make them first"
        for name, cohort in config.cohorts.items()
        if cohort.optional and not Path(f"{plan.data}/cohorts/{name}.tsv").exists()
    }


def read_left_out(plan: RunPlan) -> dict[str, str]:
    """The same, as the main process of this run has found and written it."""
    return read_needs(f"{plan.results}/settings/sources.json")[2]["left_out"]
