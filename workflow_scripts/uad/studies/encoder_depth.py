"""How deep should the encoder of the condition be?  docs/studies.md#encoder-depth"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pydantic

from uad.common.errors import InputError
from uad.reporting.elements import Cell, Table
from uad.reporting.paper_numbers import METRICS, cohort_title
from uad.studies.base import Answer, Evidence, Place, Study, at
from uad.studies.comparing import (
    difference_figure,
    difference_rows,
    difference_sentences,
    mean_rows,
    mean_table,
    need_arms,
    score_values,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

OF_HEALTHY = {name: METRICS[name] for name in ("l1",)}
OF_LESIONS = {name: METRICS[name] for name in ("l1_ratio", "dice", "auprc")}


class EncoderDepthParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    reference: str = pydantic.Field("cddpm-50-128", description="Arm of the published depth and width.")


class EncoderDepthStudy(Study):
    Params = EncoderDepthParams
    params: EncoderDepthParams
    question = "How deep should the encoder be?"
    varied = (
        "Depth of the ResNet that encodes the condition (10, 18, 34, 50 and 101 layers, condition of 128 values) and "
        "width of the condition (32, 128 and 512 values, 50 layers). U-Net, noise, slices and steps are the same. An "
        "encoder that carries more may restore healthy tissue better, and may carry the lesion too: the healthy error "
        "stands beside the error on lesions relative to that on healthy tissue of the same scans."
    )
    tables = ("arms", "differences", "frontier")
    figures = ("frontier", "differences")

    def answer(self, evidence: Evidence) -> Answer:
        need_arms(evidence, {"reference": self.params.reference})
        values = score_values(evidence, list(OF_HEALTHY), evidence.healthy)
        values |= score_values(evidence, list(OF_LESIONS), evidence.pathological)
        means = mean_rows(evidence, values)
        differences = difference_rows(evidence, values, [self.params.reference])
        if differences.empty:
            raise InputError("study: no arm has test scores beside those of study.params.reference; look at the splits")
        frontier = frontier_rows(evidence, means)
        panels = [
            *((place, "l1") for place in evidence.healthy),
            *((place, metric) for place in evidence.pathological for metric in ("l1_ratio", "dice")),
        ]
        return Answer(
            found=difference_sentences(evidence, differences, METRICS, ["l1", "l1_ratio", "dice"]),
            limits=[
                "One training per fold: chance of the training and depth are told apart only as far as folds differ.",
                "All depths have the same number of steps and the same rate; a deeper encoder may want others.",
                f"{len(differences)} differences are looked at, each with an interval of its own: of twenty without "
                "any effect, one leaves 0 out by chance.",
                "A higher l1 ratio means that less of a lesion is restored; it also rises where healthy tissue is "
                "restored better.",
            ],
            rows={"arms": means, "differences": differences, "frontier": frontier},
            tables=[
                mean_table(evidence, means, evidence.healthy, OF_HEALTHY, "Healthy test scans, mean [95 %]"),
                mean_table(evidence, means, evidence.pathological, OF_LESIONS, "Test scans with lesions, mean [95 %]"),
                _frontier_table(evidence, frontier),
            ],
            figures={
                "frontier": (_frontier_figure(evidence, frontier), _FRONTIER),
                "differences": (difference_figure(evidence, differences, panels), _DIFFERENCES),
            },
        )


_FRONTIER = (
    "Error on healthy scans (left is better) and error on lesions relative to healthy tissue (up: less of the lesion "
    "is restored), means with 95 % bootstrap intervals over test people; the line joins the arms on the front: no "
    "other is better in both."
)
_DIFFERENCES = "Test scores minus those of the published depth and width, paired, with 95 % bootstrap intervals."


def frontier_rows(evidence: Evidence, means: pd.DataFrame) -> pd.DataFrame:
    """Healthy l1 and l1 ratio of each arm, per pathological place and the first healthy cohort of its modality.

    Returns:
        arm, healthy, cohort, modality, l1 and l1_ratio with _low and _high, on_front: 1 where no arm has both a lower
        l1 and a higher ratio, by their means.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for place in evidence.pathological:
        healthy = _healthy_beside(evidence, place)
        if healthy is None:
            continue
        errors, ratios = (
            at(means, where)[lambda rows, metric=metric: rows["metric"] == metric].set_index("arm")
            for where, metric in ((healthy, "l1"), (place, "l1_ratio"))
        )
        rows += [
            {"arm": arm, "healthy": healthy[0], "cohort": place[0], "modality": place[1],
             **_point("l1", errors.loc[arm]), **_point("l1_ratio", ratios.loc[arm]),
             "on_front": int(not any((errors["mean"] < errors["mean"][arm]) & (ratios["mean"] > ratios["mean"][arm])))}
            for arm in errors.index.intersection(ratios.index, sort=False)
        ]  # fmt: skip
    columns = ["arm", "healthy", "cohort", "modality", "l1", "l1_low", "l1_high"]
    return pd.DataFrame(rows, columns=[*columns, "l1_ratio", "l1_ratio_low", "l1_ratio_high", "on_front"])


def _healthy_beside(evidence: Evidence, place: Place) -> Place | None:
    return next((healthy for healthy in evidence.healthy if healthy[1] == place[1]), None)


def _point(name: str, row: pd.Series) -> dict[str, float]:
    return {name: row["mean"], f"{name}_low": row["low"], f"{name}_high": row["high"]}


def _frontier_table(evidence: Evidence, frontier: pd.DataFrame) -> Table:
    lines = [
        [
            Cell(evidence.label(row.arm)), Cell(cohort_title(row.cohort, row.modality)),
            Cell(f"{row.l1:.2f}", sort=row.l1), Cell(f"{row.l1_ratio:.2f}", sort=row.l1_ratio),
            Cell("yes" if row.on_front else "no"),
        ]
        for row in frontier.itertuples()
    ]  # fmt: skip
    heads = ["Arm", "Cohort", f"Healthy {METRICS['l1'].heading}", METRICS["l1_ratio"].title, "On the front"]
    caption = "Who is on the front: no other arm has both a lower healthy error and a higher l1 ratio, by their means"
    return Table(heads, lines, caption=caption, words=(0, 1, 4))


def _frontier_figure(evidence: Evidence, frontier: pd.DataFrame) -> Figure:
    from uad.reporting import style

    looks = style.looks(evidence.arms)
    places = [place for place in evidence.pathological if len(at(frontier, place))]
    columns = max(min(len(places), 2), 1)
    figure = style.new_figure(style.width_cm(columns), -(-max(len(places), 1) // columns) * 6.0 + 1.5)
    for panel, place in zip(style.panels(figure, len(places), columns), places, strict=True):
        rows = at(frontier, place)
        for row in rows.itertuples():
            look = looks[row.arm]
            panel.plot([row.l1_low, row.l1_high], [row.l1_ratio] * 2, color=look.colour, linewidth=0.7)
            panel.plot([row.l1] * 2, [row.l1_ratio_low, row.l1_ratio_high], color=look.colour, linewidth=0.7)
            panel.plot(row.l1, row.l1_ratio, color=look.colour, marker=look.marker)
        front = rows[rows["on_front"] == 1].sort_values("l1")
        panel.plot(front["l1"], front["l1_ratio"], color=style.WORD_GREY, linewidth=0.7, zorder=0)
        healthy = cohort_title(rows["healthy"].iloc[0], place[1])
        panel.set(title=cohort_title(*place), xlabel=f"{METRICS['l1'].heading}, {healthy}", ylabel="l1 ratio")
    shown = [row["arm"] for row in evidence.arms if row["arm"] in set(frontier["arm"])]
    handles = [style.handle(looks[name], evidence.label(name)) for name in shown]
    style.legend(figure, handles, columns=2 * columns, gaps={})
    return figure


STUDY = EncoderDepthStudy
