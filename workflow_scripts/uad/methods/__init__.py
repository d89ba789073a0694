"""The registry of methods: every module of this folder with a class `METHOD` is one method.

This package is imported by the Snakefile, so neither it nor a method's module imports torch at its top.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

from uad.methods.base import Method, Scan, TrainsInParts, TrainsOnChunks

__all__ = ["Method", "Scan", "TrainsInParts", "TrainsOnChunks", "known_methods", "load_method", "method_of"]

_SHARED = {"base", "pretraining", "settings"}


@cache
def known_methods() -> tuple[str, ...]:
    """Names of all methods, sorted."""
    names = {module.name for module in pkgutil.iter_modules(__path__)} - _SHARED
    return tuple(sorted(name for name in names if not name.startswith("_")))


def load_method(name: str) -> type[Method]:
    """The class of a method by its module's name."""
    return importlib.import_module(f"{__name__}.{name}").METHOD


def method_of(settings: Mapping[str, Any]) -> Method:
    """The method of a job's settings: `method`, its name, and `params`, its hyper-parameters."""
    kind = load_method(settings["method"])
    return kind(kind.Params.model_validate(settings["params"]))
