"""Draw the figures: example pictures per cohort, Dice against noise level, overview of all arms."""

import argparse
from pathlib import Path

from uad.errors import run_program
from uad.provenance import Provenance
from uad.recipe import read_settings
from uad.reporting import style
from uad.reporting.figures import noise_level_figure
from uad.reporting.overview import overview_figure
from uad.reporting.panels import examples_figure, load_example, slice_examples
from uad.reporting.paper_numbers import cohort_title
from uad.reporting.scores import read_scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--scores", required=True, nargs="+", type=Path)
    parser.add_argument("--examples", required=True, type=Path, help="folder with <arm>/<modality>/fold0.npz")
    parser.add_argument("--folder", required=True, type=Path)
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)
    arms, folds = settings["arms"], range(settings["folds"])
    scores = read_scores(arguments.scores, arms, len(folds))
    places = [tuple(place) for place in settings["pathological"]]
    shown = [arm["arm"] for arm in arms if not arm["control"]] or [arm["arm"] for arm in arms]
    for cohort, modality in [*map(tuple, settings["healthy"]), *places]:
        files = {arm: arguments.examples / arm / modality / "fold0.npz" for arm in shown}
        slices = slice_examples({arm: load_example(path, cohort) for arm, path in files.items()})
        figure = examples_figure(slices, arms, shown, cohort_title(cohort, modality))
        style.save(figure, arguments.folder / f"fig4-{cohort}-{modality}")
    if any(arm["reads_noise_levels"] for arm in arms):
        style.save(noise_level_figure(scores, arms, places, folds), arguments.folder / "fig5")
    single = str(settings["single"])
    style.save(overview_figure(scores, arms, places, folds, single), arguments.folder / "overview")
    provenance.write(arguments.folder / "provenance.json", rows=len(scores))


if __name__ == "__main__":
    run_program(main)
