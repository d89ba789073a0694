"""Which t_test suits which lesion?  The paper's first open question.  docs/studies.md#noise-level"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic

from uad.common.errors import InputError
from uad.reporting.elements import Cell, Table, number
from uad.reporting.paper_numbers import cohort_title
from uad.studies.base import Answer, Evidence, Place, ScoredArm, Study, at

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from uad.scoring.cohort import ScoredCohort

SHELL_VOXELS = 3
FEWEST = 6  # people in a sentence: of fewer, even gains of one sign throughout may be chance (sign test)
ENSEMBLE = "ens"
ALL = "all lesions"
CELL, DEPTH = "size and contrast", "depth"  # what lesions are divided by
OUTCOMES = {"found_any": "found, any overlap", "found_share": "found", "local_ap": "local AP"}
_TOLD = ("found_share", "local_ap")  # what sentences and figures are about
_LEVEL = 0.95
_LESION = ["split", "subject", "number"]


class NoiseLevelParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    size_ml: list[float] = pydantic.Field([1.0, 10.0], description="Edges of the classes of lesion volume in ml.")
    contrast: list[float] = pydantic.Field(
        [1.0, 2.0], description="Edges of the classes of contrast, sign left out, in deviations of the shell."
    )
    depth_mm: list[float] = pydantic.Field([10.0, 20.0], description="Edges of the classes of depth in mm.")
    overlap: float = pydantic.Field(0.1, gt=0, le=1, description="Share of a lesion that has to be predicted.")

    @pydantic.field_validator("size_ml", "contrast", "depth_mm")
    @classmethod
    def _edges_rise_from_zero(cls, edges: list[float]) -> list[float]:
        if not edges or any(low >= high for low, high in pairwise([0.0, *edges])):
            raise ValueError(f"has the edges {edges}; they have to be above 0 and rise")
        return edges


class NoiseLevelStudy(Study):
    Params = NoiseLevelParams
    params: NoiseLevelParams
    question = "Which t_test suits which lesion?"
    varied = (
        "The noise level at which a trained model reconstructs a scan; training, post-processing and the search of a "
        "threshold per level stay as they are. Each lesion is measured by itself: its size, its contrast to the "
        "healthy brain around it, its depth; and at each level whether it is found and how well its voxels are told "
        "from those around it. Averages are over the lesions of a person, then over people. A level is chosen on the "
        "lesions of validation scans and judged on those of test scans."
    )
    tables = ("curves", "choices", "rules", "costs")
    figures = ("found", "local-ap")
    measures = True

    def measure(self, arm: ScoredArm) -> pd.DataFrame:
        """One row per lesion of a validation or test scan and reading: cohort, subject, split, number, t_test,
        lesion_ml, diameter_mm, contrast, depth_mm, overlap, cnr (of the cleaned map), local_ap."""
        import pandas as pd

        if list(arm.readings) == [""]:
            raise InputError(f"study.arms: {arm.arm} has no noise level; leave it out of the study")
        rows = [
            row
            for cohort in arm.cohorts.values()
            for split in ("val", "test")
            for subject in cohort.subjects[split]
            for row in _measured(arm, cohort, split, subject)
        ]
        return pd.DataFrame(rows, columns=list(_TYPES)).astype(_TYPES)

    def answer(self, evidence: Evidence) -> Answer:
        import pandas as pd

        measured = self._classed(evidence.measured)
        groups = [
            Lesions(arm["arm"], place, rows, evidence, outcome, self.classes())
            for place in evidence.pathological
            for arm in evidence.arms
            if len(rows := at(measured[measured["arm"] == arm["arm"]], place))
            for outcome in OUTCOMES
        ]
        groups = [group for group in groups if "test" in group.values.index.unique("split")]
        if not groups:
            raise InputError("study: no arm has a lesion in a test scan; look at the splits")
        curves = pd.DataFrame([row for group in groups for row in group.curves()])
        choices = pd.DataFrame([row for group in groups for row in group.choices()])
        rules = pd.DataFrame([row for group in groups for row in group.rules()])
        costs = _costs(evidence)
        asked = choices[choices["outcome"].isin(_TOLD) & (choices["n_test"] >= FEWEST)]
        return Answer(
            found=[
                *(_rule_sentence(row, evidence) for row in rules.to_dict("records") if _is_told(row, "rule")),
                *(_choice_sentence(row, evidence) for row in choices.to_dict("records") if _is_told(row, "gain")),
            ],
            limits=[
                f"{len(asked)} gains in classes of lesions with {FEWEST} test people or more were looked at; about one "
                "in twenty 95 % intervals leaves out 0 by chance. Of fewer people nothing is said.",
                "A rule by size and contrast knows the lesion before it is found: it says what suits which lesion, and "
                "is no detector.",
                "What is found says nothing of what is called besides: the false positives per scan of each level are "
                "in costs.csv. Local AP compares a lesion with the 3 voxels around it and no others.",
                "The oracle and the best level of the test lesions have seen the test scans: they are bounds, to which "
                "chance adds.",
                "Size, contrast and depth of real lesions go together; classes of one are not free of the others.",
                "On validation lesions the threshold of a level was chosen on the same scans.",
            ],
            rows={"curves": curves, "choices": choices, "rules": rules, "costs": costs},
            tables=[_choice_table(choices, evidence), _rule_table(rules, evidence)],
            figures={
                "found": (self._figure(curves, evidence, "found_share", "lesions found (%)"), self._caption()),
                "local-ap": (self._figure(curves, evidence, "local_ap", "local AP (%)"), _AP_CAPTION),
            },
        )

    def classes(self) -> dict[str, list[str]]:
        """What lesions are divided by -> its classes in order."""
        sizes, contrasts = _names(self.params.size_ml, "ml"), _names(self.params.contrast, "SD")
        return {
            CELL: [f"{size}, {contrast}" for size, contrast in product(sizes, contrasts)],
            DEPTH: _names(self.params.depth_mm, "mm deep"),
        }

    def _classed(self, measured: pd.DataFrame) -> pd.DataFrame:
        """The rows with the outcomes, and with the class of each lesion by what lesions are divided by; "" where it
        has no contrast."""
        size = _classes(measured["lesion_ml"], self.params.size_ml, "ml")
        contrast = _classes(measured["contrast"].abs(), self.params.contrast, "SD")
        known = measured["overlap"].notna()
        found = {"found_any": measured["overlap"] > 0, "found_share": measured["overlap"] >= self.params.overlap}
        return measured.assign(
            **{name: hits.astype(float).where(known) for name, hits in found.items()},
            **{
                CELL: (size + ", " + contrast).where(contrast != "", ""),
                DEPTH: _classes(measured["depth_mm"], self.params.depth_mm, "mm deep"),
            },
        )

    def _caption(self) -> str:
        return (
            f"Test lesions of which at least {100 * self.params.overlap:g} % are predicted, against the noise level: a "
            f"row per cohort and class of contrast, a column per class of size. {_BANDS}"
        )

    def _figure(self, curves: pd.DataFrame, evidence: Evidence, outcome: str, axis: str) -> Figure:
        from uad.reporting import style

        sizes, contrasts = _names(self.params.size_ml, "ml"), _names(self.params.contrast, "SD")
        drawn = curves[(curves["outcome"] == outcome) & (curves["by"] == CELL)]
        lines = [
            (place, contrast)
            for place, contrast in product(evidence.pathological, contrasts)
            if at(drawn, place)["lesions"].isin([f"{size}, {contrast}" for size in sizes]).any()
        ]
        looks = style.looks(evidence.arms)
        figure = style.new_figure(style.DOUBLE_CM, 3.5 * max(len(lines), 1) + 1.5)
        if not lines:  # lesions without healthy brain around them have no contrast
            return figure
        cells = list(product(lines, sizes))
        grid = style.panels(figure, len(cells), len(sizes), sharex=True, sharey=True)
        for panel, ((place, contrast), size) in zip(grid, cells, strict=True):
            rows = at(drawn, place)
            rows = rows[rows["lesions"] == f"{size}, {contrast}"]
            for arm in evidence.arms:
                _draw(panel, rows[rows["arm"] == arm["arm"]], looks[arm["arm"]])
            if rows.empty:
                style.say(panel, "no lesion")
            people = "" if rows.empty else f" (n = {rows['n_test'].max()})"
            panel.set_title(f"{cohort_title(*place)}{people}\n{size}, {contrast}", fontsize=6)
        for panel in grid[-len(sizes) :]:
            panel.set_xlabel("t_test")
        for panel in grid[:: len(sizes)]:
            panel.set_ylabel(axis)
        handles = [style.handle(looks[arm["arm"]], evidence.label(arm["arm"])) for arm in evidence.arms]
        style.legend(figure, handles, 2, {})
        return figure


_TYPES = {
    **dict.fromkeys(("cohort", "subject", "split", "t_test"), "str"),
    "number": "int64",
    **dict.fromkeys(("lesion_ml", "diameter_mm", "contrast", "depth_mm", "overlap", "cnr", "local_ap"), "float64"),
}
_BANDS = "Bands are 95 % bootstrap intervals over people; dotted: the ensemble."
_AP_CAPTION = (
    "Average precision of the voxels of a test lesion and of the 3 voxels of healthy brain around it, against the "
    f"noise level; panels as above. {_BANDS}"
)


def _measured(arm: ScoredArm, cohort: ScoredCohort, split: str, subject: str) -> Iterator[dict[str, Any]]:
    """The rows of the lesions of one scan."""
    from uad.metrics.lesion import contrast_to_noise, depths, lesion_sites, local_average_precision, sphere_mm
    from uad.scoring.lesions import NEIGHBOURS, lesions_of
    from uad.scoring.postprocessing import clean_map, components
    from uad.scoring.predict import anomaly_map, predict
    from uad.scoring.protocol import LESION

    scan = cohort.store.scan(subject)
    lesion = scan.label == LESION
    if not lesion.any():
        return
    parts = components(lesion, NEIGHBOURS)
    sites = list(lesion_sites(parts, scan.mask & (scan.label == 0), SHELL_VOXELS))
    depth = depths(scan.mask, (1000 * arm.settings.voxel_ml) ** (1 / 3))
    about = [
        {
            "cohort": cohort.name, "subject": subject, "split": split,
            "contrast": contrast_to_noise(scan.image, site),
            "depth_mm": float(depth[site.box][site.lesion].mean()),
        }
        for site in sites
    ]  # fmt: skip
    full, thresholds = arm.settings.variants["full"], _thresholds(arm, cohort.name)
    for reading in arm.readings:
        output, threshold = cohort.outputs.volume(cohort.name, scan, reading), thresholds[reading]
        cleaned = clean_map(anomaly_map(output, scan.image), scan.mask, full)
        prediction = None if np.isnan(threshold) else predict(cleaned, threshold, full)
        found = lesions_of(lesion, prediction, arm.settings.voxel_ml)
        for known, site, row in zip(about, sites, found, strict=True):
            yield {
                **known, **row, "t_test": reading, "diameter_mm": sphere_mm(row["lesion_ml"]),
                "cnr": contrast_to_noise(cleaned, site), "local_ap": local_average_precision(cleaned, site),
            }  # fmt: skip


def _thresholds(arm: ScoredArm, cohort: str) -> dict[str, float]:
    """Reading -> the threshold that validation gave the arm on a cohort."""
    rows = arm.scores[(arm.scores["cohort"] == cohort) & (arm.scores["variant"] == "full")]
    return rows.groupby("t_test")["threshold"].first().reindex(arm.readings).to_dict()


def _classes(values: pd.Series, edges: Sequence[float], unit: str) -> pd.Series:
    """The class of each value of at least 0, by its lower edge; "" for NaN."""
    import pandas as pd

    found = pd.cut(values, [0.0, *edges, np.inf], right=False, labels=_names(edges, unit))
    return found.astype(object).where(found.notna(), "").astype(str)


def _names(edges: Sequence[float], unit: str) -> list[str]:
    return [
        f"below {edges[0]:g} {unit}",
        *(f"{low:g} to {high:g} {unit}" for low, high in pairwise(edges)),
        f"{edges[-1]:g} {unit} and more",
    ]


@dataclass
class Lesions:
    """The lesions of one arm and place, and one outcome of theirs.

    rows: of `measure`, with the classes of each lesion.
    classes: what lesions are divided by -> its classes in order.
    """

    arm: str
    place: Place
    rows: pd.DataFrame
    evidence: Evidence
    outcome: str
    classes: Mapping[str, Sequence[str]]

    @cached_property
    def readings(self) -> list[str]:
        """The level that the tables print, the others from low to high: of equal ones the first is kept."""
        levels = sorted((t_test for t_test in self.rows["t_test"].unique() if t_test.isdigit()), key=int)
        return sorted(levels, key=lambda t_test: t_test != self.evidence.single)

    @cached_property
    def values(self) -> pd.DataFrame:
        """The outcome by split, subject and number of the lesion: a column per reading, means over folds."""
        wide = self.rows.pivot_table(index=_LESION, columns="t_test", values=self.outcome)
        return wide.reindex(columns=[*self.readings, ENSEMBLE]).dropna()

    @cached_property
    def class_of(self) -> pd.DataFrame:
        """The classes of each lesion, which all folds share: a column for each thing that lesions are divided by."""
        return self.rows.groupby(_LESION)[list(self.classes)].first().reindex(self.values.index)

    def groups(self) -> Iterator[tuple[str, str, pd.DataFrame]]:
        """What the lesions are divided by, the class, and `values` of its lesions; all of them first."""
        yield "", ALL, self.values
        for by, names in self.classes.items():
            for name in names:
                yield by, name, self.values[self.class_of[by] == name]

    def per_person(self, lesions: pd.DataFrame) -> pd.DataFrame:
        """Means over the lesions of each person, by column."""
        return self.evidence.per_person(lesions.droplevel(["split", "number"]), self.place)

    def curves(self) -> Iterator[dict[str, Any]]:
        """A row per class and reading: mean over test people, with its interval."""
        for by, name, values in self.groups():
            lesions = _split(values, "test")
            if lesions.empty:
                continue
            people = self.per_person(lesions)
            drawn = resampled_means(people.to_numpy(), self.evidence.seed, self.evidence.rounds)
            low, high = np.quantile(drawn, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], axis=0)
            for place, t_test in enumerate(people.columns):
                yield {
                    **self._keys(by, name), "t_test": t_test, "mean": people[t_test].mean(),
                    "low": low[place] if len(people) > 1 else np.nan,
                    "high": high[place] if len(people) > 1 else np.nan,
                    "n_test": len(people), "n_lesions": len(lesions),
                }  # fmt: skip

    def choices(self) -> Iterator[dict[str, Any]]:
        """A row per class: the level chosen on validation and what it gains, the best level of the test lesions."""
        for by, name, values in self.groups():
            test, val = _split(values, "test"), _split(values, "val")
            if test.empty:
                continue
            people = self.per_person(test)
            levels = people[self.readings]
            best = best_column(levels)
            low, high = self._best_interval(levels)
            chosen = self._chosen(val)
            yield {
                **self._keys(by, name), "chosen": chosen,
                **self._gains("gain", people, chosen),
                "best": best, "best_low": low, "best_high": high,
                "best_gain": (people[best] - people[self.evidence.single]).mean(),
                "best_gain_ens": (people[best] - people[ENSEMBLE]).mean(),
                "n_test": len(people), "n_lesions": len(test),
                "n_val": self.per_person(val).shape[0] if len(val) else 0, "n_val_lesions": len(val),
            }  # fmt: skip

    def rules(self) -> Iterator[dict[str, Any]]:
        """One row: gain over the printed level of one level for all lesions and of one per class of size and
        contrast, both chosen on validation, and of the best level of each test scan."""
        test, val = _split(self.values, "test"), _split(self.values, "val")
        of_test, of_val = (self.class_of[CELL].reindex(values.index) for values in (test, val))
        levels = {name: self._chosen(val[of_val == name]) for name in self.classes[CELL] if (of_test == name).any()}
        picked = of_test.map(lambda name: levels.get(name, self.evidence.single))
        ruled = test.assign(
            one=test[self._chosen(val)],
            rule=test.to_numpy()[np.arange(len(test)), test.columns.get_indexer(picked)],
        )
        by_scan = test[self.readings].groupby("subject").mean()
        bound = by_scan.max(axis=1) - by_scan[self.evidence.single]
        people = self.per_person(ruled)
        yield {
            **self._keys("", ALL), "level": self._chosen(val),
            **self._gains("one", people, "one"), **self._gains("rule", people, "rule"),
            **self._interval("oracle", self.evidence.per_person(bound, self.place)),
            "rule_levels": "; ".join(f"{name}: {level}" for name, level in levels.items()),
            "n_test": len(people), "n_lesions": len(test),
            "n_val": self.per_person(val).shape[0] if len(val) else 0, "n_val_lesions": len(val),
        }  # fmt: skip

    def _keys(self, by: str, name: str) -> dict[str, Any]:
        return {
            "arm": self.arm, "cohort": self.place[0], "modality": self.place[1], "outcome": self.outcome,
            "by": by, "lesions": name,
        }  # fmt: skip

    def _chosen(self, val: pd.DataFrame) -> str:
        """The best level of validation lesions; without any, the printed one."""
        return best_column(self.per_person(val)[self.readings]) if len(val) else self.evidence.single

    def _gains(self, name: str, people: pd.DataFrame, column: str) -> dict[str, float]:
        return {
            **self._interval(name, people[column] - people[self.evidence.single]),
            **self._interval(f"{name}_ens", people[column] - people[ENSEMBLE]),
        }

    def _interval(self, name: str, gains: pd.Series) -> dict[str, float]:
        from uad.reporting.statistics import bootstrap_interval

        low, high = bootstrap_interval(gains, self.evidence.seed, rounds=self.evidence.rounds)
        return {name: gains.mean(), f"{name}_low": low, f"{name}_high": high}

    def _best_interval(self, people: pd.DataFrame) -> tuple[float, float]:
        """Between which levels the best one of 95 % of the resamples of people lies; NaN with fewer than two."""
        if len(people) < 2:
            return np.nan, np.nan
        drawn = resampled_means(people.to_numpy(), self.evidence.seed, self.evidence.rounds)
        best = people.columns.astype(int).to_numpy()[_rounded(drawn).argmax(axis=1)]
        low, high = np.quantile(best, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], method="nearest")
        return float(low), float(high)


def _split(values: pd.DataFrame, split: str) -> pd.DataFrame:
    return values[values.index.get_level_values("split") == split]


def best_column(people: pd.DataFrame) -> str:
    """The column of the highest mean, of equal ones the first."""
    return str(people.columns[_rounded(people.to_numpy().mean(axis=0)).argmax()])


def _rounded(means: np.ndarray) -> np.ndarray:
    """Means that differ by their rounding alone are equal."""
    return np.round(means, 9)


def resampled_means(people: np.ndarray, seed: int, rounds: int) -> np.ndarray:
    """Means [rounds, columns] of `people` [n, columns] drawn with replacement."""
    count = len(people)
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=rounds)
    return times @ people / count


def _costs(evidence: Evidence) -> pd.DataFrame:
    """Mean Dice, AUPRC and false positives per test scan of every arm, place and reading."""
    rows = evidence.scores[(evidence.scores["split"] == "test") & (evidence.scores["variant"] == "full")]
    places = [place in set(evidence.pathological) for place in zip(rows["cohort"], rows["modality"], strict=True)]
    of_scan = ["arm", "cohort", "modality", "t_test", "subject"]
    means = rows[places].groupby(of_scan, sort=False)[["dice", "auprc", "false_positives"]].mean()
    return means.groupby(level=of_scan[:-1], sort=False).mean().assign(
        n_scans=means.groupby(level=of_scan[:-1], sort=False).size()
    ).reset_index()  # fmt: skip


# --- words, tables, figures ----------------------------------------------------------------------------


def _is_told(row: Mapping[str, Any], gain: str) -> bool:
    """Whether the interval leaves out 0, of people enough for an interval to mean something."""
    carried = row[f"{gain}_low"] > 0 or row[f"{gain}_high"] < 0
    return row["outcome"] in _TOLD and carried and row["n_test"] >= FEWEST


def _who(row: Mapping[str, Any]) -> str:
    people = "person" if row["n_test"] == 1 else "people"
    val = "lesion" if row["n_val_lesions"] == 1 else "lesions"
    return f"{row['n_test']} test {people}, {row['n_lesions']} lesions; {row['n_val_lesions']} validation {val}"


def _change(row: Mapping[str, Any], name: str) -> str:
    what = "the share of lesions found" if row["outcome"] == "found_share" else "local AP"
    return f"changes {what} by {_gain(row, name)} points"


def _gain(row: Mapping[str, Any], name: str) -> str:
    low, high = (100 * row[f"{name}_{end}"] for end in ("low", "high"))
    return f"{100 * row[name]:+.1f}" + ("" if np.isnan(low) else f" [{low:.1f}, {high:.1f}]")


def _choice_sentence(row: Mapping[str, Any], evidence: Evidence) -> str:
    return (
        f"{evidence.label(row['arm'])} on {cohort_title(row['cohort'], row['modality'])}, {row['lesions']}: t_test "
        f"{row['chosen']}, chosen on validation, {_change(row, 'gain')} against {evidence.single} and by "
        f"{_gain(row, 'gain_ens')} against the ensemble ({_who(row)}); best on the test lesions themselves: "
        f"{_best(row)}."
    )


def _rule_sentence(row: Mapping[str, Any], evidence: Evidence) -> str:
    return (
        f"{evidence.label(row['arm'])} on {cohort_title(row['cohort'], row['modality'])}: a level per class of size "
        f"and contrast, chosen on validation, {_change(row, 'rule')} against t_test {evidence.single} and by "
        f"{_gain(row, 'rule_ens')} against the ensemble ({_who(row)}); the best level of each test scan would change "
        f"it by {_gain(row, 'oracle')} points."
    )


def _best(row: Mapping[str, Any]) -> str:
    interval = "" if np.isnan(row["best_low"]) else f" [{row['best_low']:.0f}, {row['best_high']:.0f}]"
    return f"{row['best']}{interval}"


def _first_cells(row: Mapping[str, Any], evidence: Evidence) -> list[Cell]:
    place = cohort_title(row["cohort"], row["modality"])
    return [Cell(evidence.label(row["arm"])), Cell(place), Cell(OUTCOMES[row["outcome"]])]


def _counts(row: Mapping[str, Any]) -> list[Cell]:
    return [number(row["n_test"], 0), number(row["n_lesions"], 0), number(row["n_val_lesions"], 0)]


def _choice_table(choices: pd.DataFrame, evidence: Evidence) -> Table:
    heads = ["Arm", "Cohort", "Outcome", "Lesions", "Chosen", f"Gain over {evidence.single}", "Gain over ensemble"]
    heads += ["Best on test", "Its gain", "People", "Lesions", "Val lesions"]
    shown = choices[choices["outcome"].isin(_TOLD)].to_dict("records")
    lines = [
        [
            *_first_cells(row, evidence), Cell(row["lesions"]), Cell(row["chosen"], sort=float(row["chosen"])),
            Cell(_gain(row, "gain"), sort=row["gain"]), Cell(_gain(row, "gain_ens"), sort=row["gain_ens"]),
            Cell(_best(row), sort=float(row["best"])),
            Cell(f"{100 * row['best_gain']:+.1f}", sort=row["best_gain"]), *_counts(row),
        ]
        for row in shown
    ]  # fmt: skip
    caption = (
        "The level that validation lesions choose and its gain on test lesions (points, with 95 % interval over "
        "people), beside the best level of the test lesions with 95 % of its resamples, whose gain is a bound"
    )
    return Table(heads, lines, caption=caption, words=(0, 1, 2, 3))


def _rule_table(rules: pd.DataFrame, evidence: Evidence) -> Table:
    heads = ["Arm", "Cohort", "Outcome", "One level", "Its gain", "Gain of the rule", "Rule over ensemble"]
    heads += ["Oracle per scan", "People", "Lesions", "Val lesions"]
    lines = [
        [
            *_first_cells(row, evidence), Cell(row["level"], sort=float(row["level"])),
            *(Cell(_gain(row, name), sort=row[name]) for name in ("one", "rule", "rule_ens", "oracle")), *_counts(row),
        ]
        for row in rules[rules["outcome"].isin(_TOLD)].to_dict("records")
    ]  # fmt: skip
    caption = (
        f"Gain over t_test {evidence.single} on all test lesions (points, with 95 % interval over people) of one level "
        "and of one per class of size and contrast, both chosen on validation lesions, and of the best level of each "
        "test scan, a bound"
    )
    return Table(heads, lines, caption=caption, words=(0, 1, 2))


def _draw(panel: Any, rows: pd.DataFrame, look: Any) -> None:
    """One arm in one panel: its levels as a line with a band, its ensemble as a dotted line."""
    levels = rows[rows["t_test"] != ENSEMBLE].assign(t=lambda part: part["t_test"].astype(int)).sort_values("t")
    panel.fill_between(
        levels["t"], 100 * levels["low"], 100 * levels["high"], color=look.colour, alpha=0.15, linewidth=0
    )
    panel.plot(levels["t"], 100 * levels["mean"], color=look.colour, marker=look.marker, markersize=2)
    for mean in rows.loc[rows["t_test"] == ENSEMBLE, "mean"]:
        panel.axhline(100 * mean, color=look.colour, linestyle=":", linewidth=0.8)


STUDY = NoiseLevelStudy
