"""Figures of finished runs, from their files alone: accuracy on every task at every evaluation, one panel a run.

The colours of up to seven tasks are those of Okabe and Ito 2008 without the yellow, which is faint on white; they stay
apart for colour-blind readers. More tasks take steps of `viridis`. Same files, same matplotlib: same bytes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clbench.errors import UserError
from clbench.formatting import ranges
from clbench.labels import distinguished, settings
from clbench.metrics import METRICS
from clbench.metrics.definition import accuracy_matrix, boundaries, first_visit
from clbench.reports import figure_style
from clbench.reports.figure_style import DPI, PALETTE, STYLE
from clbench.results.load import Run
from clbench.trace import NOT_EVALUATED, Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_RUNS = 12
"""Largest number of panels of a figure."""

_WIDTH, _LEFT, _RIGHT = 9.0, 0.65, 0.75  # inches

_HEAD, _PANEL, _LOSS, _GAP, _FOOT = 0.52, 2.3, 0.8, 0.12, 0.48

_LINE = 0.135  # a line of text

_LABELLED = 16  # tasks that have room for a label each; more get a colour bar

_DOTTED = 100  # evaluations that are each shown as a dot; more are a line only

_COLUMNS = round((_WIDTH - _LEFT - _RIGHT) * DPI)


def draw(
    runs: Sequence[Run],
    suffix: str,
    *,
    view: str | None = None,
    tasks: Sequence[int] | None = None,
    loss: bool = False,
    first: int | None = None,
) -> bytes:
    """Writes the figure of up to `MOST_RUNS` runs to a file.

    Args:
        runs: each gets a panel.
        suffix: .png, .svg or .pdf.
        view: the view; each run's primary one where not given.
        tasks: tasks to draw; all where not given.
        loss: whether the training loss of every update is drawn below each panel.
        first: updates of each experience that are drawn, >= 1; all where not given.

    Raises:
        UserError: a run without that view or one of those tasks.
    """
    whole = figure(runs, view=view, tasks=tasks, loss=loss, first=first)
    return figure_style.rendered(whole, suffix)


def figure(
    runs: Sequence[Run],
    *,
    view: str | None = None,
    tasks: Sequence[int] | None = None,
    loss: bool = False,
    first: int | None = None,
) -> Figure:
    """The matplotlib figure; independent of `pyplot` and of the user's settings."""
    names = distinguished((run.record.config.strategy.name, settings(run.record.raw["config"])) for run in runs)
    checked = zip(_checked(runs, view, tasks), names, strict=True)
    panels = [_Panel(run, name, view, tasks, first) for run, name in checked]

    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", STYLE], after_reset=True):
        row = _HEAD + _PANEL + (_GAP + _LOSS if loss else 0)
        height = row * len(panels) + _FOOT
        whole = Figure(figsize=(_WIDTH, height), dpi=DPI)
        end = max(int(panel.trace.iteration[-1]) for panel in panels) or 1
        lowest = min(panel.lowest for panel in panels)
        top_axes: Axes | None = None
        for i, panel in enumerate(panels):
            top = height - row * i - _HEAD
            last = axes = _axes(whole, top - _PANEL, _PANEL, height, top_axes)
            top_axes = top_axes or axes
            axes.set_xlim(0, end)
            axes.set_ylim(100 * lowest - 2, 102)
            _accuracy(axes, panel)
            if loss:
                axes.tick_params(labelbottom=False)
                last = _axes(whole, top - _PANEL - _GAP - _LOSS, _LOSS, height, top_axes)
                _loss(last, panel)
            if i < len(panels) - 1:
                last.tick_params(labelbottom=False)
        last.set_xlabel("updates" if first is None else f"updates, the first {first:,} of each experience")
        last.xaxis.set_major_formatter("{x:,.0f}")
    return whole


def _checked(runs: Sequence[Run], view: str | None, tasks: Sequence[int] | None) -> Sequence[Run]:
    """The runs, if each has the requested view and tasks."""
    problems: list[str] = []
    for run in runs:
        count = run.trace.visits.shape[1]
        problems += [
            f"{run.directory}: --tasks: there is no task {task}. Allowed: 0 to {count - 1}."
            for task in tasks or ()
            if task >= count
        ]
        try:
            run.view(view)
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(*problems)
    return runs


class _Panel:
    """Contents of a run's panel.

    Attributes:
        trace: with experiences that were cut from one joined, as the metrics see it.
        accuracy: (E, T) in [0, 1], NaN where not evaluated.
        tasks: those drawn, ascending.
        boundaries: updates done before each experience, and at the end, (V + 1,).
        levels: accuracy before each experience of each task visited earlier, (V, T); NaN elsewhere.
    """

    def __init__(self, run: Run, name: str, view: str | None, tasks: Sequence[int] | None, first: int | None) -> None:
        self._label, self.view = run.record.called(name), run.view(view)
        whole = run.trace.by_origin()
        self._numbers = {n: METRICS[n].compute(whole, self.view).value for n in ("average_accuracy", "min_acc")}
        self.trace = whole if first is None else starts(whole, first)
        self.accuracy = self.trace.task_accuracy(self.view)
        visits, count = self.trace.visits, self.trace.visits.shape[1]
        self.tasks = sorted(set(range(count) if tasks is None else tasks))
        self.boundaries = boundaries(self.trace)
        self.levels = np.full(visits.shape, np.nan)
        self.levels[1:] = accuracy_matrix(whole, self.view)[:-1]
        self.levels[first_visit(visits) >= np.arange(len(visits))[:, None]] = np.nan

    @property
    def lowest(self) -> float:
        """The lowest tenth that is below everything drawn, in [0, 0.9]."""
        drawn = self.accuracy[:, self.tasks]
        known = drawn[~np.isnan(drawn)]
        return min(math.floor(10 * known.min()) / 10, 0.9) if known.size else 0.0

    @property
    def title(self) -> str:
        """Label of the run, its ACC and min-ACC, and what is not drawn."""
        numbers = []
        for name, words in (("average_accuracy", "ACC"), ("min_acc", "min-ACC")):
            value = self._numbers[name]
            numbers.append(f"{words} " + ("undefined" if math.isnan(value) else f"{100 * value:.1f} %"))
        dark = [i for i in self.tasks if np.isnan(self.accuracy[:, i]).all()]
        unseen = f"; {named(dark)} never evaluated" if dark else ""
        return f"{self._label}, view {self.view}: {', '.join(numbers)}{unseen}"


def starts(trace: Trace, updates: int) -> Trace:
    """The first updates of each experience, one after the other, with their evaluations."""
    b = boundaries(trace)
    length = np.minimum(np.diff(b), updates)
    shift = b[:-1] - np.concatenate([[0], np.cumsum(length)[:-1]])  # how far each experience moves to the left
    kept = np.flatnonzero(trace.iteration - b[trace.experience] <= updates)
    new = np.flatnonzero(np.diff(trace.experience[kept])) + 1  # a gap there, so that no line joins what was cut apart
    used = np.concatenate([np.arange(s, s + n) for s, n in zip(b, length, strict=False)])
    return dataclasses.replace(
        trace,
        correct={view: np.insert(c[kept], new, NOT_EVALUATED, axis=0) for view, c in trace.correct.items()},
        iteration=np.insert(i := trace.iteration[kept] - shift[trace.experience[kept]], new, i[new]),
        experience=np.insert(e := trace.experience[kept], new, e[new]),
        phase=np.insert(p := trace.phase[kept], new, p[new]),
        loss=trace.loss[used[used < len(trace.loss)]],
        bits={},
        extra={},
    )


def named(tasks: Sequence[int]) -> str:
    """Tasks in a few words; neighbours as a range.

    >>> named([3]), named([0, 1, 2, 5]), named([])
    ('task 3', 'tasks 0-2, 5', 'no task')
    """
    if not len(tasks):
        return "no task"
    return f"{'task' if len(tasks) == 1 else 'tasks'} {ranges(tasks)}"


def _axes(whole: Figure, bottom: float, tall: float, height: float, above: Axes | None) -> Axes:
    """Axes at a position in inches, sharing the x axis of those above."""
    place = (_LEFT / _WIDTH, bottom / height, (_WIDTH - _LEFT - _RIGHT) / _WIDTH, tall / height)
    axes = whole.add_axes(place, sharex=above)
    axes.yaxis.set_label_coords(-0.48 / (_WIDTH - _LEFT - _RIGHT), 0.5)
    return axes


def _colours(tasks: int) -> list[Any]:
    """A colour for each task."""
    if tasks <= len(PALETTE):
        return list(PALETTE[:tasks])
    from matplotlib import colormaps

    return list(colormaps["viridis"](np.linspace(0, 0.92, tasks)))


def _accuracy(axes: Axes, panel: _Panel) -> None:
    """Draws lines, task boundaries, levels, labels and title of one run."""
    from matplotlib.collections import LineCollection

    left, right = axes.get_xlim()
    x = panel.trace.iteration.astype(np.float64)
    colours = dict(zip(range(panel.accuracy.shape[1]), _colours(panel.accuracy.shape[1]), strict=True))
    _draw_boundaries(axes, panel)

    wide = np.flatnonzero(np.diff(panel.boundaries) * _COLUMNS > 4 * (right - left))  # narrow ones hide the lines
    segments, of = [], []
    for task in panel.tasks:
        for v in wide[~np.isnan(panel.levels[wide, task])]:
            level = 100 * panel.levels[v, task]
            segments.append([(panel.boundaries[v], level), (panel.boundaries[v + 1], level)])
            of.append(colours[task])
    axes.add_collection(LineCollection(segments, colors=of, linewidths=0.9, linestyles=(0, (1, 1.5)), zorder=1.5))

    ends: list[tuple[int, float, float]] = []
    for task in panel.tasks:
        y = 100 * panel.accuracy[:, task]
        known = np.flatnonzero(~np.isnan(y))
        if not len(known):
            continue
        kept = thinned(x, y, _COLUMNS, (left, right))
        axes.plot(x[kept], y[kept], color=colours[task], linewidth=1.1, zorder=2 + task / 1e4)
        dots = known if len(y) <= _DOTTED else _alone(y)
        axes.plot(x[dots], y[dots], ".", color=colours[task], markersize=3.5, zorder=2 + task / 1e4)
        ends.append((task, float(x[known[-1]]), float(y[known[-1]])))
    if len(panel.tasks) <= _LABELLED:
        _labels(axes, ends, colours, float(panel.boundaries[-1]))
    else:
        _colour_bar(axes, panel, colours)
    axes.set_ylabel("accuracy (%)")
    fitting = 72 * (_WIDTH - _LEFT) / (0.66 * len(panel.title))  # bold letters are 0.66 of their size wide, on average
    size = min(8.5, fitting)
    axes.set_title(panel.title, loc="left", pad=8 + 72 * _LINE, fontweight="bold", fontsize=size)


def thinned(
    x: NDArray[np.float64], y: NDArray[np.float64], columns: int, limits: tuple[float, float]
) -> NDArray[np.int64]:
    """Points that suffice to draw a line: of each pixel column the first, last, lowest and highest.

    Every extreme and every gap stays; a line of few points stays whole.

    Args:
        x: ascending, (E,).
        y: (E,), NaN in gaps.
        columns: pixel columns between the limits.
        limits: the ends of the axis.

    Returns:
        Indices, ascending.

    >>> y = np.array([5.0, 5, 5, 1, 5, 5, np.nan, 5, 5, 5])
    >>> thinned(np.arange(10.0), y, 1, (0, 10)).tolist()
    [0, 3, 5, 6, 7, 9]
    """
    if len(x) <= 4 * columns:
        return np.arange(len(x))
    column = np.clip((x - limits[0]) * columns / (limits[1] - limits[0]), 0, columns - 1).astype(np.int64)
    gap = np.isnan(y)
    edge = np.flatnonzero(gap[1:] != gap[:-1])
    first = np.flatnonzero(np.diff(column, prepend=-1))
    last = np.append(first[1:], len(x)) - 1
    order = np.lexsort((np.where(gap, np.inf, y), column))  # by column, then by height
    lowest = order[first]
    order = np.lexsort((np.where(gap, np.inf, -y), column))
    highest = order[first]
    return np.unique(np.concatenate([first, last, lowest, highest, edge, edge + 1]))


def _alone(y: NDArray[np.float64]) -> NDArray[np.int64]:
    """Points between two gaps, of which a line shows nothing."""
    gap = np.concatenate([[True], np.isnan(y), [True]])
    return np.flatnonzero(~gap[1:-1] & gap[:-2] & gap[2:])


def _lines(axes: Axes, panel: _Panel) -> None:
    """A vertical line where each experience but the first starts, and where a run ends before the axis does."""
    at = panel.boundaries[1:][panel.boundaries[1:] < axes.get_xlim()[1]]
    low, high = axes.get_ylim()
    axes.vlines(at, low, high, color="0.6", linewidth=0.7 if len(at) <= 50 else 0.25, zorder=1)
    axes.set_ylim(low, high)


def _draw_boundaries(axes: Axes, panel: _Panel) -> None:
    """The lines, and each experience's tasks above it where there is room."""
    from matplotlib.transforms import blended_transform_factory

    _lines(axes, panel)
    place = blended_transform_factory(axes.transData, axes.transAxes)
    left, right = axes.get_xlim()
    inches = (_WIDTH - _LEFT - _RIGHT) / (right - left)
    free = -math.inf
    for v, (start, end) in enumerate(zip(panel.boundaries[:-1], panel.boundaries[1:], strict=True)):
        words = named(np.flatnonzero(panel.trace.visits[v]).tolist())
        for text in (words, words.partition(" ")[2]):
            wide = 0.062 * len(text) + 0.06  # a generous width of 7-point letters, in inches
            middle = (start + end) / 2 * inches
            if text and wide <= (end - start) * inches and middle - wide / 2 >= free:
                axes.text(
                    (start + end) / 2, 1.015, text, transform=place, ha="center", va="bottom", fontsize=7, color="0.3"
                )
                free = middle + wide / 2
                break


def _labels(axes: Axes, ends: Iterable[tuple[int, float, float]], colours: dict[int, Any], end: float) -> None:
    """Task labels right of the run, at the height of each line's end, moved apart where they would overlap.

    Args:
        axes: those of the run.
        ends: task, and the last point of its line.
        colours: of each task.
        end: updates of the run.
    """
    ends = sorted(ends, key=lambda e: (e[2], -e[0]))
    low, high = axes.get_ylim()
    right = axes.get_xlim()[1]
    spots = apart([y for _, _, y in ends], _LINE * (high - low) / _PANEL, low, high)
    column = end + right * 0.18 / (_WIDTH - _LEFT - _RIGHT)
    for (task, x, y), spot in zip(ends, spots, strict=True):
        words: dict[str, Any] = {"color": colours[task], "fontsize": 7.5, "va": "center", "annotation_clip": False}
        if x == end:  # a connection across the panel would look like data
            words["arrowprops"] = {
                "arrowstyle": "-",
                "color": colours[task],
                "linewidth": 0.5,
                "shrinkA": 1,
                "shrinkB": 2,
                "relpos": (0, 0.5),
            }
        axes.annotate(f"task {task}", (x, y), xytext=(column, spot), textcoords="data", **words)


def apart(heights: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Ascending heights moved as little as needed to be `least` apart, between `low` and `high` where they fit.

    >>> apart([1.0, 1.0, 9.0], 2.0, 0.0, 10.0)
    [0.0, 2.0, 9.0]
    >>> apart([9.5, 9.6], 2.0, 0.0, 10.0)
    [8.0, 10.0]
    """
    blocks: list[list[float]] = []  # lowest, number, sum of the wished lowest
    for y in heights:
        blocks.append([y, 1, y])
        while True:
            _, number, wish = blocks[-1]
            blocks[-1][0] = min(max(wish / number, low), high - least * (number - 1))
            if len(blocks) < 2 or blocks[-2][0] + least * blocks[-2][1] <= blocks[-1][0]:
                break
            below = blocks[-2]
            merged = below[2] + wish - number * below[1] * least
            blocks[-2:] = [[0.0, below[1] + number, merged]]
    return [start + least * i for start, number, _ in blocks for i in range(int(number))]


def _colour_bar(axes: Axes, panel: _Panel, colours: dict[int, Any]) -> None:
    """Colour bar of the tasks, where there are too many for separate labels."""
    from matplotlib.colors import ListedColormap

    bar = axes.inset_axes((1.02, 0.0, 0.015, 1.0))
    shown = np.array(panel.tasks)
    bar.imshow(
        np.arange(len(shown))[:, None],
        cmap=ListedColormap([colours[t] for t in panel.tasks]),
        aspect="auto",
        origin="lower",
    )
    ticks = np.unique(np.linspace(0, len(shown) - 1, 6).round().astype(int))
    bar.set_yticks(ticks, [str(t) for t in shown[ticks]], fontsize=7)
    bar.yaxis.tick_right()
    bar.set_xticks([])
    bar.set_title("task", fontsize=7)


def _loss(axes: Axes, panel: _Panel) -> None:
    """The training loss of every update."""
    y = np.where(np.isfinite(panel.trace.loss), panel.trace.loss, np.nan).astype(np.float64)
    x = np.arange(1, len(y) + 1, dtype=np.float64)
    kept = thinned(x, y, _COLUMNS, axes.get_xlim())
    axes.plot(x[kept], y[kept], color="0.25", linewidth=0.7)
    _lines(axes, panel)
    axes.set_ylabel("loss")
