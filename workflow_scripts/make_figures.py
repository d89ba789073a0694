"""Draw the figures: the method, examples per cohort, maps of all arms, and what the scores of arms and volumes show."""

import argparse
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from uad.common.errors import run_program
from uad.common.recipe import read_settings
from uad.reporting import style
from uad.reporting.agreement import agreement_figure
from uad.reporting.curves import learning_curves_figure, read_curves
from uad.reporting.detection import detection_figure
from uad.reporting.differences import differences_figure
from uad.reporting.distributions import distributions_figure
from uad.reporting.experiments import contrast_figure, histograms_figure, load_experiments
from uad.reporting.figures import t_test_figure
from uad.reporting.lesion_size import lesion_size_figure
from uad.reporting.overview import overview_figure
from uad.reporting.panels import examples_figure, load_example, slice_examples
from uad.reporting.paper_numbers import cohort_title
from uad.reporting.ranks import ranks_figure
from uad.reporting.residuals import residuals_figure
from uad.reporting.scores import read_scores
from uad.reporting.tally_curves import Tallies
from uad.reporting.thresholds import thresholds_figure
from uad.reporting.volume_scores import Place, VolumeScores
from uad.reporting.volumes import volumes_figure
from uad.scoring.arm_files import read_arm_files
from uad.workflow.provenance import Provenance

REPORTING = Path(__file__).parent / "uad" / "reporting"  # has fig1, the same in every run: tools/architecture.py


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--scores", required=True, nargs="+", type=Path)
    parser.add_argument("--examples", required=True, type=Path, help="folder with <arm>/<modality>/fold0.npz")
    parser.add_argument("--tallies", required=True, nargs="+", type=Path, help="<arm>/<modality>/fold<k>.parquet")
    parser.add_argument("--curves", nargs="*", default=[], help=".../<stage>/<arm>/<modality>/fold<k>/log.csv")
    parser.add_argument("--experiments", nargs="*", default=[], type=Path, help="one file per fold; the first is drawn")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw")
    parser.add_argument("--folder", required=True, type=Path)
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)
    arms, folds = settings["arms"], range(settings["folds"])
    scores = read_scores(arguments.scores, arms, len(folds))
    places: list[Place] = [tuple(place) for place in settings["pathological"]]
    shown = [arm["arm"] for arm in arms if not arm["control"]] or [arm["arm"] for arm in arms]
    figures: dict[str, Callable[[], Figure]] = {}

    def examples_of(cohort: str, modality: str) -> dict[str, dict[str, Any]]:
        files = {arm: arguments.examples / arm / modality / "fold0.npz" for arm in shown}
        return {arm: load_example(path, cohort) for arm, path in files.items()}

    def draw_examples(cohort: str, modality: str) -> Figure:
        slices = slice_examples(examples_of(cohort, modality))
        return examples_figure(slices, arms, shown, cohort_title(cohort, modality))

    def draw_residuals() -> Figure:
        titles = {place: cohort_title(*place) for place in places}
        return residuals_figure({place: examples_of(*place) for place in places}, arms, shown, titles)

    for cohort, modality in [*map(tuple, settings["healthy"]), *places]:
        figures[f"fig4-{cohort}-{modality}"] = partial(draw_examples, cohort, modality)
    if places:
        figures["fig6"] = draw_residuals
        figures["overview"] = partial(overview_figure, scores, arms, places, folds, str(settings["single"]))
        figures |= figures_of_methods(settings, scores, arguments.tallies, places)
    if places and any(arm["reads_noise_levels"] for arm in arms):
        figures["fig5"] = partial(t_test_figure, scores, arms, places, folds)
    if arguments.experiments:
        folds_shown = [load_experiments(path) for path in arguments.experiments]
        by_name = {arm["arm"]: arm for arm in arms}
        pair = {role: by_name[name] for role, name in settings["experiment_arms"].items()}
        shown_at = [tuple(place) for place in settings["experiment_places"]]
        figures["fig2"] = partial(contrast_figure, folds_shown[0], pair, arms, shown_at[0])
        figures["fig3"] = partial(histograms_figure, folds_shown, pair, arms, shown_at, settings["paper_cohorts"])
    curves = read_curves(arguments.curves)
    for modality in sorted({modality for _, modality in curves}):
        trained, pretrained = curves["models", modality], curves.get(("pretrained", modality))
        figures[f"curves-{modality}"] = partial(
            learning_curves_figure, trained, arms, folds, modality.upper(), pretrained
        )
    mark = style.PHANTOM_MARK if settings["phantom"] else ""
    style.save_all(figures, arguments.folder, arguments.workers, mark)
    for name in ("fig1.png", "fig1.svg"):
        shutil.copyfile(REPORTING / name, arguments.folder / name)
    provenance.write(arguments.folder / "provenance.json", rows=len(scores))


def figures_of_methods(
    settings: dict[str, Any], scores: pd.DataFrame, tallies: list[Path], places: list[Place]
) -> dict[str, Callable[[], Figure]]:
    """The figures of single volumes, of voxels and of comparisons, as far as the run has arms for them."""
    volumes = VolumeScores(scores, settings["arms"], range(settings["folds"]), str(settings["single"]))
    if not volumes.main:
        return {}
    voxels = Tallies(read_arm_files(tallies), volumes.thresholds)
    healthy: list[Place] = [tuple(place) for place in settings["healthy"]]
    figures: dict[str, Callable[[], Figure]] = {
        "volumes": partial(volumes_figure, volumes, places),
        "detection": partial(detection_figure, volumes, voxels, places),
        "thresholds": partial(thresholds_figure, volumes, voxels, places),
        "distributions": partial(distributions_figure, volumes, voxels, places, healthy),
        "lesion-size": partial(lesion_size_figure, volumes, places),
        "agreement": partial(agreement_figure, volumes, places),
    }
    if len(volumes.main) > 1:
        test = settings["tables"]["permutation_rounds"], settings["seed"]
        figures["differences"] = partial(differences_figure, volumes, places, *test)
        figures["ranks"] = partial(ranks_figure, volumes, places)
    return figures


if __name__ == "__main__":
    run_program(main)
