"""An arm runs on scans and makes reconstructions or anomaly maps of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from uad.common.errors import InputError
from uad.common.seeds import seed_for
from uad.common.store import Store
from uad.inference.arm import Arm
from uad.inference.outputs import TYPES, write_outputs
from uad.methods import Scan


def run_on_cohort(
    arm: Arm,
    store: Store,
    subjects: list[str],
    t_tests: list[int],
    seed: int,
    path: Path,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Run an arm on the given subjects of a store and write array and index at `path`.

    Each scan's randomness follows from (seed, subject) alone, so neither the order of scans nor which scans
    are present changes a result.

    Returns:
        The row of the stage's table: as `write_outputs`, and doubts.

    Raises:
        InputError: an output that is not finite or cannot be stored, or that the method itself calls wrong.
    """
    method, doubts = arm.method, []
    t_tests = t_tests if method.reads_noise_levels else []

    def outputs() -> Iterator[np.ndarray]:
        for number, subject in enumerate(subjects, 1):
            yield run_on_scan(arm, store.scan(subject), t_tests, seed)
            progress(f"{number}/{len(subjects)} {subject}")
        doubts.extend(method.doubts())  # an array that is wrong as a whole is not kept

    row = write_outputs(path, method.gives, t_tests, subjects, store.images.shape[1:], outputs())
    for doubt in doubts:
        progress(f"caution: {doubt}")
    return {**row, "doubts": "; ".join(doubts)}


def run_on_scan(arm: Arm, scan: Scan, t_tests: list[int], seed: int) -> np.ndarray:
    """[T, Z, Y, X] of one scan, float32; T is 1 for an arm without noise levels.

    Raises:
        InputError: the output is not finite or cannot be stored.
    """
    method, network = arm
    seed = seed_for(seed, scan.subject)
    if method.gives == "map":
        values = method.anomaly_map(scan, np.random.default_rng(seed))[None]
    else:
        import torch  # arms that draw maps need none

        device = next(network.parameters()).device if network is not None else torch.device("cpu")
        images = torch.from_numpy(scan.image).to(device)[:, None]
        with torch.inference_mode():
            generator = torch.Generator().manual_seed(seed)
            values = method.reconstruct(network, images, t_tests, generator).squeeze(2).float().cpu().numpy()
    if not np.isfinite(values).all():
        raise InputError(f"{scan.subject}: the arm's output is not finite; look at the learning curve of its training")
    highest, most = np.abs(values).max(), np.finfo(TYPES[method.gives]).max
    if highest > most:
        raise InputError(f"{scan.subject}: the arm's output reaches {highest:.3g}; {most:.3g} is the most that is kept")
    return values
