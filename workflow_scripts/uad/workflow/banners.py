"""What Snakemake's user reads when a run starts and when it ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from uad.download.needs import read_needs, read_own
from uad.download.plan import missing_lines
from uad.workflow.run_plan import RunPlan


def start_banner(plan: RunPlan, sources: str, whole: bool) -> str:
    """What will be made of what, and what is not there yet.

    Args:
        sources: the run's file of what it fetches and from where.
        whole: all results are asked for.
    """
    config = plan.config
    cohorts = ", ".join(f"{name} ({cohort.source})" for name, cohort in config.cohorts.items())
    left_out = whole and not plan.experiment_arms()
    absent = ", ".join(plan.left_out)
    return (
        f"\nuadbench run '{config.run}', protocol '{config.protocol}', {config.folds} fold(s)"
        f"{'' if whole else ': only a part of it is asked for'}\n"
        f"  arms     {', '.join(config.arms)}\n  cohorts  {cohorts}\n  results  {plan.results}/\n"
        + ("  left out figures 2 and 3: they need an arm of method cddpm and one of ddpm\n" if left_out else "")
        + (f"  left out {absent}: optional, not here (snakemake -c1 plan says what to do)\n" if absent else "")
        + _missing_data(plan, sources)
    )


def _missing_data(plan: RunPlan, sources: str) -> str:
    """Empty when all is there, or when another run has used it."""
    if plan.config.data_of:
        return f"  data     of run '{plan.config.data_of}', which are only read\n"
    needs, settings, content = read_needs(sources)
    lines = missing_lines(needs, settings, read_own(content))
    if not lines:
        return ""
    return f"  not here {'; '.join(lines)}\n           (snakemake -c1 plan says where from and what to do)\n"


def success_banner(plan: RunPlan, made: Sequence[str], whole: bool) -> str:
    """What this call has made; nothing where it only looked.

    Args:
        made: the rule of each job that has made files.
        whole: all results were asked for.
    """
    run, results = plan.config.run, plan.results
    logs = f"  logs     {results}/logs/<rule>/, benchmarks {results}/benchmarks/\n"
    if whole:
        return (
            f"\nuadbench run '{run}' is complete\n"
            f"  table    {results}/tables/table3.md  (long form: table3.csv; reconstruction quality: table2.md)\n"
            f"  report   {results}/report/index.html (opens from disk)\n"
            f"  pictures {results}/figures/\n{logs}"
        )
    if not made:
        return ""
    jobs = ", ".join(f"{count} {rule}" for rule, count in sorted(Counter(made).items()))
    scored = "  scores   snakemake -c1 scores prints them, with the same --configfile\n" if "score" in made else ""
    return (
        f"\nuadbench run '{run}': the part that was asked for is made ({jobs})\n{scored}{logs}"
        "  The same command without target, --until and --omit-from makes the whole run.\n"
    )


def failure_banner(plan: RunPlan) -> str:
    return (
        f"\nuadbench run '{plan.config.run}' stopped; finished work is kept and the same command continues.\n"
        f"  The failed rule is named above; its log is in {plan.results}/logs/<rule>/.\n"
    )
