"""Check a cohort's raw data, download what can be downloaded, and say what to place where if something is missing."""

import argparse
from pathlib import Path

import pandas as pd

from uad.cohorts import find_adapter
from uad.cohorts.unpack import is_junk
from uad.common.errors import InputError, run_program
from uad.common.log import job_log
from uad.common.tabular import write_table
from uad.download import record
from uad.download.inventory import LISTING, Inventory, Need
from uad.download.needs import read_needs
from uad.download.provide import provide

_NO_DATA = (record.NAME, LISTING)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", required=True)
    parser.add_argument("--adapter", required=True)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--modalities", nargs="*", default=())
    parser.add_argument("--sources", type=Path, help="settings of the downloads; without: nothing is fetched")
    parser.add_argument("--table", required=True, type=Path)
    arguments = parser.parse_args()

    say = job_log(f"download {arguments.cohort}")
    if arguments.sources:
        needs, settings, _ = read_needs(arguments.sources)
        for item in (need.item for need in needs if need.name == arguments.cohort):
            need = Need(item, arguments.cohort, arguments.folder, tuple(arguments.modalities))
            provide(Inventory(need, settings), say)
    found = [path for path in sorted(arguments.folder.glob("*")) if _is_data(path.name)]
    if not found:
        raise InputError(
            f"{arguments.cohort}: nothing in {arguments.folder}. {find_adapter(arguments.adapter).how_to_get} "
            f"Or run without it: set `cohorts: {{{arguments.cohort}: null}}` in an overlay of config.yaml."
        )
    rows = [{"item": path.name, "path": path, "bytes": path.stat().st_size, "mtime": path.stat().st_mtime_ns}
            for path in found]  # fmt: skip
    for row in rows:
        say(f"found {row['path']}")
    write_table(pd.DataFrame(rows), arguments.table)


def _is_data(name: str) -> bool:
    return not is_junk(name) and name not in _NO_DATA and not name.endswith((".part", ".part.json"))


if __name__ == "__main__":
    run_program(main)
