"""The shape of `config.yaml`: every key, its type, its default and where its value comes from.

Keys marked with a D-number take their value from the chosen protocol (`uad.config.protocols`)
unless the configuration names one itself.  Unknown keys are refused everywhere.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, field_validator, model_validator

from uad.cohorts import ADAPTERS
from uad.common.settings import PositiveNumber, Probability, RulePath, Section, UserPath
from uad.methods.settings import ConditionedDiffusionSettings

Modality = Literal["t1", "t2"]
Protocol = Literal["clean", "authors", "paper"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]


# --- cohorts ------------------------------------------------------------------------------------------------


class SplitSizes(Section):
    """How many subjects go to each split: whole numbers, or shares of the cohort when all are below 1."""

    train: float = Field(0, ge=0)
    val: float = Field(ge=0)
    test: float = Field(ge=0)


class CohortSettings(Section):
    adapter: Literal["ixi", "brats21", "mslub", "atlas", "wmh", "folder"] = Field(
        description="Which data set's layout the raw data has."
    )
    source: Literal["archive", "phantom", "planted"] = Field(
        "archive",
        description="`archive`: the real data set. `phantom`: generated in the same layout. `planted`: healthy scans "
        "of another cohort with strokes planted into them (section `planted`).",
    )
    raw: UserPath | None = Field(None, description="Folder with the raw data; default `<data_dir>/raw/<cohort>`.")
    item: str | None = Field(
        None, description="adapter `folder` only: item of the source table that is fetched to `raw` (docs/data.md)."
    )
    optional: bool = Field(
        False,
        description="Leave the cohort out of the run, and say so, where its data are not here and cannot be fetched.",
    )
    modalities: list[Modality] = Field(min_length=1)
    subjects: int = Field(gt=0, description="Expected number of subjects; sets the number of shards.")
    splits: SplitSizes
    exclude_label: int | None = Field(
        None, description="D34. Label value left out of the evaluation (WMH: 2, other pathology); null: none."
    )
    person: str | None = Field(
        None,
        description="Regular expression with one group: the person in a subject id. Default: the id without the "
        "usual endings of visits (`_ses-2`, `_MR1`, `_V2`, `_BL`, docs/own-data.md).",
    )
    healthy: bool | None = Field(None, description="adapter `folder` only: no subject has a lesion.")
    stripped: bool | None = Field(None, description="adapter `folder` only: the scans are brain-extracted.")
    registered: bool | None = Field(None, description="adapter `folder` only: the scans are in atlas space.")
    bias_corrected: bool | None = Field(None, description="adapter `folder` only: N4 has been applied.")

    @field_validator("person")
    @classmethod
    def _has_one_group(cls, person: str | None) -> str | None:
        try:
            groups = 1 if person is None else re.compile(person).groups
        except re.error as error:
            raise ValueError(f"`{person}` is no regular expression ({error})") from error
        if groups != 1:
            raise ValueError(f"`{person}` needs one group in round brackets, the person; it has {groups}")
        return person

    @model_validator(mode="after")
    def _flags_belong_to_folder(self) -> CohortSettings:
        if self.adapter != "folder":
            for key in ("item", "healthy", "stripped", "registered", "bias_corrected"):
                if getattr(self, key) is not None:
                    raise ValueError(f"`{key}` is for adapter `folder`; `{self.adapter}` knows this itself")
        if self.optional and self.source == "phantom":
            raise ValueError("`optional` is for data that may be missing; phantoms are made")
        return self

    @model_validator(mode="after")
    def _planted_is_t1_in_a_folder(self) -> CohortSettings:
        if self.source != "planted":
            return self
        if self.adapter != "folder":
            raise ValueError(
                f"`source: planted` makes a BIDS folder: set `adapter: folder` instead of `{self.adapter}`"
            )
        if self.modalities != ["t1"]:
            raise ValueError(
                f"`source: planted` knows how a stroke looks on T1 only: set `modalities: [t1]`, not "
                f"[{', '.join(self.modalities)}]"
            )
        if self.healthy:
            raise ValueError("`healthy: true` contradicts `source: planted`, whose scans all have a lesion")
        for key in ("raw", "person"):
            if getattr(self, key) is not None:
                raise ValueError(f"`{key}` is not for `source: planted`, which follows from the healthy cohort")
        return self


class PhantomSettings(Section):
    voxel_mm: PositiveNumber = Field(3.0, description="Voxel size of the generated scans.")
    seed: int = 7


class PlantedSettings(Section):
    """What cohorts of `source: planted` are made of; docs/own-data.md#planted-strokes"""

    of: Name | None = Field(None, description="Healthy cohort whose test scans get the strokes.")
    masks: RulePath | None = Field(
        None, description="Folder with stroke masks in MNI space; default `<data_dir>/raw/stroke-masks`."
    )
    contrast: tuple[Probability, Probability] = Field(
        (0.3, 0.8),
        description="Range that a lesion's contrast is drawn from: 0 is the scan's own intensity, 1 that of its CSF.",
    )
    edge_mm: float = Field(2.0, ge=0, description="Width of a lesion's soft edge: FWHM of the Gaussian that blurs it.")

    @model_validator(mode="after")
    def _contrast_is_a_range(self) -> PlantedSettings:
        if self.contrast[0] > self.contrast[1]:
            raise ValueError(f"`contrast` {list(self.contrast)} has to be [lowest, highest]")
        return self


class SourceSettings(Section):
    """Where downloads come from; like `execution`, nothing here changes a result."""

    offline: bool = Field(
        False, description="Ask no server: use what is there and in local folders, and say what is missing."
    )
    base_url: dict[str, UserPath] = Field(
        default_factory=dict, description="Item -> mirror or local folder that has its files (docs/data.md)."
    )
    sha256: dict[str, str] = Field(
        default_factory=dict, description="File name -> SHA-256 that replaces the published one."
    )


class SplitSettings(Section):
    source: Literal["clean", "authors"] = Field(
        "clean", description="D4, D5, D20. `clean`: drawn by rule from the ids. `authors`: their CSV files."
    )
    authors_csv: RulePath = Field("data/splits", description="Folder with the authors' split CSVs.")


# --- preprocessing ------------------------------------------------------------------------------------------


class HdBetSettings(Section):
    parameters: UserPath = Field(
        "download", description="Folder with HD-BET parameters, or `download`: fetched to <data_dir>/hd_bet."
    )
    sha256: str | None = Field(
        None, description="SHA-256 of fold_all/checkpoint_final.pth, checked before loading; null: as first fetched."
    )
    test_time_augmentation: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"


class AtlasSettings(Section):
    image: UserPath = Field(
        "sri24", description="`sri24` (fetched to <data_dir>/sri24), `mni152` (from nilearn), or a NIfTI file."
    )
    orientation: str = Field("RAI", description="ITK orientation of the template grid (docs/paper.md#preprocessing).")


class RegistrationSettings(Section):
    transform: Literal["Affine", "Rigid"] = "Affine"
    iterations: list[int] = [2100, 1200, 1200, 10]
    histogram_matching: bool = Field(
        False, description="D36. `true`: intensities are matched to the atlas before, as antspyx 0.3 always did."
    )
    label_interpolation: Literal["nearestNeighbor", "linear"] = Field(
        "nearestNeighbor", description="D11. `linear`: any value above 0 counts, which dilates small lesions."
    )


class BiasFieldSettings(Section):
    levels: int = Field(2, gt=0, description="D37. Each halves the distance of the control points.")
    iterations: int = Field(200, gt=0)
    tolerance: PositiveNumber = Field(1e-4, description="D37. A level ends when the field changes by less.")
    spline_mm: int = Field(
        200,
        gt=0,
        description="Distance of the control points on the first level, in mm, as in the authors' antspyx 0.3.",
    )
    mask: Literal["brain", "get_mask"] = Field(
        "brain", description="D35. Voxels that the field is fitted to; `get_mask`: ANTs' own guess."
    )
    mask_sigma: PositiveNumber = Field(1.0, description="Smoothing of the weight mask, in voxels.")
    mask_stripped: bool = Field(
        True, description="D12. `false`: scans that come stripped get N4 without a weight mask."
    )


class CropSettings(Section):
    last_plane: Literal["keep", "drop"] = Field(
        "keep", description="`drop` loses the brain's last plane on each axis, as the authors' script does."
    )


class PreprocessSettings(Section):
    spacing_mm: PositiveNumber = 1.0
    hd_bet: HdBetSettings = HdBetSettings()
    stripped_mask: Literal["nonzero", "hd_bet", "get_mask"] = Field(
        "nonzero", description="D12. Brain mask of scans that come stripped (BraTS)."
    )
    atlas: AtlasSettings = AtlasSettings()
    registration: RegistrationSettings = RegistrationSettings()
    register_stripped_registered: bool = Field(
        False, description="`true` registers scans that are in atlas space already, as the authors do."
    )
    n4: BiasFieldSettings = BiasFieldSettings()
    crop: CropSettings = CropSettings()
    max_failures: int = Field(0, ge=0, description="Scans per shard that may fail before the shard fails.")


class Limits(Section):
    """Two ranges [lowest, highest] of a number; null: open."""

    refuse: tuple[float | None, float | None] = Field(description="Beyond it a scan fails.")
    flag: tuple[float | None, float | None] = Field(description="Beyond it a scan is named in quality.tsv.")

    @model_validator(mode="after")
    def _flag_lies_inside(self) -> Limits:
        ends = [self.refuse[0], self.flag[0], self.flag[1], self.refuse[1]]
        known = [end for end in ends if end is not None]
        if known != sorted(known):
            raise ValueError(f"`flag` {list(self.flag)} has to lie inside `refuse` {list(self.refuse)}")
        return self


class PlausibleSettings(Section):
    """What a head scan can be; sources in docs/preprocessing.md."""

    brain_ml: Limits = Field(
        Limits(refuse=(300, 2600), flag=(790, 2100)),
        description="Brain mask in ml, as scanned and in atlas space. Newborns have 340 (Holland 2014), adults from "
        "791 (Ricard 2010) to intracranial 1469 + 6 x 102 (Matsumae 1996); the MNI152 brain has 1890.",
    )
    face_fraction: Limits = Field(
        Limits(refuse=(None, 0.9), flag=(None, 0.2)),
        description="Mask area on a face of the field of view over its largest parallel area. By geometry: 0.2 where "
        "8 mm of a brain are cut off, 0.9 where a quarter is.",
    )
    negative_fraction: Limits = Field(
        Limits(refuse=(None, 0.02), flag=(None, 0.001)),
        description="Share of brain voxels below 0 of scans that are registered or get N4. Magnitude images have none; "
        "sinc resampling makes a few.",
    )
    atlas_dice: Limits = Field(
        Limits(refuse=(0.8, None), flag=(0.9, None)),
        description="Overlap with the atlas brain. By geometry: 0.9 where brains of one size lie 1 cm apart, or one "
        "is 20 % larger; 0.8 where it is 2 cm or 50 %.",
    )
    n4_ratio: Limits = Field(
        Limits(refuse=(1, 10), flag=(1.001, 4)),
        description="Largest over smallest value of the N4 field in the brain; 1 is no correction. BrainSuite calls a "
        "ratio of 3 (0.5 to 1.5) very large; sound scans of a 3 T scanner (IXI-HH) reach 3.6.",
    )
    lesion_share: Limits = Field(
        Limits(refuse=(None, 0.5), flag=(None, 0.3)),
        description="Lesion over brain volume. A whole middle cerebral artery territory is near 0.2.",
    )
    lesion_outside: Limits = Field(
        Limits(refuse=(None, 0.5), flag=(None, 0.1)), description="Share of the lesion outside of the brain mask."
    )
    lesion_lost: Probability = Field(
        0.25, description="Share of the lesion that a crop (to the brain, to pack.crop) may lose without a flag."
    )
    brain_lost: Probability = Field(
        0.2,
        description="Share of the brain that pack.crop may lose without a flag; the paper's box loses 0.08 of SRI24.",
    )


class CurvatureFlowSettings(Section):
    iterations: int = Field(3, ge=0, description="D10. 0 switches the filter off.")
    time_step: PositiveNumber = 0.125


class PackSettings(Section):
    crop: tuple[int, int, int] = Field((192, 192, 100), description="Voxels (x, y, z) at preprocess.spacing_mm.")
    factor: PositiveNumber = Field(0.5, description="Resampling factor after the crop.")
    percentiles: tuple[float, float] = (1.0, 99.0)
    curvature_flow: CurvatureFlowSettings = CurvatureFlowSettings()
    order: Literal["crop_percentile_resize", "pad_resize_cut"] = Field(
        "crop_percentile_resize", description="D9. The text pads, halves and cuts slices; same field of view."
    )
    background: Literal["zero", "keep"] = Field(
        "zero", description="D38. `keep`: what smoothing and splines leave outside of the brain and beyond 0 and 1."
    )
    dtype: Literal["float16", "float32"] = "float16"


# --- arms ---------------------------------------------------------------------------------------------------


class AugmentationSettings(Section):
    gamma: Probability = 0.5
    bias_field: Probability = 0.25
    blur: Probability = 0.25
    ghosting: Probability = 0.5


class TrainSettings(Section):
    learning_rate: PositiveNumber = Field(1e-4, description="D1.")
    max_steps: int = Field(17600, gt=0, description="D2. 1600 epochs of 358 slices in batches of 32.")
    batch_size: int = Field(32, gt=0)
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "auto"] = Field(
        "bf16-mixed",
        description="D3. `auto`: bf16-mixed where the card, or the processor without one, computes it, else 32-true.",
    )
    augment: bool = True
    augmentation: AugmentationSettings = AugmentationSettings()
    validation: Literal["fixed", "random"] = Field(
        "fixed", description="D14. `random`: random slice, augmentation, t and noise at every validation."
    )
    validate_every: int = Field(100, gt=0, description="D30. Steps between validations.")
    validation_slices: int = Field(8, gt=0, description="Evenly spaced slices per volume when validation is fixed.")
    without_sites: list[str] = Field(
        [],
        # an empty list is in no recipe: whoever names no site keeps the models that were trained before this key
        exclude_if=lambda sites: not sites,
        description="Sites of the training cohort that the arm never sees, neither to learn nor to choose weights.",
    )


class PaperRow(Section):
    model: str = Field(description="The row's name in the paper's tables.")
    ssl: bool = False


class ArmSettings(Section):
    method: str = Field(description="A file of uad/methods.")
    from_: str | None = Field(
        None,
        alias="from",
        description="Another arm: a head starts from its network or reconstructions; an arm of the same method is that "
        "arm, read by other `inference`.",
    )
    params: dict[str, Any] = Field(default_factory=dict, description="The method's own keys.")
    train: dict[str, Any] = Field(default_factory=dict, description="Keys of `train` that differ for this arm.")
    inference: dict[str, Any] = Field(
        default_factory=dict, description="Keys of `inference` that differ for this arm, all but `single`."
    )
    label: str | None = Field(None, description="Name in tables and figures; default: the arm's name.")
    paper: PaperRow | None = Field(None, description="The row of the paper this arm reproduces.")


class InferenceSettings(Section):
    t_test: list[Annotated[int, Field(ge=1, le=1000)]] = Field([250, 500, 750], min_length=1)
    single: int = Field(500, description="Noise level of the rows without ensembling.")
    ensemble: list[int] = Field([250, 500, 750], description="Levels whose mean is the reading `ens`.")
    combine: list[Literal["gmean", "max"]] = Field(
        [],
        description="Further readings of the levels of `ensemble`: geometric mean, or largest, of their residuals.",
    )
    samples: int = Field(1, gt=0, description="Times that each level is drawn, with new noise; the mean is kept.")

    @model_validator(mode="after")
    def _t_tests_are_reconstructed(self) -> InferenceSettings:
        missing = {self.single, *self.ensemble} - set(self.t_test)
        if missing:
            raise ValueError(f"`single` and `ensemble` use noise levels that `t_test` lacks: {sorted(missing)}")
        return self


# --- scoring and results ------------------------------------------------------------------------------------


class PostprocessSettings(Section):
    order: list[Literal["erode", "median"]] = Field(["erode", "median"], description="D7.")
    median_size: int = Field(5, gt=0)
    erosion: int | None = Field(None, ge=0, description="Iterations per slice; default: slice width // 25.")
    component_max_size: int = Field(7, ge=0, description="D8. Components up to this many voxels are dropped.")
    mask_without_erosion: bool = Field(
        True, description="D29. Without erosion the brain mask still applies; `false`: no mask at all."
    )


class ThresholdSettings(Section):
    search: Literal["exact", "greedy"] = Field("exact", description="`greedy`: the authors' bisection.")


class PerceptualSettings(Section):
    weights: RulePath | None = Field(
        None, description="MedicalNet ResNet-10 file; `phantom` trains a small stand-in; null: not available."
    )
    sha256: str | None = None
    width: int = Field(12, gt=0, description="Width of the phantom-trained stand-in (MedicalNet: 64).")
    steps: int = Field(120, gt=0, description="Training steps of the stand-in.")


class TableSettings(Section):
    l1_ratio: Literal["mean_of_ratios", "ratio_of_means"] = "mean_of_ratios"
    permutation_rounds: int = Field(10000, gt=0, description="Rounds of the tests and of the bootstrap.")
    test_unit: Literal["volumes", "folds"] = Field(
        "volumes", description="D21. `folds`: unpaired test of the fold means, as the paper may have done."
    )
    dice_without_lesion: Literal["left_out", "zero"] = Field(
        "left_out", description="D32. Dice of a volume without a lesion voxel; `zero`: 0 where anything is called."
    )
    lesion_overlap: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Table 5: share of a lesion's voxels that have to be predicted, beside the count at any overlap.",
    )
    ablation: bool = Field(True, description="Table 4: every arm that is no control with each step left out.")


class CheckSettings(Section):
    statements: list[
        Literal[
            "diffusion_above_thresh",
            "condition_recovers_intensity",
            "condition_carries_contrast",
            "condition_hides_no_lesion",
        ]
    ] = Field(
        default_factory=list,
        description="What the run claims about its methods (uad/reporting/statements.py); a claim that does not hold "
        "stops it.",
    )


class ReportSettings(Section):
    viewer_scans: Annotated[int, Field(ge=0, le=5)] | Literal["all"] = Field(
        3,
        description="Test scans per cohort and modality in the viewer (fold 0), beside the worst, median and best of "
        "every arm; `all`: about 0.4 MB in the report per scan and reading of an arm, at the paper's size.",
    )
    thumbnails: int = Field(24, ge=0, description="Scans per cohort and modality pictured in the report.")

    @field_validator("viewer_scans", mode="wrap")
    @classmethod
    def _is_few_or_all(cls, scans: Any, check: ValidatorFunctionWrapHandler) -> Any:
        try:
            return check(scans)
        except ValidationError:  # one message in place of one per type
            raise ValueError("has to be a whole number from 0 to 5, or all") from None


class ExecutionSettings(Section):
    """How it runs, not what it computes: nothing here changes a result."""

    shard_size: int = Field(50, gt=0, description="Scans per preprocessing shard.")
    preprocess_threads: int = Field(8, gt=0)
    train_threads: int = Field(4, gt=0)
    score_threads: int = Field(4, gt=0)
    slices_per_pass: int | None = Field(
        None, gt=0, description="Slices that enter a network at once at inference; null: a whole volume."
    )
    keep_reconstructions: bool = Field(
        True, description="`false`: removed once the whole run was asked for and is complete (docs/cluster.md)."
    )
    card: Literal["a100", "h100", "v100"] = Field("a100", description="GPU that `plan` computes likely hours for.")


class StudySettings(Section):
    question: str = Field(description="A file of uad/studies, with hyphens.")
    arms: list[str] = Field(min_length=1, description="What it compares; no other arm is trained or scored for it.")
    params: dict[str, Any] = Field(default_factory=dict, description="The study's own keys.")


class Config(Section):
    """A whole experiment."""

    run: Name = Field("paper", description="Results go to results/<run>.")
    protocol: Protocol = "clean"
    seed: int = 3141
    folds: int = Field(5, gt=0)
    data_dir: RulePath = "data"
    data_of: Name | None = Field(
        None, description="Another run whose cohorts, splits and store this one reads; it makes none of its own."
    )
    train_cohort: Name = "ixi"
    cohorts: dict[Name, CohortSettings] = Field(min_length=1)
    phantom: PhantomSettings = PhantomSettings()
    planted: PlantedSettings = PlantedSettings()
    sources: SourceSettings = SourceSettings()
    splits: SplitSettings = SplitSettings()
    preprocess: PreprocessSettings = PreprocessSettings()
    plausible: PlausibleSettings = PlausibleSettings()
    pack: PackSettings = PackSettings()
    diffusion: ConditionedDiffusionSettings = ConditionedDiffusionSettings()
    train: TrainSettings = TrainSettings()
    train_by_method: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Keys of `train` that differ for one method (D2, D3)."
    )
    inference: InferenceSettings = InferenceSettings()
    arms: dict[Name, ArmSettings] = Field(min_length=1)
    study: StudySettings | None = Field(None, description="A question beyond the paper, instead of the tables.")
    postprocess: PostprocessSettings = PostprocessSettings()
    threshold: ThresholdSettings = ThresholdSettings()
    perceptual: PerceptualSettings = PerceptualSettings()
    tables: TableSettings = TableSettings()
    check: CheckSettings = CheckSettings()
    report: ReportSettings = ReportSettings()
    execution: ExecutionSettings = ExecutionSettings()

    def shards(self, cohort: str) -> range:
        """Numbers of a cohort's preprocessing shards."""
        scans = self.cohorts[cohort].subjects * len(self.cohorts[cohort].modalities)
        return range(-(-scans // self.execution.shard_size))

    def is_healthy(self, cohort: str) -> bool:
        """Whether no subject of the cohort has a lesion: the training cohort, and others that only test."""
        settings = self.cohorts[cohort]
        return cohort == self.train_cohort or bool(settings.healthy) or ADAPTERS[settings.adapter].healthy

    @model_validator(mode="after")
    def _strokes_are_planted_into_healthy_scans(self) -> Config:
        of = self.planted.of
        for name, cohort in self.cohorts.items():
            if cohort.source != "planted":
                continue
            if of not in self.cohorts:
                raise ValueError(
                    f"cohorts.{name} is planted: `planted.of` has to name a healthy cohort under `cohorts` (got {of!r})"
                )
            healthy = self.cohorts[of]
            if not self.is_healthy(of) or "t1" not in healthy.modalities:
                raise ValueError(f"`planted.of` names `{of}`, which is no healthy cohort with T1")
            for flag in ("stripped", "registered", "bias_corrected"):
                if bool(getattr(cohort, flag)) != bool(getattr(healthy, flag)):
                    state = str(bool(getattr(healthy, flag))).lower()
                    raise ValueError(
                        f"cohorts.{name}.{flag} has to be {state}, as for cohorts.{of}, whose scans it has"
                    )
        return self

    @model_validator(mode="after")
    def _data_are_of_another_run(self) -> Config:
        if self.data_of == self.run:
            raise ValueError(f"`data_of` is `{self.run}`, this run itself; name another run, or leave it out")
        return self

    @model_validator(mode="after")
    def _training_cohort_exists(self) -> Config:
        if self.train_cohort not in self.cohorts:
            raise ValueError(f"`train_cohort` names `{self.train_cohort}`, which is not under `cohorts`")
        if self.cohorts[self.train_cohort].splits.train == 0:
            raise ValueError(f"cohorts.{self.train_cohort}.splits.train is 0, but it is the training cohort")
        if self.cohorts[self.train_cohort].optional:
            raise ValueError(f"cohorts.{self.train_cohort}.optional: the training cohort cannot be left out")
        return self
