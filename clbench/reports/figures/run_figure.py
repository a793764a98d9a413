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

from clbench.errors import UserError
from clbench.formatting import ranges
from clbench.labels import distinguished, settings
from clbench.metrics import METRICS
from clbench.metrics.definition import accuracy_matrix, boundaries, first_visit
from clbench.reports.figures.figure_lines import alone, apart, thinned
from clbench.reports.figures.figure_sheet import Sheet
from clbench.reports.figures.figure_style import PLAIN, Look, rendered, text_width, wrapped
from clbench.reports.rows import Called, placed, renamed
from clbench.reports.tabular import plain
from clbench.results.load import Run
from clbench.trace import NOT_EVALUATED, Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_RUNS = 12
"""Largest number of panels of a figure."""

_WIDTH, _LEFT, _RIGHT = 9.0, 0.65, 0.75  # inches

_HEAD, _PANEL, _LOSS, _GAP, _FOOT = 0.52, 2.3, 0.8, 0.12, 0.48

_NARROW, _LOW_PANEL = 4.5, 1.6  # a figure this wide has lower panels

_LINE = 0.135  # a line of text

_LABELLED = 16  # tasks that have room for a label each; more get a colour bar

_DOTTED = 100  # evaluations that are each shown as a dot; more are a line only


@dataclasses.dataclass(frozen=True)
class What:
    """Choice of what is drawn of runs.

    Attributes:
        view: the view; each run's primary one where None.
        tasks: tasks to draw; all where None.
        loss: whether the training loss of every update is drawn below each panel.
        first: updates of each experience that are drawn, >= 1; all where None.
        rename: texts `ROW=LABEL`; see `rows.renamed`.
        order: rows that come first; see `rows.placed`.
    """

    view: str | None = None
    tasks: Sequence[int] | None = None
    loss: bool = False
    first: int | None = None
    rename: Sequence[str] = ()
    order: Sequence[str] = ()


def draw(runs: Sequence[Run], suffix: str, *, look: Look = PLAIN, **what: Any) -> bytes:
    """Writes the figure of up to `MOST_RUNS` runs to a file.

    Args:
        runs: each gets a panel.
        suffix: .png, .svg or .pdf.
        look: width, title, light or dark.
        what: see `What`.

    Raises:
        UserError: a run without that view or one of those tasks.
    """
    return rendered(lambda: figure(runs, look=look, **what), suffix, look)


def figure(runs: Sequence[Run], *, look: Look = PLAIN, **what: Any) -> Figure:
    """The matplotlib figure; see `draw`. Independent of `pyplot` and of the user's settings."""
    asked = What(**what)
    names = distinguished((run.record.config.strategy.name, settings(run.record.raw["config"])) for run in runs)
    called = [Called("", run.record.config.strategy.name, name) for run, name in zip(runs, names, strict=True)]
    labels = renamed(asked.rename, called, "--label")
    checked = _checked(runs, asked.view, asked.tasks)
    panels = [
        _Panel(checked[i], labels.get(i, names[i]), asked.view, asked.tasks, asked.first)
        for i in placed(asked.order, called, "--order")
    ]

    import matplotlib.style

    with matplotlib.style.context(["default", look.settings()], after_reset=True):
        return _drawn(panels, asked, look)


def _drawn(panels: Sequence[_Panel], asked: What, look: Look) -> Figure:
    width = look.inches(_WIDTH)
    titles = [_title(panel, width) for panel in panels]
    heads = [_HEAD + _LINE * title.count("\n") for title, _ in titles]
    below = _GAP + _LOSS if asked.loss else 0.0
    tall = _tall(width)
    sheet = Sheet(look, _WIDTH, sum(heads) + (tall + below) * len(panels) + _FOOT, caption=_caption(panels, asked.loss))
    top = sum(heads) + (tall + below) * len(panels) + _FOOT
    end = max(int(panel.trace.iteration[-1]) for panel in panels) or 1
    lowest = min(panel.lowest for panel in panels)
    top_axes: Axes | None = None
    for i, (panel, head, title) in enumerate(zip(panels, heads, titles, strict=True)):
        top -= head + tall
        last = axes = _axes(sheet, top, tall, top_axes)
        top_axes = top_axes or axes
        axes.set_xlim(0, end)
        axes.set_ylim(100 * lowest - 2, 102)
        _accuracy(axes, panel, sheet, title)
        if asked.loss:
            axes.tick_params(labelbottom=False)
            last = _axes(sheet, top - below, _LOSS, top_axes)
            _loss(last, panel, sheet)
        top -= below
        if i < len(panels) - 1:
            last.tick_params(labelbottom=False)
    last.set_xlabel("updates" if asked.first is None else f"updates, the first {asked.first:,} of each experience")
    last.xaxis.set_major_formatter("{x:,.0f}")
    return sheet.figure


def _caption(panels: Sequence[_Panel], loss: bool) -> list[str]:
    """The marks of the figure in words."""
    lines = ["Line: test accuracy on a task at every evaluation."]
    if any(np.isfinite(panel.levels).any() for panel in panels):
        lines.append("Dotted: accuracy on an earlier task before the experience began.")
    if any(len(panel.boundaries) > 2 for panel in panels):
        lines.append("Vertical: task boundary.")
    if any(len(panel.accuracy) <= _DOTTED for panel in panels):
        lines.append("Dot: an evaluation.")
    elif any(len(alone(y)) for panel in panels for y in panel.accuracy[:, panel.tasks].T):
        lines.append("Dot: a single evaluation, such as the one before a task is first trained on.")
    if loss:
        lines.append("Below: training loss of every update.")
    if any(panel.unfinished for panel in panels):
        lines.append("Unfinished: the evaluations so far.")
    return lines


def _title(panel: _Panel, width: float) -> tuple[str, float]:
    """The panel's title in as few lines as it needs, and its size in points."""
    size = 8.5 if width > _NARROW else 7.0
    room = width - _LEFT - 0.08
    wide = text_width(panel.title, size, bold=True)
    if wide <= room or size * room / wide >= 7.0:
        return panel.title, min(size, 0.98 * size * room / wide)
    return "\n".join(wrapped(panel.title, 7.0, room, bold=True)), 7.0


def _tall(width: float) -> float:
    """Height of a panel in inches."""
    return _PANEL if width > _NARROW else _LOW_PANEL


def _wide(sheet: Sheet) -> float:
    """Width of the axes in inches."""
    return sheet.width - _LEFT - _RIGHT


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
        self._label, self.view = plain(run.record.called(name)), run.view(view)
        self.unfinished = "" if run.unfinished is None else plain(f"{run.unfinished}, update {run.at:,}")
        whole = run.trace.by_origin()
        names = () if run.unfinished else ("average_accuracy", "min_acc")
        self._numbers = {name: METRICS[name].compute(whole, self.view).value for name in names}
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
        """Label of the run, its ACC and min-ACC or why it has none, and what is not drawn."""
        numbers = []
        for name, words in (("average_accuracy", "ACC"), ("min_acc", "min-ACC")):
            value = self._numbers.get(name, math.nan)
            numbers.append(f"{words} " + ("undefined" if math.isnan(value) else f"{100 * value:.1f} %"))
        dark = [i for i in self.tasks if np.isnan(self.accuracy[:, i]).all()]
        unseen = f"; {named(dark)} never evaluated" if dark else ""
        return f"{self._label}, view {self.view}: {self.unfinished or ', '.join(numbers)}{unseen}"


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
        predicted={},
    )


def named(tasks: Sequence[int]) -> str:
    """Tasks in a few words; neighbours as a range.

    >>> named([3]), named([0, 1, 2, 5]), named([])
    ('task 3', 'tasks 0-2, 5', 'no task')
    """
    if not len(tasks):
        return "no task"
    return f"{'task' if len(tasks) == 1 else 'tasks'} {ranges(tasks)}"


def _axes(sheet: Sheet, bottom: float, tall: float, above: Axes | None) -> Axes:
    """Axes at a height in inches, sharing the x axis of those above."""
    axes = sheet.axes(_LEFT, bottom, _wide(sheet), tall, sharex=above)
    axes.tick_params(labelsize=8 if sheet.width > _NARROW else 7, length=3.5, pad=3.5)
    axes.yaxis.set_label_coords(-0.48 / _wide(sheet), 0.5)
    return axes


def _colours(tasks: int, look: Look) -> list[Any]:
    """A colour for each task."""
    if tasks <= len(look.palette):
        return list(look.palette[:tasks])
    from matplotlib import colormaps

    return list(colormaps["viridis"](np.linspace(0.25 if look.dark else 0, 1 if look.dark else 0.92, tasks)))


def _accuracy(axes: Axes, panel: _Panel, sheet: Sheet, title: tuple[str, float]) -> None:
    """Draws lines, task boundaries, levels, labels and title of one run."""
    from matplotlib.collections import LineCollection

    left, right = axes.get_xlim()
    x = panel.trace.iteration.astype(np.float64)
    colours = dict(zip(range(panel.accuracy.shape[1]), _colours(panel.accuracy.shape[1], sheet.look), strict=True))
    _draw_boundaries(axes, panel, sheet)
    columns = round(_wide(sheet) * sheet.dpi)

    wide = np.flatnonzero(np.diff(panel.boundaries) * columns > 4 * (right - left))  # narrow ones hide the lines
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
        kept = thinned(x, y, columns, (left, right))
        axes.plot(
            x[kept],
            y[kept],
            color=colours[task],
            linewidth=1.1 if sheet.width > _NARROW else 0.8,
            zorder=2 + task / 1e4,
        )
        dots = known if len(y) <= _DOTTED else alone(y)
        axes.plot(x[dots], y[dots], ".", color=colours[task], markersize=3.5, zorder=2 + task / 1e4)
        ends.append((task, float(x[known[-1]]), float(y[known[-1]])))
    if len(panel.tasks) <= _LABELLED:
        _labels(axes, ends, colours, float(panel.boundaries[-1]), sheet)
    else:
        _colour_bar(axes, panel, colours)
    axes.set_ylabel("accuracy (%)")
    words, size = title
    axes.set_title(words, loc="left", pad=8 + 72 * _LINE, fontweight="bold", fontsize=size)


def _lines(axes: Axes, panel: _Panel, look: Look) -> None:
    """A vertical line where each experience but the first starts, and where a run ends before the axis does."""
    at = panel.boundaries[1:][panel.boundaries[1:] < axes.get_xlim()[1]]
    low, high = axes.get_ylim()
    axes.vlines(at, low, high, color=look.faint, linewidth=0.7 if len(at) <= 50 else 0.25, zorder=1)
    axes.set_ylim(low, high)


def _draw_boundaries(axes: Axes, panel: _Panel, sheet: Sheet) -> None:
    """The lines, and each experience's tasks above it where there is room."""
    from matplotlib.transforms import blended_transform_factory

    _lines(axes, panel, sheet.look)
    place = blended_transform_factory(axes.transData, axes.transAxes)
    left, right = axes.get_xlim()
    inches = _wide(sheet) / (right - left)
    free = -math.inf
    for v, (start, end) in enumerate(zip(panel.boundaries[:-1], panel.boundaries[1:], strict=True)):
        words = named(np.flatnonzero(panel.trace.visits[v]).tolist())
        for text in (words, words.partition(" ")[2]):
            wide = 0.062 * len(text) + 0.06  # a generous width of 7-point letters, in inches
            middle = (start + end) / 2 * inches
            if text and wide <= (end - start) * inches and middle - wide / 2 >= free:
                axes.text(
                    (start + end) / 2,
                    1.015,
                    text,
                    transform=place,
                    ha="center",
                    va="bottom",
                    fontsize=7,
                    color=sheet.look.quiet,
                )
                free = middle + wide / 2
                break


def _labels(
    axes: Axes, ends: Iterable[tuple[int, float, float]], colours: dict[int, Any], end: float, sheet: Sheet
) -> None:
    """Task labels right of the run, at the height of each line's end, moved apart where they would overlap.

    Args:
        axes: those of the run.
        ends: task, and the last point of its line.
        colours: of each task.
        end: updates of the run.
        sheet: that of the figure.
    """
    ends = sorted(ends, key=lambda e: (e[2], -e[0]))
    low, high = axes.get_ylim()
    right = axes.get_xlim()[1]
    spots = apart([y for _, _, y in ends], _LINE * (high - low) / _tall(sheet.width), low, high)
    column = end + right * 0.18 / _wide(sheet)
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


def _loss(axes: Axes, panel: _Panel, sheet: Sheet) -> None:
    """The training loss of every update."""
    y = np.where(np.isfinite(panel.trace.loss), panel.trace.loss, np.nan).astype(np.float64)
    x = np.arange(1, len(y) + 1, dtype=np.float64)
    kept = thinned(x, y, round(_wide(sheet) * sheet.dpi), axes.get_xlim())
    axes.plot(x[kept], y[kept], color=sheet.look.quiet, linewidth=0.7)
    _lines(axes, panel, sheet.look)
    axes.set_ylabel("loss")
