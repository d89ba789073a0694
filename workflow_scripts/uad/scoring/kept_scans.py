"""Single scans that scoring keeps for pictures: an example per cohort for the figures, some for the report's viewer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from uad.common.packed import Scan
from uad.inference.outputs import Output
from uad.scoring.predict import anomaly_map

VIEWER_FOLD = 0  # every arm has it
VIEWER_SCANS = 5  # test scans per cohort that are kept of every arm for the report's viewer, which shows these or fewer


def spread_over(volumes: pd.Series, count: int) -> list[str]:
    """At most `count` subjects, spread evenly over the lesion volumes (indexed by subject), smallest first."""
    ordered = volumes.sort_index().sort_values(kind="stable")
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return ordered.index[places].tolist()


def extremes(dice: pd.Series) -> dict[str, str]:
    """The subjects of an arm's "worst", "median" and "best" Dice; empty where no volume has one.

    Args:
        dice: indexed by subject; NaN is left out. Of equal ones the first by name is the lower. Of an even number
            the upper of the two in the middle is the median.
    """
    ordered = dice.dropna().sort_index().sort_values(kind="stable").index
    if not len(ordered):
        return {}
    return {"worst": ordered[0], "median": ordered[len(ordered) // 2], "best": ordered[-1]}


def example(
    cohort: str, scan: Scan, output: Output, reading: str, prediction: np.ndarray | None
) -> dict[str, np.ndarray]:
    """The arrays of a cohort's example in `uad.reporting.panels`, keyed `<cohort>/<name>`."""
    nothing = np.zeros(0, np.float32)
    arrays = {
        "image": scan.image.astype(np.float16),
        "reconstruction": nothing if output.kind == "map" else output.stored(),
        "map": anomaly_map(output, scan.image, scan.mask),
        "prediction": nothing if prediction is None else prediction,
        "label": scan.label,
        "subject": np.array(scan.subject),
        "cohort": np.array(cohort),
        "t_test": np.array(reading),
    }
    return {f"{cohort}/{name}": values for name, values in arrays.items()}


def for_viewer(place: str, output: Output, prediction: np.ndarray | None) -> dict[str, np.ndarray]:
    """What the viewer shows of a scan in one reading; `place` is `<cohort>/<subject>/<reading>`."""
    predicted = {} if prediction is None else {f"{place}/prediction": prediction}
    return {f"{place}/{output.kind}": output.stored(), **predicted}


def of_viewer(kept: Mapping[str, np.ndarray], place: str) -> tuple[Output, np.ndarray | None]:
    """The output and the prediction that `for_viewer` kept; None: the cohort has no threshold."""
    kind = "map" if f"{place}/map" in kept else "reconstruction"
    output = Output(kind, kept[f"{place}/{kind}"].astype(np.float32))
    return output, kept.get(f"{place}/prediction")
