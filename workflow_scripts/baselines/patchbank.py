"""Patch bank: a place whose surroundings look like nothing in the healthy scans, there or nearby, is anomalous.

A program of its own: it knows the packed scans and the split tables by their files alone (docs/formats.md) and imports
nothing of the library.

    features: of a grid of places in the brain; by default a local descriptor that needs no weights, the patches of
        5x5 pixels around the place in several scales, as their principal components; or, with --weights,
        those of a ResNet-18
    bank of slice z: features of the fold's healthy training scans at the slices z - reach to z + reach, at most --bank
    map = Euclidean distance to the nearest in the bank, drawn up to the slice and smoothed, inside the brain

After PatchCore (Roth et al. 2022, arXiv 2106.08265) and AnomalyDINO (Damm et al. 2025, arXiv 2405.14529), with a prior
on the slice's position.
"""

import argparse
import csv
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy
from scipy import ndimage

PATCH = 5  # side of a patch, in samples
SCALES = (1, 2, 4)  # pixels from sample to sample
QUERIES = 256  # places that are compared at once: bounds the memory
INPUT = 224  # side of the slices that a ResNet sees
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels


class Packed(NamedTuple):
    """The packed scans of a cohort and modality, mapped into memory."""

    images: np.ndarray  # [N, Z, Y, X] in [0, 1], background 0
    masks: np.ndarray  # [N, Z, Y, X] uint8, brain
    rows: dict[str, int]  # subject -> row


class Extractor(NamedTuple):
    """How features are taken of a volume, and where in its slices, in pixels."""

    rows: np.ndarray  # float [R]
    columns: np.ndarray  # float [C]
    features: Callable[[np.ndarray], np.ndarray]  # [Z, Y, X] -> float32 [Z, R, C, D]

    def inside(self, mask: np.ndarray) -> np.ndarray:
        """Which places lie in the brain, bool [Z, R, C], for a mask [Z, Y, X]."""
        rows, columns = (np.floor(places + 0.5).astype(int) for places in (self.rows, self.columns))
        return mask[:, rows][:, :, columns] > 0


class Bank(NamedTuple):
    """Features of the healthy scans."""

    by_slice: list[np.ndarray]  # of each slice float32 [M, D]
    reach: int
    shift: np.ndarray  # [D] and
    turn: np.ndarray  # [D, d]: a feature f counts as (f - shift) @ turn

    def of(self, z: int) -> np.ndarray:
        return np.concatenate(self.by_slice[max(z - self.reach, 0) : z + self.reach + 1])

    def seen(self, features: np.ndarray) -> np.ndarray:
        return (features - self.shift) @ self.turn


def main() -> None:
    arguments = command_line().parse_args()
    started = time.time()
    store = packed(arguments, arguments.train_cohort)
    extractor = resnet(arguments, store) if arguments.weights else descriptor(arguments, store)
    training = members(arguments, arguments.train_cohort, store, ["train"])
    bank = fit(arguments, extractor, store, training)
    sizes = [len(features) for features in bank.by_slice]
    say(arguments, f"{sum(sizes)} places of {len(training)} scans, {bank.turn.shape[1]} numbers each")
    rows = [row for path in arguments.splits for row in write_maps(arguments, extractor, bank, path.stem)]
    record = {
        "arguments": vars(arguments),
        "packages": {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__},
        "places": sizes,
        "seconds": round(time.time() - started, 1),
    }
    (arguments.table.parent / "provenance.json").write_text(json.dumps(record, indent=1, default=str) + "\n")
    write_table(arguments.table, rows)


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--stores", required=True, nargs="+", type=Path, help="files of the packed scans")
    parser.add_argument("--splits", required=True, nargs="+", type=Path, help="a split table per cohort: all get maps")
    parser.add_argument("--train-cohort", required=True)
    parser.add_argument("--modality", required=True)
    parser.add_argument("--fold", required=True, type=int)
    parser.add_argument("--seed", required=True, type=int, help="of the choice of places that the bank keeps")
    parser.add_argument("--bank", type=at_least(1), default=20000, help="places that a slice is compared with")
    parser.add_argument("--reach", type=at_least(0), default=2, help="slices above and below that count as nearby")
    parser.add_argument("--stride", type=at_least(1), default=2, help="pixels from place to place, of the descriptor")
    parser.add_argument("--dims", type=at_least(1), default=32, help="principal components of the descriptor")
    parser.add_argument("--smooth", type=float, default=1.0, help="standard deviation of the map's blur, in pixels")
    parser.add_argument("--weights", type=Path, help="ResNet-18 in torchvision's names, a file of torch.save")
    parser.add_argument("--sha256", help="of the weights, which are refused if they are others")
    parser.add_argument("--table", required=True, type=Path, help="list of the maps, which are written beside it")
    return parser


def at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value}: must be {least} or more")
        return value

    return number


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


def descriptor(arguments: argparse.Namespace, store: Packed) -> Extractor:
    """Patches in several scales, each of the slice smoothed for its scale; 0 beyond the slice."""
    height, width = store.images.shape[2:]
    rows, columns = np.arange(0, height, arguments.stride), np.arange(0, width, arguments.stride)

    def features(image: np.ndarray) -> np.ndarray:
        found = []
        for scale in SCALES:
            sigma = (scale - 1) / 2
            smooth = ndimage.gaussian_filter(image, (0, sigma, sigma), mode="constant") if sigma else image
            reach = PATCH // 2 * scale
            framed = np.pad(smooth, ((0, 0), (reach, reach), (reach, reach)))
            steps = range(0, PATCH * scale, scale)
            found += [framed[:, rows + down][:, :, columns + right] for down in steps for right in steps]
        return np.stack(found, axis=-1)

    return Extractor(rows.astype(float), columns.astype(float), features)


def resnet(arguments: argparse.Namespace, store: Packed) -> Extractor:
    """Second and third stage of a ResNet-18, averaged over 3x3 neighbours, at the places of the second stage."""
    import io

    import torch
    import torch.nn.functional as F

    if not arguments.weights.is_file():
        sys.exit(f"error: --weights {arguments.weights}: no such file")
    content = arguments.weights.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != arguments.sha256:
        sys.exit(f"error: --weights {arguments.weights}: its SHA-256 is {digest}; say --sha256 of the file you mean")
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    height, width = store.images.shape[2:]
    mean, std = (torch.tensor(values)[None, :, None, None] for values in (MEAN, STD))

    def features(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            x = torch.from_numpy(np.ascontiguousarray(image))[:, None]
            x = F.interpolate(x, (INPUT, INPUT), mode="bilinear", align_corners=False, antialias=True)
            second, third = (F.avg_pool2d(stage, 3, 1, 1) for stage in stages(state, (x - mean) / std))
            third = F.interpolate(third, second.shape[2:], mode="bilinear", align_corners=False)
            return torch.cat([second, third], dim=1).permute(0, 2, 3, 1).contiguous().numpy()

    cells = INPUT // 8  # of the second stage
    centres = (np.arange(cells) + 0.5) / cells
    return Extractor(centres * height - 0.5, centres * width - 0.5, features)


def stages(state: dict[str, Any], x: Any) -> tuple[Any, Any]:
    """The outputs [B, 128, H/8, W/8] and [B, 256, H/16, W/16] of a ResNet-18 for x [B, 3, H, W]."""
    import torch.nn.functional as F

    def normed(x: Any, name: str) -> Any:
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts)

    def block(x: Any, name: str, stride: int) -> Any:
        branch = F.relu(normed(F.conv2d(x, state[f"{name}.conv1.weight"], None, stride, 1), f"{name}.bn1"))
        branch = normed(F.conv2d(branch, state[f"{name}.conv2.weight"], None, 1, 1), f"{name}.bn2")
        if stride > 1:
            x = normed(F.conv2d(x, state[f"{name}.downsample.0.weight"], None, stride), f"{name}.downsample.1")
        return F.relu(x + branch)

    x = F.max_pool2d(F.relu(normed(F.conv2d(x, state["conv1.weight"], None, 2, 3), "bn1")), 3, 2, 1)
    outputs = []
    for stage in (1, 2, 3):
        x = block(block(x, f"layer{stage}.0", 1 if stage == 1 else 2), f"layer{stage}.1", 1)
        outputs.append(x)
    return outputs[1], outputs[2]


def fit(arguments: argparse.Namespace, extractor: Extractor, store: Packed, subjects: list[str]) -> Bank:
    """Features of the subjects at places drawn at random, an equal number at most per slice of the volume."""
    scans = [store.rows[subject] for subject in subjects]
    inside = np.stack([extractor.inside(store.masks[row]) for row in scans])
    chosen, depth = np.zeros_like(inside), inside.shape[1]
    most = max(arguments.bank // (2 * arguments.reach + 1), 1)
    for z in range(depth):
        there = np.argwhere(inside[:, z])
        picks = np.random.default_rng([arguments.seed, z]).choice(len(there), min(most, len(there)), replace=False)
        scan, row, column = there[picks].T
        chosen[scan, z, row, column] = True
    by_slice: list[list[np.ndarray]] = [[] for _ in range(depth)]
    for row, places in zip(scans, chosen, strict=True):
        values = extractor.features(store.images[row].astype(np.float32))
        for z, features in enumerate(by_slice):
            features.append(values[z][places[z]])
    found = [np.concatenate(features) for features in by_slice]
    pooled = np.concatenate(found)
    if not len(pooled):
        sys.exit("error: the training scans hold no brain")
    shift, turn = np.zeros(pooled.shape[1], np.float32), np.eye(pooled.shape[1], dtype=np.float32)
    if not arguments.weights:
        shift, turn = principal(pooled, arguments.dims)
    return Bank([(features - shift) @ turn for features in found], arguments.reach, shift, turn)


def principal(features: np.ndarray, dims: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and first principal components [D, dims] of features [M, D].

    They are not scaled to equal variance: what hardly varies among healthy patches is mostly noise.
    """
    if dims > features.shape[1]:
        sys.exit(f"error: --dims {dims}: must be 1 to {features.shape[1]}, the numbers of a descriptor")
    _, vectors = np.linalg.eigh(np.cov(features.astype(np.float64), rowvar=False, bias=True))
    return features.mean(axis=0, dtype=np.float64).astype(np.float32), vectors[:, ::-1][:, :dims].astype(np.float32)


def nearest(queries: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Euclidean distance of each query [N, d] to the nearest of the bank [M, d]: float32 [N]."""
    # |b|^2 - 2 q.b as one product, which is least where |q - b| is
    sought = np.column_stack([-2 * bank, (bank * bank).sum(axis=1)]).T
    distances = np.empty(len(queries), np.float32)
    for start in range(0, len(queries), QUERIES):
        portion = queries[start : start + QUERIES]
        asked = np.column_stack([portion, np.ones(len(portion), np.float32)])
        # the distance itself is computed anew, as small ones drown in the rounding of squares
        closest = bank[(asked @ sought).argmin(axis=1)]
        distances[start : start + QUERIES] = np.linalg.norm(portion - closest, axis=1)
    return distances


def distances(extractor: Extractor, bank: Bank, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Distance to the bank at each place of a volume's slices, float32 [Z, R, C]; 0 outside the brain.

    A slice near which no healthy scan has brain has no bank: it counts as healthy.
    """
    inside = extractor.inside(mask)
    values = extractor.features(image.astype(np.float32))
    found = np.zeros(inside.shape, np.float32)
    for z in np.flatnonzero(inside.any(axis=(1, 2))):
        if len(kept := bank.of(z)):
            found[z][inside[z]] = nearest(bank.seen(values[z][inside[z]]), kept)
    return found


def drawn_up(extractor: Extractor, found: np.ndarray, mask: np.ndarray, smooth: float) -> np.ndarray:
    """Values [Z, R, C] at the places, bilinear between them and blurred: float32 [Z, Y, X], 0 outside the brain.

    Only places in the brain count, so the rim is neither darker nor brighter.
    """
    rows, columns = (hats(size, places) for size, places in zip(mask.shape[1:], extractor[:2], strict=True))
    inside = extractor.inside(mask)

    def blurred(values: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(rows @ values @ columns.T, (0, smooth, smooth), mode="constant")

    total, weight = blurred(np.where(inside, found, 0)), blurred(inside.astype(np.float32))
    near = (mask > 0) & (weight > 1e-6)
    return np.where(near, total / np.where(near, weight, 1), 0).clip(min=0).astype(np.float32)


def hats(size: int, places: np.ndarray) -> np.ndarray:
    """Bilinear weights [size, P] of evenly spaced places: at each of 0..size-1 those of the places beside it."""
    spacing = places[1] - places[0] if len(places) > 1 else size
    return np.maximum(1 - np.abs(np.arange(size)[:, None] - places) / spacing, 0).astype(np.float32)


def write_maps(arguments: argparse.Namespace, extractor: Extractor, bank: Bank, cohort: str) -> list[dict[str, str]]:
    """Write `<cohort>/<subject>.npy` beside the table for every validation and test scan; returns table rows."""
    store = packed(arguments, cohort)
    folder = arguments.table.parent / cohort
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for subject in members(arguments, cohort, store, ["val", "test"]):
        image, mask = (array[store.rows[subject]] for array in (store.images, store.masks))
        path = folder / f"{subject}.npy"
        np.save(path, drawn_up(extractor, distances(extractor, bank, image, mask), mask, arguments.smooth))
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
    print(f"[patchbank {arguments.modality} fold {arguments.fold}] {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
