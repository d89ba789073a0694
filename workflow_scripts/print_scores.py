"""Print the mean scores of every arm that is scored so far."""

import argparse
from pathlib import Path

from uad.common.errors import InputError, run_program
from uad.common.recipe import read_settings
from uad.reporting.scans import scores_text
from uad.reporting.scores import read_scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--scores", required=True, nargs="*", type=Path, help="metrics files that are there")
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    if not arguments.scores:
        raise InputError(
            f"run '{settings['run']}' has no scores yet; make some first, e.g. "
            f"snakemake --cores 2 -- results/{settings['run']}/metrics/<arm>/<modality>/fold0.parquet"
        )
    scores = read_scores(arguments.scores, settings["arms"], folds=1)  # no arm is repeated
    healthy, pathological = ([tuple(place) for place in settings[kind]] for kind in ("healthy", "pathological"))
    folds, single = range(settings["folds"]), str(settings["single"])
    note = "Phantoms: these numbers say nothing about the methods.\n\n" if settings["phantom"] else ""
    print(f"\n{note}{scores_text(scores, settings['arms'], healthy, pathological, folds, single)}\n")


if __name__ == "__main__":
    run_program(main)
