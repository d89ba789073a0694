"""Quality of the preprocessing: the measured columns per cohort, what failed, and pictures of single scans."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from uad.common.pictures import scan_picture
from uad.common.store import Store
from uad.common.tabular import read_table
from uad.reporting.elements import Cell, Picture, Table, number
from uad.reporting.paper_numbers import cohort_title

_MEASURED = ("seconds", "brain_ml", "atlas_dice", "n4_min", "n4_max", "clipped_fraction")

Place = tuple[str, str]  # cohort, modality


def read_shards(paths: Sequence[Path]) -> pd.DataFrame:
    """All rows of the preprocessing tables (docs/formats.md) with the column cohort, the folder they lie in."""
    frames = [read_table(path, numbers=_MEASURED).assign(cohort=path.parent.name) for path in paths]
    return pd.concat(frames, ignore_index=True)


def preprocessing_table(rows: pd.DataFrame, places: Sequence[Place]) -> Table:
    """Medians and extremes of the measured columns, per cohort and modality."""
    heads = [
        *("Cohort", "Scans", "Failed", "Brain (ml), median", "min", "max", "Dice with atlas brain, median", "min"),
        *("N4 field, min", "max", "Clipped voxels (%), highest", "Time per scan, median (s)"),
    ]
    lines = []
    for cohort, modality in places:
        scans = rows[(rows["cohort"] == cohort) & (rows["modality"] == modality)]
        part = scans[scans["status"] == "ok"]
        brain, atlas, failed = part["brain_ml"], part["atlas_dice"], len(scans) - len(part)
        lines.append([
            Cell(cohort_title(cohort, modality)), Cell(str(len(scans)), len(scans)), Cell(str(failed), failed),
            number(brain.median(), 0), number(brain.min(), 0), number(brain.max(), 0),
            number(atlas.median(), 3), number(atlas.min(), 3),
            number(part["n4_min"].min(), 2), number(part["n4_max"].max(), 2),
            number(100 * part["clipped_fraction"].max(), 2), number(part["seconds"].median(), 1),
        ])  # fmt: skip
    return Table(heads, lines)


def failure_table(rows: pd.DataFrame) -> Table:
    """The scans that failed, with the reason."""
    failed = rows[rows["status"] != "ok"].sort_values(["cohort", "modality", "subject"])
    lines = [
        [Cell(row.subject), Cell(cohort_title(row.cohort, row.modality)), Cell(str(row.message))]
        for row in failed.itertuples()
    ]
    return Table(["Subject", "Cohort", "Reason"], lines, words=(0, 1, 2))


def flag_table(rows: pd.DataFrame, places: Sequence[Place], results: Path) -> Table:
    """Finished scans near a limit of section `plausible`, and those that lose much when packed (the store's record)."""
    lines = []
    for cohort, modality in places:
        part = rows[(rows["cohort"] == cohort) & (rows["modality"] == modality) & (rows["flag"] != "")]
        flags = list(part[["subject", "flag"]].itertuples(index=False, name=None))
        record = results / "store" / f"{cohort}_{modality}.json"
        if record.is_file():
            flags += json.loads(record.read_text()).get("flags", {}).items()
        lines += [[Cell(subject), Cell(cohort_title(cohort, modality)), Cell(flag)] for subject, flag in sorted(flags)]
    return Table(["Subject", "Cohort", "What is unusual"], lines, words=(0, 1, 2))


def draw_thumbnails(rows: pd.DataFrame, place: Place, store: Store, count: int, page: Path) -> list[Picture]:
    """Draw the `count` scans that agree least with the atlas brain, worst first, into `page`/thumbnails."""
    cohort, modality = place
    part = rows[(rows["cohort"] == cohort) & (rows["modality"] == modality) & rows["subject"].isin(store.subjects)]
    part = part.sort_values(["atlas_dice", "subject"], kind="stable").head(count)
    (page / "thumbnails").mkdir(parents=True, exist_ok=True)
    thumbnails = []
    for row in part.itertuples():
        scan = store.scan(row.subject)
        picture = scan_picture(scan.image, scan.mask, scan.label)
        file = f"thumbnails/{cohort}_{modality}_{store.row(row.subject)}.png"  # a subject's name may not suit a file
        Image.fromarray(picture).save(page / file, optimize=True)
        height, width = picture.shape[:2]
        facts = (
            f"brain {number(row.brain_ml, 0).text} ml, Dice with atlas brain {number(row.atlas_dice, 3).text}, "
            f"N4 {number(row.n4_min, 2).text} to {number(row.n4_max, 2).text}"
        )
        alt = f"Three slices of {row.subject} with brain outline"
        thumbnails.append(Picture(file, width, height, facts, title=row.subject, alt=alt))
    return thumbnails
