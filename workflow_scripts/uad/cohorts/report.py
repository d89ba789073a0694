"""The ingest report as Markdown: what a cohort consists of, and what was odd."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from uad.cohorts.base import Adapter
    from uad.cohorts.checks import Findings

EMPTY_LABEL = "the lesion label is empty"
_MOST_GRIDS = 12
_MOST_NAMES = 10
_FEW_NAMES = 3


@dataclass
class Account:
    """What ingest says of a cohort, in the order of the report.

    Attributes:
        found: subjects with any file.
        expected: subjects of the full data set; None: unknown, or any number is fine.
        notes: of the adapter (sheets, archives that were not read).
        dropped: subjects that were left out, and why.
        findings: of the file checks.
        unused: image files that were passed over, by reason.
    """

    found: int = 0
    expected: int | None = None
    notes: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    findings: Findings | None = None
    unused: dict[str, list[str]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """One line per quirk, for the log and the provenance record."""
        return [*self.notes, *self.quirks(), *self.dropped, *passed_over(self.unused, _FEW_NAMES)]

    def quirks(self) -> list[str]:
        if self.findings is None:
            return []
        return [
            f"{what}: {len(who)} subject{'s' * (len(who) > 1)} ({listed(who)})"
            for what, who in self.findings.quirks.items()
        ]


def listed(names: Iterable[str], most: int = _MOST_NAMES) -> str:
    """Names joined for a message, shortened when there are many."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def passed_over(unused: Mapping[str, Sequence[str]], most: int | None = None) -> list[str]:
    """One line per reason with the files' names, `most` of them or all."""
    return [
        f"{len(names)} image file{'s' * (len(names) > 1)} passed over, {why}: {listed(names, most or len(names))}"
        for why, names in unused.items()
    ]


def seen_but_passed_over(unused: Mapping[str, Sequence[str]]) -> str:
    """The same in brackets, for an error message; empty where nothing was passed over."""
    return f" ({'; '.join(passed_over(unused, _FEW_NAMES))})" if unused else ""


def markdown(name: str, adapter: Adapter, account: Account, table: pd.DataFrame | None) -> str:
    """The report of a cohort.

    Args:
        name: the cohort's.
        table: as written; None: ingest refused the data, and the report lists what to repair.
    """
    refused = account.findings.refused if account.findings else []
    parts = [
        f"# Ingest of {name}",
        "" if table is not None else f"**Not ingested**: {len(refused)} files cannot be used, see below.\n",
        *_counts(adapter, account, table),
        *_section("Files that cannot be used", refused),
        *_section("Dropped", account.dropped),
        *_section("Quirks met", [*account.quirks(), *account.notes]),
        *_grids(account),
        *_labels(adapter, account),
        *_section("Image files passed over", passed_over(account.unused)),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _counts(adapter: Adapter, account: Account, table: pd.DataFrame | None) -> list[str]:
    rows = [("subjects found", account.found)]
    if table is not None:
        rows.append(("subjects kept", len(table)))
    if account.expected is not None:
        rows.append(("subjects of the full data set", account.expected))
    if table is not None:
        sites = table["site"][table["site"] != ""].value_counts().sort_index()
        rows += [(f"site {site}", count) for site, count in sites.items()]
        if table["age"].notna().any():
            rows.append(("age known", int(table["age"].notna().sum())))
    state = [flag.replace("_", " ") for flag in ("stripped", "registered", "bias_corrected") if getattr(adapter, flag)]
    return [f"Adapter `{adapter.name}`; scans come {', '.join(state) or 'raw, with skull'}.", "",
            *_rows(("", "count"), rows)]  # fmt: skip


def _grids(account: Account) -> list[str]:
    if account.findings is None:
        return []
    rows = []
    for modality, grids in account.findings.grids.items():
        for (shape, spacing, orientation, dtype), count in grids.most_common(_MOST_GRIDS):
            size = " x ".join(map(str, shape))
            edges = " x ".join(f"{edge:g}" for edge in spacing)
            rows.append((modality, count, size, edges, orientation, dtype))
        rest = len(grids) - _MOST_GRIDS
        if rest > 0:
            rows.append((modality, grids.total() - sum(row[1] for row in rows if row[0] == modality),
                         f"{rest} more grids", "", "", ""))  # fmt: skip
    return ["## Grids", "", *_rows(("modality", "scans", "shape", "voxel (mm)", "axes", "type"), rows)]


def _labels(adapter: Adapter, account: Account) -> list[str]:
    if account.findings is None or adapter.healthy:
        return []
    meanings = dict(adapter.promise.meanings)
    rows = []
    for value, count in sorted(account.findings.label_values.items()):
        use = "left out of the evaluation" if value == adapter.exclude_label else "lesion"
        rows.append((value, count, meanings.get(value, ""), use))
    return ["## Lesion labels", "", *_rows(("value", "scans that hold it", "meaning", "use"), rows)]


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {line}" for line in lines), ""] if lines else []


def _rows(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return [*("| " + " | ".join(str(cell) for cell in row) + " |" for row in cells), ""]
