"""Write the reproduction report: the paper's numbers beside the run's, misses first."""

import argparse
from pathlib import Path

from uad.common.errors import run_program
from uad.common.files import atomic_path
from uad.common.recipe import read_settings
from uad.reporting.reproduction import About, read_tables, reproduction_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--tables", required=True, nargs="+", type=Path, help="table1.csv, table2.csv, ...")
    parser.add_argument("--output", required=True, type=Path)
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    about = About.of(settings)
    report = reproduction_report(read_tables(arguments.tables), settings["arms"], about)
    with atomic_path(arguments.output) as temporary:
        temporary.write_text(report, encoding="utf-8", newline="\n")
    print(f"{arguments.output}: written")


if __name__ == "__main__":
    run_program(main)
