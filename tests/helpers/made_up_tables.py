"""Made-up metric rows for the tests of the tables, the paper's own numbers as a table, and ways to read tables."""

from __future__ import annotations

import math

import pandas as pd

from uad.reporting.paper_numbers import paper_tables
from uad.reporting.render import render_markdown
from uad.reporting.sheets import results_sheet
from uad.reporting.tables import COLUMNS, Reader, table3

BRATS = [("brats21", "t2")]


def arm(name, paper_model="", ssl=False, control=False, label=None):
    return {
        "arm": name,
        "method": name,
        "paper_model": paper_model,
        "ssl": ssl,
        "control": control,
        "label": label or name,
    }


def volumes(name, fold, dice, t_test="", cohort="brats21", modality="t2", split="test", variant="full", **more):
    """Metric rows of one fold, one per value of `dice`; `more` holds columns (one value or a list)."""
    frame = pd.DataFrame({"dice": dice, "auprc": dice, **more})
    keys = {
        "arm": name,
        "modality": modality,
        "fold": fold,
        "cohort": cohort,
        "split": split,
        "t_test": t_test,
        "variant": variant,
    }
    return frame.assign(subject=[f"s{i}" for i in range(len(frame))], **keys)


def scan_rows(name, fold, top1, cohort="brats21", **more):
    """Metric rows of one fold with anomaly scores, one per value of `top1`; scans of cohorts but IXI have a lesion."""
    columns = {"score_top1": top1, "score_top01": top1, "lesion_ml": 0.0 if cohort == "ixi" else 2.0,
               "false_positives": 1.0}  # fmt: skip
    return volumes(name, fold, [float("nan")] * len(top1), cohort=cohort, **{**columns, **more})


def lesion_rows(name, fold, lesions, t_test="", cohort="brats21", modality="t2"):
    """Rows of a lesions file of one fold; `lesions`: (subject, number, ml, overlap)."""
    keys = {"arm": name, "modality": modality, "fold": fold, "cohort": cohort, "split": "test", "t_test": t_test}
    return pd.DataFrame(lesions, columns=["subject", "number", "lesion_ml", "overlap"]).assign(**keys)


def ladder(offset, n):
    """n scores per volume, raised by `offset`."""
    return [0.1 + 0.05 * i + offset for i in range(n)]


QUALITY = {
    "ssim": 0.9,
    "psnr": 30.0,
    "lpips": 0.002,
    "l1": 0.01,
    "kld": 0.5,
    "kld_entropy": -0.25,
    "lpips_backbone": "",
}


def healthy(name, modality="t2", n=6, **changes):
    nan = [float("nan")] * n
    return volumes(name, 0, nan, cohort="ixi", modality=modality, **{**QUALITY, **changes})


def ablation_rows():
    """Two folds of six volumes: without the median filter every volume loses 0.1, without erosion three gain."""
    frames = []
    for fold in (0, 1):
        base = ladder(0.2 + fold / 10, 6)
        changes = {"full": [0] * 6, "no_cc": [0] * 6, "no_median": [-0.1] * 6, "no_erosion": [0.1, -0.1] * 3}
        for variant, change in changes.items():
            scores = [score + step for score, step in zip(base, change, strict=True)]
            frames.append(volumes("ddpm", fold, scores, t_test="ens", variant=variant))
        frames.append(volumes("ddpm", fold, base, t_test="500"))
        frames.append(volumes("oracle", fold, [1.0] * 6))
    return pd.concat(frames)


PAPER_ARMS = [
    *(
        arm(name.lower(), name, label=name)
        for name in ("Thresh", "AnoGAN", "VAE", "SVAE", "AE", "DAE", "DDPM", "pDDPM")
    ),
    arm("cddpm", "cDDPM", label="cDDPM"),
    arm("cddpm-ssl", "cDDPM", ssl=True, label="cDDPM_SSL"),
]


def splits_and_held():
    """Split tables and the stores' subjects: IXI of two folds with one failed T2 scan and one left over, and WMH."""
    ixi = [("a", "train", 0), ("b", "train", 0), ("c", "val", 0), ("d", "test", 0),
           ("a", "train", 1), ("c", "train", 1), ("b", "val", 1), ("e", "val", 1), ("d", "test", 1)]  # fmt: skip
    wmh = [(f"w{i}", "val" if i < 2 else "test", fold) for fold in (0, 1) for i in range(5)]
    columns = ["subject", "split", "fold"]
    splits = {cohort: pd.DataFrame(rows, columns=columns) for cohort, rows in (("ixi", ixi), ("wmh", wmh))}
    return splits, {"ixi_t2": set("acde"), "ixi_t1": set("abcdez"), "wmh_t1": {f"w{i}" for i in range(5)}}


def papers_own_table(number):
    """One of the paper's Tables 2 to 4 in the form of ours."""
    ssl_arms = {(entry["paper_model"], str(int(entry["ssl"]))): entry["arm"] for entry in PAPER_ARMS}
    paper = paper_tables()[paper_tables()["table"] == str(number)]
    table = pd.DataFrame(index=range(len(paper)), columns=COLUMNS)
    for key in ("cohort", "metric", "mean", "std", "star", "removed", "delta"):
        table[key] = paper[key].to_numpy()
    table["arm"] = [ssl_arms[row.model, row.ssl or "0"] for row in paper.itertuples()]
    table["modality"] = ["t1" if cohort in ("atlas", "wmh") else "t2" for cohort in table["cohort"]]
    table["ens"] = paper["ens"].astype(int).to_numpy()
    table["ssl"] = [int(ssl or 0) for ssl in paper["ssl"]]
    fill = {"status": "ok", "missing_folds": "", "n_folds": 5, "n_volumes": 9, "n_undefined": 0, "lpips_backbone": "",
            "band": ""}  # fmt: skip
    return table.assign(paper_mean=math.nan, paper_std=math.nan, paper_delta=math.nan, **fill)


def dice3(frames, arms, folds, **reader):
    return table3(pd.concat(frames), arms, BRATS, Reader(folds=folds, **reader)).query("metric == 'dice'")


def only(table, **keys):
    """The single row of a table with these keys."""
    for key, value in keys.items():
        table = table[table[key] == value]
    assert len(table) == 1
    return table.iloc[0]


def markdown(table, arms, note="note"):
    return render_markdown(results_sheet(table, arms, note))
