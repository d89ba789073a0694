"""How close is the pseudo-healthy image to the scan without the lesion?  docs/studies.md#pseudo-healthy"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from uad.common.errors import InputError
from uad.reporting.elements import Cell, Table, number
from uad.reporting.paper_numbers import METRICS, cohort_title
from uad.studies.base import Answer, Evidence, Place, ScoredArm, Study, at

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from matplotlib.typing import LineStyleType

    from uad.common.store import Store
    from uad.scoring.cohort import ScoredCohort

FEWEST = 6  # people in a sentence: of fewer, even differences of one sign throughout may be chance (sign test)
EDGE_VOXELS = 2  # around a lesion, whose edge is soft: neither lesion nor outside
ENSEMBLE = "ens"
REFERENCES = {"copy": "the input", "constant": "a constant"}
_LESION = ["subject", "number"]
_UNIT = METRICS["l1"]


class PseudoHealthyStudy(Study):
    question = "How close is the pseudo-healthy image to the scan without the lesion?"
    varied = (
        "Arms and noise levels, on healthy scans with planted strokes. Inside each lesion of a test scan the "
        "reconstruction is compared with the healthy scan that the stroke was planted into; beside it the input "
        "itself, which changes nothing, and a constant, the median of the scan's healthy brain. Both scans were "
        "preprocessed on their own: their difference away from the lesion is the floor. Averages are over the lesions "
        "of a person, then over people."
    )
    tables = ("errors", "references")
    figures = ("errors",)
    measures = True
    of_planted = True

    def measure(self, arm: ScoredArm) -> pd.DataFrame:
        """One row per lesion of a planted test scan and reading: cohort, subject, number, t_test, lesion_ml, l1 and
        bias (mean of reconstruction - untouched scan) inside the lesion, l1_outside (of the reconstruction, in the
        brain away from lesions); l1 and bias of what stands beside it (`REFERENCES`); floor."""
        import pandas as pd

        rows = [
            row
            for name, untouched in arm.untouched.items()
            for row in _measured(arm, arm.cohorts[name], arm.cohorts[arm.untouched_cohort].store, untouched)
        ]
        return pd.DataFrame(rows, columns=list(_TYPES)).astype(_TYPES)

    def answer(self, evidence: Evidence) -> Answer:
        import pandas as pd

        measured = evidence.measured
        places = [place for place in evidence.pathological if len(at(measured, place))]
        if not places:
            raise InputError("study: no planted test scan was measured; look at the splits of the planted cohort")
        errors = pd.DataFrame(
            row
            for place in places
            for arm in evidence.arms
            if len(rows := at(measured[measured["arm"] == arm["arm"]], place))
            for row in _errors(arm["arm"], place, rows, evidence)
        )
        references = pd.DataFrame(row for place in places for row in _references(place, measured, evidence))
        mains = errors[errors["t_test"].isin(("", ENSEMBLE))]
        return Answer(
            found=[_sentence(row, evidence) for row in mains.to_dict("records") if _is_told(row)],
            limits=[
                "Planted strokes are darker tissue in a healthy scan: without swelling, without loss of tissue. What "
                "is said of them need not hold for real lesions.",
                "Below the floor no difference can be told: the two scans differ by as much where nothing was planted.",
                "The level of the least error was not chosen on other scans: read the curve, not its lowest point.",
            ],
            rows={"errors": errors, "references": references},
            tables=[_table(mains, references, evidence)],
            figures={"errors": (_figure(errors, references, places, evidence), _CAPTION)},
        )


_TYPES = {
    **dict.fromkeys(("cohort", "subject", "t_test"), "str"),
    "number": "int64",
    **dict.fromkeys(("lesion_ml", "l1", "bias", "l1_outside", "l1_copy", "bias_copy"), "float64"),
    **dict.fromkeys(("l1_constant", "bias_constant", "floor"), "float64"),
}
_CAPTION = (
    "Mean absolute difference (10⁻³) inside planted lesions between the reconstruction and the scan before planting, "
    "against the noise level, with 95 % bootstrap intervals over people; level lines with a band: arms without a noise "
    "level; grey: the input, a constant, and the floor, which is the difference of the two scans away from lesions."
)
_GREY_LINES: dict[str, LineStyleType] = {"copy": "-", "constant": "--", "floor": ":"}


def _measured(
    arm: ScoredArm, cohort: ScoredCohort, healthy: Store, untouched: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """The rows of one planted cohort; a scan whose healthy one was not packed has none."""
    from scipy import ndimage

    from uad.inference.outputs import COMBINATIONS
    from uad.metrics.lesion import errors_inside
    from uad.scoring.lesions import NEIGHBOURS
    from uad.scoring.postprocessing import components
    from uad.scoring.protocol import LESION

    for subject in cohort.subjects["test"]:
        if untouched[subject] not in healthy.subjects:
            continue
        scan, truth = cohort.store.scan(subject), healthy.scan(untouched[subject])
        parts = components(scan.label == LESION, NEIGHBOURS)
        brain = scan.mask & (scan.label == 0)
        outside = brain & truth.mask & (ndimage.distance_transform_edt(parts == 0) > EDGE_VOXELS)
        floor, _ = errors_inside(scan.image, truth.image, outside)
        constant = np.full_like(scan.image, np.median(scan.image[brain]))
        outputs = {
            reading: cohort.outputs.volume(cohort.name, scan, reading)
            for reading in arm.readings
            if reading not in COMBINATIONS
        }
        if any(output.kind == "map" for output in outputs.values()):
            raise InputError(f"study.arms: {arm.arm} draws maps and makes no image; leave it out of the study")
        for lesion in range(1, parts.max() + 1):
            where = parts == lesion
            copied, flat = (errors_inside(image, truth.image, where) for image in (scan.image, constant))
            for reading, output in outputs.items():
                l1, bias = errors_inside(output.values, truth.image, where)
                yield {
                    "cohort": cohort.name, "subject": subject, "number": lesion, "t_test": reading,
                    "lesion_ml": where.sum() * arm.settings.voxel_ml, "l1": l1, "bias": bias,
                    "l1_outside": errors_inside(output.values, truth.image, outside)[0],
                    "l1_copy": copied[0], "bias_copy": copied[1], "l1_constant": flat[0], "bias_constant": flat[1],
                    "floor": floor,
                }  # fmt: skip


def _errors(arm: str, place: Place, rows: pd.DataFrame, evidence: Evidence) -> Iterator[dict[str, Any]]:
    """A row per reading of an arm, by level, the ensemble last: its errors, and how much closer it is than what stands
    beside it."""
    for t_test in sorted(rows["t_test"].unique(), key=lambda t_test: int(t_test) if t_test.isdigit() else 1001):
        lesions = _over_folds(rows[rows["t_test"] == t_test])
        closer = {f"closer_than_{name}": lesions[f"l1_{name}"] - lesions["l1"] for name in REFERENCES}
        columns = ["l1", "bias", "l1_outside", *closer]
        people = evidence.per_person(lesions.assign(**closer).droplevel("number")[columns], place)
        yield {
            "arm": arm, "cohort": place[0], "modality": place[1], "t_test": t_test,
            **_with_intervals(people, evidence), "n_test": len(people), "n_lesions": len(lesions),
        }  # fmt: skip


def _references(place: Place, measured: pd.DataFrame, evidence: Evidence) -> Iterator[dict[str, Any]]:
    """The errors that no arm has a part in: of the input, of a constant, and the floor, which every lesion of a scan
    shares."""
    lesions = _over_folds(at(measured, place))
    for name in (*REFERENCES, "floor"):
        columns = {"l1": lesions.get(f"l1_{name}", lesions["floor"])}
        if name in REFERENCES:
            columns["bias"] = lesions[f"bias_{name}"]
        people = evidence.per_person(lesions.assign(**columns).droplevel("number")[list(columns)], place)
        yield {
            "cohort": place[0], "modality": place[1], "image": name, **_with_intervals(people, evidence),
            "n_test": len(people), "n_lesions": len(lesions),
        }  # fmt: skip


def _over_folds(rows: pd.DataFrame) -> pd.DataFrame:
    """The numbers of each lesion, [subject, number], means over folds (and over all that repeats them)."""
    return rows.groupby(_LESION)[[name for name, kind in _TYPES.items() if kind == "float64"]].mean()


def _with_intervals(people: pd.DataFrame, evidence: Evidence) -> dict[str, float]:
    """The mean of each column over people, with the ends of its interval."""
    from uad.reporting.statistics import bootstrap_interval

    found: dict[str, float] = {}
    for name in people:
        low, high = bootstrap_interval(people[name], evidence.seed, rounds=evidence.rounds)
        found |= {name: people[name].mean(), f"{name}_low": low, f"{name}_high": high}
    return found


# --- words, table, figure ------------------------------------------------------------------------------


def _is_carried(row: Mapping[str, Any], name: str) -> bool:
    return bool(row[f"{name}_low"] > 0 or row[f"{name}_high"] < 0)


def _is_told(row: Mapping[str, Any]) -> bool:
    return row["n_test"] >= FEWEST and any(_is_carried(row, f"closer_than_{name}") for name in REFERENCES)


def _text(row: Mapping[str, Any], name: str, sign: str = "") -> str:
    mean, low, high = (_UNIT.scale * row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{mean:{sign}.1f}" + ("" if np.isnan(low) else f" [{low:.1f}, {high:.1f}]")


def _title(row: Mapping[str, Any], evidence: Evidence) -> str:
    return evidence.label(row["arm"]) + (", ensemble" if row["t_test"] == ENSEMBLE else "")


def _sentence(row: Mapping[str, Any], evidence: Evidence) -> str:
    compared = []
    for name, words in REFERENCES.items():
        if _is_carried(row, f"closer_than_{name}"):
            side = "closer" if row[f"closer_than_{name}"] > 0 else "farther off"
            compared.append(f"{side} than {words} (difference {_text(row, f'closer_than_{name}', '+')})")
    return (
        f"{_title(row, evidence)} on {cohort_title(row['cohort'], row['modality'])}: inside lesions its image is "
        f"{_text(row, 'l1')} × {_UNIT.unit} off the untouched scan, {' and '.join(compared)} "
        f"({row['n_test']} test people, {row['n_lesions']} lesions)."
    )


def _table(mains: pd.DataFrame, references: pd.DataFrame, evidence: Evidence) -> Table:
    heads = ["Image", "Cohort", "l1 in lesions", "Mean difference", "l1 outside", "Closer than the input"]
    heads += ["Closer than a constant", "People", "Lesions"]
    names = {"copy": "the input", "constant": "a constant", "floor": "floor: both scans, away from lesions"}
    rows = [(names[row["image"]], row) for row in references.to_dict("records")]
    rows += [(_title(row, evidence), row) for row in mains.to_dict("records")]
    columns = ("l1", "bias", "l1_outside", *(f"closer_than_{name}" for name in REFERENCES))
    lines = [
        [
            Cell(title), Cell(cohort_title(row["cohort"], row["modality"])),
            *(_number(row, name) for name in columns), number(row["n_test"], 0), number(row["n_lesions"], 0),
        ]
        for title, row in rows
    ]  # fmt: skip
    caption = (
        f"Difference to the scan before planting ({_UNIT.unit}, with 95 % interval over people): absolute, signed, and "
        "how much closer an arm is than the input and than a constant"
    )
    return Table(heads, lines, caption=caption, words=(0, 1))


def _number(row: Mapping[str, Any], name: str) -> Cell:
    value = row.get(name, float("nan"))
    return number(None) if np.isnan(value) else Cell(_text(row, name), sort=value)


def _figure(errors: pd.DataFrame, references: pd.DataFrame, places: list[Place], evidence: Evidence) -> Figure:
    from matplotlib.lines import Line2D

    from uad.reporting import style

    looks = style.looks(evidence.arms)
    columns = min(len(places), 2)
    figure = style.new_figure(style.DOUBLE_CM, 7.0 * -(-len(places) // columns) + 2.0)
    for panel, place in zip(style.panels(figure, len(places), columns), places, strict=True):
        for arm in evidence.arms:
            rows, look = at(errors[errors["arm"] == arm["arm"]], place), looks[arm["arm"]]
            ends = {name: _UNIT.scale * rows[name] for name in ("l1", "l1_low", "l1_high")}
            levels = rows["t_test"].str.isdigit()
            if levels.any():
                t = rows.loc[levels, "t_test"].astype(int)
                low, high = (ends[name][levels] for name in ("l1_low", "l1_high"))
                panel.fill_between(t, low, high, color=look.colour, alpha=0.15, linewidth=0)
                panel.plot(t, ends["l1"][levels], color=look.colour, marker=look.marker)
            else:
                panel.axhspan(
                    ends["l1_low"].iloc[0], ends["l1_high"].iloc[0], color=look.colour, alpha=0.1, linewidth=0
                )
                panel.axhline(ends["l1"].iloc[0], color=look.colour)
        for row in at(references, place).to_dict("records"):
            panel.axhline(_UNIT.scale * row["l1"], color=style.WORD_GREY, linestyle=_GREY_LINES[row["image"]])
        panel.set(title=cohort_title(*place), xlabel="t_test", ylabel=f"l1 inside lesions ({_UNIT.unit})")
        panel.set_ylim(bottom=0)
    handles = [style.handle(looks[arm["arm"]], evidence.label(arm["arm"])) for arm in evidence.arms]
    names = {**REFERENCES, "floor": "floor"}
    grey = [Line2D([], [], color=style.WORD_GREY, linestyle=_GREY_LINES[name], label=names[name]) for name in names]
    style.legend(figure, [*handles, *grey], 2, {})
    return figure


STUDY = PseudoHealthyStudy
