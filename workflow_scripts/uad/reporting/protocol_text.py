"""The protocol choices in force in a run, as Markdown.  docs/protocols.md"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from uad.config.protocols import CHOICES, FIXED
from uad.reporting.markdown import markdown_table


def value_in_force(config: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key of the resolved configuration; None where it leaves the key at its general value."""
    block: Any = config
    for name in key.split("."):
        if not isinstance(block, Mapping) or name not in block:
            return None
        block = block[name]
    return block


def choices_text(protocol: str, config: Mapping[str, Any]) -> str:
    """Every choice with the value the run really has; those that the configuration changed come first."""
    changed, kept = [], []
    for choice in filter(lambda choice: _concerns(choice.key, config), CHOICES):
        found, asked = value_in_force(config, choice.key), getattr(choice, protocol)
        row = [choice.id, f"`{choice.key}`", _text(found), _text(asked), choice.about]
        (kept if _same(found, asked) else changed).append(row)
    heads = ["id", "key", "in force", f"protocol {protocol}", "about"]
    columns = range(len(heads))
    parts = []
    if changed:
        parts.append(f"**The configuration departs from protocol {protocol} in {len(changed)} places:**")
        parts.append(markdown_table(heads, changed, text=columns))
    else:
        parts.append(f"The configuration departs from protocol {protocol} nowhere.")
    parts.append("As the protocol has them:")
    parts.append(markdown_table(heads, kept, text=columns))
    own = [
        [arm, _text(settings["params"] or None), _text(settings["train"] or None)]
        for arm, settings in config["arms"].items()
        if settings["params"] or settings["train"]
    ]
    if own:
        parts.append("Arms with settings of their own:")
        parts.append(markdown_table(["arm", "params", "train"], own, text=(0, 1, 2)))
    parts.append("Where there is nothing to choose:")
    parts.append(markdown_table(["id", "what we do"], [[number, text] for number, text in FIXED.items()], text=(0, 1)))
    return "\n\n".join(parts)


def _concerns(key: str, config: Mapping[str, Any]) -> bool:
    """Whether the run has what a key is about: a row under `cohorts.<adapter>` is about that data set."""
    block, name, *_ = key.split(".")
    return block != "cohorts" or config["cohorts"].get(name, {}).get("adapter") == name


def _same(found: Any, asked: Any) -> bool:
    return (list(found) if isinstance(found, tuple) else found) == (list(asked) if isinstance(asked, tuple) else asked)


def _text(value: Any) -> str:
    return "–" if value is None else f"`{json.dumps(value)}`"
