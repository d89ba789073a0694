"""The idea of cDDPM as a drawing, in place of the paper's Figure 1 (docs/paper.md#condition).

It is the same in every run, so fig1.png and fig1.svg lie in the library; this draws them again:

    python tools/architecture.py
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon

from uad.reporting import style

_SIZE = (17.0, 7.2)  # cm; also the units of the drawing
_DATA, _NETWORK, _CONDITION = "#E8E8E8", "#CFE4F5", "#F6DDB8"


class _Box(NamedTuple):
    """Centre, width and height in cm."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> tuple[float, float]:
        return self.x - self.width / 2, self.y

    @property
    def right(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y

    @property
    def top(self) -> tuple[float, float]:
        return self.x, self.y + self.height / 2

    @property
    def bottom(self) -> tuple[float, float]:
        return self.x, self.y - self.height / 2


def architecture_figure() -> Figure:
    """From the slice to the anomaly map: noising, conditioned U-Net, difference."""
    with style.context():
        figure = style.new_figure(*_SIZE)
        figure.set_layout_engine("none")  # the drawing places everything itself
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, _SIZE[0]), ylim=(0, _SIZE[1]))
        axes.axis("off")
        slice_ = _box(axes, _Box(1.4, 3.3, 2.2, 1.2), "slice $x$\nin [0, 1]", _DATA)
        noised = _box(axes, _Box(5.4, 3.3, 1.9, 1.2), "noised\nslice $x_t$", _DATA)
        encoder = _box(axes, _Box(4.9, 6.1, 2.6, 1.1), "encoder $F$\n(ResNet)", _CONDITION)
        vector = _box(axes, _Box(9.2, 6.1, 2.6, 1.1), "condition $c = F(x)$\na vector", _CONDITION)
        network = _u_net(axes, _Box(9.2, 3.3, 4.4, 2.5))
        healthy = _box(axes, _Box(13.6, 3.3, 2.3, 1.2), "reconstruction\n$r = U(x_t, t, c)$", _DATA)
        anomaly = _box(axes, _Box(15.4, 0.9, 2.6, 1.2), "anomaly map\n$|x - r|$ in the brain", _DATA)
        _arrow(axes, slice_.right, noised.left, "simplex noise,\nlevel $t$", above=0.38)
        _arrow(axes, slice_.top, encoder.left, "noise-free", bend=-0.3, above=0.5, beside=-1.1)
        _arrow(axes, encoder.right, vector.left)
        _arrow(axes, vector.bottom, network.top, "scales and shifts every\nresidual block", beside=1.55, above=0.35)
        _arrow(axes, noised.right, network.left)
        _arrow(axes, network.right, healthy.left)
        _arrow(axes, healthy.bottom, anomaly.top, bend=-0.2)
        _arrow(axes, slice_.bottom, anomaly.left, bend=0.2)
        axes.text(
            11.3, 6.1, "Noise hides the lesion, and the local intensity\nwith it. The condition gives the intensity"
            "\nback without copying the lesion.", va="center", fontsize=6.5, color="#444444",
        )  # fmt: skip
    return figure


def _box(axes: Axes, box: _Box, text: str, colour: str) -> _Box:
    corner = (box.x - box.width / 2, box.y - box.height / 2)
    axes.add_patch(
        FancyBboxPatch(
            corner, box.width, box.height, boxstyle="round,pad=0,rounding_size=0.15", facecolor=colour, linewidth=0.6
        )
    )
    axes.text(box.x, box.y, text, ha="center", va="center")
    return box


def _u_net(axes: Axes, box: _Box) -> _Box:
    """A shape with a waist."""
    right = [(box.width / 2, box.height / 2), (0.3, 0.5), (-0.3, 0.5), (-box.width / 2, box.height / 2)]
    outline = [*right, *((x, -y) for x, y in reversed(right))]
    corners = [(box.x + x, box.y + y) for x, y in outline]
    axes.add_patch(Polygon(corners, facecolor=_NETWORK, edgecolor="black", linewidth=0.6))
    axes.text(box.x, box.y, "U-Net $U$", ha="center", va="center")
    return _Box(box.x, box.y, box.width, 1.0)


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    text: str = "",
    bend: float = 0.0,
    above: float = 0.0,
    beside: float = 0.0,
) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=8, linewidth=0.8, color="black", shrinkA=1, shrinkB=1,
            connectionstyle=f"arc3,rad={bend}",
        )
    )  # fmt: skip
    middle = (start[0] + end[0]) / 2 + beside, (start[1] + end[1]) / 2 + above
    axes.text(*middle, text, ha="center", va="center", fontsize=6)


if __name__ == "__main__":
    style.save(architecture_figure(), Path(style.__file__).with_name("fig1"))
