"""Tests of the results themselves, run as the workflow's last rule.  DESIGN decision 13."""

from __future__ import annotations

import math

import pandas as pd


def check_results(scores: pd.DataFrame, arms: list[dict]) -> tuple[list[str], list[str]]:
    """Check the rows of all metrics files.

    Args:
        scores: concatenated metrics rows (docs/formats.md), any number of arms, modalities and folds.
        arms: the run's arms with `arm`, `method`, `postprocess`.

    Returns:
        What held and what did not, one line each.
    """
    held: list[str] = []
    broken: list[str] = []

    def check(name: str, problems: list[str]) -> None:
        (broken if problems else held).append(f"{name}: {'; '.join(problems[:5])}" if problems else name)

    lesions = scores[(scores["prevalence"] > 0) & (scores["split"] == "test")]
    check("every arm scored the same volumes", _volume_lists(scores))
    check("Dice, AUPRC and AUROC lie in [0, 1]", _out_of_range(lesions))
    check("no score of a volume with a lesion is undefined", _undefined(lesions))
    for arm in arms:
        rows = lesions[lesions["arm"] == arm["arm"]]
        if arm["method"] == "oracle" and arm["postprocess"]:
            ceiling = rows.groupby("cohort")["dice"].mean()
            found = ", ".join(f"{cohort} {dice:.3f}" for cohort, dice in ceiling.items())
            held.append(f"{arm['arm']}: post-processing leaves a ceiling of Dice {found}")
        elif arm["method"] == "oracle":
            wrong = rows[(rows[["dice", "auprc"]] != 1).any(axis=1)]
            check(
                f"{arm['arm']}: Dice and AUPRC are 1 on all {len(rows)} volumes with a lesion",
                [f"{row.subject} {row.dice:.4f} {row.auprc:.4f}" for row in wrong.itertuples()],
            )
        elif arm["method"] == "chance":
            check(f"{arm['arm']}: AUPRC is that of a random ranking", _beyond_chance(rows))
    return held, broken


def _volume_lists(scores: pd.DataFrame) -> list[str]:
    problems = []
    for (modality, fold, cohort), rows in scores.groupby(["modality", "fold", "cohort"]):
        lists = rows.groupby("arm")["subject"].agg(lambda subjects: tuple(sorted(set(subjects))))
        reference = lists.iloc[0]
        problems += [
            f"{arm} has {len(found)} volumes of {cohort} {modality} fold{fold}, {lists.index[0]} has {len(reference)}"
            for arm, found in lists.items()
            if found != reference
        ]
    return problems


def _out_of_range(rows: pd.DataFrame) -> list[str]:
    return [
        f"{metric} of {rows.loc[bad, 'arm'].iloc[0]} on {rows.loc[bad, 'subject'].iloc[0]}"
        for metric in ("dice", "auprc", "auroc")
        if (bad := (rows[metric] < 0) | (rows[metric] > 1 + 1e-9)).any()
    ]


def _undefined(rows: pd.DataFrame) -> list[str]:
    bad = rows[rows[["dice", "auprc"]].isna().any(axis=1)]
    return [f"{arm} on {cohort} {subject}" for arm, cohort, subject in bad[["arm", "cohort", "subject"]].values]


def expected_random_auprc(positives: float, voxels: float) -> float:
    """Average precision of a random ranking of `voxels` with `positives` true ones, in expectation.

    With H the harmonic number of n voxels and p positives: (H + (p - 1) (n - H) / (n - 1)) / n, which tends to
    the prevalence p / n when there are many positives.
    """
    harmonic = math.log(voxels) + 0.5772156649015329 + 1 / (2 * voxels)
    return (harmonic + (positives - 1) * (voxels - harmonic) / (voxels - 1)) / voxels


def _beyond_chance(rows: pd.DataFrame) -> list[str]:
    """Mean AUPRC against the expectation, in standard errors over volumes; 4 leave one false alarm in 16,000."""
    expected = [expected_random_auprc(p * n, n) for p, n in rows[["prevalence", "voxels"]].itertuples(index=False)]
    excess = rows["auprc"] - expected
    error = excess.std(ddof=1) / math.sqrt(len(excess)) if len(excess) > 1 else math.inf
    return [f"off by {excess.mean() / error:.1f} standard errors"] if abs(excess.mean()) > 4 * error else []
