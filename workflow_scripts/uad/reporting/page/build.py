"""Puts the report together.  Issue 4: tables, figures, breakdowns, quality, costs, provenance and a viewer."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from markupsafe import Markup
from PIL import Image

from uad.common.errors import InputError
from uad.common.store import Store
from uad.reporting import style
from uad.reporting.benchmarks import read_benchmarks
from uad.reporting.page import breakdown, comparisons, costs, origins, quality, reproduced, scans
from uad.reporting.page.niivue import niivue_files
from uad.reporting.page.page import ASSETS, Table, render
from uad.reporting.paper_numbers import cohort_title
from uad.reporting.scores import read_scores
from uad.reporting.tables import read_csv

HEADLINE = "table3"
_CSS_DPI = 150  # figures are shown at this many pixels per printed inch
_FIGURES = {
    "overview": "Dice of every arm on every cohort; controls are grey",
    "fig1": "Figure 1: conditioned diffusion, how an arm is trained and read",
    "fig2": "Figure 2: what the condition carries, with cropped conditioning images, changed contrast and noise"
    " (models of fold 0)",
    "fig3": "Figure 3: histograms of input and reconstruction at changed contrast, and their divergence"
    " (models of fold 0)",
    "fig4": "Figure 4: one test scan; reconstruction, anomaly map and prediction of each arm (models of fold 0)",
    "fig5": "Figure 5: Dice against the noise level t_test; dashed: the ensemble",
    "fig6": "Figure 6: anomaly maps of each arm, two slices of one test scan per cohort (models of fold 0)",
    "curves": "Learning curves: training and validation loss of each trained arm",
}
_TABLES = {
    "table1": "Table 1: cohorts and splits",
    "table2": "Table 2: reconstruction quality",
    "table3": "Table 3: detection on the test sets",
    "table4": "Table 4: post-processing ablation",
}

Place = tuple[str, str]  # cohort, modality


@dataclass(frozen=True)
class Inputs:
    """The run's files that the report shows.

    `results` is the run's folder; it is also searched for what no rule declares: benchmark and provenance files.
    """

    results: Path
    scores: Sequence[Path]
    viewer: Sequence[Path]
    shards: Sequence[Path]
    tables: Sequence[Path]
    figures: Sequence[Path]
    reproduction: Path
    check: Path


@dataclass(frozen=True)
class Picture:
    """A figure of the page, its size as drawn (CSS pixels); `vector` is its SVG file or ""."""

    name: str
    vector: str
    caption: str
    width: int
    height: int

    @property
    def wide(self) -> bool:
        """Takes the whole width of the page."""
        return self.width > 1.2 * self.height


def build_report(
    settings: Mapping[str, Any], inputs: Inputs, folder: Path, progress: Callable[[str], None]
) -> dict[str, int]:
    """Write the report to `folder`, which is replaced as a whole once it is complete.

    Returns:
        Counts for the provenance record: scans in the viewer, bytes of the folder.

    Raises:
        InputError: a file is missing or damaged, or the viewer's package is not installed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
        draft = Path(name) / folder.name
        draft.mkdir()
        counts = _write(settings, inputs, draft, progress)
        if folder.exists():
            shutil.rmtree(folder)
        draft.rename(folder)
    return counts


def _write(settings: Mapping[str, Any], inputs: Inputs, draft: Path, progress: Callable[[str], None]) -> dict[str, int]:
    healthy, pathological = ([tuple(place) for place in settings[key]] for key in ("healthy", "pathological"))
    places = [*pathological, *healthy]
    scores = read_scores(inputs.scores, settings["arms"], settings["folds"])
    stores = {place: Store.open(inputs.results / "store" / "_".join(place)) for place in places}
    progress("scans of the viewer")
    kept = {tuple(path.parts[-3:-1]): path for path in inputs.viewer}
    exporter = scans.ScanExporter(settings, scores, kept, stores, draft / "volumes")
    catalogue = [entry for place in places for entry in exporter.export(place, settings["viewer_scans"])]
    progress("quality of the preprocessing")
    content = {
        "run": settings["run"],
        "protocol": settings["protocol"],
        "phantom": settings["phantom"],
        "folds": settings["folds"],
        "checks": inputs.check.read_text().splitlines(),
        "doubts": origins.doubts(origins.read_origins(inputs.results), settings["arms"]),
        **_tables(inputs.tables, settings["arms"], draft / "tables"),
        "reproduction": reproduced.reproduction_section(inputs.reproduction),
        **_figures(inputs.figures, draft / "figures"),
        **_breakdowns(settings, scores, healthy, pathological),
        **_quality(settings, inputs, places, stores, draft / "thumbnails"),
        **_costs(inputs.results / "benchmarks"),
        **_origins(settings["config"], inputs.results, draft),
        "scans": catalogue,
    }
    progress("page")
    _copy_assets(draft / "assets")
    (draft / "index.html").write_text(render("index.html.j2", **content), encoding="utf-8", newline="\n")
    size = sum(path.stat().st_size for path in draft.rglob("*") if path.is_file())
    return {"viewer_scans": len(catalogue), "bytes": size}


def _copy_assets(folder: Path) -> None:
    shutil.copytree(ASSETS, folder)
    for name, text in niivue_files().items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _tables(paths: Sequence[Path], arms: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """The tables as they were rendered, the headline apart; all their files are copied for download."""
    folder.mkdir()
    for path in paths:
        shutil.copyfile(path, folder / path.name)
    names = sorted({path.stem for path in paths})
    rendered = {name: _table(next(path for path in paths if path.name == f"{name}.html")) for name in names}
    long = read_csv(next(path for path in paths if path.name == f"{HEADLINE}.csv"))
    files = {name: sorted(path.name for path in paths if path.stem == name) for name in names}
    everything = [
        {"name": name, "title": _TABLES.get(name, name), "files": files[name], **rendered[name]} for name in names
    ]
    return {
        "headline": next(entry for entry in everything if entry["name"] == HEADLINE),
        "tables": [entry for entry in everything if entry["name"] != HEADLINE],
        "significance": comparisons.comparison_tables(long, arms),
    }


def _table(path: Path) -> dict[str, Any]:
    """The table and the note below it of a page that `uad.reporting.render` wrote; its own markup, escaped there."""
    text = path.read_text(encoding="utf-8")
    table = re.search(r"<table[^>]*>(.*)</table>", text, re.DOTALL)
    note = re.search(r"</table>\s*<p>(.*?)</p>", text, re.DOTALL)
    if not table:
        raise InputError(f"{path}: holds no table; delete it and run again")
    return {"body": Markup(table[1]), "note": Markup(note[1] if note else "")}


def _figures(paths: Sequence[Path], folder: Path) -> dict[str, Any]:
    folder.mkdir()
    pictures = []
    for path in sorted(paths, key=_figure_order):
        vector = path.with_suffix(".svg")
        for file in (path, vector):
            if file.exists():
                shutil.copyfile(file, folder / file.name)
        with Image.open(path) as image:
            width, height = (round(side * _CSS_DPI / style.DPI) for side in image.size)
        caption = _caption(path.stem)
        pictures.append(Picture(path.name, vector.name if vector.exists() else "", caption, width, height))
    curves = [picture for picture in pictures if picture.name.startswith("curves")]
    return {"figures": [picture for picture in pictures if picture not in curves], "curves": curves}


def _figure_order(path: Path) -> tuple[bool, str]:
    """The overview, then by number; within a number the order of the run's cohorts stays."""
    kind = path.stem.partition("-")[0]
    return (kind != "overview", kind)


def _caption(stem: str) -> str:
    kind, _, rest = stem.partition("-")
    cohort, _, modality = rest.rpartition("-")
    where = cohort_title(cohort, modality) if cohort else rest.upper()
    return _FIGURES.get(kind, stem) + (f". {where}." if where else ".")


def _breakdowns(
    settings: Mapping[str, Any], scores: pd.DataFrame, healthy: Sequence[Place], pathological: Sequence[Place]
) -> dict[str, list[Table]]:
    folds, single = range(settings["folds"]), str(settings["single"])
    lines = {
        place: breakdown.lines_of(scores, settings["arms"], place, folds, single) for place in [*pathological, *healthy]
    }
    sites = [breakdown.site_table(lines[place], place, folds, "dice") for place in pathological]
    sites += [breakdown.site_table(lines[place], place, folds, "ssim") for place in healthy]
    return {
        "cohorts": [breakdown.cohort_table(lines[place], place, folds) for place in pathological],
        "sites": [table for table in sites if table is not None],
        "lesions": [breakdown.lesion_table(lines[place], place, folds) for place in pathological],
    }


def _quality(
    settings: Mapping[str, Any],
    inputs: Inputs,
    places: Sequence[Place],
    stores: Mapping[Place, Store],
    folder: Path,
) -> dict[str, Any]:
    rows = quality.read_shards(inputs.shards)
    galleries = [
        {
            "title": cohort_title(*place),
            "scans": len(stores[place].subjects),
            "thumbnails": quality.draw_thumbnails(rows, place, stores[place], settings["thumbnails"], folder),
        }
        for place in places
    ]
    return {
        "quality": quality.summary_table(rows, places),
        "failures": quality.failure_table(rows),
        "flags": quality.flag_table(rows, places, inputs.results),
        "galleries": galleries,
    }


def _costs(folder: Path) -> dict[str, Table]:
    jobs = read_benchmarks(folder)
    return {"stages": costs.stage_table(jobs), "jobs": costs.job_table(jobs)}


def _origins(config: dict[str, Any], results: Path, draft: Path) -> dict[str, Any]:
    found = origins.read_origins(results)
    origins.copy_records(found, results, draft / "provenance")
    return {
        "origin": origins.summary_table(found, config),
        "packages": origins.package_table(found),
        "records": origins.result_table(found, "provenance"),
        "config": yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100),
    }
