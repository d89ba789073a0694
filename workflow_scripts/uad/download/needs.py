"""Which items of the source table a configuration needs, and the settings file of its downloads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from uad.cohorts import find_adapter
from uad.common.files import write_text
from uad.config.model import Config
from uad.config.places import hd_bet_folder, placed_sri24, stroke_masks_folder
from uad.download.inventory import Need
from uad.download.own import OwnFolder, StrokeMasks
from uad.download.sources import Settings, read_sources


def medicalnet_file(config: Config) -> str:
    """Where MedicalNet's weights are downloaded to: the configured path, if it has the published file name."""
    name = read_sources()["medicalnet"].files[0].name
    weights = config.perceptual.weights or ""
    return weights if Path(weights).name == name else f"{config.data_dir}/medicalnet/{name}"


def needs_of(config: Config, raw_folder: Callable[[str], str]) -> list[Need]:
    """Items of a configuration: the real cohorts in its order, then atlas, weights and split files.

    Args:
        raw_folder: cohort -> folder of its raw data.
    """
    needs = [
        Need(cohort.adapter, name, Path(raw_folder(name)), tuple(cohort.modalities))
        for name, cohort in config.cohorts.items()
        if cohort.source == "archive" and cohort.adapter in read_sources()
    ]
    if config.preprocess.atlas.image == "sri24" and not placed_sri24(config.data_dir):
        needs.append(Need("sri24", "sri24", Path(config.data_dir) / "sri24"))
    if any(fetches_hd_bet(config, name, raw_folder) for name in config.cohorts):
        needs.append(Need("hd-bet", "hd-bet", Path(hd_bet_folder(config))))
    if config.perceptual.weights == medicalnet_file(config):
        needs.append(Need("medicalnet", "medicalnet", Path(medicalnet_file(config)).parent))
    if config.splits.source == "authors":
        needs.append(Need("authors-splits", "authors-splits", Path(config.splits.authors_csv)))
    return needs


def own_folders(config: Config, raw_folder: Callable[[str], str]) -> list[OwnFolder]:
    """The user's own cohorts, which cannot be downloaded."""
    return [
        OwnFolder(name, raw_folder(name), tuple(cohort.modalities), cohort.subjects, bool(cohort.healthy))
        for name, cohort in config.cohorts.items()
        if cohort.source == "archive" and cohort.adapter == "folder"
    ]


def stroke_masks(config: Config) -> list[StrokeMasks]:
    """The shapes of planted strokes, where a cohort has them."""
    cohorts = tuple(name for name, cohort in config.cohorts.items() if cohort.source == "planted")
    return [StrokeMasks(stroke_masks_folder(config), cohorts)] if cohorts else []


def fetches_hd_bet(config: Config, cohort: str, raw_folder: Callable[[str], str]) -> bool:
    """Whether a cohort needs HD-BET with downloaded parameters."""
    settings = config.cohorts[cohort]
    if settings.source == "planted":  # every scan gets the brain mask of the healthy one
        return False
    stripped = settings.stripped if settings.adapter == "folder" else find_adapter(settings.adapter).stripped
    extracted = not stripped or config.preprocess.stripped_mask == "hd_bet"
    if not extracted or config.preprocess.hd_bet.parameters != "download":
        return False
    own = next((each for each in own_folders(config, raw_folder) if each.name == cohort), None)
    return own is None or not own.every_scan_has_a_mask()


def write_sources(
    config: Config,
    results: str,
    raw_folder: Callable[[str], str],
    put: Callable[[str | Path, str], None] = write_text,
) -> str:
    """Write what the downloads of a run read; returns the path.

    The name does not depend on the content: a mirror changes no result, so no job has to run again.

    Args:
        raw_folder: cohort -> folder of its raw data.
        put: writes the text to the path, now or later.
    """
    sources = config.sources.model_dump(mode="json")
    Settings(**sources)  # refuses a wrong mirror before any job starts
    needs = [
        {"item": need.item, "name": need.name, "folder": str(need.folder), "modalities": need.modalities}
        for need in needs_of(config, raw_folder)
    ]
    own = [each.as_dict() for each in own_folders(config, raw_folder)]
    masks = [each.as_dict() for each in stroke_masks(config)]
    content = {"run": config.run, "data_dir": config.data_dir, "needs": needs, "own": own, "masks": masks, **sources}
    text = json.dumps(content, indent=1) + "\n"
    path = Path(results) / "settings" / "sources.json"
    put(path, text)
    return str(path)


def read_own(content: dict[str, Any]) -> list[OwnFolder | StrokeMasks]:
    """What the user has to place by the content of such a file: the own cohorts, and the shapes of planted strokes."""
    own = [OwnFolder(**row | {"modalities": tuple(row["modalities"])}) for row in content.get("own", [])]
    masks = [StrokeMasks(row["folder"], tuple(row["cohorts"])) for row in content.get("masks", [])]
    return [*own, *masks]


def read_needs(path: str | Path) -> tuple[list[Need], Settings, dict[str, Any]]:
    """Needs, settings and the whole content of a file that `write_sources` wrote."""
    content = json.loads(Path(path).read_text())
    needs = [Need(row["item"], row["name"], Path(row["folder"]), tuple(row["modalities"])) for row in content["needs"]]
    return needs, Settings(content["offline"], content["base_url"], content["sha256"]), content
