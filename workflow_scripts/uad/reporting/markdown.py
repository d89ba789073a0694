"""Plain Markdown tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def escape_markdown(text: str) -> str:
    """Text that a Markdown table shows as it is; code between backticks only needs its bars escaped."""
    if text.startswith("`") and text.endswith("`"):
        return text.replace("|", "\\|")
    for character in ("|", "*", "_"):
        text = text.replace(character, "\\" + character)
    return text


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]], text: Collection[int] = (0,)) -> str:
    """A GitHub-flavoured table; the columns `text` are aligned left, the others right. Cells are escaped."""
    rule = ["---" if column in text else "--:" for column in range(len(heads))]
    lines = [list(map(escape_markdown, heads)), rule, *(list(map(escape_markdown, row)) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
