"""Say at the end of `make demo` where the results are."""

import argparse
from pathlib import Path

from uad.common.errors import run_program
from uad.reporting.tables import read_csv


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", required=True, type=Path)
    parser.add_argument("--report", required=True, type=Path)
    arguments = parser.parse_args()

    results = arguments.results
    table = read_csv(results / "tables/table3.csv")
    dice = table[(table["metric"] == "dice") & (table["status"] == "ok")]
    wide = dice.assign(arm=dice["arm"] + dice["ens"].map({0: "", 1: " (ensemble)"}))
    wide = wide.pivot_table(index="arm", columns="cohort", values="mean", sort=False).round(1)
    line = "=" * 78
    print(
        f"\n{line}\nDice in % on the test volumes of each cohort (phantoms: nothing clinical follows)\n\n"
        f"{wide.to_string(na_rep='')}\n\n"
        f"  table   {results}/tables/table3.md    (long: table3.csv; reconstruction quality: table2.md)\n"
        f"  report  {arguments.report}    (unpack it and open report.html in a browser)\n"
        f"  figures {results}/figures/\n"
        f"  logs    {results}/logs/<rule>/\n{line}"
    )


if __name__ == "__main__":
    run_program(main)
