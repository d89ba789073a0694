"""Tests of the results themselves, run as the workflow's last rule.  docs/methods/oracle.md"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import digamma
from scipy.stats import ttest_1samp

# limits for the arm `chance`: how often it may fail by accident, and what is close enough
_STANDARD_ERRORS = 4
_FALSE_ALARM = 1e-4
_LARGE_LESION = 200  # voxels
_CLOSE = 0.05


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
    without = sorted(lesions["cohort"][lesions["threshold"].isna()].unique())
    if without:
        held.append(f"no Dice for {', '.join(without)}: no lesion in the validation volumes, hence no threshold")
    for arm in arms:
        rows = lesions[lesions["arm"] == arm["arm"]]
        if arm["method"] == "oracle" and arm["postprocess"]:
            ceiling = rows.groupby("cohort")["dice"].mean()
            found = ", ".join(f"{cohort} {dice:.3f}" for cohort, dice in ceiling.items())
            held.append(f"{arm['arm']}: post-processing leaves a ceiling of Dice {found}")
        elif arm["method"] == "oracle":
            wrong = rows[(rows["auprc"] != 1) | ((rows["dice"] != 1) & rows["threshold"].notna())]
            check(
                f"{arm['arm']}: Dice and AUPRC are 1 on all {len(rows)} volumes with a lesion",
                [f"{row.subject} {row.dice:.4f} {row.auprc:.4f}" for row in wrong.itertuples()],
            )
        elif arm["method"] == "chance":
            check(f"{arm['arm']}: AUROC and AUPRC are those of a random ranking", _beyond_chance(rows))
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
    bad = rows[rows["auprc"].isna() | (rows["dice"].isna() & rows["threshold"].notna())]
    return [f"{arm} on {cohort} {subject}" for arm, cohort, subject in bad[["arm", "cohort", "subject"]].values]


def expected_random_auprc(positives: float | pd.Series, voxels: float | pd.Series) -> float | pd.Series:
    """Average precision of a random ranking of `voxels` (2 or more) with `positives` true ones, in expectation.

    With H the harmonic number of n voxels and p positives: (H + (p - 1) (n - H) / (n - 1)) / n, which tends to
    the prevalence p / n when there are many positives.
    """
    harmonic = digamma(voxels + 1) + np.euler_gamma
    return (harmonic + (positives - 1) * (voxels - harmonic) / (voxels - 1)) / voxels


def _beyond_chance(rows: pd.DataFrame) -> list[str]:
    """AUROC against 1/2 with its exact variance; AUPRC of large lesions against its expectation.

    The AUPRC of few lesion voxels hangs on the first ranks: its mean over volumes is too unsteady for a test.
    """
    voxels, positives = rows["voxels"], rows["prevalence"] * rows["voxels"]
    error = np.sqrt((voxels + 1) / (12 * positives * (voxels - positives)))
    off = ((rows["auroc"] - 0.5) / error).sum() / np.sqrt(max(len(rows), 1))
    problems = [f"AUROC is off by {off:.1f} standard errors"] if abs(off) > _STANDARD_ERRORS else []
    large = positives >= _LARGE_LESION
    if large.sum() > 1:
        ratio = rows["auprc"][large] / expected_random_auprc(positives[large], voxels[large])
        if abs(ratio.mean() - 1) > _CLOSE and ttest_1samp(ratio, 1).pvalue < _FALSE_ALARM:
            problems.append(f"AUPRC is {ratio.mean():.2f} times that expected of a random ranking")
    return problems
