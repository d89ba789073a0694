"""The sections of the page: one function each, named as in spec.yaml, that gives what the section shows.

A new section is an entry there and a function here; it may add files to `run.folder`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from uad.reporting.benchmarks import read_benchmarks
from uad.reporting.elements import (
    Bullets,
    Fold,
    Group,
    Part,
    Picture,
    ScanTable,
    Table,
    Terms,
    Text,
    Viewer,
)
from uad.reporting.page.breakdown import cohort_table, lesion_table, site_table
from uad.reporting.page.comparisons import comparison_tables, smallest_p, too_few
from uad.reporting.page.costs import job_table, stage_table
from uad.reporting.page.origins import copy_records, doubts, package_table, result_table, summary_table
from uad.reporting.page.pictures import picture_of
from uad.reporting.page.quality import draw_thumbnails, failure_table, flag_table, preprocessing_table, read_shards
from uad.reporting.page.run import Place, Run
from uad.reporting.page.scan_rows import write_rows
from uad.reporting.page.scans import ScanExporter
from uad.reporting.paper_numbers import METRICS, cohort_title
from uad.reporting.reproduction import About, reproduction_sections

_WIDEST, _TALLEST = 1000, 1200  # in CSS pixels: a figure is shrunk to the one and folded above the other


@dataclass(frozen=True)
class Section:
    """An entry of spec.yaml, where its fields are explained."""

    name: str
    title: str
    menu: str = ""
    text: str = ""
    captions: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    empty: str = ""

    def parts(self, run: Run) -> list[Part]:
        """What stands below the heading; nothing where the section is to be left out."""
        made: Callable[[Run, Section], list[Part]] = globals()[self.name]
        parts = made(run, self) or ([Text(self.empty)] if self.empty else [])
        return [Text(self.text), *parts] if self.text and parts else parts

    def captioned(self, table: Table, name: str, **values: str) -> Table:
        """The table with the caption of that name."""
        return replace(table, caption=self.captions[name].format(**values))


def read_spec() -> list[Section]:
    """The sections in order."""
    entries = yaml.safe_load(Path(__file__).with_name("spec.yaml").read_text(encoding="utf-8"))
    return [Section(name, **entry) for name, entry in entries.items()]


def headline(run: Run, section: Section) -> list[Part]:
    claims, checks = (path.read_text().splitlines() for path in (run.inputs.statements, run.inputs.check))
    absent = [section.words["left_out"].format(cohort=name) for name in run.settings["left_out"]]
    warnings = [Text(line, "warning") for line in (*absent, *doubts(run.origins, run.arms))]
    return [
        *_list(section.words["statements"], claims),
        *tables(run, section),
        *_list(section.words["checks"], checks),
        *warnings,
    ]


def _list(title: str, lines: Sequence[str]) -> list[Part]:
    return [Text(title, tag="h3"), Bullets(lines, "checks")] if lines else []


def significance(run: Run, section: Section) -> list[Part]:
    """The figures of differences, then the tables, closed."""
    table = run.tables[3]
    over_volumes = run.settings["config"]["tables"]["test_unit"] == "volumes"
    few = too_few(table) if over_volumes else {}
    places = [f"{cohort_title(*place)}: n = {n}, p ≥ {smallest_p(n):.3g}" for place, n in few.items()]
    warnings = [Text(section.words["few"].format(places="; ".join(places)), "warning")] if places else []
    every = Group(comparison_tables(table, run.arms, few), "columns")
    return [*warnings, Group(curves(run, section), "plates"), Fold(section.words["tables"], [every])]


def reproduction(run: Run, section: Section) -> list[Part]:
    about = About.of(run.settings)
    parts_of = reproduction_sections(run.tables, run.arms, about)
    open_parts = [_named(part, section.words["short"]) for part in (*parts_of.pop(""), *parts_of.pop("In short", []))]
    shutil.copyfile(run.inputs.reproduction, run.folder / run.inputs.reproduction.name)
    details = [_named(part, title) for title, parts in parts_of.items() for part in (Text(title, tag="h3"), *parts)]
    whole = [*details, Text("", "note", files=[run.inputs.reproduction.name])]
    return [*open_parts, Fold(section.captions["reproduction"], whole)]


def _named(part: Part, title: str) -> Part:
    return replace(part, caption=title) if isinstance(part, Table) else part


def tables(run: Run, section: Section) -> list[Part]:
    """The printed tables that have a caption, with links to their files."""
    shown = [name for name in section.captions if name in run.sheets]
    files = {name: sorted(f"tables/{path.name}" for path in run.inputs.tables if path.stem == name) for name in shown}
    return [replace(section.captioned(run.sheets[name], name), files=files[name]) for name in shown]


def detection(run: Run, section: Section) -> list[Part]:
    return tables(run, section)


def figures(run: Run, section: Section) -> list[Part]:
    return [Group([_folded(picture) if _is_long(picture) else picture for picture in curves(run, section)], "plates")]


def _is_long(picture: Picture) -> bool:
    return picture.height * min(1, _WIDEST / picture.width) > _TALLEST


def _folded(picture: Picture) -> Fold:
    """The picture, closed, below the first sentence of its caption."""
    return Fold(picture.caption.split(". ")[0].rstrip("."), [picture])


def scans(run: Run, section: Section) -> list[Part]:
    """The scores of single scans; a script per place holds the rows."""
    exporter = _exporter(run)
    places = []
    for place in run.places:
        name, lines = "_".join(place), run.lines[place]
        if not lines:
            continue
        write_rows(lines, name, run.folder / "scans")
        found = {arm["label"]: exporter.extremes(place, arm) for arm in run.arms}
        arms = [{"label": line.label, "extremes": found[line.label.removesuffix(" (ENS)")]} for line in lines]
        places.append({"title": cohort_title(*place), "file": name, "arms": arms})
    files = [f"tables/{path.name}" for path in run.inputs.tables if path.name == "scans.csv"]
    return [ScanTable(places, files)] if places else []


def viewer(run: Run, section: Section) -> list[Part]:
    exporter = _exporter(run)
    shown = [scan for place in run.places for scan in exporter.export(place)]
    none = [] if shown else [Text(section.words["none"])]
    return [Text(section.words["about"].format(scans=len(shown))), *none, Viewer(shown)]


def _exporter(run: Run) -> ScanExporter:
    kept = {(path.parts[-3], path.parts[-2]): path for path in run.inputs.viewer}
    return ScanExporter(run.settings, run.scores, kept, run.stores, run.folder / "volumes")


def glossary(run: Run, section: Section) -> list[Part]:
    return [Terms(section.words)]


def curves(run: Run, section: Section) -> list[Picture]:
    """The figures that have a caption; those of one pattern in the order of the run's files."""
    pictures: list[Picture] = []
    for pattern, caption in section.captions.items():
        stems = {
            pattern.format(cohort=cohort, modality=modality): caption.format(
                place=cohort_title(cohort, modality), modality=modality.upper()
            )
            for cohort, modality in run.places
        }
        pictures += [
            picture_of(path, stems[path.stem], "figures/") for path in run.inputs.figures if path.stem in stems
        ]
    return pictures


def cohorts(run: Run, section: Section) -> list[Part]:
    return [
        section.captioned(cohort_table(run.lines[place], run.folds), "cohort", place=cohort_title(*place))
        for place in run.pathological
    ]


def sites(run: Run, section: Section) -> list[Part]:
    asked = [*((place, "dice") for place in run.pathological), *((place, "ssim") for place in run.healthy)]
    found = {(place, metric): site_table(run.lines[place], run.folds, metric) for place, metric in asked}
    made = [_by_place(section, table, "site", *key) for key, table in found.items() if table is not None]
    return [Group(made, "columns")] if made else []


def lesions(run: Run, section: Section) -> list[Part]:
    return [
        _by_place(section, lesion_table(run.lines[place], run.folds), "lesion", place, "dice")
        for place in run.pathological
    ]


def _by_place(section: Section, table: Table, name: str, place: Place, metric: str) -> Table:
    return section.captioned(table, name, place=cohort_title(*place), metric=METRICS[metric].heading)


def quality(run: Run, section: Section) -> list[Part]:
    rows, words = read_shards(run.inputs.shards), section.words
    failed, flagged = failure_table(rows), flag_table(rows, run.places, run.inputs.results)
    parts: list[Part] = [section.captioned(preprocessing_table(rows, run.places), "summary")]
    parts.append(section.captioned(failed, "failures") if failed.lines else Text(words["no_failure"]))
    parts += [section.captioned(flagged, "flags")] if flagged.lines else []
    parts += [Text(words["look"], tag="h3"), Text(words["pictures"])]
    for place in run.places:
        pictures = draw_thumbnails(rows, place, run.stores[place], run.settings["thumbnails"], run.folder)
        counts = {"shown": len(pictures), "scans": len(run.stores[place].subjects)}
        title = words["gallery"].format(place=cohort_title(*place), **counts)
        parts.append(Fold(title, [Group(pictures, "gallery")], opened=place == run.places[0]))
    return parts


def costs(run: Run, section: Section) -> list[Part]:
    jobs = read_benchmarks(run.inputs.results / "benchmarks")
    every = Fold(section.words["jobs"].format(jobs=len(jobs)), [section.captioned(job_table(jobs), "jobs")])
    return [section.captioned(stage_table(jobs), "stages"), every]


def provenance(run: Run, section: Section) -> list[Part]:
    copy_records(run.origins, run.inputs.results, run.folder / "provenance")
    config, words = run.settings["config"], section.words
    packages, records = package_table(run.origins), result_table(run.origins, "provenance")
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100)
    return [
        section.captioned(summary_table(run.origins, config), "summary"),
        Fold(words["packages"].format(packages=len(packages.lines)), [section.captioned(packages, "packages")]),
        Fold(words["records"].format(records=len(records.lines)), [section.captioned(records, "records")]),
        Fold(words["config"], [Text(text, tag="pre")]),
    ]
