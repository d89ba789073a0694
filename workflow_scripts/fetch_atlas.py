"""Fetch the SRI24 atlas (CC BY-SA 3.0, Rohlfing et al. 2010, doi 10.1002/hbm.20906)."""

import argparse
import sys
from pathlib import Path

from uad.errors import run_program
from uad.preprocessing.fetch_atlas import fetch_atlas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--sha256", required=True)
    parser.add_argument("--member", default="spgr.nii")
    parser.add_argument("--output", required=True, type=Path)
    arguments = parser.parse_args()

    def progress(line: str) -> None:
        print(f"[atlas] {line}", file=sys.stderr, flush=True)

    fetch_atlas(arguments.url, arguments.sha256, arguments.member, arguments.output, progress)


if __name__ == "__main__":
    run_program(main)
