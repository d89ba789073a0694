"""Say where a preprocessed scan departs from this workflow's: which step, and how much.

python workflow_scripts/compare.py --ours results/paper/preprocessed/mslub/patient01_t2.nii.gz --theirs mine.nii.gz
python workflow_scripts/compare.py --ours results/paper/store/mslub_t2 --subject patient01 --theirs mine.nii.gz
"""

import argparse
import json
import os
from pathlib import Path

os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"  # more threads make ANTs irreproducible

import numpy as np

from uad.common.errors import InputError, run_program
from uad.common.store import Store
from uad.common.volumes import Volume, read_image, read_label
from uad.preprocessing.compare import Finding, compare


def reference(path: Path, subject: str | None) -> tuple[Volume, Volume]:
    """Our scan and its brain mask: a preprocessed NIfTI file, or a subject's row of a store."""
    if subject is None:
        stem = path.name.removesuffix(".gz").removesuffix(".nii")
        return read_image(path), read_label(path.with_name(f"{stem}_mask.nii.gz"))
    settings = json.loads(Path(f"{path}.json").read_text())["settings"]
    spacing = settings["spacing_mm"] / settings["pack"]["factor"]
    scan = Store.open(path).scan(subject)
    affine = np.diag([-spacing, -spacing, spacing, 1])
    return tuple(
        Volume(np.ascontiguousarray(a.transpose(2, 1, 0)), affine) for a in (scan.image, scan.mask.astype("u1"))
    )


def as_table(findings: list[Finding]) -> str:
    rows = [("", "step", "ours", "theirs", "difference")]
    rows += [("*" if f.departs else "", f.step, f.ours, f.theirs, f.how_much) for f in findings]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]) for row in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, type=Path, help="preprocessed NIfTI file, or prefix of a store")
    parser.add_argument("--subject", help="with a store: whose scan")
    parser.add_argument("--theirs", required=True, type=Path, help="the scan in question (NIfTI)")
    parser.add_argument("--their-mask", type=Path, help="its brain mask; default: its voxels that are not 0")
    arguments = parser.parse_args()

    if arguments.subject is not None and not Path(f"{arguments.ours}.json").is_file():
        raise InputError(f"{arguments.ours}: no store here; give the prefix of a store's files, or leave out --subject")
    ours, brain = reference(arguments.ours, arguments.subject)
    theirs = read_image(arguments.theirs)
    their_brain = read_label(arguments.their_mask) if arguments.their_mask else None
    placed = arguments.subject is None and bool(theirs.affine[:3, 3].any())  # an origin of 0 is no place
    findings = compare(ours, brain, theirs, their_brain, placed)
    print(as_table(findings))
    departing = [finding.step for finding in findings if finding.departs]
    print(f"\ndeparts in: {', '.join(departing)}" if departing else "\nno step departs")


if __name__ == "__main__":
    run_program(main)
