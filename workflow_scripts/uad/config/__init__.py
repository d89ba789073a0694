"""The configuration: one pydantic model, three protocols, and messages that say what was probably meant."""

from uad.config.load import (
    Config,
    arm_settings,
    build_method,
    checked,
    did_you_mean,
    in_order_of,
    inference_of,
    load,
    pretraining_settings,
    refuse_twice,
    resolve,
)

__all__ = [
    "Config",
    "arm_settings",
    "build_method",
    "checked",
    "did_you_mean",
    "in_order_of",
    "inference_of",
    "load",
    "pretraining_settings",
    "refuse_twice",
    "resolve",
]
