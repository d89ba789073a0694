"""PCA baseline: healthy slices span a linear space, and what a slice has outside of it is anomalous.

A program of its own, as one in any other language would be: it knows the packed scans and the split tables by
their files alone (docs/formats.md) and imports nothing of the library.

    mean and components: incremental PCA of all slices with brain in the fold's healthy training scans
    map = |x - r| inside the brain, r the projection of slice x onto mean + components
"""

import argparse
import csv
import hashlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn
from sklearn.decomposition import IncrementalPCA

SLICES_PER_BATCH = 512  # bounds the memory: 0.6 GB in all at 96x96


class Packed(NamedTuple):
    """The packed scans of a cohort and modality, mapped into memory."""

    images: np.ndarray  # [N, Z, Y, X] in [0, 1], background 0
    masks: np.ndarray  # [N, Z, Y, X] uint8, brain
    rows: dict[str, int]  # subject -> row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--stores", required=True, nargs="+", type=Path, help="files of the packed scans")
    parser.add_argument("--splits", required=True, nargs="+", type=Path, help="a split table per cohort: all get maps")
    parser.add_argument("--train-cohort", required=True)
    parser.add_argument("--modality", required=True)
    parser.add_argument("--fold", required=True, type=int)
    parser.add_argument("--components", type=int, default=128, help="dimension of the healthy space")
    parser.add_argument("--table", required=True, type=Path, help="list of the maps, which are written beside it")
    arguments = parser.parse_args()

    started = time.time()
    store = packed(arguments, arguments.train_cohort)
    training = members(arguments, arguments.train_cohort, store, ["train"])
    pca = fit(store, training, arguments.components)
    explained = float(pca.explained_variance_ratio_.sum())
    say(arguments, f"{arguments.components} components hold {explained:.1%} of the variance of {len(training)} scans")
    rows = [row for path in arguments.splits for row in write_maps(arguments, pca, path.stem)]
    record = {
        "arguments": vars(arguments),
        "packages": {
            "python": platform.python_version(), "numpy": np.__version__, "scikit-learn": sklearn.__version__
        },
        "explained_variance": explained,
        "seconds": round(time.time() - started, 1),
    }  # fmt: skip
    (arguments.table.parent / "provenance.json").write_text(json.dumps(record, indent=1, default=str) + "\n")
    write_table(arguments.table, rows)


def packed(arguments: argparse.Namespace, cohort: str) -> Packed:
    store, files = f"{cohort}_{arguments.modality}", {path.name: path for path in arguments.stores}
    images, masks = (np.load(files[f"{store}.{name}.npy"], mmap_mode="r") for name in ("images", "masks"))
    return Packed(images, masks, {row["subject"]: int(row["row"]) for row in read_table(files[f"{store}.tsv"])})


def read_table(path: str | Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def members(arguments: argparse.Namespace, cohort: str, store: Packed, splits: list[str]) -> list[str]:
    """Sorted subjects of some splits of the fold; a scan that failed in preprocessing is in no store."""
    table = read_table(next(path for path in arguments.splits if path.stem == cohort))
    wanted = {row["subject"] for row in table if row["fold"] == str(arguments.fold) and row["split"] in splits}
    return sorted(wanted & set(store.rows))


def fit(store: Packed, subjects: list[str], components: int) -> IncrementalPCA:
    """Principal components of the subjects' slices with brain, in batches of whole slices."""
    rows = [store.rows[subject] for subject in subjects]
    slices = [(row, z) for row in rows for z in np.flatnonzero(store.masks[row].any((1, 2)))]
    pixels = store.images[0, 0].size
    if not 0 < components <= min(len(slices), pixels):
        sys.exit(f"error: --components {components}: must be 1 to {min(len(slices), pixels)}, the number of"
                 f" training slices ({len(slices)}) or of pixels ({pixels})")  # fmt: skip
    pca = IncrementalPCA(components)
    batch = max(SLICES_PER_BATCH, components)  # the first batch must hold as many slices as components
    for start in range(0, len(slices), batch):
        chosen_rows, chosen_slices = zip(*slices[start : start + batch], strict=True)
        images = store.images[list(chosen_rows), list(chosen_slices)]
        # in double precision, because rounding adds up over the batches
        pca.partial_fit(images.reshape(len(images), pixels).astype(np.float64))
    return pca


def residual(pca: IncrementalPCA, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Anomaly map of a volume, all arrays [Z, Y, X]: float32, 0 outside the brain."""
    slices = image.reshape(len(image), -1).astype(np.float64)
    reconstruction = pca.inverse_transform(pca.transform(slices)).reshape(image.shape)
    return np.where(mask > 0, np.abs(image - reconstruction), 0).astype(np.float32)


def write_maps(arguments: argparse.Namespace, pca: IncrementalPCA, cohort: str) -> list[dict[str, str]]:
    """Write `<cohort>/<subject>.npy` beside the table for every validation and test scan; returns table rows."""
    store = packed(arguments, cohort)
    folder = arguments.table.parent / cohort
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for subject in members(arguments, cohort, store, ["val", "test"]):
        row, path = store.rows[subject], folder / f"{subject}.npy"
        np.save(path, residual(pca, store.images[row], store.masks[row]))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append({"cohort": cohort, "subject": subject, "file": f"{cohort}/{path.name}", "sha256": digest})
    say(arguments, f"{len(rows)} maps of {cohort}")
    return rows


def write_table(path: Path, rows: list[dict[str, str]]) -> None:
    """Last and at once, so that a table always stands for all of its maps."""
    temporary = path.with_name(f".{path.name}")
    with open(temporary, "w", newline="") as stream:
        writer = csv.DictWriter(stream, ["cohort", "subject", "file", "sha256"], delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def say(arguments: argparse.Namespace, line: str) -> None:
    print(f"[pca {arguments.modality} fold {arguments.fold}] {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
