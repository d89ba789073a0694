"""The data of another run, from ingest to the store, used by this one and never written (`data_of`).

Every file of these stages has a record of its settings beside it.  The records are compared with the settings of this
run, so that a run never uses data that its own configuration would make differently.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uad.common.errors import InputError
from uad.common.recipe import differences, settings_record
from uad.config.data_stages import (
    ingest_settings,
    pack_settings,
    planted_settings,
    register_settings,
    skull_strip_settings,
    split_settings,
)
from uad.config.model import Config

FOLDERS = ("cohorts", "splits", "skull_stripped", "preprocessed", "store")
STORE_FILES = (".images.npy", ".masks.npy", ".labels.npy", ".tsv")  # of one cohort and modality, beside their record


def check_data(config: Config, results: Path) -> None:
    """Refuse a run that cannot take the data of run `config.data_of`; nothing is written.

    Args:
        config: of this run; `data_of` is set.
        results: folder of this run, `results/<run>`.

    Raises:
        InputError: the other run lacks data, or made it with other settings; this run has data of its own.
    """
    assert config.data_of is not None
    other = results.parent / config.data_of
    for record, stage, content in _records(config, other):
        endings = STORE_FILES if stage == "pack" else (".tsv",)
        for file in (record, *map(record.with_suffix, endings)):
            if not file.exists():
                raise InputError(f"data_of: {file} does not exist; let run '{config.data_of}' make its data first")
        wanted = json.loads(json.dumps(settings_record(stage, content)))
        for key, made, here in differences(json.loads(record.read_text())["settings"], wanted):
            raise InputError(
                f"data_of: {record}: made with {key} {made!r}, this run has {here!r}; "
                "give both runs the same, or leave data_of out"
            )
    own = [results / name for name in FOLDERS if (results / name).exists() and not (results / name).is_symlink()]
    if own:
        raise InputError(
            f"data_of: {own[0]} is there already and holds this run's own data; give the run another name, or delete "
            f"its data: rm -r {' '.join(map(str, own))}"
        )
    for link in _links(results):
        target = _target(config, link.name)
        if os.readlink(link) != target:
            raise InputError(
                f"data_of: {link} is a link to {os.readlink(link)} already, not to {target}; give the run another "
                f"name, or delete the links: {_removal(results)} (what this run made from other data is made again)"
            )


def link_data(config: Config, results: Path) -> None:
    """Make the data folders of a run links to those of run `config.data_of`: its programs look below `results`."""
    results.mkdir(parents=True, exist_ok=True)
    for name in FOLDERS:
        with contextlib.suppress(FileExistsError):  # of an earlier start, which `check_data` has looked at
            (results / name).symlink_to(_target(config, name))


def refuse_links(results: Path) -> None:
    """Refuse a run whose folders are links to another run's data, where it would write.

    Raises:
        InputError: such a link is left from when `data_of` was set.
    """
    for link in _links(results):
        if Path(os.readlink(link)).parts[::2] == ("..", link.name):
            other = Path(os.readlink(link)).parts[1]
            raise InputError(
                f"{link} is a link to the data of run '{other}', which this run would change; set data_of: {other}, "
                f"or, to have this run make its own data, delete the links: {_removal(results)} "
                f"(what it made from the data of '{other}' is made again)"
            )


def _links(results: Path) -> list[Path]:
    return [results / name for name in FOLDERS if (results / name).is_symlink()]


def _target(config: Config, name: str) -> str:
    return f"../{config.data_of}/{name}"


def _removal(results: Path) -> str:
    """The command that removes the links, and only them."""
    return f"rm {' '.join(map(str, _links(results)))}"


def _records(config: Config, other: Path) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """Path, stage and settings of every record that a run with this configuration has."""
    for cohort, settings in config.cohorts.items():
        if settings.source == "planted":
            yield other / "acquired" / f"{cohort}.json", "planted", planted_settings(config, cohort)
        yield other / "cohorts" / f"{cohort}.json", "ingest", ingest_settings(config, cohort)
        yield other / "splits" / f"{cohort}.json", "splits", split_settings(config, cohort)
        shards = config.shards(cohort)
        found = len(list((other / "skull_stripped" / cohort).glob("shard-*.tsv")))
        if found != len(shards) and found:
            raise InputError(
                f"data_of: cohort {cohort} has {found} shards in {other}, {len(shards)} by this run's configuration; "
                "give both runs the same execution.shard_size"
            )
        for shard in shards:
            name = f"{cohort}/shard-{shard}.json"
            yield other / "skull_stripped" / name, "skull_strip", skull_strip_settings(config, cohort)
            yield other / "preprocessed" / name, "register", register_settings(config, cohort)
        for modality in settings.modalities:
            yield other / "store" / f"{cohort}_{modality}.json", "pack", pack_settings(config, cohort, modality)
