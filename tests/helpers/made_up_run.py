"""A small finished run with known content, for the tests of the report.

One healthy cohort (ixi) and one with lesions (brats21), T2, one fold, four scans each: two for validation, two for
test.  The arm `near` reconstructs everything but the lesion, at three noise levels that are 0.1 apart; `blank` draws a
constant map; `oracle` is a control.
"""

import json

import numpy as np
import pandas as pd
from PIL import Image

from uad.reporting.elements import Cell
from uad.reporting.sheets import new_sheet, write_sheets

SHAPE = (6, 10, 8)  # Z, Y, X
SCANS = ("scan-0", "scan-1", "scan-2", "scan-3")
TEST_SCANS = SCANS[2:]
ODD_SITE = "<b>North</b> & South"
LESION = (slice(2, 5), slice(3, 6), slice(4, 7))  # 27 voxels
LESION_ML = {"scan-0": 0.5, "scan-1": 20.0, "scan-2": 0.5, "scan-3": 20.0}
LEVELS = [250, 500, 750]
OFFSETS = {250: -0.1, 500: 0.0, 750: 0.1}  # of the reconstruction from the healthy image
THRESHOLD = 0.3
ARMS = [
    {"arm": "near", "label": "Near", "paper_model": "DDPM", "control": False, "per_fold": True, "postprocess": True},
    {"arm": "blank", "label": "Blank", "paper_model": "", "control": False, "per_fold": False, "postprocess": True},
    {"arm": "oracle", "label": "oracle", "paper_model": "", "control": True, "per_fold": False, "postprocess": False},
]
for arm in ARMS:
    arm["ssl"] = False
SETTINGS = {
    "run": "made-up",
    "protocol": "clean",
    "phantom": True,
    "paper_cohorts": ["ixi", "brats21"],
    "arms": ARMS,
    "folds": 1,
    "healthy": [["ixi", "t2"]],
    "pathological": [["brats21", "t2"]],
    "single": 500,
    "spacing_mm": 4.0,
    "config": {
        **{"run": "made-up", "protocol": "clean", "seed": 31, "folds": 1, "cohorts": {}},
        "tables": {"test_unit": "volumes"},
        "arms": {"near": {"params": {"odd": ODD_SITE}, "train": {}}},
    },
    "viewer_scans": 2,
    "left_out": [],
    "thumbnails": 3,
}


def healthy_image(scan):
    """Brain of a scan without lesion: brightness grows along every axis and differs between scans."""
    z, y, x = np.indices(SHAPE)
    image = 0.2 + 0.02 * z + 0.01 * y + 0.015 * x + 0.02 * SCANS.index(scan)
    image[:, 0] = image[:, -1] = 0  # no brain at the rim
    return image.astype(np.float32)


def image_of(cohort, scan):
    image = healthy_image(scan)
    if cohort == "brats21":
        image[LESION] = 0.9
    return image


def reconstruction(scan, level):
    return healthy_image(scan) + np.float32(OFFSETS[level])


def write_run(results):
    """Write the run; returns the keyword arguments of `uad.reporting.page.run.Inputs`."""
    for cohort in ("ixi", "brats21"):
        _write_store(results, cohort)
        _write_shards(results, cohort)
    viewer = [_write_kept(results, arm["arm"]) for arm in ARMS]
    scores = results / "metrics" / "all.parquet"
    scores.parent.mkdir(parents=True)
    score_rows().to_parquet(scores, index=False)
    (results / "reproduction.md").write_text("# Reproduction report\n")
    (results / "check.txt").write_text("every arm scored the same volumes\n")
    (results / "statements.txt").write_text("Dice on BraTS21 (T2): Blank 1.00 below Near 2.00\n")
    _write_benchmarks(results / "benchmarks")
    return {
        "results": results,
        "stores": sorted((results / "store").glob("*")),
        "sheets": results / "tables" / "sheets.json",
        "scores": [scores],
        "viewer": viewer,
        "shards": sorted(results.glob("preprocessed/*/shard-*.tsv")),
        "tables": _write_tables(results / "tables"),
        "figures": _write_figures(results / "figures"),
        "reproduction": results / "reproduction.md",
        "check": results / "check.txt",
        "statements": results / "statements.txt",
    }


def score_rows():
    rows = []
    for arm, t_test in (
        ("near", "250"),
        ("near", "500"),
        ("near", "750"),
        ("near", "ens"),
        ("blank", ""),
        ("oracle", ""),
    ):
        for cohort in ("ixi", "brats21"):
            ill = cohort == "brats21"
            dice = {"near": 0.75, "blank": 0.1, "oracle": 1.0}[arm]
            for scan in SCANS:
                scored = dice + (0.05 if scan == "scan-3" else -0.05) * (arm != "oracle") if ill else np.nan
                rows.append({
                    "arm": arm, "method": arm, "modality": "t2", "fold": 0, "cohort": cohort, "subject": scan,
                    "split": "test" if scan in TEST_SCANS else "val", "site": _site(scan), "t_test": t_test,
                    "variant": "full", "dice": scored, "auprc": scored, "auroc": scored, "prevalence": 0.05 * ill,
                    "l1": np.nan, "l1_lesion": np.nan, "l1_healthy": np.nan,
                    "ssim": 0.9 if scan == "scan-2" else 0.8, "psnr": np.nan, "lpips": np.nan, "lpips_backbone": "",
                    "kld": np.nan, "kld_entropy": np.nan, "threshold": THRESHOLD if ill else np.nan,
                    "dice_fpr01": scored, "dice_fpr05": scored, "dice_fpr10": scored,
                    "lesion_ml": LESION_ML[scan] if ill else 0.0, "voxels": 480,
                    "predicted_ml": 3.0 if ill else np.nan, "false_positive_ml": 1.25 if ill else np.nan,
                    "false_positives": 2.0 if ill else np.nan,
                })  # fmt: skip
    return pd.DataFrame(rows)


def _site(scan):
    return ODD_SITE if scan == "scan-3" else "Plain"


def _write_store(results, cohort):
    folder = results / "store"
    folder.mkdir(parents=True, exist_ok=True)
    images = np.stack([image_of(cohort, scan) for scan in SCANS])
    labels = np.zeros(images.shape, np.uint8)
    if cohort == "brats21":
        labels[(slice(None), *LESION)] = 1
    np.save(folder / f"{cohort}_t2.images.npy", images)
    np.save(folder / f"{cohort}_t2.masks.npy", (images > 0).astype(np.uint8))
    np.save(folder / f"{cohort}_t2.labels.npy", labels)
    index = {"row": range(4), "subject": SCANS, "site": [_site(scan) for scan in SCANS], "scanner": "", "age": 40}
    lesions = [LESION_ML[scan] if cohort == "brats21" else 0.0 for scan in SCANS]
    pd.DataFrame({**index, "lesion_ml": lesions}).to_csv(folder / f"{cohort}_t2.tsv", sep="\t", index=False)
    _write_record(folder / f"{cohort}_t2.json", "a" * 40, numpy="2.0")


def _write_shards(results, cohort):
    folder = results / "preprocessed" / cohort
    folder.mkdir(parents=True)
    names = [*SCANS, "lost"] if cohort == "brats21" else list(SCANS)
    lines = [
        {
            "subject": name, "modality": "t2", "image": "i", "mask": "m", "label": "", "sha256": "0", "seconds": 1.5,
            "status": "failed" if name == "lost" else "ok", "message": "truncated <file>" if name == "lost" else "",
            "brain_ml": 1400 + 10 * place, "atlas_dice": 0.95 - 0.01 * place, "n4_min": 0.9, "n4_max": 1.2,
            "clipped_fraction": 0.001, "flag": "n4_ratio is 1" if cohort == "brats21" and place == 0 else "",
        }
        for place, name in enumerate(names)
    ]  # fmt: skip
    if cohort == "brats21":
        for column in ("seconds", "brain_ml", "atlas_dice", "n4_min", "n4_max", "clipped_fraction"):
            lines[-1][column] = ""  # nothing was measured
    pd.DataFrame(lines).to_csv(folder / "shard-0.tsv", sep="\t", index=False)


def _write_kept(results, arm):
    """What scoring keeps for the viewer: near at its single level and as the ensemble, the others as a map."""
    file = results / "viewer" / arm / "t2" / "fold0.npz"
    file.parent.mkdir(parents=True)
    kept = {}
    for cohort in ("ixi", "brats21"):
        for scan in TEST_SCANS:
            if arm == "near":
                outputs = {
                    "500": reconstruction(scan, 500),
                    "ens": np.mean([reconstruction(scan, x) for x in LEVELS], 0),
                }
            else:
                outputs = {"": np.full(SHAPE, 0.25, np.float32)}
            for reading, output in outputs.items():
                key = f"{cohort}/{scan}/{reading}"
                kept[f"{key}/{'reconstruction' if arm == 'near' else 'map'}"] = output.astype(np.float16)
                if cohort == "brats21":
                    residual = np.abs(image_of(cohort, scan) - output) if arm == "near" else output
                    kept[f"{key}/prediction"] = (residual > THRESHOLD).astype(np.uint8)
    np.savez_compressed(file, **kept)
    _write_record(results / "reconstructions" / arm / "t2" / "fold0" / "provenance.json", "b" * 40, numpy="2.1")
    return file


def _write_record(path, commit, **packages):
    settings = {"stage": path.stem, "seed": 31}
    record = {
        "settings": settings,
        "code": {"commit": commit, "modified": False},
        "packages": packages,
        "hardware": {"machine": "abacus", "cores": 3},
        "started": "2031-01-02T03:04:05Z",
        "seconds": 75.0,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


def _write_benchmarks(folder):
    (folder / "train").mkdir(parents=True)
    head = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
    (folder / "train" / "near-t2-fold0.tsv").write_text(head + "3600.5\t1:00:00\t900.4\t0\t0\t0\t0\t0\t90\t3000\n")
    (folder / "train" / "near-t1-fold0.tsv").write_text(head + "100.0\t0:01:40\t-\t-\t-\t-\t-\t-\t-\t-\n")
    (folder / "tables.tsv").write_text(head + "2.0\t0:00:02\t200\t0\t0\t0\t0\t0\t90\t1.5\n")


def _write_tables(folder):
    folder.mkdir()
    lines = [("near", 0, 65.0, 0.5, 0), ("near", 1, 75.25, 0.00001, 1), ("blank", 0, 10.0, 0.04, 0),
             ("oracle", 0, 100.0, np.nan, 0)]  # fmt: skip
    pd.DataFrame(
        [
            {"arm": arm, "ens": ens, "ssl": 0, "removed": "", "cohort": "brats21", "modality": "t2", "metric": "dice",
             "mean": mean, "std": np.nan, "delta": np.nan, "status": "ok", "n_folds": 1, "n_undefined": 0,
             "n_volumes": 20,
             "missing_folds": "", "p_value": p, "star": star, "against": "" if arm == "oracle" else "near ens"}
            for arm, ens, mean, p, star in lines
        ]
    ).to_csv(folder / "table3.csv", index=False)  # fmt: skip
    size = {"cohort": "ixi", "modality": "t2", "kind": "healthy", "fold": 0, "split": "test", "scans": 2}
    sizes = pd.DataFrame([{**size, "excluded": 0, "excluded_subjects": "", "paper": 158}])
    pd.concat([sizes.assign(split=split) for split in ("train", "val", "test", "unused")]).to_csv(
        folder / "table1.csv", index=False
    )
    found = {"cohort": "brats21", "modality": "t2", "metric": "found_any", "size": "all", "mean": 50.0, "status": "ok"}
    pd.DataFrame([{"arm": "near", "ens": 0, "missing_folds": "", "n_folds": 1, "n_undefined": 0, **found}]).to_csv(
        folder / "table5.csv", index=False
    )
    detection = new_sheet(["Arm"], [("BraTS21 (T2)", "all (n = 2)")], [(["Near"], [Cell("50.00")])], "With the shift.")
    names = {"near": "Near", "blank": "Blank", "oracle": "oracle"}
    rows = [
        ([names[arm], "✓" if ens else ""], [Cell(f"{mean:.2f}", below="(7.00)", bold=bool(star))])
        for arm, ens, mean, _, star in lines
    ]
    (folder / "scans.csv").write_text("cohort,subject\n")
    sheet = new_sheet(["Arm", "ENS"], [("BraTS21 (T2)", "Dice (%)")], rows, "Run made-up.")
    sheet.lines[-1][0] = Cell("oracle", css="control")
    write_sheets({"table1": sheet, "table3": sheet, "table5": detection}, folder / "sheets.json")
    return sorted(folder.glob("*.csv"))


def _write_figures(folder):
    folder.mkdir()
    for stem in ("differences", "fig5", "overview", "fig4-brats21-t2", "curves-t2"):
        Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(folder / f"{stem}.png")
    (folder / "overview.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return sorted(folder.glob("*.png"))
