"""Panels of cells in shades, with their numbers where these fit: matrices of several methods side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clbench.errors import UserError
from clbench.reports.figures.figure_sheet import Grid, Sheet, Sizes, balanced
from clbench.reports.figures.figure_style import Look, text_width, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

MOST_PANELS = 40
"""Largest number of panels of a figure."""

_WIDTH = 6.75
_SHADES = ("#ffffff", "#d6e8f5", "#8fc1e3", "#3d93c8", "#0072B2", "#003f6a")  # lightness falls evenly: reads in grey
_DARK_SHADES = ("#1d2127", "#0b3a5b", "#0f5f93", "#3d93c8", "#8fc1e3", "#eaf4fb")
_NOTHING, _DARK_NOTHING = "#dedede", "#3c4047"
_LEAST = 4.5  # points of a number
_CELLS = 2500  # drawn as rectangles; more are a picture
_BAR = 0.42  # room of the colour bar, in inches
_WIDEST = 2.4  # inches of a panel


@dataclass(frozen=True)
class Panel:
    """A matrix.

    Attributes:
        title: above it, in lines.
        values: (rows, columns), in percent or of a measure; NaN is a cell without a value.
        rows, columns: names of them.
    """

    title: tuple[str, ...]
    values: NDArray[np.float64]
    rows: tuple[str, ...]
    columns: tuple[str, ...]


def figure(
    panels: Sequence[Panel], *, look: Look, down: str, across: str, bar: str, caption: Sequence[str],
    percent: bool = True,
) -> Figure:  # fmt: skip
    """The matplotlib figure.

    Args:
        panels: at least one.
        look: width, title, light or dark.
        down, across: what rows and columns are.
        bar: what the shades are.
        caption: sentences.
        percent: whether values are in percent; else shades go from 0 to the largest value.

    Raises:
        UserError: more than `MOST_PANELS` panels.
    """
    if len(panels) > MOST_PANELS:
        raise UserError(f"{len(panels)} panels, allowed are up to {MOST_PANELS}; name some of the folders.")
    width = look.inches(_WIDTH)
    cells = max(panel.values.shape[1] for panel in panels)
    most = (2 if cells <= 5 else 1) if width < 4.5 else (4 if cells <= 5 else 3 if cells <= 10 else 2)
    columns = balanced(len(panels), most)
    wide = min(_WIDEST, Grid(1, columns, width, 1.0, right=_BAR + 0.12).wide)
    tall = min(wide, 3.0) if max(len(p.values) for p in panels) <= 2 * cells else 1.4 * min(wide, 2.5)
    free = Grid(1, columns, width, 1.0, right=_BAR + 0.12).wide * columns - wide * columns
    sizes = Sizes.of(width)
    titles = [
        [line for text in p.title for line in wrapped(text, sizes.text - 0.5, wide + 0.2, bold=True)] for p in panels
    ]
    head = 0.08 + sizes.high(sizes.text - 0.5) * max(map(len, titles))
    grid = Grid(len(panels), columns, width, tall, right=_BAR + 0.12 + free, head=head, ticks=0.2)
    import matplotlib.style

    with matplotlib.style.context(["default", look.settings()], after_reset=True):
        sheet = Sheet(look, _WIDTH, grid.body, caption=caption)
        top = 100.0 if percent else _top(panels)
        size = min(_fitting(panel, grid, top) for panel in panels)
        for i, (panel, title) in enumerate(zip(panels, titles, strict=True)):
            axes = sheet.axes(*grid.place(i))
            _cells(axes, panel, sheet, grid, size, top)
            axes.set_title("\n".join(title), loc="left", fontsize=sizes.text - 0.5, fontweight="bold", pad=4)
            if i % columns == 0:
                axes.set_ylabel(down, fontsize=sheet.sizes.text, labelpad=2)
            if grid.lowest(i):
                axes.set_xlabel(across, fontsize=sheet.sizes.text, labelpad=2)
        left, bottom, _, high = grid.place(columns - 1)
        _colour_bar(sheet.axes(left + grid.wide + 0.08, bottom, 0.09, high), bar, sheet, top)
        return sheet.figure


def _map(look: Look) -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("shades", _DARK_SHADES if look.dark else _SHADES)
    return shades.with_extremes(bad=_DARK_NOTHING if look.dark else _NOTHING)


def _top(panels: Sequence[Panel]) -> float:
    """The largest value of all panels, of which the shades are shares."""
    known = np.concatenate([panel.values[np.isfinite(panel.values)] for panel in panels])
    return float(known.max(initial=0.0)) or 1.0


def _numbers(panel: Panel, top: float) -> list[str]:
    """Cells as text: whole numbers up to 100, of other scales three digits of the largest."""
    places = 0 if top == 100 else min(max(2 - int(np.floor(np.log10(top))), 0), 8)
    return ["" if np.isnan(v) else f"{v:.{places}f}" for v in panel.values.ravel()]


def _fitting(panel: Panel, grid: Grid, top: float) -> float:
    """The largest size in points with which the numbers of a panel fit its cells."""
    rows, columns = panel.values.shape
    longest = max((text_width(text, 10.0) for text in set(_numbers(panel, top))), default=0.0)
    across = 10.0 * 0.82 * grid.wide / columns / longest if longest else 10.0
    return float(min(across, 72 * 0.8 * grid.tall / rows))


def _cells(axes: Axes, panel: Panel, sheet: Sheet, grid: Grid, number: float, top: float) -> None:
    """Draws a matrix, its ticks, and its numbers where their size in points can be read."""
    rows, columns = panel.values.shape
    shades = _map(sheet.look)
    values = np.ma.masked_invalid(panel.values)
    if values.size <= _CELLS:
        axes.set_facecolor(_DARK_NOTHING if sheet.look.dark else _NOTHING)
        axes.pcolormesh(
            np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5, values, cmap=shades, vmin=0, vmax=top,
            edgecolors="face", linewidth=0.2,
        )  # fmt: skip
    else:
        axes.imshow(values, cmap=shades, vmin=0, vmax=top, aspect="auto", interpolation="antialiased")
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.spines[["top", "right"]].set_visible(True)
    size = sheet.sizes.small
    high = sheet.sizes.high(size)
    for names, room, put, turned in (
        (panel.columns, grid.wide / columns, axes.set_xticks, False),
        (panel.rows, grid.tall / rows, axes.set_yticks, True),
    ):
        need = high if turned else max(text_width(name, size) for name in names) + 0.05
        step = max(1, int(np.ceil(need / room)))
        shown = range(0, len(names), step)
        put(list(shown), [names[i] for i in shown], fontsize=size)
    if number < _LEAST:
        return
    for place, text in enumerate(_numbers(panel, top)):
        row, column = divmod(place, columns)
        if text:
            ink = _ink(shades(panel.values[row, column] / top))
            axes.text(
                column,
                row,
                text,
                ha="center",
                va="center_baseline",
                fontsize=min(number, sheet.sizes.text - 0.5),
                color=ink,
            )


def _ink(ground: Any) -> str:
    """Black or white, whichever is farther from a colour (contrast as in WCAG 2.1)."""
    channels = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in ground[:3]]
    luminance = 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]
    return "#000000" if luminance > 0.179 else "#ffffff"


def _colour_bar(axes: Axes, words: str, sheet: Sheet, top: float) -> None:
    """The scale of the shades."""
    steps = np.linspace(0, 100, 101)
    edges = np.linspace(-0.5, 100.5, 102)
    axes.pcolormesh(
        [0, 1], edges, steps[:, None], cmap=_map(sheet.look), vmin=0, vmax=100, edgecolors="face", linewidth=0.2
    )
    axes.set_ylim(0, 100)
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.set_yticks([0, 50, 100], ["0", f"{top / 2:.3g}", f"{top:.3g}"])
    axes.tick_params(labelsize=sheet.sizes.small)
    axes.set_ylabel(words, fontsize=sheet.sizes.small, labelpad=0)
    axes.spines[["top", "right"]].set_visible(True)
