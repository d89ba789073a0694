"""Make the report of a run: a folder with index.html that opens from disk."""

import argparse
from dataclasses import fields
from pathlib import Path

from uad.common.errors import run_program
from uad.common.log import job_log
from uad.common.recipe import read_settings
from uad.reporting.page.build import build_report
from uad.reporting.page.run import Inputs
from uad.workflow.provenance import Provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--results", required=True, type=Path, help="searched for records of jobs")
    parser.add_argument("--stores", required=True, nargs="+", type=Path, help="files of the packed scans")
    parser.add_argument("--sheets", required=True, type=Path, help="the printed tables as data")
    parser.add_argument("--scores", required=True, nargs="+", type=Path)
    parser.add_argument("--viewer", required=True, nargs="+", type=Path, help="what scoring kept for the viewer")
    parser.add_argument("--shards", required=True, nargs="+", type=Path, help="tables of preprocessed scans")
    parser.add_argument("--tables", required=True, nargs="+", type=Path, help="the tables in every format")
    parser.add_argument("--figures", required=True, nargs="+", type=Path, help="the figures' PNG files")
    parser.add_argument("--reproduction", required=True, type=Path)
    parser.add_argument("--check", required=True, type=Path)
    parser.add_argument("--statements", required=True, type=Path)
    parser.add_argument("--folder", required=True, type=Path)
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)

    progress = job_log("report")
    inputs = Inputs(**{field.name: getattr(arguments, field.name) for field in fields(Inputs)})
    counts = build_report(settings, inputs, arguments.folder, progress)
    provenance.write(arguments.folder / "provenance.json", **counts)
    progress(f"{arguments.folder}/index.html, {counts['bytes'] / 1e6:.1f} MB")


if __name__ == "__main__":
    run_program(main)
