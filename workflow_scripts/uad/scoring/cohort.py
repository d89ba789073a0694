"""The scans of a cohort that one fold of an arm is scored on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from uad.cohorts.splits import subjects_in
from uad.common.errors import InputError
from uad.common.store import Store
from uad.inference.outputs import Outputs
from uad.scoring.protocol import VolumeToScore


class ScoredCohort:
    """A cohort as one fold splits it, with what an arm made of it.

    Attributes:
        subjects: of the splits val and test.
        sites: of every subject.
        lesions: volume in ml by test subject.
    """

    def __init__(
        self, name: str, store: Store, table: Path, fold: int, outputs: Outputs, progress: Callable[[str], None]
    ) -> None:
        self.name, self.store, self.outputs = name, store, outputs
        held = store.index.set_index("subject")
        self.subjects = {
            split: subjects_in(table, fold, [split], held.index, lambda line: progress(f"{name}: {line}"))
            for split in ("val", "test")
        }
        if not self.subjects["test"]:
            raise InputError(f"{name}: no test volume in fold {fold}; give cohorts.{name}.splits.test more")
        self.sites, self.lesions = held["site"], held["lesion_ml"].loc[self.subjects["test"]]

    def volumes(self, reading: str, split: str) -> Iterator[VolumeToScore]:
        """The volumes of a split, one at a time."""
        for subject in self.subjects[split]:
            yield self.volume(reading, split, subject)

    def volume(self, reading: str, split: str, subject: str) -> VolumeToScore:
        scan = self.store.scan(subject)
        output = self.outputs.volume(self.name, scan, reading)
        return VolumeToScore(subject, split, self.sites[subject], scan.image, scan.mask, scan.label, output)
