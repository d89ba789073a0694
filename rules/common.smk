# What the rules share: the checked configuration, paths, and each job's settings file.
#
# A settings file holds the slice of the resolved configuration that one job reads (uad/common/recipe.py).  Its name
# carries a hash of its content and is passed as a parameter, so Snakemake reruns exactly what a change concerns.
# Paths and lists are made in uad/workflow/run_plan.py.
from functools import cache

import yaml
from snakemake.exceptions import WorkflowError

from uad.cohorts.changes import token_of
from uad.common.errors import InputError
from uad.common.recipe import versions_of, write_settings
from uad.config import (
    arm_settings,
    in_order_of,
    inference_of,
    pretraining_settings,
    refuse_twice,
    resolve,
)
from uad.config.data_stages import (
    ingest_settings,
    pack_settings,
    planted_settings,
    register_settings,
    skull_strip_settings,
    split_settings,
)
from uad.config.places import hd_bet_folder, stroke_masks_folder
from uad.download.needs import fetches_hd_bet, medicalnet_file, write_sources
from uad.download.sources import read_sources
from uad.workflow.driver import Driver
from uad.workflow.left_out import find_left_out, read_left_out
from uad.workflow.planned_files import PlannedFiles
from uad.workflow.run_plan import RunPlan
from uad.workflow.shared_data import STORE_FILES, check_data, refuse_links

PLANNED = PlannedFiles()

try:
    for configfile in workflow.configfiles:
        refuse_twice(configfile)
    BASE = yaml.safe_load((Path(workflow.basedir) / "config.yaml").read_text())
    CONFIG = resolve(in_order_of(config, BASE))
    PLAN = RunPlan(CONFIG)
    # a job goes by what the main process has found: data may come while it runs
    LEFT_OUT = find_left_out(PLAN) if workflow.is_main_process else read_left_out(PLAN)
    if LEFT_OUT:  # as an overlay would leave them out
        config["cohorts"] |= dict.fromkeys(LEFT_OUT)
        CONFIG = resolve(in_order_of(config, BASE))
        PLAN = RunPlan(CONFIG, LEFT_OUT)
    # programs look below RESULTS; where the data are another run's (DATA), it has links to them
    RESULTS, DATA = PLAN.results, PLAN.data
    if CONFIG.data_of:
        check_data(CONFIG, Path(RESULTS))
    else:
        refuse_links(Path(RESULTS))
    if workflow.is_main_process:
        SOURCES_FILE = write_sources(
            CONFIG, RESULTS, PLAN.raw_folder, PLANNED.put, LEFT_OUT
        )
    else:  # a job, for which the main process has looked at the data
        SOURCES_FILE = f"{RESULTS}/settings/sources.json"
except InputError as error:
    raise WorkflowError(str(error)) from None

COHORTS = CONFIG.cohorts
METHODS = PLAN.methods
DRIVER = Driver(workflow, PLAN, PLANNED, SOURCES_FILE)


wildcard_constraints:
    cohort="|".join(COHORTS),
    arm="|".join(CONFIG.arms),
    modality="|".join(PLAN.modalities),
    fold=r"\d+",
    shard=r"\d+",


def settings_file(stage, job, /, **content):
    """Path of a job's settings file; the content is plain types (see uad/common/recipe.py)."""
    return write_settings(f"{RESULTS}/settings", stage, job, content, PLANNED.put)


def section(name):
    """One section of the resolved configuration as plain types."""
    return getattr(CONFIG, name).model_dump(mode="json")


def without(settings, *keys):
    return {key: value for key, value in settings.items() if key not in keys}


def report_settings(stage, **more):
    return settings_file(stage, CONFIG.run, **PLAN.report_settings(), **more)


def scoring_settings(arm, modality):
    """How an arm is scored."""
    return {
        **without(arm_settings(CONFIG, arm), "train"),
        "modality": modality,
        "cohorts": cohorts_with(modality),
        "train_cohort": CONFIG.train_cohort,
        "voxel_ml": round(PLAN.store_spacing_mm() ** 3 / 1000, 6),
        "inference": inference_of(CONFIG, arm).model_dump(mode="json"),
        "postprocess": section("postprocess"),
        "threshold": section("threshold"),
        "dice_without_lesion": CONFIG.tables.dice_without_lesion,
    }


def growing(amount):
    """A resource for the first attempt; a retry asks for twice as much, three times, and so on."""
    return lambda wc, attempt: amount * attempt


@cache
def token_of_cohort(cohort):
    record = f"{RESULTS}/cohorts/{cohort}.raw.json"
    folders = PLAN.raw_folder(cohort), PLAN.unpacked_folder(cohort)
    return token_of(record, *folders, PLANNED.put)


def raw_token(wildcards):
    """Another one once a raw file has changed, come or gone since ingest (uad/cohorts/changes.py)."""
    return token_of_cohort(wildcards.cohort)


def masks_token(wildcards):
    """Another one once a stroke mask has changed, come or gone since they were planted."""
    record = f"{RESULTS}/acquired/{wildcards.cohort}.masks.json"
    folders = stroke_masks_folder(CONFIG), PLAN.unpacked_folder(wildcards.cohort)
    return token_of(record, *folders, PLANNED.put)


def hd_bet_files(wildcards):
    """What brain extraction waits for, where its parameters are to be fetched."""
    if not fetches_hd_bet(CONFIG, wildcards.cohort, PLAN.raw_folder):
        return []
    names = read_sources()["hd-bet"].members
    return [f"{hd_bet_folder(CONFIG)}/{name}" for name in names]


def cohorts_with(modality):
    return PLAN.cohorts_with(modality)


def stores_of(wildcards):
    """The packed scans of every cohort that has the modality."""
    return PLAN.store_files(cohorts_with(wildcards.modality), wildcards.modality)


def splits_of(wildcards):
    return PLAN.split_tables(cohorts_with(wildcards.modality))
