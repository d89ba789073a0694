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
from uad.methods import ArrayMethod, Method, Scan, ScoringHead


def run_on_cohort(
    arm: Arm,
    store: Store,
    subjects: list[str],
    t_tests: list[int],
    seed: int,
    path: Path,
    progress: Callable[[str], None],
    reconstruction_of: Callable[[Scan], np.ndarray] | None = None,
) -> dict[str, Any]:
    """Run an arm on the given subjects of a store and write array and index at `path`.

    Each scan's randomness follows from (seed, subject) alone, so neither the order of scans nor which scans
    are present changes a result.

    Args:
        t_tests: noise levels of an arm that has them; of one that stands several times the mean is kept.
        reconstruction_of: what another arm made of a scan, for a `ScoringHead`.

    Returns:
        The row of the stage's table: as `write_outputs`, and doubts.

    Raises:
        InputError: an output that is not finite or cannot be stored, or that the method itself calls wrong.
    """
    method, doubts = arm.method, []
    t_tests = t_tests if method.reads_noise_levels else []

    def outputs() -> Iterator[np.ndarray]:
        for number, subject in enumerate(subjects, 1):
            scan = store.scan(subject)
            yield run_on_scan(arm, scan, t_tests, seed, reconstruction_of and reconstruction_of(scan))
            progress(f"{number}/{len(subjects)} {subject}")
        doubts.extend(method.doubts())  # an array that is wrong as a whole is not kept

    row = write_outputs(path, method.gives, sorted(set(t_tests)), subjects, store.images.shape[1:], outputs())
    for doubt in doubts:
        progress(f"caution: {doubt}")
    return {**row, "doubts": "; ".join(doubts)}


def run_on_scan(
    arm: Arm, scan: Scan, t_tests: list[int], seed: int, reconstruction: np.ndarray | None = None
) -> np.ndarray:
    """[T, Z, Y, X] of one scan, float32; T is 1 for an arm without noise levels, else the number of different ones,
    in ascending order.

    Args:
        reconstruction: [Z, Y, X], what another arm made of the scan, for a `ScoringHead`.

    Raises:
        InputError: the output is not finite or cannot be stored.
    """
    method, network = arm
    seed = seed_for(seed, scan.subject)
    if isinstance(method, ArrayMethod):
        values = method.draw(scan, np.random.default_rng(seed))[None]
    elif isinstance(method, ScoringHead):
        assert reconstruction is not None
        values = method.rate(scan, reconstruction)[None]
    else:
        values = _run_network(method, network, scan, t_tests, seed)
    if not np.isfinite(values).all():
        raise InputError(f"{scan.subject}: the arm's output is not finite; look at the learning curve of its training")
    highest, most = np.abs(values).max(), np.finfo(TYPES[method.gives]).max
    if highest > most:
        raise InputError(f"{scan.subject}: the arm's output reaches {highest:.3g}; {most:.3g} is the most that is kept")
    return values


def _run_network(method: Method, network: Any, scan: Scan, t_tests: list[int], seed: int) -> np.ndarray:
    import torch  # the other methods need none

    from uad.common.packed import Batch

    device = next(network.parameters()).device if network is not None else torch.device("cpu")
    images, masks = (torch.from_numpy(array).to(device)[:, None] for array in (scan.image, scan.mask))
    volume = Batch.of_volume(images, masks, scan.modality, method.context)
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        if method.gives == "map":
            return method.anomaly_map(network, volume, generator).squeeze(1).float().cpu().numpy()[None]
        values = method.reconstruct(network, volume, t_tests, generator).squeeze(2).float()
        if method.reads_noise_levels:
            drawn = torch.tensor(t_tests)
            values = torch.stack([values[drawn == level].mean(dim=0) for level in sorted(set(t_tests))])
        return values.cpu().numpy()
