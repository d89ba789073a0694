"""Which slices a training sees: every step's batch follows from (seed, step) alone (docs/paper.md#slices)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from uad.common.errors import InputError
from uad.common.packed import WHOLE_VOLUME, Batch
from uad.common.seeds import seed_for
from uad.common.store import Store
from uad.config.model import TrainSettings
from uad.methods import Method
from uad.training.augmentation import draw_augmented, draw_plain


class SliceSource:
    """Draws training and validation slices from a packed store.

    Args:
        rows: rows of the volumes of one split; those of sites that the training goes without are left out.
        spacing_mm: voxel size of the store, for the blur of the augmentation.
        method: who is to learn from them; its `context` says which slices make a sample.

    Raises:
        InputError: the batch size is no multiple of the method's context, or the volumes have fewer slices; a site to
            go without is not in the store, or has all of the volumes.
    """

    def __init__(
        self,
        store: Store,
        rows: Sequence[int] | np.ndarray,
        settings: TrainSettings,
        spacing_mm: float,
        method: Method,
    ) -> None:
        self.store = store
        self.rows = _without_sites(store, np.asarray(rows), settings.without_sites)
        self.settings = settings
        self.spacing_mm = spacing_mm
        self.depth = store.images.shape[1]
        self.context = self.depth if method.context == WHOLE_VOLUME else method.context
        self.of_whole_volume = method.context == WHOLE_VOLUME
        self.counted = self.context if method.learns_context else 1  # slices of a sample that the loss is of
        if settings.batch_size % self.counted or self.depth < self.counted:
            raise InputError(
                f"params.chunk is {self.counted}: it must divide train.batch_size ({settings.batch_size}) and be at "
                f"most the number of slices per volume ({self.depth}); change one of them"
            )

    def scans_of_step(self, step: int, seed: int) -> str:
        """Names of the scans that a step reads."""
        return ", ".join(self.store.subjects[row] for row in self.volumes_of_step(step, seed).tolist())

    def volumes_of_step(self, step: int, seed: int) -> np.ndarray:
        """Which volumes a step reads, one per sample: each once per epoch, the epoch's incomplete batch dropped.

        With fewer volumes than a batch takes, epochs follow each other without a gap.
        """
        batch, count = self.settings.batch_size // self.counted, len(self.rows)
        usable = count - count % batch if count >= batch else count
        positions = step * batch + np.arange(batch)
        orders = {
            epoch: np.random.default_rng(seed_for(seed, "epoch", epoch)).permutation(count)
            for epoch in np.unique(positions // usable).tolist()
        }
        return self.rows[[orders[p // usable][p % usable] for p in positions.tolist()]]

    def draw(self, rows: np.ndarray, seed: int) -> Batch:
        """A uniformly drawn slice, or run of slices, of each volume, augmented if the arm asks."""
        generator = torch.Generator().manual_seed(seed)
        starts = torch.randint(self.depth - self.counted + 1, (len(rows),), generator=generator)
        return self._batch(torch.from_numpy(rows), starts, generator if self.settings.augment else None)

    def _batch(self, rows: Tensor, starts: Tensor, augmenting: torch.Generator | None = None) -> Batch:
        """The samples [B] whose first slices that count are `starts`."""
        before = 0 if self.counted > 1 else self.context // 2
        first = torch.zeros_like(starts) if self.of_whole_volume else starts - before
        slices = first[:, None] + torch.arange(self.context)
        positions = starts if self.counted == 1 else starts + self.context // 2
        if augmenting is None:
            images = draw_plain(self.store.images, rows, slices)
        else:
            chance = self.settings.augmentation
            images = draw_augmented(
                self.store.images, rows, slices, augmenting, self.spacing_mm,
                p_gamma=chance.gamma, p_bias=chance.bias_field, p_blur=chance.blur, p_ghosting=chance.ghosting,
            )  # fmt: skip
        middle = images if self.context == 1 else images[torch.arange(len(rows)), positions - first][:, None]
        masks = draw_plain(self.store.masks, rows, positions[:, None]) > 0
        around = images if self.context > 1 else None
        return Batch(middle, masks, positions, self.depth, self.store.modality, around)

    def validation_batches(self, seed: int) -> Iterator[Batch]:
        """Slices of the healthy validation set in batches: fixed ones, or drawn and augmented anew (D14)."""
        batch = self.settings.batch_size // self.counted
        if self.settings.validation == "random":
            for i in range(0, len(self.rows), batch):
                yield self.draw(self.rows[i : i + batch], seed_for(seed, "validation", i))
            return
        count = max(min(self.settings.validation_slices, self.depth) // self.counted, 1)
        starts = torch.linspace(0, self.depth - self.counted, count + 2)[1:-1].round().long()
        rows, starts = torch.from_numpy(self.rows).repeat_interleave(count), starts.repeat(len(self.rows))
        for i in range(0, len(rows), batch):
            yield self._batch(rows[i : i + batch], starts[i : i + batch])


def _without_sites(store: Store, rows: np.ndarray, unseen: Sequence[str]) -> np.ndarray:
    """The rows of other sites."""
    sites = store.index["site"].to_numpy()
    if unknown := sorted(set(unseen) - set(sites)):
        known = ", ".join(sorted({*sites} - {""})) or "none"
        raise InputError(
            f"train.without_sites: the packed scans have no site {', '.join(unknown)}; their sites are: {known}"
        )
    seen = rows[~np.isin(sites[rows], unseen)]
    if not len(seen):
        raise InputError(
            f"train.without_sites: without {', '.join(unseen)} none of {len(rows)} scans of a split is left to "
            "train or validate on; leave fewer sites out, or give cohorts.<name>.splits more"
        )
    return seen


class Steps(IterableDataset):
    """Batches of the steps from `first_step` on, shared out over the loader's workers step by step."""

    def __init__(self, source: SliceSource, seed: int, first_step: int) -> None:
        self.source, self.seed, self.first_step = source, seed, first_step

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        worker = get_worker_info()
        start, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for step in range(self.first_step + start, self.source.settings.max_steps, stride):
            rows = self.source.volumes_of_step(step, self.seed)
            yield step, self.source.draw(rows, seed_for(self.seed, "slices", step))
