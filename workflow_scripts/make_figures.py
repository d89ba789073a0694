"""Draw the figures: the method, examples per cohort, Dice against noise level, maps of all arms, overview."""

import argparse
from pathlib import Path

from uad.errors import run_program
from uad.provenance import Provenance
from uad.recipe import read_settings
from uad.reporting import style
from uad.reporting.architecture import architecture_figure
from uad.reporting.curves import learning_curves_figure, read_curves
from uad.reporting.experiments import contrast_figure, histograms_figure, load_experiments
from uad.reporting.figures import noise_level_figure
from uad.reporting.overview import overview_figure
from uad.reporting.panels import examples_figure, load_example, slice_examples
from uad.reporting.paper_numbers import cohort_title
from uad.reporting.residuals import residuals_figure
from uad.reporting.scores import read_scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--scores", required=True, nargs="+", type=Path)
    parser.add_argument("--examples", required=True, type=Path, help="folder with <arm>/<modality>/fold0.npz")
    parser.add_argument("--curves", nargs="*", default=[], help=".../<stage>/<arm>/<modality>/fold<k>/log.csv")
    parser.add_argument("--experiments", nargs="*", default=[], type=Path, help="one file per fold; the first is drawn")
    parser.add_argument("--folder", required=True, type=Path)
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)
    arms, folds = settings["arms"], range(settings["folds"])
    scores = read_scores(arguments.scores, arms, len(folds))
    places = [tuple(place) for place in settings["pathological"]]
    shown = [arm["arm"] for arm in arms if not arm["control"]] or [arm["arm"] for arm in arms]
    style.save(architecture_figure(), arguments.folder / "fig1")
    examples = {}
    for cohort, modality in [*map(tuple, settings["healthy"]), *places]:
        files = {arm: arguments.examples / arm / modality / "fold0.npz" for arm in shown}
        examples[cohort, modality] = {arm: load_example(path, cohort) for arm, path in files.items()}
        slices = slice_examples(examples[cohort, modality])
        figure = examples_figure(slices, arms, shown, cohort_title(cohort, modality))
        style.save(figure, arguments.folder / f"fig4-{cohort}-{modality}")
    titles = {place: cohort_title(*place) for place in places}
    figure = residuals_figure({place: examples[place] for place in places}, arms, shown, titles)
    style.save(figure, arguments.folder / "fig6")
    if any(arm["reads_noise_levels"] for arm in arms):
        style.save(noise_level_figure(scores, arms, places, folds), arguments.folder / "fig5")
    if arguments.experiments:
        folds_shown = [load_experiments(path) for path in arguments.experiments]
        by_name = {arm["arm"]: arm for arm in arms}
        pair = {role: by_name[name] for role, name in settings["experiment_arms"].items()}
        shown_at = [tuple(place) for place in settings["experiment_places"]]
        style.save(contrast_figure(folds_shown[0], pair, arms, shown_at[0]), arguments.folder / "fig2")
        style.save(histograms_figure(folds_shown, pair, arms, shown_at), arguments.folder / "fig3")
    curves = read_curves(arguments.curves)
    for modality in sorted({modality for _, modality in curves}):
        trained, pretrained = curves["models", modality], curves.get(("pretrained", modality))
        figure = learning_curves_figure(trained, arms, folds, modality.upper(), pretrained)
        style.save(figure, arguments.folder / f"curves-{modality}")
    single = str(settings["single"])
    style.save(overview_figure(scores, arms, places, folds, single), arguments.folder / "overview")
    provenance.write(arguments.folder / "provenance.json", rows=len(scores))


if __name__ == "__main__":
    run_program(main)
