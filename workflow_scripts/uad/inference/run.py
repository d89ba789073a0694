"""Reconstructions and anomaly maps of one trained arm, cached for scoring.  docs/formats.md

One cohort of one arm is an array [T, N, Z, Y, X] (`.npy`) with an index (`.tsv`: row, subject).  `gives` says what
it holds: reconstructions per noise level (float16, since they are in the unit of the image, [0, 1]), or anomaly maps
(T = 1; float32, since their unit is free).  The table of all arrays of an (arm, modality, fold) is the stage's
declared output.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from uad.common.errors import InputError
from uad.common.files import atomic_path, sha256_of
from uad.common.memory import keep_freed_memory
from uad.common.seeds import seed_for
from uad.common.store import Store, new_array
from uad.common.tabular import read_table, write_table
from uad.methods import Method, Scan

if TYPE_CHECKING:
    import torch

TYPES = {"reconstruction": np.dtype(np.float16), "map": np.dtype(np.float32)}


def ready_to_read(network: torch.nn.Module) -> torch.nn.Module:
    """The network on the GPU if there is one, as fast as it reads there or on the CPU.

    Convolutions read fastest where the channels of a pixel lie side by side in memory (`channels_last`); training on a
    CPU does not gain by it.
    """
    import torch

    gpu = torch.cuda.is_available()
    if not gpu:
        keep_freed_memory()
    return network.to("cuda" if gpu else "cpu", memory_format=torch.channels_last)


def read_arm_on_cohort(
    method: Method,
    network: torch.nn.Module | None,
    store: Store,
    subjects: list[str],
    t_tests: list[int],
    seed: int,
    path: Path,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Reconstruct (or map) the given subjects of a store and write array and index at `path`.

    Each scan's randomness follows from (seed, subject) alone, so neither the order of scans nor which scans
    are present changes a result.

    Returns:
        The row of the stage's table: array, index, sha256, gives, t_tests, volumes, doubts.

    Raises:
        InputError: an output that is not finite or cannot be stored, or that the method itself calls wrong.
    """
    levels = t_tests if method.reads_noise_levels else [0]
    shape = (len(levels), len(subjects), *store.images.shape[1:])
    with atomic_path(path) as temporary:
        cache = new_array(temporary, TYPES[method.gives], shape)
        for row, subject in enumerate(subjects):
            cache[:, row] = read_scan(method, network, store.scan(subject), levels, seed)
            progress(f"{row + 1}/{len(subjects)} {subject}")
        cache.flush()
        del cache
        doubts = method.doubts()
    for doubt in doubts:
        progress(f"caution: {doubt}")
    index = path.with_suffix(".tsv")
    write_table(pd.DataFrame({"row": range(len(subjects)), "subject": subjects}), index)
    return {
        "array": str(path), "index": str(index), "sha256": sha256_of(path), "gives": method.gives,
        "t_tests": json.dumps(levels if method.reads_noise_levels else []), "volumes": len(subjects),
        "doubts": "; ".join(doubts),
    }  # fmt: skip


def read_scan(method: Method, network: torch.nn.Module | None, scan: Scan, levels: list[int], seed: int) -> np.ndarray:
    """[T, Z, Y, X] of one scan."""
    seed = seed_for(seed, scan.subject)
    if method.gives == "map":
        values = method.anomaly_map(scan, np.random.default_rng(seed))[None]
    else:
        import torch  # arms that draw maps need none

        device = next(network.parameters()).device if network is not None else torch.device("cpu")
        images = torch.from_numpy(scan.image).to(device)[:, None]
        with torch.inference_mode():
            generator = torch.Generator().manual_seed(seed)
            values = method.reconstruct(network, images, levels, generator).squeeze(2).float().cpu().numpy()
    if not np.isfinite(values).all():
        raise InputError(f"{scan.subject}: the arm's output is not finite; look at the learning curve of its training")
    highest, most = np.abs(values).max(), np.finfo(TYPES[method.gives]).max
    if highest > most:
        raise InputError(f"{scan.subject}: the arm's output reaches {highest:.3g}; {most:.3g} is the most that is kept")
    return values


class Reconstructions:
    """Reading side: the cached arrays of one (arm, modality, fold)."""

    def __init__(self, table: str | Path) -> None:
        self._rows = read_table(table).set_index("cohort")
        self._opened: dict[str, tuple[np.ndarray, dict[str, int], str, list[int]]] = {}

    def open(self, cohort: str) -> tuple[np.ndarray, dict[str, int], str, list[int]]:
        """Array [T, N, Z, Y, X], subject -> row, what it holds (`reconstruction` or `map`), noise levels.

        Raises:
            InputError: the array is missing or is not the one the table was written for.
        """
        if cohort not in self._opened:
            self._opened[cohort] = self._open(self._rows.loc[cohort])
        return self._opened[cohort]

    def doubts(self) -> list[str]:
        """What speaks against the arm's output, one line per cohort in doubt."""
        return [f"{cohort}: {text}" for cohort, text in self._rows["doubts"].items() if text]

    def _open(self, row: pd.Series) -> tuple[np.ndarray, dict[str, int], str, list[int]]:
        if not Path(row["array"]).exists():
            raise InputError(f"{row['array']}: missing; delete the table beside it and run again")
        if sha256_of(row["array"]) != row["sha256"]:
            raise InputError(f"{row['array']}: changed since it was written; delete it and run again")
        index = read_table(row["index"], integers=("row",))
        rows = dict(zip(index["subject"], index["row"], strict=True))
        return np.load(row["array"], mmap_mode="r"), rows, row["gives"], json.loads(row["t_tests"])
