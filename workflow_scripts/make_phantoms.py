"""Write a phantom cohort: synthetic scans in the archive layout of one of the data sets."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from uad.common.errors import run_program
from uad.phantoms import write_phantom_cohort


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", required=True, help="ixi, brats21, mslub, atlas or wmh")
    parser.add_argument("--folder", required=True, type=Path, help="where the archives go")
    parser.add_argument("--subjects", required=True, type=int)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--voxel-mm", required=True, type=float)
    args = parser.parse_args()
    start = time.perf_counter()
    paths = write_phantom_cohort(args.cohort, args.folder, args.subjects, args.seed, args.voxel_mm)
    names = ", ".join(path.name for path in paths)
    print(f"{args.cohort}: {args.subjects} subjects in {names} ({time.perf_counter() - start:.1f} s)")


if __name__ == "__main__":
    run_program(main)
