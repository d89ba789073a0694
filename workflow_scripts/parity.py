"""Print the row Thresh beside the paper's: are the data right?"""

import argparse
from pathlib import Path

from uad.common.errors import run_program
from uad.common.recipe import read_settings
from uad.reporting.parity import parity_report
from uad.reporting.scores import read_scores
from uad.reporting.tables import Reader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--scores", required=True, nargs="+", type=Path, help="metrics of the arm that is Thresh")
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    arms, folds = settings["arms"], settings["folds"]
    scores = read_scores(arguments.scores, arms, folds)
    places = [tuple(place) for place in settings["pathological"]]
    print(parity_report(scores, arms, places, Reader(range(folds)), settings["phantom"]))


if __name__ == "__main__":
    run_program(main)
