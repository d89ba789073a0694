"""Does it hold across real scanners?  docs/studies.md#centres"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pydantic

from uad.common.errors import InputError
from uad.reporting.elements import Cell, Table, number
from uad.reporting.paper_numbers import cohort_title
from uad.studies.base import Answer, Evidence, Place, ScoredArm, Study, at

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class _Metric(NamedTuple):
    """How a score is printed: `scale` turns it into the printed unit, `after` follows a number of that unit."""

    title: str
    scale: float
    decimals: int
    after: str = ""

    def text(self, value: float, sign: str = "+") -> str:
        return f"{self.scale * value:{sign}.{self.decimals}f}"


_METRICS = {
    "l1_healthy": _Metric("l1 of healthy tissue (10⁻³)", 1000, 1, " · 10⁻³"),
    "kld": _Metric("KLD (nats)", 1, 3, " nats"),
    "dice": _Metric("Dice (%)", 100, 1, " points"),
    "false_positives": _Metric("false positives per scan", 1, 1),
    "false_positive_ml": _Metric("false-positive ml per scan", 1, 2, " ml"),
}
_SHORT = {"l1_healthy": "l1 of healthy tissue", "kld": "KLD", "dice": "Dice"} | {
    metric: _METRICS[metric].title for metric in ("false_positives", "false_positive_ml")
}
_HEALTHY = ("l1_healthy", "kld")  # what a reconstruction of healthy tissue has, in any cohort
_FALSE = ("false_positives", "false_positive_ml")
_ALL = "all"  # every site, each person without his or her own
_UNNAMED = "unnamed"
_KEYS = ["arm", "cohort", "modality", "metric", "threshold_of"]
_CELL = ["cohort", "modality", "site", "metric", "threshold_of"]

_COLUMNS = {
    "sites": [*_KEYS, "site", "mean", "ci_low", "ci_high", "n_people"],
    "spread": [*_KEYS, "n_sites", "n_people", "share", "chance", "between_sd", "within_sd", "p_value", "p_holm"],
    "unseen": [
        *("arm", "without", *_CELL, "trained_on_all", "change", "ci_low", "ci_high"),
        *("change_seen", "excess", "excess_low", "excess_high", "n_people"),
    ],
    "unseen_difference": ["arm", "minus", *_CELL, "difference", "ci_low", "ci_high", "n_people"],
    "shift": [
        *("arm", "cohort", "modality", "metric", "at_home", "mean", "shift", "ci_low", "ci_high", "n_home", "n_people"),
    ],
    "shift_difference": [
        *("arm", "minus", "cohort", "modality", "metric", "difference", "ci_low", "ci_high", "n_home", "n_people"),
    ],
    "contrast": ["arm", "kind", "cohort", "modality", "contrast", "kld", "change"],
}  # fmt: skip


class CentresParams(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    min_people: int = pydantic.Field(5, ge=2, description="Sites with fewer test people are in no test of the spread.")


@dataclass(frozen=True)
class _Change:
    """What training without a site changes for the people of that site: values by person.

    Attributes:
        base, without: the arms trained on all, and without the site.
        cell: values of `_CELL`.
        on_all: score of the arm trained on all.
        change: arm without the site minus arm on all; seen: the same of arms that lack another site, or empty.
    """

    base: str
    without: str
    cell: tuple[str, ...]
    on_all: pd.Series
    change: pd.Series
    seen: pd.Series


class CentresStudy(Study):
    Params = CentresParams
    params: CentresParams
    question = "Does it hold across real scanners?"
    varied = (
        "Where a scan comes from: the sites of a cohort, the cohorts of other places, and the sites that an arm was "
        "trained on. Scores are of each arm's main reading (the ensemble, where it has noise levels), means over folds "
        "and then over the scans of a person. False positives are what the arm's threshold calls, which the validation "
        "scans of a cohort with lesions gave; on healthy cohorts the threshold of each such cohort was applied."
    )
    tables = tuple(_COLUMNS)
    figures = ("by_site", "without_site", "by_cohort")
    measures = True
    reads_experiments = True

    def measure(self, arm: ScoredArm) -> pd.DataFrame:
        """False positives of healthy test scans at the thresholds of the cohorts with lesions.

        Returns:
            cohort, subject, split, threshold_of (whose validation scans gave the threshold), false_positives,
            false_positive_ml.
        """
        import pandas as pd

        from uad.scoring.lesions import NEIGHBOURS
        from uad.scoring.postprocessing import components
        from uad.scoring.protocol import prediction_of

        main, full = arm.readings[-1], arm.settings.variants["full"]
        scores = arm.scores[(arm.scores["variant"] == "full") & (arm.scores["t_test"] == main)]
        thresholds = scores.groupby("cohort")["threshold"].first().dropna()  # one per cohort and reading
        rows: list[dict[str, object]] = []
        for name, cohort in arm.cohorts.items():
            if any(cohort.lesions > 0):
                continue
            for volume in cohort.volumes(main, "test"):
                for other, threshold in thresholds.items():
                    prediction = prediction_of(volume, threshold, full)
                    assert prediction is not None  # there is a threshold
                    found = int(components(prediction, NEIGHBOURS).max()), float(prediction.sum())
                    rows.append({
                        "cohort": name, "subject": volume.subject, "split": "test", "threshold_of": other,
                        "false_positives": float(found[0]), "false_positive_ml": found[1] * arm.settings.voxel_ml,
                    })  # fmt: skip
        return pd.DataFrame(rows, columns=["cohort", "subject", "split", "threshold_of", *_FALSE])

    def answer(self, evidence: Evidence) -> Answer:
        values = values_by_person(evidence)
        if values.empty:
            raise InputError("study: no arm has a score on a test scan; look at the splits")
        on_all = [str(row["arm"]) for row in evidence.arms if not row["without_sites"]]
        pair = _pair(evidence)
        changes = list(_changes(values, evidence))
        shifts = list(_shifts(values[values["arm"].isin(on_all)], pair, evidence))
        rows = {
            "sites": _table("sites", _site_rows(values, evidence)),
            "spread": _spread_table(values[values["arm"].isin(on_all)], self.params.min_people, evidence),
            "unseen": _table("unseen", (_change_row(change, evidence) for change in changes)),
            "unseen_difference": _table("unseen_difference", _change_differences(changes, pair, evidence)),
            "shift": _table("shift", (row for row in shifts if "minus" not in row)),
            "shift_difference": _table("shift_difference", (row for row in shifts if "minus" in row)),
        }
        rows["contrast"] = _table("contrast", _contrast_rows(rows["shift"], pair, evidence))
        return Answer(
            found=[
                *_spread_sentences(rows["spread"], rows["sites"], pair or on_all, evidence),
                *_unseen_sentences(rows["unseen"], rows["unseen_difference"], evidence),
                *_shift_sentences(rows["shift"], rows["shift_difference"], evidence),
            ],
            limits=self._limits(rows),
            rows=rows,
            tables=[table for table in _tables(rows, on_all, evidence) if table.lines],
            figures={
                "by_site": (_site_figure(rows["sites"], on_all, evidence), _CAPTIONS["by_site"]),
                "without_site": (_change_figure(rows["unseen"], evidence), _CAPTIONS["without_site"]),
                "by_cohort": (_shift_figure(rows["shift"], evidence), _CAPTIONS["by_cohort"]),
            },
        )

    def _limits(self, rows: Mapping[str, pd.DataFrame]) -> list[str]:
        limits = [
            "A site is a scanner, its protocol and its people at once: ages and illness differ between sites too.",
            f"Sites with fewer than {self.params.min_people} test people, and scans without a named site, are in the "
            "table of sites but in no test.",
            "Each interval has 95 % by itself: among many sentences of cohorts and scores, a few hold by chance.",
            "Healthy tissue of ill people is not that of healthy ones, and l1 counts the background: the size of the "
            "head moves it.",
        ]
        if rows["unseen"].empty:
            limits.append("No arm of this run was trained without a site, so what an unseen site costs is not told.")
        else:
            limits.append(
                "An arm without a site has fewer scans to learn from and another random start as well; only the "
                "excess over arms that lack another site leaves these out, and those lack another number of scans."
            )
        if (rows["contrast"]["kind"] == "simulated").any():
            limits.append(
                "The simulated contrast changes every intensity x of the training cohort's test scans to x^g. Its KLD "
                "is of all scans' voxels together and of fold 0, the measured one a mean over people and folds: the "
                "signs and the order of the arms can be compared, the sizes only roughly."
            )
        else:
            limits.append("The contrast experiment is not there, so no simulated shift stands beside the measured one.")
        return limits


_CAPTIONS = {
    "by_site": "Scores of the test people of each site, mean with 95 % bootstrap interval over people. False positives "
    "of healthy scans are at the threshold of the first cohort with lesions of the modality.",
    "without_site": "What training without a site changes for the test people of that site, mean difference to the arm "
    "trained on all with 95 % bootstrap interval over people; all: every person, without his or her own site. Open "
    "marker: the same people, arms that lack another site.",
    "by_cohort": "Scores of healthy tissue in other cohorts minus those in the training cohort, with 95 % bootstrap "
    "interval over the people of both.",
}


# --- values ---------------------------------------------------------------------------------------


def values_by_person(evidence: Evidence) -> pd.DataFrame:
    """One value per person: `_KEYS`, person, site, value.

    `threshold_of` is the cohort whose validation scans gave the threshold, "" for scores without one.  Values are
    means over folds, then over the person's scans; a person counts for the site of his or her first scan.
    """
    import pandas as pd

    scores = evidence.scores[(evidence.scores["split"] == "test") & (evidence.scores["variant"] == "full")]
    levels = scores.assign(t_test=scores["t_test"].fillna("").astype(str))
    with_ensemble = levels.loc[levels["t_test"] == "ens", "arm"].unique()
    main = levels[levels["t_test"] == np.where(levels["arm"].isin(with_ensemble), "ens", "")]
    scans = ["arm", "cohort", "modality", "fold", "subject"]
    ill = main[[place in evidence.pathological for place in zip(main["cohort"], main["modality"], strict=True)]]
    parts = [
        main.melt(scans, list(_HEALTHY), "metric").assign(threshold_of=""),
        ill.melt(scans, ["dice", *_FALSE], "metric").assign(threshold_of=lambda rows: rows["cohort"]),
    ]
    if len(evidence.measured):
        parts.append(evidence.measured.melt([*scans, "threshold_of"], list(_FALSE), "metric"))
    rows = pd.concat(parts, ignore_index=True).dropna(subset="value")
    about = evidence.scans[["cohort", "modality", "subject", "person", "site"]]
    subjects = rows.groupby([*_KEYS, "subject"], sort=False)["value"].mean().reset_index()
    known = subjects.merge(about.assign(site=about["site"].fillna("")), on=["cohort", "modality", "subject"])
    people = known.sort_values("subject", kind="stable").groupby([*_KEYS, "person"], sort=False)
    found = people.agg(site=("site", "first"), value=("value", "mean")).reset_index()
    places = [f"{cohort} {modality}" for cohort, modality in [*evidence.healthy, *evidence.pathological]]
    order = {
        "arm": found["arm"].map([row["arm"] for row in evidence.arms].index),
        "place": (found["cohort"] + " " + found["modality"]).map(places.index),
        "metric": found["metric"].map(list(_METRICS).index),
    }
    return found.loc[pd.DataFrame(order).assign(site=found["site"]).sort_values([*order, "site"], kind="stable").index]


def _pair(evidence: Evidence) -> list[str]:
    """DDPM and cDDPM, the first arms of these methods that were trained on all; empty where one is missing."""
    first = {row["method"]: str(row["arm"]) for row in reversed(evidence.arms) if not row["without_sites"]}
    return [first["ddpm"], first["cddpm"]] if {"ddpm", "cddpm"} <= set(first) else []


def _interval(values: pd.Series, evidence: Evidence) -> tuple[float, float]:
    from uad.reporting.statistics import bootstrap_interval

    return bootstrap_interval(values, evidence.seed, rounds=evidence.rounds)


def _table(name: str, rows: Iterator[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(list(rows), columns=_COLUMNS[name])


# --- sites ----------------------------------------------------------------------------------------


def _site_rows(values: pd.DataFrame, evidence: Evidence) -> Iterator[dict[str, Any]]:
    for key, people in values.groupby([*_KEYS, "site"], sort=False)["value"]:
        low, high = _interval(people, evidence)
        about = dict(zip([*_KEYS, "site"], key, strict=True))
        yield about | {"site": about["site"] or _UNNAMED, "mean": people.mean(), "ci_low": low, "ci_high": high,
                       "n_people": len(people)}  # fmt: skip


def _spread_table(values: pd.DataFrame, min_people: int, evidence: Evidence) -> pd.DataFrame:
    """How far sites differ, with Holm's correction over the whole table."""
    from uad.reporting.statistics import holm

    rows = []
    for key, people in values[values["site"] != ""].groupby(_KEYS, sort=False):
        sizes = people["site"].map(people["site"].value_counts())
        large = people[sizes >= min_people]
        if large["site"].nunique() > 1:
            found = site_spread(large["value"].to_numpy(), large["site"].to_numpy(), evidence.rounds, evidence.seed)
            rows.append(dict(zip(_KEYS, key, strict=True)) | found)
    table = _table("spread", iter(rows))
    return table.assign(p_holm=holm(table["p_value"]))


def site_spread(values: np.ndarray, sites: np.ndarray, rounds: int, seed: int) -> dict[str, float]:
    """One-way analysis of variance of people by site.

    Args:
        values: one per person, finite.
        sites: of each person; two or more, of which one has several people.
        rounds, seed: of the permutation test, which gives people's sites out anew.

    Returns:
        n_sites, n_people; share: of the total sum of squares that sites explain; chance: the share expected where
        sites say nothing, (sites - 1) / (people - 1); between_sd, within_sd: spread of the sites' true means, by the
        mean squares (0 where these differ no more than chance has it), and of people within a site; p_value of the
        share.  NaN, with p 1, where all values are equal up to rounding.
    """
    names, codes = np.unique(sites, return_inverse=True)
    sizes, n, k = np.bincount(codes), len(values), len(names)
    found: dict[str, float] = {"n_sites": k, "n_people": n, "chance": (k - 1) / (n - 1)}
    if np.allclose(values, values[0], rtol=1e-9, atol=1e-12):
        return found | dict.fromkeys(("share", "between_sd", "within_sd"), float("nan")) | {"p_value": 1.0}
    centred = values - values.mean()
    total = float((centred**2).sum())
    member = (codes[:, None] == np.arange(k)) / np.sqrt(sizes)

    def between(people: np.ndarray) -> np.ndarray:  # [..., people] -> sum of squares between sites
        return ((people @ member) ** 2).sum(axis=-1)

    observed = float(between(centred))
    rng, extreme, step = np.random.default_rng(seed), 0, max(2_000_000 // n, 1)
    for start in range(0, rounds, step):
        drawn = rng.permuted(np.tile(centred, (min(step, rounds - start), 1)), axis=1)
        extreme += int(np.count_nonzero(between(drawn) >= observed - 1e-9 * total))
    mean_between, mean_within = observed / (k - 1), (total - observed) / (n - k)
    typical = (n - (sizes**2).sum() / n) / (k - 1)  # people per site
    return found | {
        "share": observed / total,
        "between_sd": float(np.sqrt(max(mean_between - mean_within, 0) / typical)),
        "within_sd": float(np.sqrt(max(mean_within, 0))),
        "p_value": (extreme + 1) / (rounds + 1),
    }


def _spread_sentences(
    spread: pd.DataFrame, sites: pd.DataFrame, arms: Sequence[str], evidence: Evidence
) -> Iterator[str]:
    from uad.reporting.statistics import ALPHA

    for row in spread[(spread["p_holm"] < ALPHA) & spread["arm"].isin(arms)].to_dict("records"):
        same = (sites[_KEYS] == [row[key] for key in _KEYS]).all(axis=1) & sites["ci_low"].notna()
        ordered = sites[same].sort_values("mean").to_dict("records")
        metric = _METRICS[row["metric"]]
        lowest, highest = (
            f"{end['site']} ({metric.text(end['mean'], '')} [{metric.text(end['ci_low'], '')}, "
            f"{metric.text(end['ci_high'], '')}], {end['n_people']} people)"
            for end in (ordered[0], ordered[-1])
        )
        yield (
            f"{evidence.label(row['arm'])} on {cohort_title(row['cohort'], row['modality'])}: {metric.title}"
            f"{_threshold(row)} differs between {row['n_sites']} sites, which explain {100 * row['share']:.0f} % of "
            f"its variance over {row['n_people']} people ({100 * row['chance']:.0f} % by chance; "
            f"p = {row['p_holm']:.2g} after Holm), from {lowest} to {highest}."
        )


def _threshold(row: Mapping[str, Any]) -> str:
    elsewhere = row["threshold_of"] not in ("", row["cohort"])
    return f" at the threshold of {cohort_title(row['threshold_of'], row['modality'])}" if elsewhere else ""


# --- training without a site ----------------------------------------------------------------------


def _changes(values: pd.DataFrame, evidence: Evidence) -> Iterator[_Change]:
    """What each arm trained without a site changes, and what all of one kind change together (site `all`)."""
    import pandas as pd

    by_arm = {arm: rows.set_index("person") for arm, rows in values.groupby("arm")}
    trained_without: dict[str, list[Mapping[str, Any]]] = {}
    for row in evidence.arms:
        if row["without_sites"]:
            trained_without.setdefault(_base(row, evidence), []).append(row)
    keys = ["cohort", "modality", "metric", "threshold_of"]
    for base, arms in trained_without.items():
        for key, people in by_arm.get(base, values.head(0)).groupby(keys, sort=False):
            scores = {
                row["arm"]: by_arm[row["arm"]].loc[lambda t, key=key: (t[keys] == list(key)).all(axis=1), "value"]
                for row in arms
                if row["arm"] in by_arm
            }
            moved = {arm: (score - people["value"]).dropna() for arm, score in scores.items()}
            made = []
            for row in arms:
                for site in row["without_sites"]:
                    there = people.index[people["site"] == site]
                    change = moved.get(row["arm"], people["value"].head(0))
                    change = change[change.index.isin(there)]
                    others = [moved[o["arm"]] for o in arms if o["arm"] in moved and site not in o["without_sites"]]
                    seen = pd.concat(others, axis=1).mean(axis=1) if others else change.head(0)
                    if len(change):
                        cell = (key[0], key[1], site, key[2], key[3])
                        seen = seen[seen.index.isin(change.index)]
                        made.append(_Change(base, row["arm"], cell, people["value"][change.index], change, seen))
            yield from made
            if len({change.cell[2] for change in made}) > 1:
                together = [
                    pd.concat([getattr(change, name) for change in made]).groupby(level=0).mean()
                    for name in ("on_all", "change", "seen")
                ]
                yield _Change(base, "", (key[0], key[1], _ALL, key[2], key[3]), *together)


def _base(row: Mapping[str, Any], evidence: Evidence) -> str:
    """The first arm of the same method and parameters that was trained on all.

    Raises:
        InputError: the study has none.
    """
    for other in evidence.arms:
        if not other["without_sites"] and all(other[key] == row[key] for key in ("method", "params")):
            return str(other["arm"])
    raise InputError(
        f"study.arms: {row['arm']} was trained without {', '.join(row['without_sites'])}, and the study has no arm of "
        "the same method and params that was trained on all; add one"
    )


def _change_row(change: _Change, evidence: Evidence) -> dict[str, Any]:
    low, high = _interval(change.change, evidence)
    excess = (change.change - change.seen).dropna()
    excess_low, excess_high = _interval(excess, evidence)
    return {
        "arm": change.base, "without": change.without, **dict(zip(_CELL, change.cell, strict=True)),
        "trained_on_all": change.on_all.mean(), "change": change.change.mean(), "ci_low": low, "ci_high": high,
        "change_seen": change.seen.mean(), "excess": excess.mean(), "excess_low": excess_low,
        "excess_high": excess_high, "n_people": len(change.change),
    }  # fmt: skip


def _change_differences(
    changes: Sequence[_Change], pair: Sequence[str], evidence: Evidence
) -> Iterator[dict[str, Any]]:
    """What a site costs cDDPM minus what it costs DDPM, over the same people."""
    if not pair:
        return
    plain, conditioned = ({change.cell: change.change for change in changes if change.base == arm} for arm in pair)
    for cell in conditioned:
        if cell in plain:
            difference = (conditioned[cell] - plain[cell]).dropna()
            low, high = _interval(difference, evidence)
            yield {"arm": pair[1], "minus": pair[0], **dict(zip(_CELL, cell, strict=True)),
                   "difference": difference.mean(), "ci_low": low, "ci_high": high,
                   "n_people": len(difference)}  # fmt: skip


def _unseen_sentences(unseen: pd.DataFrame, differences: pd.DataFrame, evidence: Evidence) -> Iterator[str]:
    for row in _summed_up(unseen):
        counted = f"{row['n_people']} people"
        if not np.isnan(row["change_seen"]):
            counted += f"; arms that lack another site: {_METRICS[row['metric']].text(row['change_seen'])}"
        yield (
            f"{evidence.label(row['arm'])} on {_where(row)}, trained without that site: a change of "
            f"{_SHORT[row['metric']]}{_threshold(row)} by {_with_interval(row, 'change')} ({counted})."
        )
    for row in _summed_up(differences):
        yield (
            f"On {_where(row)}, what training without that site changes of {_SHORT[row['metric']]}{_threshold(row)} "
            f"differs by {_with_interval(row, 'difference')} ({evidence.label(row['arm'])} minus "
            f"{evidence.label(row['minus'])}, {row['n_people']} people)."
        )


def _with_interval(row: Mapping[str, Any], column: str) -> str:
    metric = _METRICS[row["metric"]]
    ends = f"[{metric.text(row['ci_low'])}, {metric.text(row['ci_high'])}]"
    return f"{metric.text(row[column])} {ends}{metric.after}"


def _summed_up(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows whose interval leaves 0 out: of all sites together, where there is such a row, else of each."""
    for _, rows in table.groupby(["arm", "cohort", "modality", "metric", "threshold_of"], sort=False):
        chosen = rows[rows["site"] == _ALL] if (rows["site"] == _ALL).any() else rows
        yield from chosen[(chosen["ci_low"] > 0) | (chosen["ci_high"] < 0)].to_dict("records")


def _where(row: Mapping[str, Any]) -> str:
    place = cohort_title(row["cohort"], row["modality"])
    return f"the people of each site of {place}" if row["site"] == _ALL else f"{row['site']} of {place}"


# --- other cohorts --------------------------------------------------------------------------------


def _shifts(values: pd.DataFrame, pair: Sequence[str], evidence: Evidence) -> Iterator[dict[str, Any]]:
    """From the training cohort to each other of its modality: of every arm, then cDDPM minus DDPM (`minus`)."""
    home = evidence.arms[0]["train_cohort"]
    places = [place for place in [*evidence.healthy, *evidence.pathological] if place[0] != home]
    for metric, place in product(_HEALTHY, places):
        rows = values[(values["metric"] == metric) & (values["modality"] == place[1])]
        found = {
            arm: tuple(part.loc[part["cohort"] == cohort].set_index("person")["value"] for cohort in (home, place[0]))
            for arm, part in rows.groupby("arm", sort=False)
        }
        found = {arm: groups for arm, groups in found.items() if all(map(len, groups))}
        about = {"cohort": place[0], "modality": place[1], "metric": metric}
        for arm, (ours, theirs) in found.items():
            low, high = _shift_interval(ours, theirs, evidence)
            yield {"arm": arm, **about, "at_home": ours.mean(), "mean": theirs.mean(),
                   "shift": theirs.mean() - ours.mean(), "ci_low": low, "ci_high": high, "n_home": len(ours),
                   "n_people": len(theirs)}  # fmt: skip
        if pair and set(pair) <= set(found):
            ours, theirs = ((b - a).dropna() for a, b in zip(*(found[arm] for arm in pair), strict=True))
            low, high = _shift_interval(ours, theirs, evidence)
            yield {"arm": pair[1], "minus": pair[0], **about, "difference": theirs.mean() - ours.mean(),
                   "ci_low": low, "ci_high": high, "n_home": len(ours), "n_people": len(theirs)}  # fmt: skip


def _shift_interval(ours: pd.Series, theirs: pd.Series, evidence: Evidence) -> tuple[float, float]:
    from uad.reporting.statistics import group_interval

    here, there = ours.to_numpy(), theirs.to_numpy()

    def shift(drawn_here: np.ndarray, drawn_there: np.ndarray) -> np.ndarray:
        return drawn_there @ there / len(there) - drawn_here @ here / len(here)

    return group_interval(shift, (len(here), len(there)), evidence.seed, rounds=evidence.rounds)


def _shift_sentences(shift: pd.DataFrame, differences: pd.DataFrame, evidence: Evidence) -> Iterator[str]:
    home = evidence.arms[0]["train_cohort"]
    keys = ["cohort", "modality", "metric"]
    for row in differences[(differences["ci_low"] > 0) | (differences["ci_high"] < 0)].to_dict("records"):
        rows = shift[(shift[keys] == [row[key] for key in keys]).all(axis=1)].set_index("arm", drop=False)
        plain, conditioned = (
            f"{_with_interval(rows.loc[arm].to_dict(), 'shift')} with {evidence.label(arm)}"
            for arm in (row["minus"], row["arm"])
        )
        yield (
            f"From {cohort_title(home, row['modality'])} to {cohort_title(row['cohort'], row['modality'])}, "
            f"{_SHORT[row['metric']]} changes by {plain} and {conditioned}: a difference of "
            f"{_with_interval(row, 'difference')} ({row['n_home']} and {row['n_people']} people)."
        )


# --- simulated contrast ---------------------------------------------------------------------------


def _contrast_rows(shift: pd.DataFrame, pair: Sequence[str], evidence: Evidence) -> Iterator[dict[str, Any]]:
    """KLD in the training cohort's scans at other contrasts, and as measured in other cohorts of that modality."""
    from uad.reporting.experiments import divergences

    home = evidence.arms[0]["train_cohort"]
    if not pair:
        return
    for modality, arrays in evidence.experiments.items():
        contrasts = arrays[f"histograms/{home}/contrasts"].tolist()
        for arm, role in zip(pair, ("unconditioned", "conditioned"), strict=True):
            klds = [divergences([arrays], home, role, index)[0] for index in range(len(contrasts))]
            about = {"arm": arm, "kind": "simulated", "cohort": home, "modality": modality}
            for contrast, kld in zip(contrasts, klds, strict=True):
                yield about | {"contrast": contrast, "kld": kld, "change": kld - klds[contrasts.index(1.0)]}
    rows = shift[(shift["metric"] == "kld") & shift["arm"].isin(pair) & shift["modality"].isin(evidence.experiments)]
    for row in rows.to_dict("records"):
        yield {"arm": row["arm"], "kind": "measured", "cohort": row["cohort"], "modality": row["modality"],
               "contrast": float("nan"), "kld": row["mean"], "change": row["shift"]}  # fmt: skip


# --- tables ---------------------------------------------------------------------------------------


def _tables(rows: Mapping[str, pd.DataFrame], on_all: Sequence[str], evidence: Evidence) -> Iterator[Table]:
    sites = rows["sites"][rows["sites"]["arm"].isin(on_all)]
    for place in [*evidence.healthy, *evidence.pathological]:
        if at(sites, place)["site"].nunique() > 1:
            yield _site_table(at(sites, place), place, evidence)
    yield _spread_shown(rows["spread"], evidence)
    yield _unseen_shown(rows["unseen"], evidence)
    caption = "What training without a site changes, cDDPM minus DDPM over the same people"
    yield _difference_shown(rows["unseen_difference"], caption, evidence)
    yield _shift_shown(rows["shift"], evidence)
    caption = "How healthy tissue shifts from the training cohort, cDDPM minus DDPM"
    yield _difference_shown(rows["shift_difference"], caption, evidence)
    yield _contrast_shown(rows["contrast"], evidence)


def _estimate(metric: str, value: float, low: float, high: float, sign: str = "+") -> Cell:
    if np.isnan(value):
        return number(value)
    shown = _METRICS[metric]
    ends = "" if np.isnan(low) else f" [{shown.text(low, sign)}, {shown.text(high, sign)}]"
    return Cell(shown.text(value, sign) + ends, sort=shown.scale * value)


def _name(row: Mapping[str, Any]) -> Cell:
    return Cell(_METRICS[row["metric"]].title + _threshold(row))


def _count(value: float) -> Cell:
    return number(value, 0)


def _site_table(rows: pd.DataFrame, place: Place, evidence: Evidence) -> Table:
    """Sites of one cohort: a line per arm and site, a column per score."""
    scores = set(zip(rows["metric"], rows["threshold_of"], strict=True))
    columns = sorted(scores, key=lambda score: (list(_METRICS).index(score[0]), score[1]))
    lines = []
    for (arm, site), part in rows.groupby(["arm", "site"], sort=False):
        found = {(row["metric"], row["threshold_of"]): row for row in part.to_dict("records")}
        cells = [
            _estimate(key[0], found[key]["mean"], found[key]["ci_low"], found[key]["ci_high"], sign="")
            if key in found else number(None)
            for key in columns
        ]  # fmt: skip
        lines.append([Cell(evidence.label(arm)), Cell(site), _count(part["n_people"].max()), *cells])
    about = {"cohort": place[0], "modality": place[1]}
    heads = [_METRICS[m].title + _threshold(about | {"threshold_of": of}) for m, of in columns]
    caption = f"Sites of {cohort_title(*place)}: means over test people [95 %]"
    return Table(["Arm", "Site", "People", *heads], lines, caption=caption, words=(0, 1))


def _spread_shown(spread: pd.DataFrame, evidence: Evidence) -> Table:
    heads = ["Arm", "Cohort", "Score", "Share (%)", "By chance (%)", "SD between", "SD within", "p (Holm)", "Sites",
             "People"]  # fmt: skip
    lines = []
    for row in spread.to_dict("records"):
        metric = _METRICS[row["metric"]]
        sds = [number(metric.scale * row[name], metric.decimals) for name in ("between_sd", "within_sd")]
        lines.append([
            Cell(evidence.label(row["arm"])), Cell(cohort_title(row["cohort"], row["modality"])), _name(row),
            number(100 * row["share"], 1), number(100 * row["chance"], 1), *sds,
            Cell(f"{row['p_holm']:.2g}", sort=row["p_holm"]), _count(row["n_sites"]), _count(row["n_people"]),
        ])  # fmt: skip
    caption = "Share of the variance between people that their site explains, and the spread between and within sites"
    return Table(heads, lines, caption=caption, words=(0, 1, 2))


def _unseen_shown(unseen: pd.DataFrame, evidence: Evidence) -> Table:
    heads = ["Arm", "Cohort", "Without", "Score", "Trained on all", "Change [95 %]", "Another site left out",
             "Excess [95 %]", "People"]  # fmt: skip
    lines = []
    for row in unseen.to_dict("records"):
        metric, none = row["metric"], (float("nan"), float("nan"))
        lines.append([
            Cell(evidence.label(row["arm"])), Cell(cohort_title(row["cohort"], row["modality"])), Cell(row["site"]),
            _name(row), _estimate(metric, row["trained_on_all"], *none, sign=""),
            _estimate(metric, row["change"], row["ci_low"], row["ci_high"]),
            _estimate(metric, row["change_seen"], *none),
            _estimate(metric, row["excess"], row["excess_low"], row["excess_high"]), _count(row["n_people"]),
        ])  # fmt: skip
    caption = "What training without a site changes for the test people of that site"
    return Table(heads, lines, caption=caption, words=(0, 1, 2, 3))


def _difference_shown(rows: pd.DataFrame, caption: str, evidence: Evidence) -> Table:
    """Differences of two arms' changes; by site, or from one cohort to another."""
    by_site = "site" in rows
    heads = ["Arms", "Cohort", *["Without"] * by_site, "Score", "Difference [95 %]", "People"]
    lines = [
        [
            Cell(f"{evidence.label(row['arm'])} − {evidence.label(row['minus'])}"),
            Cell(cohort_title(row["cohort"], row["modality"])), *[Cell(row.get("site", ""))] * by_site,
            _name({"threshold_of": ""} | row),
            _estimate(row["metric"], row["difference"], row["ci_low"], row["ci_high"]), _count(row["n_people"]),
        ]
        for row in rows.to_dict("records")
    ]  # fmt: skip
    return Table(heads, lines, caption=caption, words=range(3 + by_site))


def _shift_shown(shift: pd.DataFrame, evidence: Evidence) -> Table:
    heads = ["Arm", "Cohort", "Score", "Training cohort", "Here", "Shift [95 %]", "People"]
    none = (float("nan"), float("nan"))
    lines = [
        [
            Cell(evidence.label(row["arm"])), Cell(cohort_title(row["cohort"], row["modality"])),
            _name(row | {"threshold_of": ""}), _estimate(row["metric"], row["at_home"], *none, sign=""),
            _estimate(row["metric"], row["mean"], *none, sign=""),
            _estimate(row["metric"], row["shift"], row["ci_low"], row["ci_high"]), _count(row["n_people"]),
        ]
        for row in shift.to_dict("records")
    ]  # fmt: skip
    caption = "Healthy tissue in other cohorts against the training cohort"
    return Table(heads, lines, caption=caption, words=(0, 1, 2))


def _contrast_shown(contrast: pd.DataFrame, evidence: Evidence) -> Table:
    lines = []
    for row in contrast.to_dict("records"):
        place = cohort_title(row["cohort"], row["modality"])
        what = f"{place}, contrast x^{row['contrast']:g}" if row["kind"] == "simulated" else place
        kld = _METRICS["kld"]
        lines.append([Cell(evidence.label(row["arm"])), Cell(row["kind"]), Cell(what),
                      Cell(kld.text(row["kld"], ""), sort=row["kld"]),
                      Cell(kld.text(row["change"]), sort=row["change"])])  # fmt: skip
    caption = "KLD (nats) under simulated contrast in the training cohort, and as measured in other cohorts"
    return Table(["Arm", "Kind", "Scans", "KLD", "Change"], lines, caption=caption, words=(0, 1, 2))


# --- figures --------------------------------------------------------------------------------------


def _site_figure(sites: pd.DataFrame, on_all: Sequence[str], evidence: Evidence) -> Figure:
    from uad.reporting import style

    shown = sites[sites["arm"].isin(on_all)]
    places = [place for place in [*evidence.healthy, *evidence.pathological] if at(shown, place)["site"].nunique() > 1]
    if not places:
        return _nothing("no cohort has more than one site")
    names = {place: sorted(at(shown, place)["site"].unique()) for place in places}
    line_cm = 0.2 + 0.1 * len(on_all)
    heights = [1.6 + line_cm * len(names[place]) for place in places]
    figure = style.new_figure(style.DOUBLE_CM, sum(heights) + 1.5)
    columns = ("l1_healthy", "kld", "false_positive_ml")
    grid = figure.subplots(len(places), len(columns), squeeze=False, gridspec_kw={"height_ratios": heights})
    for panels, place in zip(grid, places, strict=True):
        rows = at(shown, place)
        first = next((of for of, _ in evidence.pathological if of in set(rows["threshold_of"])), "")
        rows = rows[rows["threshold_of"].isin(["", first])]
        for panel, metric in zip(panels, columns, strict=True):
            drawn = rows[rows["metric"] == metric]
            _draw_dots(panel, drawn.assign(line=drawn["site"].map(names[place].index)), "mean", on_all, evidence)
            panel.set(title=cohort_title(*place) if metric == columns[0] else "", xlabel=_METRICS[metric].title)
            style.name_lines(panel, names[place] if metric == columns[0] else [""] * len(names[place]))
    _add_legend(figure, on_all, evidence)
    return figure


def _change_figure(unseen: pd.DataFrame, evidence: Evidence) -> Figure:
    from uad.reporting import style

    rows = unseen[unseen["metric"].isin(_HEALTHY)]
    if rows.empty:
        return _nothing("no arm was trained without a site")
    bases = list(dict.fromkeys(rows["arm"]))
    places = list(dict.fromkeys(zip(rows["cohort"], rows["modality"], strict=True)))
    names = {place: list(dict.fromkeys(at(rows, place)["site"])) for place in places}
    heights = [1.6 + 0.6 * len(names[place]) for place in places]
    figure = style.new_figure(style.DOUBLE_CM, sum(heights) + 1.5)
    grid = figure.subplots(len(places), len(_HEALTHY), squeeze=False, gridspec_kw={"height_ratios": heights})
    for panels, place in zip(grid, places, strict=True):
        for panel, metric in zip(panels, _HEALTHY, strict=True):
            part = at(rows[rows["metric"] == metric], place)
            part = part.assign(line=part["site"].map(names[place].index))
            _draw_dots(panel, part, "change", bases, evidence)
            _draw_dots(panel, part.assign(ci_low=np.nan), "change_seen", bases, evidence, fillstyle="none")
            panel.axvline(0, color=style.WORD_GREY, linewidth=0.6)
            panel.set(title=cohort_title(*place), xlabel=f"change of {_METRICS[metric].title}")
            style.name_lines(panel, names[place])
    _add_legend(figure, bases, evidence)
    return figure


def _shift_figure(shift: pd.DataFrame, evidence: Evidence) -> Figure:
    from uad.reporting import style

    if shift.empty:
        return _nothing("no other cohort has a reconstruction")
    arms = list(dict.fromkeys(shift["arm"]))
    names = [cohort_title(*place) for place in dict.fromkeys(zip(shift["cohort"], shift["modality"], strict=True))]
    figure = style.new_figure(style.DOUBLE_CM, 3 + (0.2 + 0.2 * len(arms)) * len(names))
    for panel, metric in zip(style.panels(figure, 2, 2), _HEALTHY, strict=True):
        rows = shift[shift["metric"] == metric]
        lines = [names.index(cohort_title(*place)) for place in zip(rows["cohort"], rows["modality"], strict=True)]
        _draw_dots(panel, rows.assign(line=lines), "shift", arms, evidence)
        panel.axvline(0, color=style.WORD_GREY, linewidth=0.6)
        panel.set_xlabel(f"shift of {_METRICS[metric].title}")
        style.name_lines(panel, names)
    _add_legend(figure, arms, evidence)
    return figure


def _draw_dots(
    panel: Axes, rows: pd.DataFrame, column: str, arms: Sequence[str], evidence: Evidence, **look: Any
) -> None:
    """A dot with its interval at each row's `line`, the arms one below the other within it."""
    from uad.reporting import style

    looks, room = style.looks(evidence.arms), 0.7 / len(arms)
    for row in rows.to_dict("records"):
        height = row["line"] + room * (arms.index(row["arm"]) - (len(arms) - 1) / 2)
        arm, scale = looks[row["arm"]], _METRICS[row["metric"]].scale
        if not np.isnan(row["ci_low"]):
            panel.plot([scale * row["ci_low"], scale * row["ci_high"]], [height] * 2, color=arm.colour, linewidth=0.8)
        panel.plot(scale * row[column], height, color=arm.colour, marker=arm.marker, markersize=3, linestyle="", **look)


def _add_legend(figure: Figure, arms: Sequence[str], evidence: Evidence) -> None:
    from uad.reporting import style

    looks = style.looks(evidence.arms)
    style.legend(figure, [style.handle(looks[arm], evidence.label(arm)) for arm in arms], 2, {})


def _nothing(why: str) -> Figure:
    from uad.reporting import style

    figure = style.new_figure(style.SINGLE_CM, 2)
    (panel,) = style.panels(figure, 1, 1)
    panel.set_axis_off()
    style.say(panel, why)
    return figure


STUDY = CentresStudy
