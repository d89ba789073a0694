"""Arms of a study side by side: means over people, paired differences, their tables and figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from uad.common.errors import InputError
from uad.reporting.elements import Cell, Table
from uad.reporting.paper_numbers import METRICS, Metric, cohort_title
from uad.studies.base import Evidence, Place, at

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Values = Mapping[tuple[str, str, Place], "pd.Series"]  # arm, metric, place -> value by person, in the printed unit


def need_arms(evidence: Evidence, names: Mapping[str, str]) -> None:
    """Raises `InputError` for an arm that a key of `study.params` names and the study lacks: key -> arm."""
    known = [arm["arm"] for arm in evidence.arms]
    for key, name in names.items():
        if name not in known:
            raise InputError(f"config: study.params.{key}: {name} is not among study.arms ({', '.join(known)})")


def score_values(evidence: Evidence, metrics: Sequence[str], places: Sequence[Place]) -> dict[Any, pd.Series]:
    """Test scores of each arm's main reading (`ens`, where it has noise levels), of those people that have one.

    Args:
        metrics: of `METRICS`.
    """
    from uad.reporting.cells import build_cell, cell_rows, readings_of, select_rows

    rows = select_rows(evidence.scores, evidence.folds)
    found = {}
    for arm in (row["arm"] for row in evidence.arms):
        main = max(readings_of(rows, arm), default=0)
        for place in places:
            of_arm = cell_rows(rows, arm, main, *place, evidence.single)
            for metric in metrics:
                scores = build_cell(of_arm, metric, evidence.folds).scores
                found[arm, metric, place] = evidence.per_person(scores, place).dropna()
    return found


def mean_rows(evidence: Evidence, values: Values) -> pd.DataFrame:
    """arm, cohort, modality, metric, mean, low, high (95 % bootstrap interval), n_people; nothing where n is 0."""
    import pandas as pd

    rows = [
        {"arm": arm, "cohort": place[0], "modality": place[1], "metric": metric,
         **_with_interval("mean", series, evidence)}
        for (arm, metric, place), series in values.items()
        if len(series)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["arm", "cohort", "modality", "metric", "mean", "low", "high", "n_people"])


def difference_rows(evidence: Evidence, values: Values, against: Sequence[str]) -> pd.DataFrame:
    """arm, against, cohort, modality, metric, difference, low, high, n_people: paired, over people that both have."""
    import pandas as pd

    rows = []
    for other in against:
        for (arm, metric, place), series in values.items():
            paired = (series - values[other, metric, place]).dropna()
            if arm != other and len(paired):
                rows.append({"arm": arm, "against": other, "cohort": place[0], "modality": place[1], "metric": metric,
                             **_with_interval("difference", paired, evidence)})  # fmt: skip
    columns = ["arm", "against", "cohort", "modality", "metric", "difference", "low", "high", "n_people"]
    return pd.DataFrame(rows, columns=columns)


def _with_interval(name: str, values: pd.Series, evidence: Evidence) -> dict[str, float]:
    from uad.reporting.statistics import bootstrap_interval

    low, high = bootstrap_interval(values.to_numpy(), evidence.seed, rounds=evidence.rounds)
    return {name: float(values.mean()), "low": low, "high": high, "n_people": len(values)}


def carried(low: float, high: float) -> bool:
    """Whether an interval leaves 0 out; not where it is NaN."""
    return low > 0 or high < 0


def difference_sentences(
    evidence: Evidence, differences: pd.DataFrame, metrics: Mapping[str, Metric], shown: Sequence[str]
) -> list[str]:
    """One sentence for every difference of the metrics `shown` whose interval leaves 0 out."""
    sentences = []
    for row in differences.to_dict("records"):
        if row["metric"] not in shown or not carried(row["low"], row["high"]):
            continue
        metric = metrics[row["metric"]]
        low, high = (f"{row[end]:.{metric.decimals}f}" for end in ("low", "high"))
        sentences.append(
            f"{evidence.label(row['arm'])} against {evidence.label(row['against'])} on "
            f"{cohort_title(row['cohort'], row['modality'])}: {metric.heading} differs by "
            f"{row['difference']:+.{metric.decimals}f} [{low}, {high}] ({row['n_people']} people)."
        )
    return sentences


def mean_table(
    evidence: Evidence, means: pd.DataFrame, places: Sequence[Place], metrics: Mapping[str, Metric], caption: str
) -> Table:
    """One line per place and arm: the mean of each metric with its interval, and the number of people."""
    lines = []
    for place in places:
        for arm in (row["arm"] for row in evidence.arms):
            here = at(means, place)
            found = here[here["arm"] == arm].set_index("metric")
            if found.empty:
                continue
            cells = [_mean_cell(found, name, metric) for name, metric in metrics.items()]
            people = int(found["n_people"].max())
            lines.append(
                [Cell(evidence.label(arm)), Cell(cohort_title(*place)), *cells, Cell(str(people), sort=people)]
            )
    heads = ["Arm", "Cohort", *(metric.heading for metric in metrics.values()), "People"]
    return Table(heads, lines, caption=caption, words=(0, 1))


def _mean_cell(found: pd.DataFrame, name: str, metric: Metric) -> Cell:
    if name not in found.index:
        return Cell("–", sort=float("nan"))
    row = found.loc[name]
    mean, low, high = (f"{row[part]:.{metric.decimals}f}" for part in ("mean", "low", "high"))
    return Cell(f"{mean} [{low}, {high}]", sort=row["mean"])


def difference_figure(
    evidence: Evidence,
    differences: pd.DataFrame,
    panels: Sequence[tuple[Place, str]],
    metrics: Mapping[str, Metric] = METRICS,
) -> Figure:
    """Differences to one arm with their intervals, a panel per (place, metric) and a line per arm.

    Args:
        differences: rows of `difference_rows` against one arm.
    """
    from uad.reporting import style

    looks = style.looks(evidence.arms)
    names = [row["arm"] for row in evidence.arms if row["arm"] in set(differences["arm"])]
    columns = min(len(panels), 3)
    height = -(-len(panels) // columns) * (0.38 * max(len(names), 3) + 1.8)
    figure = style.new_figure(style.DOUBLE_CM, height)
    drawn = style.panels(figure, len(panels), columns, sharey=True)
    for panel, (place, metric) in zip(drawn, panels, strict=True):
        rows = at(differences, place)
        rows = rows[rows["metric"] == metric].set_index("arm")
        for line, name in enumerate(names):
            if name not in rows.index:
                continue
            row, look = rows.loc[name], looks[name]
            panel.plot([row["low"], row["high"]], [line, line], color=look.colour)
            panel.plot(row["difference"], line, color=look.colour, marker=look.marker, markersize=4)
        panel.axvline(0, color=style.WORD_GREY, linewidth=0.6)
        panel.set(title=cohort_title(*place), xlabel=metrics[metric].heading)
        style.name_lines(panel, [evidence.label(name) for name in names])
    return figure
