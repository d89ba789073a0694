"""Pictures of the contrast and conditioning experiments: the paper's Figures 2 and 3 (docs/paper.md#experiments).

An experiments file holds the arrays of `uad.inference.contrast.contrast_slices` below `slices/` and those of
`contrast_histograms` below `histograms/<cohort>/`, for one modality and fold.
"""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from uad.common.errors import InputError
from uad.metrics.reconstruction import kl
from uad.reporting import style
from uad.reporting.panels import brain_box
from uad.reporting.paper_numbers import cohort_title

Experiments = Mapping[str, np.ndarray]
Arms = Mapping[str, Mapping[str, Any]]  # "conditioned" and "unconditioned" -> arm

# How many times the KLD of DDPM is that of cDDPM on IXI T2, per contrast exponent (docs/paper.md#experiments).
PAPER_KLD_RATIOS = {1.0: 2.3, 0.5: 4.0, 2.0: 17.0}
_PAPER_PLACE = ("ixi", "t2")
_GREY = "#b8b8b8"
_GAP = 0.12  # between the blocks of a figure, in panel widths
_ROWS = ("unconditioned", "conditioned")  # of Figure 3, from the top


def load_experiments(path: str | Path) -> dict[str, np.ndarray]:
    """Read an experiments file; raises `InputError` for a file that is no such thing."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable experiments file ({error}); delete it and run again") from error
    if "slices/input" not in arrays or not any(key.startswith("histograms/") for key in arrays):
        raise InputError(f"{path}: holds no experiments; delete it and run again")
    return arrays


def contrast_figure(
    experiments: Experiments, pair: Arms, arms: Sequence[Mapping[str, Any]], place: tuple[str, str]
) -> Figure:
    """Figure 2: one healthy slice at five contrasts, and what conditioned and unconditioned arm make of it.

    Blocks: the input; reconstructions at the usual noise level, of which the first saw the central half of the
    slice's width as condition (dashed lines); reconstructions of nothing but noise.  All share one grey scale
    ([0, 1]).  `arms` are all arms of the run, so that colours agree; `place` is cohort and modality.
    """
    found = {key.removeprefix("slices/"): array for key, array in experiments.items() if key.startswith("slices/")}
    contrasts = found["contrasts"]
    rows, cut = brain_box(found["input"][list(contrasts).index(1.0)])
    pictures = {key: array[:, rows, cut] for key, array in found.items() if array.ndim == 3}
    _, height, width = pictures["input"].shape
    columns, looks = _columns(pair, *found["t_tests"]), style.looks(arms)
    side = (style.DOUBLE_CM - 1.3) / (len(columns) + 2 * _GAP)
    with style.context():
        size = style.DOUBLE_CM, side * height / width * len(contrasts) + 2.4
        figure = style.new_figure(*size, w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
        grid = figure.add_gridspec(len(contrasts), 8, width_ratios=[1, _GAP, 1, 1, 1, _GAP, 1, 1])
        for column in columns:
            panels = [figure.add_subplot(grid[row, column.place]) for row in range(len(contrasts))]
            for panel, picture, source in zip(panels, pictures[column.key], pictures["input"], strict=True):
                _show(panel, picture, source if column.arm else None)
            panels[0].set_title(column.title, loc="left", fontsize=7)
            if column.arm:
                _underline(panels[0], looks[column.arm].colour)
            if column.key.endswith("-cropped"):
                for panel, edge in itertools.product(panels, found["cropped"] - (cut.start or 0)):
                    panel.axvline(edge - 0.5, color="white", linestyle="--", linewidth=0.6)
        for panel, exponent in zip(figure.axes, contrasts, strict=False):  # the first column is the input
            panel.set_ylabel(f"$x^{{{exponent:g}}}$", rotation=0, ha="right", va="center", fontsize=8)
        figure.suptitle(f"{cohort_title(*place)}, contrast changed to $x^g$", fontsize=8)
        note = "Number: mean |input − reconstruction| in the brain. Half seen: the condition is empty outside the "
        figure.supxlabel(note + "dashed lines. Models of fold 0.", fontsize=6.5)
    return figure


class _Column(NamedTuple):
    """A column of Figure 2: array of the file, arm, title and place in the grid."""

    key: str
    arm: str
    title: str
    place: int


def _columns(pair: Arms, some: int, all_noise: int) -> list[_Column]:
    """The six columns; a block's noise level is said above its first."""
    (arm, label), (other, other_label) = ((pair[r]["arm"], pair[r]["label"]) for r in ("conditioned", "unconditioned"))
    return [
        _Column("input", "", "input", 0),
        _Column(f"conditioned-{some}-cropped", arm, f"noise level $t$ = {some}\n{label}, half seen", 2),
        _Column(f"conditioned-{some}", arm, f"\n{label}, all seen", 3),
        _Column(f"unconditioned-{some}", other, f"\n{other_label}", 4),
        _Column(f"conditioned-{all_noise}", arm, f"only noise, $t$ = {all_noise}\n{label}, all seen", 6),
        _Column(f"unconditioned-{all_noise}", other, f"\n{other_label}", 7),
    ]


def _show(panel: Axes, picture: np.ndarray, source: np.ndarray | None) -> None:
    """Draw a slice; where it is a reconstruction, with its error against the source."""
    panel.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    panel.set(xticks=[], yticks=[])
    panel.grid(False)
    panel.spines[:].set_visible(False)
    if source is not None:
        error = float(np.abs(picture - source)[source > 0].mean())
        text = panel.text(0.97, 0.02, f"{error:.3f}", transform=panel.transAxes, ha="right", color="white", fontsize=6)
        text.set_path_effects([withStroke(linewidth=1.5, foreground="black")])


def _underline(panel: Axes, colour: str) -> None:
    place: dict[str, Any] = {"transform": panel.transAxes, "clip_on": False, "solid_capstyle": "butt"}
    panel.plot([0, 1], [1.02, 1.02], color=colour, linewidth=2, **place)


def histograms_figure(
    folds: Sequence[Experiments],
    pair: Arms,
    arms: Sequence[Mapping[str, Any]],
    places: Sequence[tuple[str, str]],
    paper_cohorts: Collection[str],
) -> Figure:
    """Figure 3: intensities of the healthy brain in input and ensemble reconstruction, with their divergence.

    Columns: the cohorts of `places`, each at every contrast; rows: the unconditioned arm above the conditioned.
    Histograms are means over `folds`; KLD is KL(input || reconstruction) of each fold's histograms in nats, its
    mean and standard deviation (n-1) over folds.  The ratio below is that of the two arms' mean KLD; the paper's
    stands beside it where the data are the paper's (`paper_cohorts`).
    """
    contrasts = folds[0][f"histograms/{places[0][0]}/contrasts"]
    colours = {role: style.looks(arms)[pair[role]["arm"]].colour for role in _ROWS}
    count = len(places) * len(contrasts)
    ratios = [1.0] * len(contrasts) + ([_GAP, *[1.0] * len(contrasts)] * (len(places) - 1))
    top = 0.0
    with style.context():
        figure = style.new_figure(style.width_cm(count), 8.6)
        grid = figure.subplots(2, len(ratios), sharex=True, sharey=True, gridspec_kw={"width_ratios": ratios})
        for panel in grid[:, [column for column, ratio in enumerate(ratios) if ratio < 1]].ravel():
            panel.remove()
        panels = grid[:, [column for column, ratio in enumerate(ratios) if ratio == 1]]
        for column, (place, index) in enumerate(itertools.product(places, range(len(contrasts)))):
            sources, values = _shares(folds, place[0], "input", index), {}
            paper = PAPER_KLD_RATIOS if place == _PAPER_PLACE and place[0] in paper_cohorts else {}
            for panel, role in zip(panels[:, column], _ROWS, strict=True):
                rebuilt = _shares(folds, place[0], role, index)
                values[role] = divergences(folds, place[0], role, index)
                top = max(top, _draw_histograms(panel, sources, rebuilt, colours[role]))
                text = {"transform": panel.transAxes, "ha": "right", "va": "top", "fontsize": 6}
                panel.text(0.96, 0.97, _kld_text(values[role]), **text)
            heading = cohort_title(*place) if index == 0 else ""
            panels[0, column].set_title(f"{heading}\n$g$ = {contrasts[index]:g}", loc="left")
            panels[1, column].set_xlabel(f"intensity\n{_ratio_text(values, paper.get(float(contrasts[index])))}")
        panels[0, 0].set(xlim=(0, 1), ylim=(0, top * style.HEADROOM))
        panels[0, 0].set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        for panel, role in zip(panels[:, 0], _ROWS, strict=True):
            panel.set_ylabel(f"{pair[role]['label']}\ndensity")
        style.legend(figure, _handles(pair, colours, len(folds)), count, {})
    return figure


def _handles(pair: Arms, colours: Mapping[str, str], folds: int) -> list[Artist]:
    label, other = pair["conditioned"]["label"], pair["unconditioned"]["label"]
    return [
        Patch(color=_GREY, label="input $x^g$, healthy brain"),
        *(Line2D([], [], color=colours[role], label=f"{pair[role]['label']}, ensemble") for role in _ROWS),
        Line2D([], [], linestyle="", label=f"KLD ratio: {other} / {label}"),
        Line2D([], [], linestyle="", label="fold 0" if folds == 1 else f"{folds} folds"),
    ]


def _shares(folds: Sequence[Experiments], cohort: str, name: str, index: int) -> np.ndarray:
    """[folds, bins] of one contrast."""
    return np.stack([fold[f"histograms/{cohort}/{name}"][index] for fold in folds])


def divergences(folds: Sequence[Experiments], cohort: str, role: str, index: int) -> list[float]:
    """KL(input || reconstruction) of each fold's histograms at one contrast, in nats."""
    shares = (_shares(folds, cohort, name, index) for name in ("input", role))
    return [kl(p, q) for p, q in zip(*shares, strict=True)]


def _draw_histograms(panel: Axes, source: np.ndarray, rebuilt: np.ndarray, colour: str) -> float:
    """Draw densities, means over folds; returns the highest one between the end bins, which also hold what lies
    outside [0, 1].
    """
    bins = source.shape[1]
    edges = np.linspace(0, 1, bins + 1)
    densities = [values.mean(axis=0) * bins for values in (source, rebuilt)]
    panel.stairs(densities[0], edges, fill=True, color=_GREY)
    panel.stairs(densities[1], edges, color=colour, linewidth=0.7)
    return max(float(density[1:-1].max()) for density in densities)


def _kld_text(values: Sequence[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else ""
    return f"KLD {np.mean(values):.3g}{spread}"


def _ratio_text(values: Mapping[str, Sequence[float]], paper: float | None) -> str:
    ratio = np.mean(values["unconditioned"]) / np.mean(values["conditioned"])
    return f"KLD ratio {ratio:.3g}" + (f"\n(paper: {paper:.1f})" if paper else "")
