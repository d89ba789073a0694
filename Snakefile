# uadbench: from raw archives to the paper's tables.  Read rules/common.smk for how paths and settings are made.
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")
sys.path.insert(0, str(Path(workflow.basedir) / "workflow_scripts"))


configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/fetch.smk"


# where the data are another run's, no rule can write them
if not CONFIG.data_of:

    include: "rules/acquire.smk"
    include: "rules/preprocess.smk"


include: "rules/leaks.smk"
include: "rules/train.smk"
include: "rules/reconstruct.smk"
include: "rules/score.smk"
include: "rules/experiments.smk"
include: "rules/report.smk"
include: "rules/html_report.smk"


for baseline in sorted(Path(workflow.basedir).glob("rules/baselines/*.smk")):

    include: str(baseline)


check_other_inputs()
logging.getLogger("snakemake.logging").addFilter(
    TargetHint([rule.name for rule in workflow.rules], CONFIG.run, CONFIG.arms)
)


localrules:
    all,
    packed,


rule all:
    default_target: True
    input:
        final_results(),


# what is made of the scans before any arm: stores, splits, quality (docs/own-data.md)
rule packed:
    input:
        packed(),


onstart:
    refuse_unready_slurm()
    hold_run()
    write_planned_files()
    stop_at_sigterm()
    print(start_banner(), end="", file=sys.stderr)


onsuccess:
    if not CONFIG.execution.keep_reconstructions:
        drop_reconstructions()
    print(success_banner(), end="", file=sys.stderr)


onerror:
    print(failure_banner(), file=sys.stderr)
