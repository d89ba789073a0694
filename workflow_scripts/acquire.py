"""Look for a data set's raw archives and say what to place where when they are missing."""

import argparse
import sys
from pathlib import Path

import pandas as pd

from uad.cohorts import find_adapter
from uad.cohorts.unpack import is_junk
from uad.errors import InputError, run_program
from uad.files import atomic_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", required=True)
    parser.add_argument("--adapter", required=True)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--table", required=True, type=Path)
    arguments = parser.parse_args()

    adapter = find_adapter(arguments.adapter)
    found = sorted(path for path in arguments.folder.glob("*") if not is_junk(path.name))
    if not found:
        raise InputError(
            f"{arguments.cohort}: nothing in {arguments.folder}. {adapter.how_to_get} "
            f"Or run without it: set `cohorts: {{{arguments.cohort}: null}}` in an overlay of config.yaml."
        )
    rows = [{"item": path.name, "path": path, "bytes": path.stat().st_size, "mtime": path.stat().st_mtime_ns}
            for path in found]  # fmt: skip
    for row in rows:
        print(f"[acquire {arguments.cohort}] found {row['path']}", file=sys.stderr)
    with atomic_path(arguments.table) as temporary:
        pd.DataFrame(rows).to_csv(temporary, sep="\t", index=False)


if __name__ == "__main__":
    run_program(main)
