"""Parts of a report as Markdown."""

from __future__ import annotations

from uad.reporting.elements import Bullets, Part, Table, Text


def escape_markdown(text: str) -> str:
    """Text that a Markdown table shows as it is; code between backticks only needs its bars escaped."""
    if text.startswith("`") and text.endswith("`"):
        return text.replace("|", "\\|")
    for character in ("|", "*", "_"):
        text = text.replace(character, "\\" + character)
    return text


def render_part(part: Part) -> str:
    """A table (GitHub-flavoured, its cells escaped), list or paragraph (a warning is a quotation) as Markdown."""
    match part:
        case Table():
            rule = ["---" if column in part.words else "--:" for column in range(len(part.heads))]
            rows = [part.heads, *([cell.text for cell in line] for line in part.lines)]
            heads, *lines = [list(map(escape_markdown, row)) for row in rows]
            text = "\n".join("| " + " | ".join(line) + " |" for line in [heads, rule, *lines])
            return f"{text}\n\n{part.note}" if part.note else text
        case Bullets():
            return "\n".join(f"- {line}" for line in part.lines)
        case Text():
            return f"> {part.text}" if part.css == "warning" else part.text
        case _:
            raise TypeError(f"{type(part).__name__} has no Markdown")
