"""The registry of studies: every module of this folder with a class `STUDY` answers one question.  docs/studies.md

The Snakefile imports this package, so a study's module imports neither torch nor matplotlib at its top.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from uad.studies.base import Answer, Evidence, ScoredArm, Study

__all__ = ["Answer", "Evidence", "ScoredArm", "Study", "known_studies", "load_study"]

_SHARED = {"base", "comparing", "page"}


@cache
def known_studies() -> tuple[str, ...]:
    """Names of all studies, sorted, as the configuration has them: with hyphens."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name.replace("_", "-") for name in found if name not in _SHARED))


def load_study(name: str) -> type[Study]:
    """The class of a study by its name."""
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}").STUDY
