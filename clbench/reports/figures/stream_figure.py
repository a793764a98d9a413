"""The figure of a stream: samples of every class, or of every task, in every experience.

Rows are tasks where all tasks have the same classes, and classes in their order of entry otherwise. Darker means more
samples, on a scale that also reads in grey; white means none. Every drawn cell is a whole number of pixels, and where
there are more experiences or classes than fit, a cell is the mean over a block of them: nothing is skipped, and no
pattern appears that is not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clbench.reports import stream_card
from clbench.reports.figures import figure_style
from clbench.stream import Stream

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = figure_style.DPI
_LEFT, _RIGHT, _HEAD, _FOOT = 0.65, 0.92, 0.62, 0.48  # inches
_NAMES = 0.47  # more at the right, where tasks are named there
_WIDE, _NARROW, _CELL_WIDE = 1110, 540, 54  # pixels: most, least, and what a cell gets where there are few
_TALL, _CELL_TALL = 600, 30
_LEAST = 2  # pixels of a cell
_NAMED = 30  # rows that have a name each
_WRITTEN = (12, 20)  # columns and rows up to which cells say their numbers
_TASKS = 20  # blocks of classes that have a name each
_SHADES = ("#d6e8f5", "#8fc1e3", "#3d93c8", "#0072B2", "#003f6a")  # from the first colour of the other pictures


@dataclass(frozen=True)
class Grid:
    """Contents of the figure.

    Attributes:
        samples: mean number of samples of each row in each column, (rows, columns).
        experiences: of one column; the last one may hold fewer.
        members: classes (or tasks) of one row; the last one may hold fewer.
        rows: what the rows are: "class" or "task".
        ids: of all classes (or tasks) in their order.
        blocks: task and number of classes of each block of neighbours that one task has; empty where tasks share
            classes, or have one each.
    """

    samples: NDArray[np.float64]
    experiences: int
    members: int
    rows: str
    ids: tuple[int, ...]
    blocks: tuple[tuple[int, int], ...]


def grid(stream: Stream, columns: int = _WIDE // _LEAST, rows: int = _TALL // _LEAST) -> Grid:
    """Samples by experience and class or task.

    Args:
        stream: an outline of its data set is enough.
        columns, rows: the most there may be.
    """
    contents = stream_card.count(stream)
    entered = list(dict.fromkeys(c for t in stream.tasks for c in t.classes))
    kind, ids, samples, blocks = "class", tuple(entered), contents.classes[:, entered], _blocks(stream)
    same = all(set(t.classes) == set(entered) for t in stream.tasks)
    if same and len(stream.tasks) > 1:
        kind, ids, samples = "task", tuple(t.id for t in stream.tasks), contents.tasks
    across, down = -(-samples.shape[0] // columns), -(-samples.shape[1] // rows)
    return Grid(means(means(samples.astype(np.float64), across).T, down), across, down, kind, ids, blocks)


def _blocks(stream: Stream) -> tuple[tuple[int, int], ...]:
    sizes = [len(t.classes) for t in stream.tasks]
    apart = sum(sizes) == len({c for t in stream.tasks for c in t.classes})
    return tuple(zip(range(len(sizes)), sizes, strict=True)) if apart and 1 < len(sizes) < sum(sizes) else ()


def means(values: NDArray[np.float64], block: int) -> NDArray[np.float64]:
    """Means over blocks of rows; the last block may be smaller.

    >>> means(np.array([[1.0], [3.0], [7.0]]), 2).tolist()
    [[2.0], [7.0]]
    """
    starts = np.arange(0, len(values), block)
    sizes = np.diff(starts, append=len(values))
    return np.asarray(np.add.reduceat(values, starts, axis=0) / sizes[:, None])


def draw(name: str, stream: Stream, suffix: str) -> bytes:
    """Writes the figure to a file.

    Args:
        name: the benchmark's id.
        stream: an outline of its data set is enough.
        suffix: .png, .svg or .pdf.
    """
    return figure_style.rendered(lambda: figure(name, stream), suffix)


def figure(name: str, stream: Stream) -> Figure:
    """The matplotlib figure; independent of `pyplot` and of the user's settings."""
    drawn = grid(stream)
    rows, columns = drawn.samples.shape
    wide = columns * max(-(-_NARROW // columns) if columns < 10 else 0, min(_CELL_WIDE, _WIDE // columns))
    tall = rows * max(_LEAST, min(_CELL_TALL, _TALL // rows))

    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", figure_style.STYLE], after_reset=True):
        right = _RIGHT + _NAMES * _named(drawn)
        left, right, head, foot = (round(inches * _DPI) for inches in (_LEFT, right, _HEAD, _FOOT))
        width, height = left + wide + right, head + tall + foot
        whole = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
        axes = whole.add_axes((left / width, foot / height, wide / width, tall / height))
        image = _cells(axes, drawn, len(stream.experiences))
        _task_blocks(axes, stream)
        _columns(axes, stream, drawn)
        _rows(axes, drawn)
        _blocks_named(axes, drawn)
        _scale(whole, axes, image, drawn)
        _title(axes, name, stream, drawn, (width - left) / _DPI)
    return whole


def _named(drawn: Grid) -> bool:
    """True if there are blocks, few enough for a name each."""
    return 0 < len(drawn.blocks) <= _TASKS


# ------------------------------------------------------------------------------------------------ drawing
def _cells(axes: Axes, drawn: Grid, experiences: int) -> Any:
    """The cells in their shades, and their numbers where they are few."""
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    shades = LinearSegmentedColormap.from_list("samples", _SHADES).with_extremes(bad="white")
    values = np.ma.masked_equal(drawn.samples, 0)
    least, most = float(values.min()), float(values.max())
    norm = PowerNorm(1.0 if 20 * least >= most else 0.5, 0, most)  # the root keeps small numbers apart from each other
    rows, columns = drawn.samples.shape
    edges = (-0.5, columns * drawn.experiences - 0.5, rows * drawn.members - 0.5, -0.5)
    image = axes.imshow(
        values, cmap=shades, norm=norm, aspect="auto", interpolation="nearest", extent=edges, zorder=0.5
    )
    if columns <= _WRITTEN[0] and rows <= _WRITTEN[1] and experiences == columns:
        for r, c in np.argwhere(drawn.samples > 0).tolist():
            n = drawn.samples[r, c]
            dark = float(norm(n)) > 0.45
            axes.text(c, r, f"{n:,.0f}", ha="center", va="center", fontsize=7, color="white" if dark else "0.15")
    return image


def _task_blocks(axes: Axes, stream: Stream) -> None:
    """A line at the start of each experience with several sub-experiences, where they are few."""
    starts = np.flatnonzero(np.diff(stream.origins(), prepend=-1))
    if 1 < len(starts) < len(stream.experiences) and len(starts) <= 50:
        axes.vlines(starts[1:] - 0.5, 0, 1, transform=axes.get_xaxis_transform(), color="0.6", linewidth=0.7, zorder=1)


def _columns(axes: Axes, stream: Stream, drawn: Grid) -> None:
    from matplotlib.ticker import MaxNLocator

    number = len(stream.experiences)
    blocks = len(np.unique(stream.origins()))
    label = "experience" if blocks == number else f"experience ({number:,}, parts of {blocks:,} visits)"
    if drawn.experiences > 1:
        label += f"; a column is the mean of {drawn.experiences:,}"
    axes.set_xlabel(label)
    places = MaxNLocator(10, integer=True, steps=[1, 2, 5, 10]).tick_values(0, max(number - 1, 1))
    axes.set_xticks(list(range(number)) if number <= 20 else [p for p in places if 0 <= p < number])
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(length=2)


def _rows(axes: Axes, drawn: Grid) -> None:
    """Names of rows, or their numbers where they are many."""
    number = len(drawn.ids)
    natural = drawn.ids == tuple(range(number))
    label = drawn.rows
    if number <= _NAMED:
        axes.set_yticks(range(number), [str(i) for i in drawn.ids])
        label += "" if natural else ", in order of entry"
    else:
        from matplotlib.ticker import MaxNLocator

        places = MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]).tick_values(0, number - 1)
        axes.set_yticks([p for p in places if 0 <= p < number])
        label += "" if natural else " (place in order of entry)"
        if drawn.members > 1:
            label += f"; a row is the mean of {drawn.members:,}"
    axes.set_ylabel(label)


def _blocks_named(axes: Axes, drawn: Grid) -> None:
    """Tasks of several classes: lines between them, and their names at the right."""
    if not _named(drawn):
        return
    ends = np.cumsum([size for _, size in drawn.blocks])
    axes.hlines(ends[:-1] - 0.5, 0, 1, transform=axes.get_yaxis_transform(), color="0.75", linewidth=0.5, zorder=1)
    for (task, size), end in zip(drawn.blocks, ends.tolist(), strict=True):
        axes.annotate(
            f"task {task}", (1, end - (size + 1) / 2), xytext=(4, 0), xycoords=axes.get_yaxis_transform(),
            textcoords="offset points", va="center", fontsize=7.5, color="0.3", annotation_clip=False,
        )  # fmt: skip


def _scale(whole: Figure, axes: Axes, image: Any, drawn: Grid) -> None:
    """Legend of the shades."""
    from matplotlib.ticker import MaxNLocator

    place, width, height = axes.get_position(), whole.get_figwidth(), whole.get_figheight()
    none = 0.11 / height  # a white box below the scale, which begins with the least that there can be
    left = place.x1 + (0.2 + _NAMES * _named(drawn)) / width
    bar = whole.add_axes((left, place.y0 + 1.6 * none, 0.12 / width, place.height - 1.6 * none))
    whole.colorbar(image, cax=bar)
    bar.tick_params(labelsize=7, length=2)
    most = float(image.norm.vmax)
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10], integer=most >= 5).tick_values(0, most)
    bar.set_yticks([t for t in ticks if 0 < t <= most])
    bar.yaxis.set_major_formatter("{x:,g}")
    bar.set_title("samples", fontsize=7, pad=5, loc="left")
    box = whole.add_axes((left, place.y0, 0.12 / width, none), xticks=[])
    box.set_yticks([0.5], ["0"])
    box.yaxis.tick_right()
    box.tick_params(labelsize=7, length=2)
    box.spines[:].set_visible(True)


def _title(axes: Axes, name: str, stream: Stream, drawn: Grid, room: float) -> None:
    """Title with the stream; long ids in smaller letters.

    Args:
        room: inches for the title.
    """
    title = f"{name}, seed {stream.seed}: samples of each {drawn.rows} in each experience"
    few = f"definition {stream.definition_hash[:12]}, instance {stream.instance_hash[:12]}, data {stream.data.name}"
    few += ", with and without a label" if any(v.unlabelled for v in stream.experiences) else ""
    fitting = 72 * room / (0.68 * len(title))  # as in the pictures of runs
    smaller = 72 * room / (0.6 * len(few))  # letters that are not bold are narrower
    axes.set_title(title, loc="left", pad=20, fontweight="bold", fontsize=min(8.5, fitting))
    axes.annotate(
        few,
        (0, 1),
        xytext=(0, 7),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=min(7, smaller),
        color="0.3",
    )
