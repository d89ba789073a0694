"""Which slices a training sees: every step's batch follows from (seed, step) alone (docs/paper.md#slices)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from uad.common.errors import InputError
from uad.common.seeds import seed_for
from uad.config.model import TrainSettings
from uad.training.augmentation import draw_augmented, draw_plain


class SliceSource:
    """Draws training and validation slices from a packed store.

    Args:
        images: memory-mapped volumes [N, Z, Y, X] in [0, 1].
        rows: rows of the volumes of one split.
        spacing_mm: voxel size of the store, for the blur of the augmentation.
        chunk: consecutive slices per drawn volume; a batch of B slices is B / chunk volumes.
        subjects: names of all rows of the store, for messages.

    Raises:
        InputError: the batch size is no multiple of `chunk`, or the volumes have fewer slices.
    """

    def __init__(
        self,
        images: np.ndarray,
        rows: Sequence[int] | np.ndarray,
        settings: TrainSettings,
        spacing_mm: float,
        chunk: int = 1,
        subjects: Sequence[str] = (),
    ) -> None:
        if settings.batch_size % chunk or images.shape[1] < chunk:
            raise InputError(
                f"params.chunk is {chunk}: it must divide train.batch_size ({settings.batch_size}) and be at most "
                f"the number of slices per volume ({images.shape[1]}); change one of them"
            )
        self.images = images
        self.rows = np.asarray(rows)
        self.settings = settings
        self.spacing_mm = spacing_mm
        self.chunk = chunk
        self.subjects = subjects

    def in_chunks(self, chunk: int) -> SliceSource:
        """The same source with another number of consecutive slices per drawn volume."""
        return SliceSource(self.images, self.rows, self.settings, self.spacing_mm, chunk, self.subjects)

    def scans_of_step(self, step: int, seed: int) -> str:
        """Names of the scans that a step reads."""
        rows = self.volumes_of_step(step, seed).tolist()
        return ", ".join(self.subjects[row] if self.subjects else f"row {row}" for row in rows)

    def volumes_of_step(self, step: int, seed: int) -> np.ndarray:
        """Which volumes a step reads [B / chunk]: each once per epoch, the epoch's incomplete batch dropped.

        With fewer volumes than a batch takes, epochs follow each other without a gap.
        """
        batch, count = self.settings.batch_size // self.chunk, len(self.rows)
        usable = count - count % batch if count >= batch else count
        positions = step * batch + np.arange(batch)
        orders = {
            epoch: np.random.default_rng(seed_for(seed, "epoch", epoch)).permutation(count)
            for epoch in np.unique(positions // usable).tolist()
        }
        return self.rows[[orders[p // usable][p % usable] for p in positions.tolist()]]

    def draw(self, rows: np.ndarray, seed: int) -> torch.Tensor:
        """Uniformly drawn axial slices, `chunk` in a row per volume, augmented if the arm asks: [B, 1, Y, X]."""
        generator = torch.Generator().manual_seed(seed)
        starts = torch.randint(self.images.shape[1] - self.chunk + 1, (len(rows),), generator=generator)
        positions = self._consecutive(torch.from_numpy(rows), starts)
        if not self.settings.augment:
            return draw_plain(self.images, *positions)
        chance = self.settings.augmentation
        return draw_augmented(
            self.images, *positions, generator, self.spacing_mm, chunk=self.chunk,
            p_gamma=chance.gamma, p_bias=chance.bias_field, p_blur=chance.blur, p_ghosting=chance.ghosting,
        )  # fmt: skip

    def _consecutive(self, rows: torch.Tensor, starts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Row and slice of each image where `chunk` slices begin at each start: both [V] -> both [V * chunk]."""
        slices = starts[:, None] + torch.arange(self.chunk)
        return rows.repeat_interleave(self.chunk), slices.flatten()

    def validation_batches(self, seed: int) -> Iterator[torch.Tensor]:
        """Slices of the healthy validation set in batches: fixed ones, or drawn and augmented anew (D14)."""
        batch = self.settings.batch_size // self.chunk
        if self.settings.validation == "random":
            for i in range(0, len(self.rows), batch):
                yield self.draw(self.rows[i : i + batch], seed_for(seed, "validation", i))
            return
        depth = self.images.shape[1]
        count = max(min(self.settings.validation_slices, depth) // self.chunk, 1)
        starts = torch.linspace(0, depth - self.chunk, count + 2)[1:-1].round().long()
        rows, starts = torch.from_numpy(self.rows).repeat_interleave(count), starts.repeat(len(self.rows))
        for i in range(0, len(rows), batch):
            yield draw_plain(self.images, *self._consecutive(rows[i : i + batch], starts[i : i + batch]))


class Steps(IterableDataset):
    """Batches of the steps from `first_step` on, shared out over the loader's workers step by step."""

    def __init__(self, source: SliceSource, seed: int, first_step: int) -> None:
        self.source, self.seed, self.first_step = source, seed, first_step

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor]]:
        worker = get_worker_info()
        start, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for step in range(self.first_step + start, self.source.settings.max_steps, stride):
            rows = self.source.volumes_of_step(step, self.seed)
            yield step, self.source.draw(rows, seed_for(self.seed, "slices", step))
