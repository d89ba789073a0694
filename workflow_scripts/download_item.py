"""Download what is not a cohort: the atlas, weights, the authors' split files, stroke masks."""

import argparse
from pathlib import Path

from uad.common.errors import run_program
from uad.common.log import job_log
from uad.download.inventory import Inventory, Need
from uad.download.needs import read_needs
from uad.download.provide import provide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--item", required=True, help="a key of uad/download/sources.yaml")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--files", nargs="+", type=Path, help="to be made; the first is in the item's folder")
    place.add_argument("--folder", type=Path, help="the item's folder, where other files may do as well")
    parser.add_argument("--sources", required=True, type=Path, help="settings of the downloads")
    arguments = parser.parse_args()

    say = job_log(f"download {arguments.item}")
    _, settings, _ = read_needs(arguments.sources)
    folder = arguments.folder or arguments.files[0].parent
    provide(Inventory(Need(arguments.item, arguments.item, folder), settings), say)


if __name__ == "__main__":
    run_program(main)
