"""Which items of the source table a configuration needs, and the settings file of its downloads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from uad.cohorts import find_adapter
from uad.common.errors import InputError
from uad.common.files import write_text
from uad.config.load import did_you_mean
from uad.config.model import Config
from uad.config.places import hd_bet_folder, placed_sri24, stroke_masks_folder
from uad.download.inventory import Need
from uad.download.own import OwnFolder
from uad.download.plan import NEEDS_YOU, state_of
from uad.download.sources import Settings, is_local, local_path, read_sources


def medicalnet_file(config: Config) -> str:
    """Where MedicalNet's weights are downloaded to: the configured path, if it has the published file name."""
    name = read_sources()["medicalnet"].files[0].name
    weights = config.perceptual.weights or ""
    return weights if Path(weights).name == name else f"{config.data_dir}/medicalnet/{name}"


def needs_of(config: Config, raw_folder: Callable[[str], str]) -> list[Need]:
    """Items of a configuration: the real cohorts in its order, then atlas, weights and split files.

    Args:
        raw_folder: cohort -> folder of its raw data.

    Raises:
        InputError: a cohort's `item` is not in the source table, or no folder of scans.
    """
    needs = [need for name in config.cohorts if (need := _need_of(config, name, raw_folder))]
    if any(cohort.source == "planted" for cohort in config.cohorts.values()):
        needs.append(Need("stroke-masks", "stroke-masks", Path(stroke_masks_folder(config))))
    if config.preprocess.atlas.image == "sri24" and not placed_sri24(config.data_dir):
        needs.append(Need("sri24", "sri24", Path(config.data_dir) / "sri24"))
    if any(fetches_hd_bet(config, name, raw_folder) for name in config.cohorts):
        needs.append(Need("hd-bet", "hd-bet", Path(hd_bet_folder(config))))
    if config.perceptual.weights == medicalnet_file(config):
        needs.append(Need("medicalnet", "medicalnet", Path(medicalnet_file(config)).parent))
    if config.splits.source == "authors":
        needs.append(Need("authors-splits", "authors-splits", Path(config.splits.authors_csv)))
    return needs


def _need_of(config: Config, name: str, raw_folder: Callable[[str], str]) -> Need | None:
    """What a cohort needs of the source table; None for phantoms and the user's own scans."""
    cohort, sources = config.cohorts[name], read_sources()
    folders = [item for item, source in sources.items() if source.copies]
    if cohort.item is not None and cohort.item not in folders:
        raise InputError(f"config: cohorts.{name}.item: {did_you_mean(cohort.item, folders)}")
    item = cohort.item or cohort.adapter
    if cohort.source != "archive" or item not in sources:
        return None
    return Need(item, name, Path(raw_folder(name)), tuple(cohort.modalities))


def left_out(config: Config, raw_folder: Callable[[str], str]) -> dict[str, str]:
    """The optional cohorts whose data are not here and cannot be fetched -> what the user can do, in one line."""
    settings, steps = Settings(**config.sources.model_dump(mode="json")), {}
    for name in (name for name, cohort in config.cohorts.items() if cohort.optional):
        need = _need_of(config, name, raw_folder)
        if need is not None:
            state = state_of(need, settings)
            if state.status == NEEDS_YOU:
                steps[name] = state.step
        elif not any(Path(raw_folder(name)).glob("*")):
            steps[name] = f"nothing is in {raw_folder(name)}; place the scans there, or correct cohorts.{name}.raw"
    return steps


def own_folders(config: Config, raw_folder: Callable[[str], str]) -> list[OwnFolder]:
    """The cohorts that are folders of scans: the user's own, which cannot be downloaded, and those of an item."""
    return [
        OwnFolder(
            name, raw_folder(name), tuple(cohort.modalities), cohort.subjects, bool(cohort.healthy), cohort.item or ""
        )
        for name, cohort in config.cohorts.items()
        if cohort.source == "archive" and cohort.adapter == "folder"
    ]


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
    if own is None:
        return True
    copied_from = config.sources.base_url.get(own.item, "")
    copied = bool(copied_from) and is_local(copied_from)
    folders = [own, *([replace(own, folder=str(local_path(copied_from)))] if copied else [])]
    return not any(folder.every_scan_has_a_mask() for folder in folders)


def write_sources(
    config: Config,
    results: str,
    raw_folder: Callable[[str], str],
    put: Callable[[str | Path, str], None] = write_text,
    absent: Mapping[str, str] | None = None,
) -> str:
    """Write what the downloads of a run read; returns the path.

    The name does not depend on the content: a mirror changes no result, so no job has to run again.

    Args:
        raw_folder: cohort -> folder of its raw data.
        put: writes the text to the path, now or later.
        absent: the cohorts that are left out of the run (`left_out`).
    """
    sources = config.sources.model_dump(mode="json")
    Settings(**sources)  # refuses a wrong mirror before any job starts
    needs = [
        {"item": need.item, "name": need.name, "folder": str(need.folder), "modalities": need.modalities}
        for need in needs_of(config, raw_folder)
    ]
    own = [each.as_dict() for each in own_folders(config, raw_folder)]
    content = {
        "run": config.run, "data_dir": config.data_dir, "needs": needs, "own": own,
        "left_out": absent or {}, **sources,
    }  # fmt: skip
    text = json.dumps(content, indent=1) + "\n"
    path = Path(results) / "settings" / "sources.json"
    put(path, text)
    return str(path)


def read_own(content: dict[str, Any]) -> list[OwnFolder]:
    """The folders of scans by the content of such a file."""
    return [OwnFolder(**row | {"modalities": tuple(row["modalities"])}) for row in content.get("own", [])]


def read_needs(path: str | Path) -> tuple[list[Need], Settings, dict[str, Any]]:
    """Needs, settings and the whole content of a file that `write_sources` wrote."""
    content = json.loads(Path(path).read_text())
    needs = [Need(row["item"], row["name"], Path(row["folder"]), tuple(row["modalities"])) for row in content["needs"]]
    return needs, Settings(content["offline"], content["base_url"], content["sha256"]), content
