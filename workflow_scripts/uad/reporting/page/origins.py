"""How the results were made: the provenance records that every stage writes beside its results."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uad.reporting.elements import NOTHING, Cell, Table, duration

_PATTERNS = (
    *("cohorts/*.json", "splits/*.json", "skull_stripped/*/shard-*.json", "preprocessed/*/shard-*.json"),
    *("store/*.json", "backbone/*.json", "metrics/**/*.json", "lesions/**/*.json", "**/provenance.json"),
)
_SKIP = "report"  # an earlier report's copies


@dataclass(frozen=True)
class Origin:
    """One provenance record and its path below the run's folder."""

    path: Path
    record: dict[str, Any]

    @property
    def commit(self) -> str:
        """Short commit, with a mark where the work tree was not as committed."""
        code = self.record["code"]
        if not code.get("commit"):
            return "not a git checkout"
        return code["commit"][:10] + (" + changes" if code.get("modified") else "")

    @property
    def hardware(self) -> str:
        """Machine, cores, GPU."""
        found = self.record.get("hardware", {})
        parts = [found.get("machine"), f"{found['cores']} cores" if found.get("cores") else None, found.get("gpu")]
        return ", ".join(part for part in parts if part)


def read_origins(results: Path) -> list[Origin]:
    """All provenance records below a run's folder, by path."""
    return sorted(_records(results), key=lambda origin: origin.path)


def _records(results: Path) -> Iterator[Origin]:
    found = {path for pattern in _PATTERNS for path in results.glob(pattern)}
    for path in found:
        place = path.relative_to(results)
        if place.parts[0] == _SKIP:
            continue
        record = json.loads(path.read_text())
        if {"code", "packages"} <= set(record):
            yield Origin(place, record)


def copy_records(origins: Sequence[Origin], results: Path, folder: Path) -> None:
    """Copy the records to `folder`, below the same subfolders."""
    for origin in origins:
        target = folder / origin.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(results / origin.path, target)


def doubts(origins: Sequence[Origin], arms: Sequence[Mapping[str, Any]]) -> list[str]:
    """What speaks against the output of an arm, as scoring recorded it; said once for all folds."""
    labels = {arm["arm"]: arm["label"] for arm in arms}
    scored = [origin for origin in origins if origin.path.parts[0] == "metrics" and origin.path.parts[1] in labels]
    lines = [
        f"Caution: {labels[origin.path.parts[1]]} ({origin.path.parts[2]}), {doubt}"
        for origin in scored
        for doubt in origin.record.get("doubts", [])
    ]
    return list(dict.fromkeys(lines))


def summary_table(origins: Sequence[Origin], config: dict[str, Any]) -> Table:
    """Code, machine and seeds; more than one value is a sign that results were made at different times."""
    facts = {
        "Commit": Counter(origin.commit for origin in origins),
        "Machine": Counter(origin.hardware for origin in origins),
        "Protocol": Counter([config["protocol"]]),
        "Seed of the run": Counter([str(config["seed"])]),
    }
    lines = [[Cell(name), Cell("; ".join(_counted(values)) or NOTHING)] for name, values in facts.items()]
    return Table(["Fact", "Value (number of results)"], lines, words=(0, 1))


def package_table(origins: Sequence[Origin]) -> Table:
    """Version of each package in use; a stage that ran with another version shows as a second one."""
    names = sorted({name for origin in origins for name in origin.record["packages"]}, key=str.lower)
    lines = []
    for name in names:
        versions = Counter(origin.record["packages"][name] for origin in origins if name in origin.record["packages"])
        lines.append([Cell(name), Cell("; ".join(_counted(versions) if len(versions) > 1 else versions))])
    return Table(["Package", "Version"], lines, words=(0, 1))


def result_table(origins: Sequence[Origin], link: str) -> Table:
    """Every result with a record; `link` is the folder that `copy_records` filled, as seen from the page."""
    heads = ["Result", "Started (UTC)", "Time", "Commit", "Seed"]
    lines = []
    for origin in origins:
        record = origin.record
        lines.append([
            Cell(str(origin.path.with_suffix("")), link=f"{link}/{origin.path.as_posix()}"),
            Cell(record.get("started", NOTHING).removesuffix("Z").replace("T", " ")),
            duration(record.get("seconds", float("nan"))),
            Cell(origin.commit),
            Cell(str(record.get("seed", record["settings"].get("seed", NOTHING)))),
        ])  # fmt: skip
    return Table(heads, lines, words=range(len(heads)))


def _counted(values: Counter) -> list[str]:
    return [f"{value} ({count})" if len(values) > 1 else value for value, count in values.most_common()]
