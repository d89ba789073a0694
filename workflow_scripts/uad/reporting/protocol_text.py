"""The protocol choices in force in a run.  docs/protocols.md"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from uad.config.protocols import CHOICES, FIXED
from uad.reporting.elements import Cell, Marked, Part, Table, Text


def value_in_force(config: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key of the resolved configuration; None where it leaves the key at its general value."""
    block: Any = config
    for name in key.split("."):
        if not isinstance(block, Mapping) or name not in block:
            return None
        block = block[name]
    return block


def choices_parts(protocol: str, config: Mapping[str, Any]) -> list[Part]:
    """Every choice with the value the run really has; those that the configuration changed come first."""
    changed: list[list[str]] = []
    kept: list[list[str]] = []
    for choice in filter(lambda choice: _concerns(choice.key, config), CHOICES):
        found, asked = value_in_force(config, choice.key), getattr(choice, protocol)
        row = [choice.id, f"`{choice.key}`", _text(found), _text(asked), choice.about]
        (kept if _same(found, asked) else changed).append(row)
    heads = ["id", "key", "in force", f"protocol {protocol}", "about"]
    parts: list[Part] = []
    if changed:
        parts.append(Text(Marked(f"**The configuration departs from protocol {protocol} in {len(changed)} places:**")))
        parts.append(_table(heads, changed))
    else:
        parts.append(Text(f"The configuration departs from protocol {protocol} nowhere."))
    parts += [Text("As the protocol has them:"), _table(heads, kept)]
    own = [
        [arm, _text(settings["params"] or None), _text(settings["train"] or None)]
        for arm, settings in config["arms"].items()
        if settings["params"] or settings["train"]
    ]
    if own:
        parts += [Text("Arms with settings of their own:"), _table(["arm", "params", "train"], own)]
    fixed = _table(["id", "what we do"], FIXED.items())
    return [*parts, Text("Where there is nothing to choose:"), fixed]


def _table(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> Table:
    return Table(heads, [[Cell(Marked(text)) for text in row] for row in rows], words=range(len(heads)))


def _concerns(key: str, config: Mapping[str, Any]) -> bool:
    """Whether the run has what a key is about: a row under `cohorts.<adapter>` is about that data set."""
    block, name, *_ = key.split(".")
    return block != "cohorts" or config["cohorts"].get(name, {}).get("adapter") == name


def _same(found: Any, asked: Any) -> bool:
    return (list(found) if isinstance(found, tuple) else found) == (list(asked) if isinstance(asked, tuple) else asked)


def _text(value: Any) -> str:
    return "–" if value is None else f"`{json.dumps(value)}`"
