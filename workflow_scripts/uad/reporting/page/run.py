"""What the page shows of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uad.common.store import Store
from uad.reporting.page.breakdown import lines_of
from uad.reporting.page.origins import read_origins
from uad.reporting.reproduction import read_tables
from uad.reporting.scores import read_scores
from uad.reporting.sheets import read_sheets

Place = tuple[str, str]  # cohort, modality


@dataclass(frozen=True)
class Inputs:
    """The run's files that the report shows.

    `results` is the run's folder, searched for what no rule declares: benchmark and provenance files.
    """

    results: Path
    stores: Sequence[Path]
    sheets: Path
    scores: Sequence[Path]
    viewer: Sequence[Path]
    shards: Sequence[Path]
    tables: Sequence[Path]
    figures: Sequence[Path]
    reproduction: Path
    check: Path
    statements: Path


class Run:
    """A run as the sections see it.

    Attributes:
        folder: where the page will lie; a section may add files.
        lines: place -> its scored arms and readings.
        tables: number -> long table.
        sheets: name ("table3") -> what is printed.
    """

    def __init__(self, settings: Mapping[str, Any], inputs: Inputs, folder: Path) -> None:
        self.settings, self.inputs, self.folder = settings, inputs, folder
        self.arms, self.folds = settings["arms"], range(settings["folds"])
        self.healthy: list[Place] = [tuple(place) for place in settings["healthy"]]
        self.pathological: list[Place] = [tuple(place) for place in settings["pathological"]]
        self.places = [*self.pathological, *self.healthy]
        self.scores = read_scores(inputs.scores, self.arms, len(self.folds))
        single = str(settings["single"])
        self.lines = {place: lines_of(self.scores, self.arms, place, self.folds, single) for place in self.places}
        tables = {path.stem: path for path in inputs.stores if path.suffix == ".tsv"}
        self.stores = {place: Store.open(tables["_".join(place)].with_suffix("")) for place in self.places}
        self.tables = read_tables(
            path for path in inputs.tables if path.suffix == ".csv" and path.stem.startswith("table")
        )
        self.sheets = read_sheets(inputs.sheets)
        self.origins = read_origins(inputs.results)
