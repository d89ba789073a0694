"""Adapters: one small class per data set with its layout, ids, labels and the state of its scans.

The Snakefile imports this package for the classes' attributes, so nothing heavy is imported at its top.
"""

from __future__ import annotations

import difflib

from uad.cohorts.atlas import Atlas
from uad.cohorts.base import Adapter
from uad.cohorts.brats21 import Brats21
from uad.cohorts.folder import FolderAdapter
from uad.cohorts.ixi import Ixi
from uad.cohorts.mslub import Mslub
from uad.cohorts.table import COLUMNS, ingest, read_cohort
from uad.cohorts.wmh import Wmh
from uad.common.errors import InputError

__all__ = ["ADAPTERS", "COLUMNS", "Adapter", "find_adapter", "ingest", "read_cohort"]

ADAPTERS: dict[str, type[Adapter]] = {
    adapter.name: adapter for adapter in (Ixi, Brats21, Mslub, Atlas, Wmh, FolderAdapter)
}


def find_adapter(name: str) -> type[Adapter]:
    """The adapter class of a name.

    Raises:
        InputError: no such adapter; suggests a similar name.
    """
    if name not in ADAPTERS:
        close = difflib.get_close_matches(name.lower(), ADAPTERS, n=1, cutoff=0.5)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise InputError(f"adapter '{name}' is not known.{hint} Known: {', '.join(ADAPTERS)}")
    return ADAPTERS[name]
