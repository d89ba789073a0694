"""Look of the figures: one colour and marker per arm, sizes for a printed column, and files that are the same
bytes each time.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator
from matplotlib.transforms import Bbox
from matplotlib.typing import LineStyleType, RcKeyType

from uad.common.errors import InputError
from uad.common.files import atomic_path
from uad.common.processes import forked_workers

HEADROOM = 1.06  # a Dice axis ends this much above its highest value
SINGLE_CM = 8.5
DOUBLE_CM = 17.0
DPI = 300

# Paul Tol's "muted" scheme and black, then five colours that keep the distance of the first ten, also for the
# red-green blind (CIEDE2000 of 11 and more; tests/reporting/test_figures.py); ordered so that neighbours differ in
# lightness.
PALETTE = (
    *("#332288", "#88CCEE", "#999933", "#882255", "#44AA99"),
    *("#DDCC77", "#CC6677", "#117733", "#AA4499", "#000000"),
    *("#CC0000", "#7733FF", "#8899BB", "#BB66FF", "#554433"),
)
# 11 markers against 15 colours: the pair stays unique for 165 arms, and tells arms apart in black and white.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
CONTROL_GREYS = ("#555555", "#8a8a8a", "#b0b0b0", "#6f6f6f")
CONTROL_LINES: tuple[LineStyleType, ...] = ("-", "--", ":", "-.")
CEILING: dict[str, Any] = {"color": "#777777", "linestyle": (0, (3, 1.5)), "linewidth": 1.0}
WORD_GREY = "#555555"  # of words such as "missing" in a panel
PHANTOM_MARK = "PHANTOM DATA"
MOST_VECTOR_POINTS = 1000  # a panel with more points has them as pixels in the SVG too: it stays small
_MOST_GAPS = 4
_HANDLE_LETTERS = 9  # width of a legend's line or marker, and of the gap to the next entry
_STRIP_INCHES = 0.2  # above a figure with a mark; whole pixels at `DPI`

_RC: dict[RcKeyType, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.0,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.0,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.6,
    "svg.hashsalt": "uadbench",
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Look:
    """Colour, marker and line style of one arm in every figure."""

    colour: str
    marker: str
    line: LineStyleType


def looks(arms: Sequence[Mapping[str, Any]]) -> dict[str, Look]:
    """Arm name -> its look, decided by its place among the arms; controls are grey and take no colour away
    from the others.
    """
    result: dict[str, Look] = {}
    methods = [arm["arm"] for arm in arms if not arm["control"]]
    controls = [arm["arm"] for arm in arms if arm["control"]]
    for place, name in enumerate(methods):
        result[name] = Look(PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)], "-")
    for place, name in enumerate(controls):
        grey = CONTROL_GREYS[place % len(CONTROL_GREYS)]
        result[name] = Look(grey, "none", CONTROL_LINES[place % len(CONTROL_LINES)])
    return result


def width_cm(columns: int) -> float:
    """Width of a figure with that many panels side by side: a text column for one, the page for more."""
    return DOUBLE_CM if columns > 1 else SINGLE_CM


def handle(look: Look, label: str) -> Line2D:
    """Legend entry of one arm."""
    return Line2D([], [], color=look.colour, marker=look.marker, linestyle=look.line, label=label)


def ceiling_handle() -> Line2D:
    """Legend entry of the ceiling that post-processing leaves."""
    return Line2D([], [], label="ceiling: a perfect map, post-processed", **CEILING)


def panels(figure: Figure, count: int, columns: int, **shared: Any) -> list[Axes]:
    """So many panels in rows of `columns`; `shared` as in `Figure.subplots`."""
    grid = figure.subplots(math.ceil(count / columns), columns, squeeze=False, **shared).ravel()
    for panel in grid[count:]:
        panel.remove()
    return list(grid[:count])


def label_multiples(panel: Axes, ticks: Sequence[float]) -> None:
    """Label a logarithmic x axis of multiples at `ticks` alone: 1/4, 1, 4."""
    panel.set_xticks(ticks)
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}" if x >= 1 else f"1/{1 / x:g}"))


def say(panel: Axes, text: str) -> None:
    """A word in the middle of a panel in place of data."""
    panel.text(0.5, 0.5, text, transform=panel.transAxes, ha="center", va="center", color=WORD_GREY)


def say_in_line(panel: Axes, text: str, height: float) -> None:
    """A word at the start of one line of a panel (`name_lines`) in place of data."""
    panel.annotate(text, (0.14, height), xycoords=("axes fraction", "data"), va="center", color=WORD_GREY)


def name_lines(panel: Axes, names: Sequence[str]) -> None:
    """A panel whose lines, at heights 0, 1, ... from the top, have these names."""
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.set_ylabel("")
    panel.grid(axis="y", visible=False)
    panel.tick_params(axis="y", length=0)


def legend(figure: Figure, handles: Sequence[Artist], columns: int, gaps: Mapping[str, Sequence[str]]) -> None:
    """Legend below the panels; its title names what is missing (`cells.find_missing`), at most four arms of
    it. Nothing where both are empty.
    """
    if not handles and not gaps:
        return
    texts = [f"{label} ({', '.join(where)})" for label, where in gaps.items()]
    if len(texts) > _MOST_GAPS:
        texts = [*texts[:_MOST_GAPS], f"and {len(texts) - _MOST_GAPS} more arms"]
    title = textwrap.fill("Missing: " + "; ".join(texts), 110 if columns > 1 else 52) if texts else None
    room, most = (126, 5) if columns > 1 else (63, 2)  # letters, entries side by side
    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    beside = min(most, max(room // (longest + _HANDLE_LETTERS), 1))
    lines = math.ceil(len(handles) / beside) or 1
    entries: dict[str, Any] = {"handles": handles, "ncols": math.ceil(len(handles) / lines) or 1, "title": title}
    drawn = figure.legend(loc="outside lower center", frameon=False, **entries)
    drawn.get_title().set_fontsize(6.5)


def context() -> Any:
    """Context manager that sets the fonts, lines and SVG salt for drawing and saving."""
    return matplotlib.rc_context(_RC)


def new_figure(width_cm: float, height_cm: float, **gaps: Any) -> Figure:
    """An empty figure of that size with a constrained layout and its `gaps`; call inside `context()`."""
    layout = ConstrainedLayoutEngine(**gaps)
    figure = Figure(figsize=(width_cm / 2.54, height_cm / 2.54), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, stem: str | Path, mark: str = "") -> list[Path]:
    """Write `<stem>.png` (300 dpi) and `<stem>.svg` without dates or program names, so that equal figures are
    equal bytes.

    mark: words in a strip above the figure, which stays as it is; "": no strip.
    """
    paths = [Path(f"{stem}.png"), Path(f"{stem}.svg")]
    metadata = [{"Software": None}, {"Date": None, "Creator": None}]
    canvas: dict[str, Any] = {"bbox_inches": _add_strip(figure, mark)} if mark else {}
    with context():
        for path, entries in zip(paths, metadata, strict=True):
            with atomic_path(path) as temporary:
                figure.savefig(temporary, dpi=DPI, metadata=entries, facecolor="white", **canvas)
            figure.set_layout_engine("none")  # the first format has laid the figure out
    return paths


def _add_strip(figure: Figure, mark: str) -> Bbox:
    """Write the mark above the figure's upper edge; returns the canvas in inches, which includes it."""
    width, height = figure.get_size_inches()
    place = (width - 0.05) / width, (height + _STRIP_INCHES / 2) / height
    figure.text(*place, mark, ha="right", va="center", fontsize=6.5, fontweight="bold", color="#b00020")
    return Bbox([[0, 0], [width, height + _STRIP_INCHES]])


def save_all(figures: Mapping[str, Callable[[], Figure]], folder: Path, workers: int, mark: str = "") -> None:
    """Draw and save figures, stem -> function that draws it, in so many processes; `mark` as in `save`.

    Raises:
        InputError: a process died. What drawing a figure raises comes through.
    """
    with forked_workers(min(workers, len(figures)), _FIGURES.update, figures) as pool:
        waiting = [pool.submit(_draw, stem, folder, mark) for stem in figures]
        try:
            for future in waiting:
                future.result()
        except BrokenProcessPool:
            raise InputError(
                f"{folder}: a process that draws figures died (often too little memory); run again with fewer cores"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


_FIGURES: dict[str, Callable[[], Figure]] = {}  # of a worker of `save_all`; functions cannot be sent to it


def _draw(stem: str, folder: Path, mark: str) -> None:
    save(_FIGURES[stem](), folder / stem, mark)
