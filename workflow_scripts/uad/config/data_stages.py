"""What the stages from ingest to the store read of the configuration, the content of their settings files."""

from __future__ import annotations

from typing import Any

from uad.config.model import Config
from uad.config.places import hd_bet_folder


def ingest_settings(config: Config, cohort: str) -> dict[str, Any]:
    """Settings of rule `ingest` for one cohort."""
    return {"cohort": _cohort(config, cohort)}


def planted_settings(config: Config, cohort: str) -> dict[str, Any]:
    """Settings of rule `plant` for one cohort; where the masks lie changes nothing."""
    healthy = config.planted.of
    assert healthy is not None
    return {
        "name": cohort, "subjects": config.cohorts[cohort].subjects, "person": config.cohorts[healthy].person,
        "planted": config.planted.model_dump(mode="json", exclude={"masks"}), "seed": config.seed,
    }  # fmt: skip


def split_settings(config: Config, cohort: str) -> dict[str, Any]:
    """Settings of rule `splits` for one cohort."""
    return {
        "name": cohort, "cohort": _cohort(config, cohort),
        "splits": config.splits.model_dump(mode="json"), "folds": config.folds, "seed": config.seed,
    }  # fmt: skip


def skull_strip_settings(config: Config, cohort: str) -> dict[str, Any]:
    """Settings of rule `skull_strip` for one cohort, with a folder where the parameters are to be fetched."""
    preprocess = config.preprocess.model_dump(mode="json")
    kept = {key: preprocess[key] for key in ("spacing_mm", "stripped_mask", "max_failures", "hd_bet")}
    if kept["hd_bet"]["parameters"] == "download":
        kept["hd_bet"]["parameters"] = hd_bet_folder(config)
    return {"cohort": _cohort(config, cohort), "preprocess": kept, "plausible": _plausible(config)}


def register_settings(config: Config, cohort: str) -> dict[str, Any]:
    """Settings of rule `register` for one cohort."""
    return {
        "cohort": _cohort(config, cohort),
        "preprocess": config.preprocess.model_dump(mode="json", exclude={"hd_bet"}),
        "plausible": _plausible(config), "data_dir": config.data_dir, "seed": config.seed,
    }  # fmt: skip


def pack_settings(config: Config, cohort: str, modality: str) -> dict[str, Any]:
    """Settings of rule `pack` for one cohort and modality."""
    return {
        "cohort": _cohort(config, cohort), "modality": modality,
        "pack": config.pack.model_dump(mode="json"), "spacing_mm": config.preprocess.spacing_mm,
        "plausible": _plausible(config),
    }  # fmt: skip


def _plausible(config: Config) -> dict[str, Any]:
    return config.plausible.model_dump(mode="json")


def _cohort(config: Config, cohort: str) -> dict[str, Any]:
    # where data come from makes no job run again
    return config.cohorts[cohort].model_dump(mode="json", exclude={"item", "optional"})
