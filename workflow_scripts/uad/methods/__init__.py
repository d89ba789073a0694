"""The registry of methods: every module of this folder, or of `controls`, with a class `METHOD` is one method.

This package is imported by the Snakefile, so neither it nor a method's module imports torch at its top.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

from uad.methods.base import ArrayMethod, Batch, Head, Method, Scan, ScoringHead, TrainsInParts

__all__ = [
    "ArrayMethod",
    "Batch",
    "Head",
    "Method",
    "Scan",
    "ScoringHead",
    "TrainsInParts",
    "known_methods",
    "load_method",
    "method_of",
]

_SHARED = {"base", "pretraining", "settings"}


@cache
def _modules() -> dict[str, str]:
    """Name of each method -> its module."""
    found = [module.name for module in pkgutil.walk_packages(__path__, f"{__name__}.") if not module.ispkg]
    names = {module.rpartition(".")[2]: module for module in found}
    return {name: names[name] for name in sorted(names) if name not in _SHARED and not name.startswith("_")}


def known_methods() -> tuple[str, ...]:
    """Names of all methods, sorted."""
    return tuple(_modules())


def load_method(name: str) -> type[Method]:
    """The class of a method by its module's name."""
    return importlib.import_module(_modules()[name]).METHOD


def method_of(settings: Mapping[str, Any]) -> Method:
    """The method of a job's settings: `method`, its name, `params`, its hyper-parameters, and `source`, the same of the
    arm that it starts from, if any."""
    kind = load_method(settings["method"])
    method = kind(kind.Params.model_validate(settings["params"]))
    if isinstance(method, Head):
        method.attach(method_of(settings["source"]))
    return method
