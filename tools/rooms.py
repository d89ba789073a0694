"""Draw the rooms of `workflow_scripts/uad` and their imports into ARCHITECTURE.md.

    python tools/rooms.py

A room is a folder. It may import the rooms before it in `ROOMS` and no other; tests/house/test_rooms.py holds that.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import networkx

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "workflow_scripts" / "uad"
PAGE = ROOT / "ARCHITECTURE.md"
ROOMS = (
    *("common", "networks", "diffusion", "metrics", "methods", "cohorts", "config", "download"),
    *("preprocessing", "phantoms", "training", "inference", "scoring", "reporting", "studies", "workflow"),
)


def modules() -> dict[str, Path]:
    """Dotted name of each module of the library -> its file."""
    found = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        parts = path.relative_to(LIBRARY.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path], for_types: bool = True) -> set[str]:
    """The library's modules that a file imports, anywhere in it; `for_types`: also those for type checkers only."""
    tree = ast.parse(path.read_text())
    skipped = set() if for_types else {id(node) for block in _type_blocks(tree) for node in ast.walk(block)}
    named = (name for node in ast.walk(tree) if id(node) not in skipped for name in _named(node))
    return {name if name in known else name.rpartition(".")[0] for name in named} & known.keys()


def _named(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _type_blocks(tree: ast.AST) -> Iterator[ast.If]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield node


def arrows() -> set[tuple[str, str]]:
    """(room, a room that it imports)."""
    known = modules()
    pairs = {(_room(name), _room(other)) for name, path in known.items() for other in imports(path, known)}
    return {(room, other) for room, other in pairs if room != other}


def _room(module: str) -> str:
    """`uad.training.loop` -> training; a loose module stands for itself."""
    return module.split(".")[1] if "." in module else module


def needed(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows without those that a detour over another room says already."""
    return set(networkx.transitive_reduction(networkx.DiGraph(pairs)).edges)


def picture() -> str:
    """The rooms as a Mermaid graph: an arrow leads from a room to what it imports; detours are left out."""
    lines = [f"    {room} --> {other}" for room, other in sorted(needed(arrows()), key=_place)]
    return "\n".join(["```mermaid", "graph BT", *lines, "```"])


def _place(pair: tuple[str, str]) -> tuple[int, int]:
    return ROOMS.index(pair[0]), ROOMS.index(pair[1])


def drawn(page: str) -> str:
    """The page with the picture as it is now."""
    return re.sub(r"```mermaid\n.*?```", lambda _: picture(), page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text()))
