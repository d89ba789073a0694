# uadbench: from raw archives to the paper's tables.  Read rules/common.smk for how paths and settings are made.
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.0")

try:
    import uad
except ImportError:
    raise WorkflowError(
        "the library of this checkout is not installed: pip install --no-deps -e . (README.md, The full study)"
    ) from None
# an environment that two checkouts share has the library of one of them
if not Path(uad.__file__).samefile(
    f"{workflow.basedir}/workflow_scripts/uad/__init__.py"
):
    raise WorkflowError(
        f"{uad.__file__} is the library of another checkout; give this one an environment of its own (README.md,"
        " The full study), or let it have this one: pip install --no-deps -e ."
    )


configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/download.smk"


# where the data are another run's, no rule can write them
if not CONFIG.data_of:

    include: "rules/ingest.smk"
    include: "rules/preprocess.smk"


include: "rules/train.smk"
include: "rules/infer.smk"
include: "rules/score.smk"
include: "rules/report.smk"


if CONFIG.study:

    include: "rules/study.smk"


for baseline in sorted(Path(workflow.basedir).glob("rules/baselines/*.smk")):

    include: str(baseline)


DRIVER.check_rules()


localrules:
    all,
    packed,


rule all:
    default_target: True
    input:
        PLAN.final_results(),


# what is made of the scans before any arm: stores, splits, quality (docs/own-data.md)
rule packed:
    input:
        PLAN.packed(),


onstart:
    DRIVER.start()


onsuccess:
    DRIVER.succeed()


onerror:
    DRIVER.fail()
