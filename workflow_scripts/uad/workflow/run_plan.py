"""What a run consists of, from its configuration alone: the arms, the places of its files, what each stage reads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from uad.common.errors import InputError
from uad.config import arm_settings, build_method, checked, did_you_mean, inference_of
from uad.config.model import Config
from uad.config.places import placed_sri24
from uad.download.needs import medicalnet_file
from uad.methods import Head
from uad.studies import Study, known_studies, load_study
from uad.workflow.shared_data import STORE_FILES

# Figures of lesions, by the arms that they need: any, one that is no control, two to compare.
OF_LESIONS = ["fig6", "overview"]
OF_METHODS = ["volumes", "detection", "thresholds", "distributions", "lesion-size", "agreement"]
COMPARED = ["differences", "ranks"]


class RunPlan:
    """Paths are relative to the checkout, as Snakemake wants them; lists are in the order of the configuration.

    Attributes:
        results: folder of the run.
        data: folder of the run that has cohorts, splits and stores: another's with `data_of`.
        methods: the method of each arm.
        study: what is asked instead of the tables, or None.
        modalities: those of the training cohort.
        phantoms, planted, archives: names of the cohorts that are generated, that are made of a healthy one, and that
            are read.
        left_out: names of the optional cohorts that the run goes without; they are not in the configuration.
    """

    def __init__(self, config: Config, left_out: Iterable[str] = ()) -> None:
        self.config, self.left_out = config, list(left_out)
        self.results = f"results/{config.run}"
        self.data = f"results/{config.data_of or config.run}"
        self.methods = {arm: build_method(config, arm) for arm in config.arms}
        self.study = _study_of(config)
        known = config.cohorts[config.train_cohort].modalities
        self.modalities = [modality for modality in ("t1", "t2") if modality in known]
        self.phantoms = [name for name, cohort in config.cohorts.items() if cohort.source == "phantom"]
        self.planted = [name for name, cohort in config.cohorts.items() if cohort.source == "planted"]
        self.archives = [name for name, cohort in config.cohorts.items() if cohort.source == "archive"]

    # --- data ----------------------------------------------------------------------------------------------

    def raw_folder(self, cohort: str) -> str:
        if cohort not in self.archives:
            return f"{self.results}/raw/{cohort}"
        return self.config.cohorts[cohort].raw or f"{self.config.data_dir}/raw/{cohort}"

    def unpacked_folder(self, cohort: str) -> str:
        """Real data sets are unpacked once for all runs; what a run generates belongs to it."""
        parent = self.config.data_dir if cohort in self.archives else self.results
        return f"{parent}/unpacked/{cohort}"

    def atlas_files(self) -> list[str]:
        """What registration waits for: SRI24 is fetched unless it is in place; other atlases are files already."""
        if self.config.preprocess.atlas.image != "sri24":
            return []
        return [str(placed_sri24(self.config.data_dir) or Path(self.config.data_dir) / "sri24" / "spgr.nii")]

    def cohorts_with(self, modality: str) -> list[str]:
        return [name for name, cohort in self.config.cohorts.items() if modality in cohort.modalities]

    def places(self, healthy: bool) -> list[list[str]]:
        """[cohort, modality] of the healthy, or of the pathological cohorts, T2 first as in the paper."""
        return [
            [name, modality]
            for modality in ("t2", "t1")
            for name in self.cohorts_with(modality)
            if self.config.is_healthy(name) == healthy
        ]

    def store_files(self, cohorts: Iterable[str], modality: str) -> list[str]:
        return [f"{self.data}/store/{cohort}_{modality}{end}" for cohort in cohorts for end in STORE_FILES]

    def split_tables(self, cohorts: Iterable[str]) -> list[str]:
        return [f"{self.data}/splits/{cohort}.tsv" for cohort in cohorts]

    def cohort_tables(self) -> list[str]:
        return [f"{self.data}/cohorts/{cohort}.tsv" for cohort in self.config.cohorts]

    def shard_tables(self, cohort: str) -> list[str]:
        return [f"{self.data}/preprocessed/{cohort}/shard-{shard}.tsv" for shard in self.config.shards(cohort)]

    def quality_tables(self) -> list[str]:
        return [f"{self.data}/preprocessed/{cohort}/quality.tsv" for cohort in self.config.cohorts]

    def all_stores(self) -> list[str]:
        places = [*self.places(True), *self.places(False)]
        return [file for cohort, modality in places for file in self.store_files([cohort], modality)]

    def store_tables(self) -> list[str]:
        return [file for file in self.all_stores() if file.endswith(".tsv")]

    def packed(self) -> list[str]:
        """What is made of the scans before any arm: stores, splits, quality."""
        return [*self.all_stores(), *self.split_tables(self.config.cohorts), *self.quality_tables()]

    def store_spacing_mm(self) -> float:
        return self.config.preprocess.spacing_mm / self.config.pack.factor

    # --- arms ----------------------------------------------------------------------------------------------

    def folds_of(self, arm: str) -> range:
        """Arms that learn nothing give the same result on every fold: one is enough."""
        return range(self.config.folds if self.methods[arm].per_fold else 1)

    def of_every_score(self, pattern: str, arms: Iterable[str] | None = None) -> list[str]:
        """A path below the run's folder, filled in for every arm, or those given, modality and fold."""
        return [
            f"{self.results}/{pattern}".format(arm=arm, modality=modality, fold=fold)
            for arm in (self.config.arms if arms is None else arms)
            for modality in self.modalities
            for fold in self.folds_of(arm)
        ]

    def scores(self) -> list[str]:
        return self.of_every_score("metrics/{arm}/{modality}/fold{fold}.parquet")

    def tallies(self) -> list[str]:
        """How the values of every arm's maps are distributed (uad/scoring/tallies.py)."""
        return self.of_every_score("tallies/{arm}/{modality}/fold{fold}.parquet")

    def lesions(self) -> list[str]:
        """How much of each lesion was predicted (uad/scoring/lesions.py)."""
        return self.of_every_score("lesions/{arm}/{modality}/fold{fold}.parquet")

    def examples(self) -> list[str]:
        return self.of_every_score("examples/{arm}/{modality}/fold{fold}.npz")

    def viewer_scans(self) -> list[str]:
        """Scans for the report's viewer, which shows fold 0; every arm has it."""
        return [f"{self.results}/viewer/{arm}/{m}/fold0.npz" for arm in self.config.arms for m in self.modalities]

    def model_of(self, arm: str, modality: str, fold: str) -> str:
        return f"{self.results}/models/{arm}/{modality}/fold{fold}/model.safetensors"

    def trains(self, arm: str) -> bool:
        """Whether the arm has a training of its own."""
        return self.methods[arm].trains and self.config.arms[arm].from_ is None

    def runs_network(self, arm: str) -> bool:
        return self.methods[arm].trains or self.methods[arm].starts_from == "weights"

    def trained_model(self, arm: str, modality: str, fold: str) -> list[str]:
        """The arm's model, or that of the arm it starts from; empty where no network runs."""
        owner = self.config.arms[arm].from_ or arm
        return [self.model_of(owner, modality, fold)] if self.runs_network(arm) else []

    def outputs_to_rate(self, arm: str, modality: str, fold: str) -> list[str]:
        """The table of another arm's reconstructions that a scoring head reads."""
        if self.methods[arm].starts_from != "outputs":
            return []
        return [f"{self.results}/reconstructions/{self.config.arms[arm].from_}/{modality}/fold{fold}/arrays.tsv"]

    def levels_to_read(self, arm: str) -> dict[str, list[int]]:
        """The noise levels of an arm's reconstructions, each as often as it is drawn; of a scoring head, those that
        the other arm's `ens` combines."""
        method = self.methods[arm]
        if method.starts_from == "outputs":
            return {"t_tests": [], "ensemble": inference_of(self.config, self.config.arms[arm].from_ or "").ensemble}
        inference = inference_of(self.config, arm)
        levels = inference.t_test if method.reads_noise_levels else []
        return {"t_tests": [level for level in levels for _ in range(inference.samples)]}

    def reading_minutes(self, arm: str) -> int:
        """Time limit of an arm's reconstructions on one GPU: an hour for twelve passes of a network per slice or fewer,
        which are those of pDDPM at three levels."""
        method = self.methods[arm]
        levels = len(self.levels_to_read(arm)["t_tests"]) or 1
        source = method.source.passes if isinstance(method, Head) else 1
        return max(60, 5 * levels * method.passes * source)

    def training_to_show(self, arm: str) -> dict[str, str]:
        """The cohort whose training scans an arm looks at when it reconstructs; nothing for one that does not."""
        return {"train_cohort": self.config.train_cohort} if self.methods[arm].asks_for_training else {}

    def pretrained_model(self, arm: str, modality: str, fold: str) -> list[str]:
        """The file that the arm's network starts from, if any: of its pre-training, or the user's own."""
        method = self.methods[arm]
        if method.pretraining() is None:
            return [file] if (file := method.weights_file()) else []
        return [f"{self.results}/pretrained/{arm}/{modality}/fold{fold}/model.safetensors"]

    def learning_curves(self) -> list[str]:
        """Logs of all trainings, pre-training included."""
        return [
            f"{self.results}/{stage}/{arm}/{modality}/fold{fold}/log.csv"
            for arm, method in self.methods.items()
            if self.trains(arm)
            for stage, made in (("pretrained", method.pretraining()), ("models", True))
            if made
            for modality in self.modalities
            for fold in self.folds_of(arm)
        ]

    def other_inputs(self, arm: str, modality: str, fold: int) -> list[str]:
        """Files that the arm's method reads besides the stores."""
        return self.methods[arm].input_files(self.cohorts_with(modality), modality, fold)

    def all_other_inputs(self) -> list[tuple[str, str]]:
        """(arm, file) of every file that a method reads, or starts from, besides the stores."""
        started = [(arm, file) for arm, method in self.methods.items() if (file := method.weights_file())]
        return started + [
            (arm, file)
            for arm in self.config.arms
            for modality in self.modalities
            for fold in self.folds_of(arm)
            for file in self.other_inputs(arm, modality, fold)
        ]

    def backbone_file(self) -> str | list[str]:
        """The perceptual backbone, or nothing: then the LPIPS column says `not available`."""
        weights = self.config.perceptual.weights
        if weights == "phantom":
            return f"{self.results}/backbone/tissue.safetensors"
        fetched = weights == medicalnet_file(self.config) and not self.config.sources.offline
        return weights if weights and (fetched or Path(weights).exists()) else []

    # --- contrast experiments ------------------------------------------------------------------------------

    def experiment_arms(self) -> dict[str, str]:
        """The first conditioned arm and the first of its unconditioned counterpart; empty where the run lacks one."""
        first = {arm.method: name for name, arm in reversed(self.config.arms.items())}
        if not {"cddpm", "ddpm"} <= set(first):
            return {}
        return {"conditioned": first["cddpm"], "unconditioned": first["ddpm"]}

    def experiment_model(self, role: str, modality: str, fold: str) -> str:
        return self.model_of(self.experiment_arms()[role], modality, fold)

    def experiment_modality(self) -> str:
        return "t2" if "t2" in self.modalities else self.modalities[0]  # paper: T2

    def experiment_cohorts(self, modality: str) -> list[str]:
        """The healthy cohort and the first pathological one."""
        pathological = [name for name in self.cohorts_with(modality) if not self.config.is_healthy(name)]
        return [self.config.train_cohort, *pathological[:1]]

    def experiment_places(self) -> list[list[str]]:
        modality = self.experiment_modality()
        return [[cohort, modality] for cohort in self.experiment_cohorts(modality)]

    def experiments(self) -> list[str]:
        """One fold, as the paper shows; more folds would give the KLD a spread."""
        if not self.experiment_arms():
            return []
        return [f"{self.results}/experiments/{self.experiment_modality()}/fold0.npz"]

    # --- tables, figures, report ---------------------------------------------------------------------------

    def paper_cohorts(self) -> list[str]:
        """Cohorts whose data are the paper's; only their results stand beside the paper's numbers."""
        return [name for name in self.archives if self.config.cohorts[name].adapter == name]

    def arm_rows(self) -> list[dict[str, Any]]:
        """The arms in display order, as the tables and figures want them."""
        return [
            {
                "arm": name,
                "method": arm.method,
                "label": arm.label or name,
                "paper_model": arm.paper.model if arm.paper else "",
                "ssl": bool(arm.paper and arm.paper.ssl),
                "control": self.methods[name].control,
                "per_fold": self.methods[name].per_fold,
                "postprocess": self.methods[name].postprocess,
                "reads_noise_levels": self.methods[name].reads_noise_levels,
            }
            for name, arm in self.config.arms.items()
        ]

    def report_settings(self) -> dict[str, Any]:
        """What tables, figures and report have in common in their settings."""
        return {
            "run": self.config.run,
            "protocol": self.config.protocol,
            "phantom": bool(self.phantoms),
            "paper_cohorts": self.paper_cohorts(),
            "arms": self.arm_rows(),
            "folds": self.config.folds,
            "healthy": self.places(True),
            "pathological": self.places(False),
            "single": self.config.inference.single,
        }

    def table_files(self, *extensions: str) -> list[str]:
        # table 4 needs rows that the score stage makes only when it is asked to
        numbers = [1, 2, 3, 4, 5] if self.config.tables.ablation else [1, 2, 3, 5]
        return [f"{self.results}/tables/table{n}.{extension}" for n in numbers for extension in extensions]

    def figures(self, extension: str) -> list[str]:
        examples = [f"fig4-{cohort}-{modality}" for cohort, modality in [*self.places(True), *self.places(False)]]
        methods = sum(not method.control for method in self.methods.values())
        found = bool(self.places(False))  # without lesions there is no Dice, and nothing to find
        noise_levels = ["fig5"] if found and any(method.reads_noise_levels for method in self.methods.values()) else []
        curves = [f"curves-{modality}" for modality in self.modalities] if self.learning_curves() else []
        contrast = ["fig2", "fig3"] if self.experiment_arms() else []
        of_lesions = [*OF_LESIONS, *OF_METHODS * (methods > 0), *COMPARED * (methods > 1)] if found else []
        stems = ["fig1", *contrast, *examples, *noise_levels, *of_lesions, *curves]
        return [f"{self.results}/figures/{stem}.{extension}" for stem in stems]

    def thresh_scores(self) -> list[str]:
        """Metrics of the arms that stand for the paper's row Thresh, which trains nothing."""
        return [
            f"{self.results}/metrics/{name}/{modality}/fold0.parquet"
            for name, arm in self.config.arms.items()
            for modality in self.modalities
            if arm.paper and arm.paper.model == "Thresh"
        ]

    # --- a study --------------------------------------------------------------------------------------------

    def study_folder(self) -> str:
        assert self.config.study is not None
        return f"{self.results}/studies/{self.config.study.question}"

    def study_files(self, pattern: str) -> list[str]:
        """A path below the run's folder for every arm of the study, modality and fold."""
        assert self.config.study is not None
        return self.of_every_score(pattern, self.config.study.arms)

    def study_measured(self) -> list[str]:
        """What the study's arms are measured into; nothing for a study that looks at scores alone."""
        assert self.study is not None
        folder = self.study_folder().removeprefix(f"{self.results}/")
        return self.study_files(folder + "/rows/{arm}/{modality}/fold{fold}.parquet") if self.study.measures else []

    def study_experiments(self) -> list[str]:
        """The contrast experiments, where the study reads them and has both of their arms."""
        assert self.config.study is not None and self.study is not None
        has_arms = set(self.experiment_arms().values()) <= set(self.config.study.arms)
        return self.experiments() if self.study.reads_experiments and has_arms else []

    def study_planted(self, modality: str) -> list[str]:
        """The tables that say of which healthy scan each planted one was made, for a study that compares the two."""
        assert self.study is not None
        planted = [name for name in self.cohorts_with(modality) if name in self.planted]
        return [f"{self.data}/acquired/{name}.tsv" for name in planted] if self.study.of_planted else []

    def study_benchmark(self, arm: str, modality: str, fold: str) -> list[str]:
        """Snakemake's benchmark of an arm's reconstruct job, for a study that is timed."""
        assert self.study is not None
        return [f"{self.results}/benchmarks/reconstruct/{arm}-{modality}-fold{fold}.tsv"] * self.study.timed

    def study_answer(self) -> list[str]:
        """The files of the study's answer: page, Markdown, tables and figures."""
        assert self.study is not None
        names = ["index.html", "findings.md", *(f"{name}.csv" for name in self.study.tables)]
        names += [f"{name}.{end}" for name in self.study.figures for end in ("png", "svg")]
        return [f"{self.study_folder()}/{name}" for name in names]

    def study_settings(self) -> dict[str, Any]:
        """What the study's answer depends on, besides its files."""
        assert self.config.study is not None and self.study is not None
        shared = self.report_settings()
        return {
            **{key: value for key, value in shared.items() if key != "paper_cohorts"},
            "arms": [row | self._learned(row["arm"]) for row in shared["arms"] if row["arm"] in self.config.study.arms],
            "person": {name: cohort.person for name, cohort in self.config.cohorts.items()},
            "rounds": self.config.tables.permutation_rounds,
            "seed": self.config.seed,
            "study": self.study_keys(),
        }

    def _learned(self, arm: str) -> dict[str, Any]:
        """What tells an arm of a study from one of the same method: its parameters, and what it was trained on."""
        settings = arm_settings(self.config, arm)
        sites = settings["train"].get("without_sites", [])
        return {"params": settings["params"], "train_cohort": self.config.train_cohort, "without_sites": sites}

    def study_keys(self) -> dict[str, Any]:
        assert self.config.study is not None and self.study is not None
        return {
            "question": self.config.study.question,
            "params": self.study.params.model_dump(mode="json"),
            "version": self.study.RECIPE_VERSION,
            **({"planted_of": self.config.planted.of} if self.study.of_planted else {}),
        }

    def final_results(self) -> list[str]:
        if self.study is not None:
            return self.study_answer()
        return [
            *self.table_files("csv", "md", "tex", "html"),
            f"{self.results}/tables/scans.csv",
            f"{self.results}/reproduction.md",
            *self.figures("png"),
            *self.quality_tables(),
            f"{self.results}/check.txt",
            f"{self.results}/report/index.html",
        ]


def _study_of(config: Config) -> Study | None:
    """The study that the configuration asks for.

    Raises:
        InputError: it is not known, has a wrong key, or needs planted lesions where the run has none.
    """
    if config.study is None:
        return None
    name = config.study.question
    if name not in known_studies():
        raise InputError(f"config: study.question: {did_you_mean(name, known_studies())}")
    kind = load_study(name)
    if kind.of_planted and not any(cohort.source == "planted" for cohort in config.cohorts.values()):
        raise InputError(
            f"config: study.question: {name} needs a cohort of `source: planted` (docs/own-data.md, Planted strokes), "
            "and this run has none; real/config.yaml has one"
        )
    return kind(kind.Params.model_validate(checked(kind.Params, config.study.params, "study.params")))
