"""The data of another run, from ingest to the store, used by this one and never written (`data_of`).

Every file of these stages has a record of its settings beside it.  They are compared with those that this run would
use, so that a run cannot take data that its own configuration would make differently.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uad.config.data_stages import (
    ingest_settings,
    pack_settings,
    register_settings,
    skull_strip_settings,
    split_settings,
)
from uad.config.model import Config
from uad.errors import InputError
from uad.recipe import settings_record

FOLDERS = ("cohorts", "splits", "skull_stripped", "preprocessed", "store")
STORE_FILES = (".images.npy", ".masks.npy", ".labels.npy", ".tsv")  # of one cohort and modality, beside their record


def share_data(config: Config, results: Path) -> None:
    """Make the data folders of a run links to those of run `config.data_of`.

    Args:
        config: of this run; `data_of` is set.
        results: folder of this run, `results/<run>`.

    Raises:
        InputError: the other run lacks data, or made it with other settings; this run has data of its own.
    """
    other = results.parent / config.data_of
    for record, stage, content in _records(config, other):
        endings = STORE_FILES if stage == "pack" else (".tsv",)
        for file in (record, *map(record.with_suffix, endings)):
            if not file.exists():
                raise InputError(f"data_of: {file} does not exist; let run '{config.data_of}' make its data first")
        wanted = json.loads(json.dumps(settings_record(stage, content)))
        difference = _difference(json.loads(record.read_text())["settings"], wanted)
        if difference:
            raise InputError(f"data_of: {record}: {difference}; give both runs the same, or leave data_of out")
    results.mkdir(parents=True, exist_ok=True)
    for name in FOLDERS:
        _link(results / name, f"../{config.data_of}/{name}")


def refuse_links(results: Path) -> None:
    """A run whose folders are links to another run's would write there.

    Raises:
        InputError: such a link is left from a time when `data_of` was set.
    """
    for name in FOLDERS:
        link = results / name
        if link.is_symlink() and Path(os.readlink(link)).parts[::2] == ("..", name):
            other = Path(os.readlink(link)).parts[1]
            raise InputError(
                f"{link} is a link to the data of run '{other}', which this run would change; "
                f"set data_of: {other}, or delete {link.parent}"
            )


def _records(config: Config, other: Path) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """Path, stage and settings of every record that a run with this configuration has."""
    for cohort, settings in config.cohorts.items():
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


def _difference(made: Any, wanted: Any, key: str = "") -> str:
    """The first key, in the order of names, whose values differ; empty: none."""
    if isinstance(made, dict) and isinstance(wanted, dict):
        each = (_difference(made.get(k), wanted.get(k), f"{key}.{k}".lstrip(".")) for k in sorted({*made, *wanted}))
        return next(filter(None, each), "")
    return "" if made == wanted else f"made with {key} {made!r}, this run has {wanted!r}"


def _link(link: Path, target: str) -> None:
    if not link.is_symlink():
        with contextlib.suppress(FileExistsError):  # a folder, or the link that another job has just made
            link.symlink_to(target)
    if not link.is_symlink():
        raise InputError(
            f"data_of: {link} is there already and holds this run's own data; give the run another name, or delete it"
        )
    if os.readlink(link) != target:
        raise InputError(
            f"data_of: {link} is a link to {os.readlink(link)} already, not to {target}; what this run holds was made "
            f"from other data: give the run another name, or delete {link.parent}"
        )
