# What the rules share: the checked configuration, paths, and each job's settings file.
#
# A settings file holds the slice of the resolved configuration that one job reads (uad/common/recipe.py).  Its name
# carries a hash of its content and is passed as a parameter, so Snakemake reruns exactly what a change concerns.
import contextlib
import logging
import signal
import sys
from collections import Counter
from functools import cache
from itertools import product

import psutil
import yaml
from snakemake.exceptions import WorkflowError

from uad.download.needs import (
    fetches_hd_bet,
    medicalnet_file,
    read_needs,
    read_own,
)
from uad.download.plan import missing_lines
from uad.download.sources import read_sources
from uad.cohorts import ADAPTERS
from uad.cohorts.changes import token_of
from uad.config import (
    arm_settings,
    build_method,
    in_order_of,
    pretraining_settings,
    refuse_twice,
    resolve,
)
from uad.config.data_stages import (
    ingest_settings,
    pack_settings,
    register_settings,
    skull_strip_settings,
    split_settings,
)
from uad.config.places import hd_bet_folder, placed_sri24
from uad.common.errors import InputError
from uad.common.files import exclusive, holder_of
from uad.workflow.planned_files import PlannedFiles
from uad.common.recipe import versions_of, write_settings
from uad.workflow.shared_data import STORE_FILES, check_data, link_data, refuse_links
from uad.workflow.slurm import missing_for_slurm
from uad.workflow.target_hint import TargetHint

try:
    for configfile in workflow.configfiles:
        refuse_twice(configfile)
    BASE = yaml.safe_load((Path(workflow.basedir) / "config.yaml").read_text())
    CONFIG = resolve(in_order_of(config, BASE))
    RESULTS = f"results/{CONFIG.run}"
    # where cohorts to stores lie; programs look below RESULTS, which has links then
    DATA = f"results/{CONFIG.data_of or CONFIG.run}"
    if CONFIG.data_of:
        check_data(CONFIG, Path(RESULTS))
    else:
        refuse_links(Path(RESULTS))
except InputError as error:
    raise WorkflowError(str(error)) from None

COHORTS = CONFIG.cohorts
PHANTOMS = [name for name, cohort in COHORTS.items() if cohort.source == "phantom"]
ARCHIVES = [name for name, cohort in COHORTS.items() if cohort.source == "archive"]
METHODS = {arm: build_method(CONFIG, arm) for arm in CONFIG.arms}
MODALITIES = [m for m in ("t1", "t2") if m in COHORTS[CONFIG.train_cohort].modalities]


wildcard_constraints:
    cohort="|".join(COHORTS),
    arm="|".join(CONFIG.arms),
    modality="|".join(MODALITIES),
    fold=r"\d+",
    shard=r"\d+",


PLANNED = PlannedFiles()


def settings_file(stage, job, /, **content):
    """Path of a job's settings file; the content is plain types (see uad/common/recipe.py)."""
    return write_settings(f"{RESULTS}/settings", stage, job, content, PLANNED.put)


def section(name):
    """One section of the resolved configuration as plain types."""
    return getattr(CONFIG, name).model_dump(mode="json")


def without(settings, *keys):
    return {key: value for key, value in settings.items() if key not in keys}


def growing(amount):
    """A resource for the first attempt; a retry asks for twice as much, three times, and so on."""
    return lambda wc, attempt: amount * attempt


def raw_folder(cohort):
    if cohort in PHANTOMS:
        return f"{RESULTS}/raw/{cohort}"
    return COHORTS[cohort].raw or f"{CONFIG.data_dir}/raw/{cohort}"


def unpacked_folder(cohort):
    """Real data sets are unpacked once for all runs; phantoms belong to their run."""
    parent = RESULTS if cohort in PHANTOMS else CONFIG.data_dir
    return f"{parent}/unpacked/{cohort}"


@cache
def token_of_cohort(cohort):
    record = f"{RESULTS}/cohorts/{cohort}.raw.json"
    return token_of(record, raw_folder(cohort), unpacked_folder(cohort), PLANNED.put)


def raw_token(wildcards):
    """Another one once a raw file has changed, come or gone since ingest (uad/cohorts/changes.py)."""
    return token_of_cohort(wildcards.cohort)


def atlas_file():
    """What registration waits for: SRI24 is fetched unless it is in place; other atlases are files already."""
    if CONFIG.preprocess.atlas.image != "sri24":
        return []
    return str(
        placed_sri24(CONFIG.data_dir) or Path(CONFIG.data_dir) / "sri24" / "spgr.nii"
    )


def hd_bet_files(wildcards):
    """What brain extraction waits for, where its parameters are to be fetched."""
    if not fetches_hd_bet(CONFIG, wildcards.cohort, raw_folder):
        return []
    return [
        f"{hd_bet_folder(CONFIG)}/{name}" for name in read_sources()["hd-bet"].members
    ]


def cohorts_with(modality):
    return [name for name, cohort in COHORTS.items() if modality in cohort.modalities]


def folds_of(arm):
    """Arms that learn nothing give the same result on every fold: one is enough."""
    return range(CONFIG.folds if METHODS[arm].per_fold else 1)


def store_files(cohort, modality):
    return multiext(f"{DATA}/store/{cohort}_{modality}", *STORE_FILES)


def store_spacing_mm():
    return CONFIG.preprocess.spacing_mm / CONFIG.pack.factor


def per_score(pattern):
    """A path pattern filled in for every (arm, modality, fold) of the run."""
    return [
        pattern.format(arm=arm, modality=modality, fold=fold)
        for arm in CONFIG.arms
        for modality in MODALITIES
        for fold in folds_of(arm)
    ]


def scores():
    return per_score(f"{RESULTS}/metrics/{{arm}}/{{modality}}/fold{{fold}}.parquet")


def viewer_scans():
    """Scans for the report's viewer, which shows fold 0; every arm has it."""
    pattern = f"{RESULTS}/viewer/{{arm}}/{{modality}}/fold0.npz"
    return expand(pattern, arm=CONFIG.arms, modality=MODALITIES)


def examples():
    return per_score(f"{RESULTS}/examples/{{arm}}/{{modality}}/fold{{fold}}.npz")


def arm_rows():
    """The arms in display order, as the tables and figures want them."""
    return [
        {
            "arm": name,
            "method": arm.method,
            "label": arm.label or name,
            "paper_model": arm.paper.model if arm.paper else "",
            "ssl": bool(arm.paper and arm.paper.ssl),
            "control": METHODS[name].control,
            "per_fold": METHODS[name].per_fold,
            "postprocess": METHODS[name].postprocess,
            "reads_noise_levels": METHODS[name].reads_noise_levels,
        }
        for name, arm in CONFIG.arms.items()
    ]


def devices_of(arm):
    """GPUs of one training: several only where its batches can be shared."""
    return CONFIG.execution.devices if METHODS[arm].shares_batches else 1


def model_of(arm, wildcards):
    return f"{RESULTS}/models/{arm}/{wildcards.modality}/fold{wildcards.fold}/model.safetensors"


def trained_model(wildcards):
    return model_of(wildcards.arm, wildcards) if METHODS[wildcards.arm].trains else []


def pretrained_model(wildcards):
    if METHODS[wildcards.arm].pretraining() is None:
        return []
    return f"{RESULTS}/pretrained/{wildcards.arm}/{wildcards.modality}/fold{wildcards.fold}/model.safetensors"


def other_inputs(wildcards):
    cohorts = cohorts_with(wildcards.modality)
    return METHODS[wildcards.arm].input_files(
        cohorts, wildcards.modality, int(wildcards.fold)
    )


def check_other_inputs():
    """Stops where an arm reads what neither exists nor is made by a rule.

    For when all rules are known.  Snakemake itself would go on with older results of the arm, if there are any.
    """
    for arm, method in METHODS.items():
        for modality, fold in product(MODALITIES, folds_of(arm)):
            for path in method.input_files(cohorts_with(modality), modality, fold):
                made = any(each.is_producer(path) for each in workflow.rules)
                if not made and not Path(path).exists():
                    raise WorkflowError(
                        f"config: arms.{arm}.params: {path} does not exist and no rule makes it; correct the path,"
                        " make the maps, or add a rule to rules/baselines"
                    )


def stores_of(wildcards):
    return [
        path
        for name in cohorts_with(wildcards.modality)
        for path in store_files(name, wildcards.modality)
    ]


def splits_of(wildcards):
    return [
        f"{DATA}/splits/{cohort}.tsv" for cohort in cohorts_with(wildcards.modality)
    ]


def quality_tables():
    return expand(f"{DATA}/preprocessed/{{cohort}}/quality.tsv", cohort=COHORTS)


def packed():
    """What is made of the scans before any arm: stores, splits, quality."""
    places = [(name, m) for name in COHORTS for m in COHORTS[name].modalities]
    return [
        *(path for place in places for path in store_files(*place)),
        *expand(f"{DATA}/splits/{{cohort}}.tsv", cohort=COHORTS),
        *quality_tables(),
    ]


def backbone_file():
    """The perceptual backbone, or nothing: then the LPIPS column says `not available`."""
    weights = CONFIG.perceptual.weights
    if weights == "phantom":
        return f"{RESULTS}/backbone/tissue.safetensors"
    fetched = weights == medicalnet_file(CONFIG) and not CONFIG.sources.offline
    return weights if weights and (fetched or Path(weights).exists()) else []


def learning_curves():
    """Logs of all trainings, pre-training included."""
    return [
        f"{RESULTS}/{stage}/{arm}/{modality}/fold{fold}/log.csv"
        for arm, method in METHODS.items()
        for stage, made in (
            ("pretrained", method.pretraining()),
            ("models", method.trains),
        )
        if made
        for modality in MODALITIES
        for fold in folds_of(arm)
    ]


def experiment_arms():
    """The first conditioned arm and the first of its unconditioned counterpart; empty where the run lacks one."""
    first = {arm.method: name for name, arm in reversed(CONFIG.arms.items())}
    if not {"cddpm", "ddpm"} <= set(first):
        return {}
    return {"conditioned": first["cddpm"], "unconditioned": first["ddpm"]}


EXPERIMENT_ARMS = experiment_arms()
EXPERIMENT_MODALITY = "t2" if "t2" in MODALITIES else MODALITIES[0]  # paper: T2


def experiment_cohorts(modality):
    """The healthy cohort and the first pathological one."""
    others = [name for name in cohorts_with(modality) if name != CONFIG.train_cohort]
    return [CONFIG.train_cohort, *others[:1]]


def experiments():
    """One fold, as the paper shows; more folds would give the KLD a spread."""
    if not EXPERIMENT_ARMS:
        return []
    return [f"{RESULTS}/experiments/{EXPERIMENT_MODALITY}/fold0.npz"]


def places(healthy):
    """(cohort, modality) pairs of the healthy, or of the pathological cohorts, T2 first as in the paper."""
    return [
        [name, modality]
        for modality in ("t2", "t1")
        for name, cohort in COHORTS.items()
        if modality in cohort.modalities and (name == CONFIG.train_cohort) == healthy
    ]


def figure_stems():
    examples = [
        f"fig4-{cohort}-{modality}"
        for cohort, modality in [*places(True), *places(False)]
    ]
    noise_levels = (
        ["fig5"] if any(m.reads_noise_levels for m in METHODS.values()) else []
    )
    curves = (
        [f"curves-{modality}" for modality in MODALITIES] if learning_curves() else []
    )
    contrast = ["fig2", "fig3"] if EXPERIMENT_ARMS else []
    return ["fig1", *contrast, *examples, *noise_levels, "fig6", "overview", *curves]


def table_numbers():
    """Table 4 needs rows that the score stage makes only when it is asked to."""
    return [1, 2, 3, 4] if CONFIG.tables.ablation else [1, 2, 3]


def table_files(*extensions):
    return expand(
        f"{RESULTS}/tables/table{{n}}.{{ext}}", n=table_numbers(), ext=extensions
    )


def thresh_scores():
    """Metrics of the arms that stand for the paper's row Thresh, which trains nothing."""
    return [
        f"{RESULTS}/metrics/{name}/{modality}/fold0.parquet"
        for name, arm in CONFIG.arms.items()
        for modality in MODALITIES
        if arm.paper and arm.paper.model == "Thresh"
    ]


def report_settings(stage, **more):
    return settings_file(
        stage,
        CONFIG.run,
        run=CONFIG.run,
        protocol=CONFIG.protocol,
        phantom=bool(PHANTOMS),
        arms=arm_rows(),
        folds=CONFIG.folds,
        healthy=places(True),
        pathological=places(False),
        single=CONFIG.inference.single,
        tables=section("tables"),
        seed=CONFIG.seed,
        **more,
    )


def final_results():
    tables = [
        *table_files("csv", "md", "tex", "html"),
        f"{RESULTS}/reproduction.md",
    ]
    figures = expand(f"{RESULTS}/figures/{{stem}}.png", stem=figure_stems())
    return [
        *tables,
        *figures,
        *quality_tables(),
        f"{RESULTS}/check.txt",
        f"{RESULTS}/report/index.html",
    ]


HELD = contextlib.ExitStack()  # until this process ends
held_run = False


def makes_files():
    """Whether this call has jobs that write results; `plan` has none."""
    return any(job.output for job in workflow.dag.needrun_jobs(exclude_finished=False))


def hold_run():
    """One driver per run.  Snakemake's own locks go as soon as any Snakemake of the checkout ends."""
    global held_run
    if not makes_files():
        return
    held_run = HELD.enter_context(exclusive(RESULTS, refuse_second_driver))
    if CONFIG.data_of:
        link_data(CONFIG, Path(RESULTS))


def refuse_second_driver():
    # no exception: Snakemake would print this file's lines below it
    sys.exit(
        f"error: run '{CONFIG.run}' is being made by another Snakemake: {holder_of(RESULTS)}; wait for it, or end it"
        " first (docs/cluster.md, Two runs, two people)"
    )


def write_planned_files():
    """What the jobs of this call read; a job's own process finds it written."""
    for job in workflow.dag.needrun_jobs():
        job.params  # names the job's settings file
    try:
        PLANNED.write()
    except InputError as error:
        sys.exit(f"error: {error}")


def whole_run():
    """Whether all was asked for: `--until`, `--omit-from` and `--batch` take `all` from the targets."""
    return any(job.rule.name == "all" for job in workflow.dag.targetjobs)


def refuse_unready_slurm():
    """Says at once what only the first submitted job would notice, after all downloads."""
    jobs = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
    if workflow.executor_plugin.name == "slurm" and jobs:
        accounts = {job.resources.get("slurm_account") for job in jobs}
        if missing := missing_for_slurm(accounts):
            raise WorkflowError("; ".join(missing))


def stop_at_sigterm():
    """SIGTERM to the driver does what Ctrl-C does; Snakemake itself would wait for jobs that run, which may take hours."""
    signal.signal(signal.SIGTERM, stop_with_jobs)


def stop_with_jobs(*_):
    """Trainings checkpoint at SIGTERM; SIGINT would be ignored where a script has started the driver with `&`."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    raise KeyboardInterrupt


def drop_reconstructions():
    """Frees the disk space of what this whole run has scored, records apart; a changed score recipe makes them again."""
    made = all(Path(path).exists() for path in [*scores(), *viewer_scans()])
    if not (whole_run() and held_run and made) or workflow.touch:
        return
    for table in per_score(
        f"{RESULTS}/reconstructions/{{arm}}/{{modality}}/fold{{fold}}/arrays.tsv"
    ):
        folder = Path(table).parent
        Path(table).unlink(missing_ok=True)  # first: without it, all is made again
        for file in set(folder.glob("*")) - {folder / "provenance.json"}:
            file.unlink()


WITHOUT_EXPERIMENTS = (
    "  left out figures 2 and 3: they need an arm of method cddpm and one of ddpm\n"
)


def start_banner():
    if not makes_files():
        return ""
    arms, cohorts = ", ".join(CONFIG.arms), ", ".join(
        f"{n} ({c.source})" for n, c in COHORTS.items()
    )
    return (
        f"\nuadbench run '{CONFIG.run}', protocol '{CONFIG.protocol}', {CONFIG.folds} fold(s)"
        f"{'' if whole_run() else ': only a part of it is asked for'}\n"
        f"  arms     {arms}\n  cohorts  {cohorts}\n  results  {RESULTS}/\n"
        + ("" if EXPERIMENT_ARMS or not whole_run() else WITHOUT_EXPERIMENTS)
        + missing_data()
    )


def missing_data():
    """What is not there yet, for the start banner; empty when all is, or when another run has used it."""
    if CONFIG.data_of:
        return f"  data     of run '{CONFIG.data_of}', which are only read\n"
    needs, settings, content = read_needs(SOURCES_FILE)
    lines = missing_lines(needs, settings, read_own(content))
    if not lines:
        return ""
    return f"  not here {'; '.join(lines)}\n           (snakemake -c1 plan says where from and what to do)\n"


def success_banner():
    """What this call has made; nothing where it only looked."""
    logs = f"  logs     {RESULTS}/logs/<rule>/, benchmarks {RESULTS}/benchmarks/\n"
    if whole_run():
        return (
            f"\nuadbench run '{CONFIG.run}' is complete\n"
            f"  table    {RESULTS}/tables/table3.md  (long form: table3.csv; reconstruction quality: table2.md)\n"
            f"  report   {RESULTS}/report/index.html (opens from disk)\n"
            f"  pictures {RESULTS}/figures/\n{logs}"
        )
    made = Counter(job.rule.name for job in workflow.dag.finished_jobs if job.output)
    if not made:
        return ""
    jobs = ", ".join(f"{count} {rule}" for rule, count in sorted(made.items()))
    return (
        f"\nuadbench run '{CONFIG.run}': the part that was asked for is made ({jobs})\n{logs}"
        "  The same command without target, --until and --omit-from makes the whole run.\n"
    )


def failure_banner():
    return (
        f"\nuadbench run '{CONFIG.run}' stopped; finished work is kept and the same command continues.\n"
        f"  The failed rule is named above; its log is in {RESULTS}/logs/<rule>/.\n"
    )
