"""Build Tables 1 to 4 with the paper's numbers beside ours, and Table 5."""

import argparse
from pathlib import Path

from uad.cohorts.splits import read_splits
from uad.common.errors import run_program
from uad.common.recipe import read_settings
from uad.common.tabular import read_table
from uad.reporting.render import write_table
from uad.reporting.scans import scan_table
from uad.reporting.scores import read_lesions, read_scores
from uad.reporting.sheets import (
    detection_note,
    detection_sheet,
    results_note,
    results_sheet,
    splits_sheet,
    write_sheets,
)
from uad.reporting.split_sizes import table1
from uad.reporting.table5 import table5
from uad.reporting.tables import Reader, table2, table3, table4, without_paper, write_csv
from uad.workflow.provenance import Provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--splits", required=True, nargs="+", type=Path, help="a table per cohort")
    parser.add_argument("--stores", required=True, nargs="+", type=Path, help="a store's table per cohort and modality")
    parser.add_argument("--scores", required=True, nargs="+", type=Path)
    parser.add_argument("--lesions", required=True, nargs="+", type=Path, help="<arm>/<modality>/fold<k>.parquet")
    parser.add_argument("--folder", required=True, type=Path)
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)
    arms, folds, about = settings["arms"], settings["folds"], settings["tables"]
    scores = read_scores(arguments.scores, arms, folds)
    reader = Reader(
        folds=range(folds),
        single=str(settings["single"]),
        ratio=about["l1_ratio"],
        rounds=about["permutation_rounds"],
        seed=settings["seed"],
        unit=about["test_unit"],
    )
    run = settings["run"], settings["protocol"], settings["phantom"]
    healthy = [tuple(place) for place in settings["healthy"]]
    pathological = [tuple(place) for place in settings["pathological"]]
    splits = {path.stem: read_splits(path) for path in arguments.splits}
    held = {path.stem: set(read_table(path)["subject"]) for path in arguments.stores}
    sizes = without_paper(table1(splits, held, healthy, pathological, range(folds)), settings["paper_cohorts"])
    sheets = {"table1": splits_sheet(sizes, *run)}
    write_table(sizes, sheets["table1"], arguments.folder / "table1")
    tables = {
        "table2": table2(scores, arms, healthy, pathological, reader),
        "table3": table3(scores, arms, pathological, reader),
    }
    if about["ablation"]:
        tables["table4"] = table4(scores, arms, pathological, reader)
    for name, whole in tables.items():
        table = without_paper(whole, settings["paper_cohorts"])
        sheets[name] = results_sheet(table, arms, results_note(table, *run, reader.unit, arms))
        write_table(table, sheets[name], arguments.folder / name)
    overlap = about["lesion_overlap"]
    lesions = read_lesions(arguments.lesions, arms, folds)
    detection = table5(scores, lesions, arms, healthy, pathological, reader, overlap)
    note = detection_note(detection, *run, arms, overlap)
    sheets["table5"] = detection_sheet(detection, arms, note, overlap)
    write_table(detection, sheets["table5"], arguments.folder / "table5")
    write_csv(scan_table(scores, arms, reader.folds, reader.single), arguments.folder / "scans.csv")
    write_sheets(sheets, arguments.folder / "sheets.json")
    provenance.write(arguments.folder / "provenance.json", rows=len(scores))


if __name__ == "__main__":
    run_program(main)
