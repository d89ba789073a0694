"""Build Tables 2 and 3 with the paper's numbers beside ours."""

import argparse
from pathlib import Path

from uad.errors import run_program
from uad.provenance import Provenance
from uad.recipe import read_settings
from uad.reporting.render import footnote, write_table
from uad.reporting.scores import read_scores
from uad.reporting.tables import Reader, table2, table3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--scores", required=True, nargs="+", type=Path)
    parser.add_argument("--folder", required=True, type=Path)
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)
    arms, folds = settings["arms"], settings["folds"]
    scores = read_scores(arguments.scores, arms, folds)
    reader = Reader(
        folds=range(folds),
        single=str(settings["single"]),
        ratio=settings["tables"]["l1_ratio"],
        rounds=settings["tables"]["permutation_rounds"],
        seed=settings["seed"],
    )
    healthy = [tuple(place) for place in settings["healthy"]]
    pathological = [tuple(place) for place in settings["pathological"]]
    tables = {
        "table2": table2(scores, arms, healthy, pathological, reader),
        "table3": table3(scores, arms, pathological, reader),
    }
    for name, table in tables.items():
        note = footnote(table, settings["run"], settings["protocol"], settings["phantom"])
        write_table(table, arms, note, arguments.folder / name)
    provenance.write(arguments.folder / "provenance.json", rows=len(scores))


if __name__ == "__main__":
    run_program(main)
