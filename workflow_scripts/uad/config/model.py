"""The shape of `config.yaml`: every key, its type, its default and where its value comes from.

Keys marked with a D-number take their value from the chosen protocol (`uad.config.protocols`)
unless the configuration names one itself.  Unknown keys are refused everywhere.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Modality = Literal["t1", "t2"]
Protocol = Literal["clean", "authors", "paper"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Probability = Annotated[float, Field(ge=0, le=1)]


def _number(value: Any) -> Any:
    """YAML 1.1 reads `1e-4` as a string; accept what the author plainly meant."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


PositiveNumber = Annotated[float, BeforeValidator(_number), Field(gt=0)]


class Section(BaseModel):
    """A block of the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    source: Literal["archive", "phantom"] = Field(
        "archive", description="`archive`: the real data set. `phantom`: generated in the same layout."
    )
    raw: str | None = Field(None, description="Folder with the raw data; default `<data_dir>/raw/<cohort>`.")
    modalities: list[Modality] = Field(min_length=1)
    subjects: int = Field(gt=0, description="Expected number of subjects; sets the number of shards.")
    splits: SplitSizes
    exclude_label: int | None = Field(
        None, description="D34. Label value left out of the evaluation (WMH: 2, other pathology); null: none."
    )
    healthy: bool | None = Field(None, description="adapter `folder` only: no subject has a lesion.")
    stripped: bool | None = Field(None, description="adapter `folder` only: the scans are brain-extracted.")
    registered: bool | None = Field(None, description="adapter `folder` only: the scans are in atlas space.")
    bias_corrected: bool | None = Field(None, description="adapter `folder` only: N4 has been applied.")

    @model_validator(mode="after")
    def _flags_belong_to_folder(self) -> CohortSettings:
        if self.adapter != "folder":
            for key in ("healthy", "stripped", "registered", "bias_corrected"):
                if getattr(self, key) is not None:
                    raise ValueError(f"`{key}` is for adapter `folder`; `{self.adapter}` knows this itself")
        return self


class PhantomSettings(Section):
    voxel_mm: PositiveNumber = Field(3.0, description="Voxel size of the generated scans.")
    seed: int = 7


class SourceSettings(Section):
    """Where downloads come from; like `execution`, nothing here changes a result."""

    offline: bool = Field(False, description="Fetch nothing: use what is there and say what is missing.")
    base_url: dict[str, str] = Field(
        default_factory=dict, description="Item -> mirror or local folder that has its files (docs/data.md)."
    )
    sha256: dict[str, str] = Field(
        default_factory=dict, description="File name -> SHA-256 that replaces the published one."
    )


class SplitSettings(Section):
    source: Literal["clean", "authors"] = Field(
        "clean", description="D4, D5, D20. `clean`: drawn by rule from the ids. `authors`: their CSV files."
    )
    authors_csv: str = Field("data/splits", description="Folder with the authors' split CSVs.")


# --- preprocessing ------------------------------------------------------------------------------------------


class HdBetSettings(Section):
    parameters: str = Field(
        "download", description="Folder with HD-BET parameters, or `download`: fetched to <data_dir>/hd_bet."
    )
    sha256: str | None = Field(
        None, description="SHA-256 of fold_all/checkpoint_final.pth, checked before loading; null: as first fetched."
    )
    test_time_augmentation: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"


class AtlasSettings(Section):
    image: str = Field(
        "sri24", description="`sri24` (fetched to <data_dir>/sri24), `mni152` (from nilearn), or a NIfTI file."
    )
    orientation: str = Field("RAI", description="ITK orientation of the template grid (paper_spec 2).")


class RegistrationSettings(Section):
    transform: Literal["Affine", "Rigid"] = "Affine"
    iterations: list[int] = [2100, 1200, 1200, 10]
    label_interpolation: Literal["nearestNeighbor", "linear"] = Field(
        "nearestNeighbor", description="D11. `linear`: any value above 0 counts, which dilates small lesions."
    )


class BiasFieldSettings(Section):
    levels: int = Field(4, gt=0)
    iterations: int = Field(200, gt=0)
    tolerance: PositiveNumber = 5e-4
    mask_sigma: PositiveNumber = Field(1.0, description="Smoothing of the weight mask, in voxels.")
    mask_stripped: bool = Field(True, description="D12. `false`: scans that come stripped get N4 without a mask.")


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
    dtype: Literal["float16", "float32"] = "float16"


# --- arms ---------------------------------------------------------------------------------------------------


class UNetSettings(Section):
    base: int = Field(128, gt=0)
    multipliers: list[int] = [1, 2, 2]
    blocks: int = Field(3, gt=0, description="Residual blocks per level on the way down; one more on the way up.")
    attention_heads: int = Field(4, gt=0)
    head_channels: int = Field(64, gt=0)


class EncoderSettings(Section):
    depth: Literal[10, 18, 50] = 50
    width: int = Field(64, gt=0)
    drop_path: Probability = 0.05


class ConditionSettings(Section):
    dim: int = Field(512, gt=0, description="D6. The text says 128, the code uses 512.")
    mlp: bool = Field(True, description="D6. The code's extra MLP on the condition.")


class NoiseSettings(Section):
    shared: bool = Field(False, description="D17. One field for a whole batch or volume, as the authors do.")
    offset: bool = Field(True, description="D17. Random lattice offset; `false` leaves pixel (0, 0) noise-free.")
    half: bool = Field(False, description="D17. Round the field to float16.")
    octaves: int = Field(6, gt=0)
    persistence: PositiveNumber = 0.8
    wavelength: PositiveNumber = Field(64, description="Wavelength of the first octave in pixels.")


class DiffusionSettings(Section):
    objective: Literal["x0", "residual"] = Field("x0", description="D16. `residual`: x0 = x_t - output (the text).")
    noise: NoiseSettings = NoiseSettings()
    unet: UNetSettings = UNetSettings()


class SparkSettings(Section):
    """Masked pre-training of the encoder; its steps and precision are `train_by_method.spark`."""

    mask_ratio: Probability = Field(0.65, description="D24. Share of the 32 x 32 cells that are hidden.")
    decoder_width: int = Field(512, ge=32, description="Channels of the decoder's first stage, 32 or more.")


class ConditionedDiffusionSettings(DiffusionSettings):
    encoder: EncoderSettings = EncoderSettings()
    condition: ConditionSettings = ConditionSettings()
    spark: SparkSettings | None = Field(None, description="Pre-train the encoder with SparK; null: random weights.")
    spark_optimizer: Literal["adam", "adamw"] = Field(
        "adamw", description="D28. Of SparK; `adamw`: betas 0.9 and 0.95, weight decay 0.05."
    )


class AugmentationSettings(Section):
    gamma: Probability = 0.5
    bias_field: Probability = 0.25
    blur: Probability = 0.25
    ghosting: Probability = 0.5


class TrainSettings(Section):
    learning_rate: PositiveNumber = Field(1e-4, description="D1.")
    max_steps: int = Field(17600, gt=0, description="D2. 1600 epochs of 358 slices in batches of 32.")
    batch_size: int = Field(32, gt=0)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field("bf16-mixed", description="D3.")
    augment: bool = True
    augmentation: AugmentationSettings = AugmentationSettings()
    validation: Literal["fixed", "random"] = Field(
        "fixed", description="D14. `random`: random slice, augmentation, t and noise at every validation."
    )
    validate_every: int = Field(100, gt=0, description="D30. Steps between validations.")
    validation_slices: int = Field(8, gt=0, description="Evenly spaced slices per volume when validation is fixed.")


class PaperRow(Section):
    model: str = Field(description="The row's name in the paper's tables.")
    ssl: bool = False


class ArmSettings(Section):
    method: str = Field(description="A file of uad/methods.")
    params: dict[str, Any] = Field(default_factory=dict, description="The method's own keys.")
    train: dict[str, Any] = Field(default_factory=dict, description="Keys of `train` that differ for this arm.")
    label: str | None = Field(None, description="Name in tables and figures; default: the arm's name.")
    paper: PaperRow | None = Field(None, description="The row of the paper this arm reproduces.")


class InferenceSettings(Section):
    t_test: list[Annotated[int, Field(ge=1, le=1000)]] = Field([250, 500, 750], min_length=1)
    single: int = Field(500, description="Noise level of the rows without ensembling.")
    ensemble: list[int] = [250, 500, 750]

    @model_validator(mode="after")
    def _levels_are_reconstructed(self) -> InferenceSettings:
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
    weights: str | None = Field(
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
    ablation: bool = Field(True, description="Table 4: every arm that is no control with each step left out.")


class ReportSettings(Section):
    viewer_scans: int = Field(
        3, ge=0, le=5, description="Test scans per cohort and modality in the viewer (fold 0); scoring keeps 5."
    )
    thumbnails: int = Field(24, ge=0, description="Scans per cohort and modality pictured in the report.")


class ExecutionSettings(Section):
    """How it runs, not what it computes: nothing here changes a result."""

    shard_size: int = Field(50, gt=0, description="Scans per preprocessing shard.")
    preprocess_threads: int = Field(8, gt=0)
    train_threads: int = Field(4, gt=0)
    score_threads: int = Field(4, gt=0)
    devices: int = Field(1, gt=0, description="GPUs that share one training of a diffusion arm; divides the batch.")
    slices_per_pass: int | None = Field(
        None, gt=0, description="Slices that enter a network at once at inference; null: a whole volume."
    )
    keep_reconstructions: bool = Field(
        True, description="`false`: removed once the whole run was asked for and is complete (docs/cluster.md)."
    )


class Config(Section):
    """A whole experiment."""

    run: Name = Field("paper", description="Results go to results/<run>.")
    protocol: Protocol = "clean"
    seed: int = 3141
    folds: int = Field(5, gt=0)
    data_dir: str = "data"
    data_of: Name | None = Field(
        None, description="Another run whose cohorts, splits and store this one reads; it makes none of its own."
    )
    train_cohort: Name = "ixi"
    cohorts: dict[Name, CohortSettings] = Field(min_length=1)
    phantom: PhantomSettings = PhantomSettings()
    sources: SourceSettings = SourceSettings()
    splits: SplitSettings = SplitSettings()
    preprocess: PreprocessSettings = PreprocessSettings()
    pack: PackSettings = PackSettings()
    diffusion: ConditionedDiffusionSettings = ConditionedDiffusionSettings()
    train: TrainSettings = TrainSettings()
    train_by_method: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Keys of `train` that differ for one method (D2, D3)."
    )
    inference: InferenceSettings = InferenceSettings()
    arms: dict[Name, ArmSettings] = Field(min_length=1)
    postprocess: PostprocessSettings = PostprocessSettings()
    threshold: ThresholdSettings = ThresholdSettings()
    perceptual: PerceptualSettings = PerceptualSettings()
    tables: TableSettings = TableSettings()
    report: ReportSettings = ReportSettings()
    execution: ExecutionSettings = ExecutionSettings()

    def shards(self, cohort: str) -> range:
        """Numbers of a cohort's preprocessing shards."""
        scans = self.cohorts[cohort].subjects * len(self.cohorts[cohort].modalities)
        return range(-(-scans // self.execution.shard_size))

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
        return self
