"""Contact sheets: every preprocessed scan of a cohort as a thumbnail, scans that stand out first and framed.

A page holds a bounded number of scans, and one scan and one page are in memory at a time.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from uad.common.files import atomic_path
from uad.common.pictures import scan_picture
from uad.common.volumes import read_image, read_label

COLUMNS, ROWS = 6, 12
WIDTH, HEIGHT = 312, 150  # pixels of a cell: picture, name, remark
_PICTURE = (WIDTH - 12, HEIGHT - 38)
_LONGEST = 100  # voxels; larger scans are thinned out
_PLAIN, _FLAGGED = (200, 200, 200), (213, 94, 0)
_FRAME = 3  # pixels


def draw_sheets(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Write `<folder>/<modality>-<page>.png`, pages counting from 01; returns the paths.

    Args:
        rows: rows of the shard tables (docs/formats.md) with the column `outlier`, all cells as text; scans that failed
            before they had a picture are left out.
    """
    paths = []
    rows = rows.assign(remark=[_remark(row) for row in rows.itertuples()])
    for modality, part in rows[rows["image"] != ""].groupby("modality"):
        part = part.assign(ordinary=part["remark"] == "").sort_values(["ordinary", "subject"], kind="stable")
        for page in range(math.ceil(len(part) / (COLUMNS * ROWS))):
            scans = part[page * COLUMNS * ROWS : (page + 1) * COLUMNS * ROWS]
            paths.append(folder / f"{modality}-{page + 1:02d}.png")
            with atomic_path(paths[-1]) as temporary:
                _sheet(scans).save(temporary, optimize=True)
    return paths


def _remark(row: Any) -> str:
    """What is to be seen on a scan, most important first; without the file's name, which would fill the cell."""
    message = re.sub(r"^.*?\.nii(\.gz)?: ", "", row.message)
    return "; ".join(text for text in (message, row.flag, row.outlier) if text)


def thumbnail(image: str, mask: str, label: str) -> Image.Image:
    """Axial, coronal and sagittal slice of one preprocessed scan (paths of NIfTI files, `label` may be empty).

    Grey values go from 0 to the 99th percentile of the brain; brain and lesion are outlined.
    """
    values, brain = read_image(image).data, read_label(mask).data
    lesion = read_label(label).data if label else np.zeros_like(brain)
    white = np.percentile(values[brain > 0], 99) if brain.any() else values.max()
    step = math.ceil(max(values.shape) / _LONGEST)
    thin = [volume[::step, ::step, ::step].transpose(2, 1, 0) for volume in (values / max(white, 1e-6), brain, lesion)]
    picture = Image.fromarray(scan_picture(*thin))
    picture.thumbnail(_PICTURE)
    return picture


def _sheet(scans: pd.DataFrame) -> Image.Image:
    columns = min(COLUMNS, len(scans))
    sheet = Image.new("RGB", (columns * WIDTH, math.ceil(len(scans) / columns) * HEIGHT))
    pen = ImageDraw.Draw(sheet)
    for place, scan in enumerate(scans.itertuples()):
        left, top = place % columns * WIDTH, place // columns * HEIGHT
        picture = thumbnail(scan.image, scan.mask, scan.label)
        sheet.paste(picture, (left + (WIDTH - picture.width) // 2, top + 6))
        for line, text in enumerate((scan.subject, scan.remark)):
            colour = _FLAGGED if line else _PLAIN
            pen.text((left + 6, top + HEIGHT - 30 + 13 * line), _fitting(pen, text), fill=colour)
        if scan.remark:
            pen.rectangle((left, top, left + WIDTH - 1, top + HEIGHT - 1), outline=_FLAGGED, width=_FRAME)
    return sheet


def _fitting(pen: ImageDraw.ImageDraw, text: str) -> str:
    """As much of a text as a cell is wide."""
    while text and pen.textlength(text) > WIDTH - 12:
        text = text[:-1]
    return text
