"""The sheet that a figure is drawn on: title, legend, room for axes, and a caption that says what marks mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clbench.reports.figures.figure_style import DPI, Look, fitting, text_width, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_EDGE = 0.06  # inches
_HANDLE, _BESIDE, _BETWEEN = 0.30, 0.06, 0.16


@dataclass(frozen=True)
class Entry:
    """An entry of the legend.

    Attributes:
        label: in words.
        line: properties of a `Line2D`.
    """

    label: str
    line: dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """Sizes of text in points, and the height of lines in inches, on a sheet of some width."""

    title: float
    text: float
    small: float

    @classmethod
    def of(cls, width: float) -> Sizes:
        return cls(9.0, 8.0, 6.5) if width > 4.5 else cls(8.0, 7.0, 6.0)

    @staticmethod
    def high(points: float) -> float:
        return points * 1.32 / 72


class Sheet:
    """A figure with its title and legend above and its caption below.

    Args:
        look: its looks.
        usual: width in inches where the user chose none.
        body: height of the room for axes, in inches.
        legend: entries, in as many lines as they need.
        caption: sentences.

    Attributes:
        figure: the matplotlib figure.
        width: in inches.
        bottom: of the room for axes, in inches.
        sizes: of text.
        dpi: pixels to an inch; more where a figure is as small as a paper has it.
    """

    def __init__(
        self, look: Look, usual: float, body: float, *, legend: Sequence[Entry] = (), caption: Sequence[str] = ()
    ) -> None:
        from matplotlib.figure import Figure

        self.look, self.width = look, look.inches(usual)
        self.sizes = Sizes.of(self.width)
        inside = self.width - 2 * _EDGE
        title = wrapped(look.title, self.sizes.title, inside, bold=True) if look.title else []
        rows = _flow(legend, self.sizes.text, inside)
        lines = wrapped(" ".join(caption), self.sizes.small, inside) if caption else []
        of_title, of_row, of_line = (Sizes.high(s) for s in (self.sizes.title, self.sizes.text, self.sizes.small))
        head = _EDGE + of_title * len(title) + of_row * 1.1 * len(rows) + (0.04 if title or rows else 0)
        self.bottom = _EDGE + of_line * len(lines) + (0.05 if lines else 0)
        self.height = self.bottom + body + head
        self.dpi = DPI if self.width > 8 else 2 * DPI
        self.figure: Figure = Figure(figsize=(self.width, self.height), dpi=self.dpi)
        y = self.height - _EDGE
        for line in title:
            self.write(_EDGE, y - of_title / 2, line, self.sizes.title, fontweight="bold")
            y -= of_title
        for row in rows:
            self._legend(row, y - of_row * 1.1 / 2)
            y -= of_row * 1.1
        for i, line in enumerate(lines):
            self.write(_EDGE, self.bottom - 0.05 - of_line * (i + 0.5), line, self.sizes.small, color=look.quiet)

    def write(self, x: float, y: float, text: str, size: float, **more: Any) -> None:
        """Text at a place in inches, its middle at that height."""
        whole = self.figure
        whole.text(x, y, text, fontsize=size, va="center_baseline", transform=whole.dpi_scale_trans, **more)

    def axes(self, left: float, bottom: float, wide: float, high: float, **more: Any) -> Axes:
        """Axes at a place in inches above the caption."""
        place = (
            left / self.width, (self.bottom + bottom) / self.height, wide / self.width, high / self.height,
        )  # fmt: skip
        axes: Axes = self.figure.add_axes(place, **more)
        axes.tick_params(labelsize=self.sizes.text - 0.5, length=2.5, pad=2)
        return axes

    def heads(self, panels: Sequence[tuple[Axes, str]], room: float) -> None:
        """The titles of axes, at their left, each in so many inches and all of one size."""
        fits = [fitting(text, self.sizes.text, room, bold=True) for _, text in panels]
        least = min((size for _, size in fits), default=self.sizes.text)
        for (axes, _), (text, _) in zip(panels, fits, strict=True):
            axes.set_title(text, loc="left", fontsize=least, fontweight="bold", pad=4)

    def _legend(self, row: Sequence[tuple[float, Entry, str, float]], y: float) -> None:
        from matplotlib.lines import Line2D

        for x, entry, text, size in row:
            style = {"markersize": 4.0, "linewidth": 1.3, **entry.line}
            ends = [x, x + _HANDLE / 2, x + _HANDLE]
            place = self.figure.dpi_scale_trans
            self.figure.add_artist(Line2D(ends, [y] * 3, markevery=[1], transform=place, **style))
            self.write(x + _HANDLE + _BESIDE, y, text, size)


def _flow(entries: Sequence[Entry], size: float, width: float) -> list[list[tuple[float, Entry, str, float]]]:
    """Entries in lines: the left end of each, what it is, and its text and size."""
    rows: list[list[tuple[float, Entry, str, float]]] = []
    x = width
    for entry in entries:
        text, fits = fitting(entry.label, size, width - _HANDLE - _BESIDE)
        wide = _HANDLE + _BESIDE + text_width(text, fits)
        if not rows or x + wide > width:
            rows.append([])
            x = 0.0
        rows[-1].append((_EDGE + x, entry, text, fits))
        x += wide + _BETWEEN
    return rows


def balanced(count: int, most: int) -> int:
    """Panels side by side, at most so many, so that rows are about equally long.

    >>> balanced(5, 4), balanced(4, 4), balanced(1, 4)
    (3, 4, 1)
    """
    rows = -(-count // most)
    return -(-count // rows)


@dataclass(frozen=True)
class Grid:
    """Panels of one size in rows, in inches.

    Attributes:
        count: panels.
        columns: side by side.
        width: of the figure.
        tall: height of a panel's axes.
        left: of the first panel, for its labels; also between panels where each has its own (`between`).
        between: from one panel to the next.
        right: of the last panel.
        head: above a panel, for its title.
        ticks: below a panel, for the labels of its ticks.
        foot: below all of them, for the label of the axis.
    """

    count: int
    columns: int
    width: float
    tall: float
    left: float = 0.46
    between: float = 0.34
    right: float = 0.15
    head: float = 0.22
    ticks: float = 0.22
    foot: float = 0.17

    @property
    def rows(self) -> int:
        return -(-self.count // self.columns)

    @property
    def wide(self) -> float:
        """Width of a panel's axes."""
        return (self.width - self.left - self.right - self.between * (self.columns - 1)) / self.columns

    @property
    def body(self) -> float:
        """Height of all panels."""
        return self.rows * (self.head + self.tall + self.ticks) + self.foot

    def place(self, index: int) -> tuple[float, float, float, float]:
        """Left end, bottom, width and height of a panel's axes; see `Sheet.axes`."""
        row, column = divmod(index, self.columns)
        bottom = self.body - (row + 1) * (self.head + self.tall) - row * self.ticks
        return self.left + column * (self.wide + self.between), bottom, self.wide, self.tall

    def lowest(self, index: int) -> bool:
        """True if no panel is below."""
        return index + self.columns >= self.count
