"""Settings that several methods share: the section `diffusion` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from uad.common.settings import PositiveNumber, Probability, Section


class UNetSettings(Section):
    base: int = Field(128, gt=0)
    multipliers: list[int] = [1, 2, 2]
    blocks: int = Field(3, gt=0, description="Residual blocks per level on the way down; one more on the way up.")
    attention_heads: int = Field(4, gt=0)
    head_channels: int = Field(64, gt=0)


class EncoderSettings(Section):
    depth: Literal[10, 18, 34, 50, 101] = 50
    width: int = Field(64, gt=0)
    drop_path: Probability = 0.05


def _odd(count: int) -> int:
    if count < 1 or count % 2 == 0:
        raise ValueError("is no odd number from 1 on; a slice lies in the middle of those that are seen")
    return count


class ConditionSettings(Section):
    """How the U-Net is told about the noise-free input.

    Keys that came after the paper's study are left out of what a model file remembers while they have their defaults,
    so that models trained before them stay valid.
    """

    dim: int = Field(512, gt=0, description="D6. The text says 128, the code uses 512.")
    mlp: bool = Field(True, description="D6. The code's extra MLP on the condition.")
    slices: Annotated[int, AfterValidator(_odd)] | Literal["volume"] = Field(
        1,
        description="What the encoder sees: the slice and as many on either side, an odd number, or the `volume`.",
        exclude_if=lambda slices: slices == 1,
    )
    mode: Literal["scale_shift", "scale", "shift", "add", "concat"] = Field(
        "scale_shift",
        description="How the condition enters the U-Net; `add`: to the time embedding, `concat`: as maps of the input.",
        exclude_if=lambda mode: mode == "scale_shift",
    )


class NoiseSettings(Section):
    shared: bool = Field(False, description="D17. One field for a whole batch or volume, as the authors do.")
    offset: bool = Field(True, description="D17. Random lattice offset; `false` leaves pixel (0, 0) noise-free.")
    half: bool = Field(False, description="D17. Round the field to float16.")
    octaves: int = Field(6, gt=0)
    persistence: PositiveNumber = 0.8
    wavelength: PositiveNumber = Field(64, description="Wavelength of the first octave in pixels.")
    kind: Literal["simplex", "gaussian", "pyramid"] = Field(
        "simplex", description="`pyramid`: Gaussian fields of several resolutions, as ANDi trains with."
    )
    discount: PositiveNumber = Field(0.8, description="Of the pyramid: weight of a level against the one before.")


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

    @model_validator(mode="after")
    def _spark_sees_single_slices(self) -> ConditionedDiffusionSettings:
        if self.spark is not None and self.condition.slices != 1:
            raise ValueError("`spark` pre-trains an encoder of single slices; leave it out, or condition.slices")
        return self
