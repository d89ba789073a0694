"""Write Table 3 of the demo and its picture into the README, or compare the README's table with a demo's.

Between two machines the numbers move: a difference in the last bit of a registration or of a training step grows. The
bands below are what is taken for the same result. They catch a table of another state of the code, not a small error.
"""

import argparse
import re
from pathlib import Path

import yaml
from PIL import Image

from uad.common.errors import InputError, run_program
from uad.common.files import atomic_path

BEGIN, END = "<!-- Table 3 of make demo: tools/readme_table.py -->", "<!-- end of the table -->"
FIXED = ("thresh", "oracle", "chance", "copy")  # arms that learn and clean nothing
FIXED_POINTS = 0.1  # seen between two machines: 0.05
OTHER_POINTS = 25.0  # seen between two processors, from the same bytes of code and data: 17.4 (cDDPM on BraTS21, AUPRC)
PICTURE_WIDTH = 1100

Cells = dict[tuple[str, str], float]


def table_of(text: str) -> list[str]:
    """The lines of the only Markdown table in a text."""
    return [line for line in text.splitlines() if line.startswith("|")]


def cells_of(lines: list[str]) -> Cells:
    """(row, column) -> our number, without the paper's below it."""
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    cells = {}
    for row in rows:
        pairs = list(zip(head, row, strict=True))
        name = " ".join([row[0], *(mark for mark, cell in pairs if mark in ("ENS", "SSL") and cell)])
        for column, cell in pairs[1:]:
            if number := re.match(r"\**(-?\d[\d.]*|–)", cell):
                cells[name, column] = float(number[1].replace("–", "nan"))
    return cells


def parts_of(page: str, begin: str = BEGIN, name: str = "README.md") -> tuple[str, str, str]:
    """What stands before, between and after a marker and the next end of a table."""
    before, found, rest = page.partition(begin)
    table, end, after = rest.partition(END)
    if not (found and end) or begin in rest:
        raise InputError(f"{name}: must hold the line {begin} once and the line {END} below it")
    return before + begin, table, END + after


def compare(shown: Cells, found: Cells, fixed_rows: set[str]) -> list[str]:
    """One line per cell that differs by more than its band, or that one of both lacks."""
    lines = [f"{row}, {column}: only in one of the tables" for row, column in sorted(shown.keys() ^ found.keys())]
    for row, column in (key for key in found if key in shown):
        band = FIXED_POINTS if row in fixed_rows else OTHER_POINTS
        here, there = found[row, column], shown[row, column]
        # a little more than the band, since both numbers are rounded; an undefined cell equals itself
        if here != there and not abs(here - there) <= band + 0.0101 and not (here != here and there != there):
            lines.append(f"{row}, {column}: README {there}, demo {here}, allowed {band}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", required=True, type=Path, help="folder of the finished demo")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    parser.add_argument("--picture", type=Path, default=Path("docs/demo.png"))
    arguments = parser.parse_args()

    before, shown, after = parts_of(arguments.readme.read_text())
    lines = table_of((arguments.results / "tables/table3.md").read_text())
    if arguments.check:
        arms = yaml.safe_load(Path("config.yaml").read_text())["arms"]
        differences = compare(cells_of(table_of(shown)), cells_of(lines), {arms[arm]["label"] for arm in FIXED})
        for line in differences:
            print(line)
        if differences:
            raise InputError(
                f"{arguments.readme}: its table is not this demo's ({len(differences)} differences, above); "
                f"make it so: python tools/readme_table.py --results {arguments.results}"
            )
        return
    with atomic_path(arguments.readme) as temporary:
        temporary.write_text(f"{before}\n\n" + "\n".join(lines) + f"\n\n{after}")
    with Image.open(arguments.results / "figures/fig6.png") as image, atomic_path(arguments.picture) as temporary:
        height = round(image.height * PICTURE_WIDTH / image.width)
        small = image.convert("RGB").resize((PICTURE_WIDTH, height), Image.Resampling.LANCZOS)
        small.quantize(256).save(temporary, optimize=True)


if __name__ == "__main__":
    run_program(main)
