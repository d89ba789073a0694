"""List the quality of a cohort's preprocessed scans, name those that stand out, and picture all of them."""

import argparse
import shutil
from pathlib import Path

import pandas as pd

from uad.common.errors import run_program
from uad.common.log import job_log
from uad.common.tabular import read_table, write_table
from uad.preprocessing.contact_sheets import draw_sheets
from uad.preprocessing.quality import MEASURED, outliers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", required=True, nargs="+", type=Path)
    parser.add_argument("--table", required=True, type=Path)
    parser.add_argument("--sheets", required=True, type=Path, help="folder for pages of thumbnails")
    arguments = parser.parse_args()

    rows = pd.concat([read_table(path) for path in arguments.shards], ignore_index=True)
    rows = rows.sort_values(["subject", "modality"], ignore_index=True)
    rows["outlier"] = outliers(rows)
    say = job_log("quality")
    for column, words in (("flag", "is flagged"), ("outlier", "stands out")):
        for row in rows[rows[column] != ""].itertuples():
            say(f"{row.subject} {row.modality} {words}: {getattr(row, column)}")
    shutil.rmtree(arguments.sheets, ignore_errors=True)  # there may have been more pages
    draw_sheets(rows, arguments.sheets)
    write_table(rows[["subject", "modality", "status", *MEASURED, "flag", "outlier"]], arguments.table)


if __name__ == "__main__":
    run_program(main)
