"""The figure of methods: mean accuracy over seeds at every evaluation, with a band, all methods on one axis.

One panel for each benchmark, of the accuracy averaged over the tasks visited so far, or of the accuracy on the last
incoming samples, each predicted before it was learnt; or one for each task of a benchmark. Each method is drawn on the
evaluations of its own runs; only updates are common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clbench.errors import UserError
from clbench.metrics.definition import boundaries, visited_so_far
from clbench.metrics.prequential import window_curve
from clbench.reports.figures.figure_lines import thinned
from clbench.reports.figures.figure_sheet import Entry, Grid, Sheet, balanced
from clbench.reports.figures.figure_style import PLAIN, Look, rendered
from clbench.reports.figures.study_runs import Board, Member, seeds_of, unfinished_of, warnings_of
from clbench.reports.seed_curves import BANDS, Band, Curve, Floats, aligned, mean_and_band
from clbench.reports.tabular import plain
from clbench.trace import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOW = 100
"""Default window, in incoming samples."""

MOST_TASKS = 40
"""Largest number of panels of a figure with one for each task."""

_WIDTH = 6.75
_MARKED = 6  # markers on a line
_NAMED = 4  # unfinished runs of a panel that are named beside their ends


@dataclass(frozen=True)
class Drawn:
    """Curves of a run.

    Attributes:
        view: name of the view.
        tasks: of the columns of `curve`; empty where it is the mean over the tasks visited so far.
        curve: accuracy in [0, 1] by updates.
        boundaries: updates done before each experience, and at the end, (V + 1,).
        window: of incoming samples, in samples; 0 where the curve is of test samples.
    """

    view: str
    tasks: tuple[int, ...]
    curve: Curve
    boundaries: NDArray[np.int64]
    window: int = 0


def incoming(trace: Trace, view: str, window: int) -> Drawn | None:
    """The curve of incoming samples: accuracy on the last ones at every update that learnt a new one; None where the
    trace has no such record.

    Args:
        trace: of a run.
        view: one that it holds.
        window: in samples; fewer at the start.
    """
    record, trace = trace.prequential, trace.by_origin()
    if record is None or not len(record.right.get(view, ())):
        return None
    at = np.flatnonzero(record.incoming)
    curve = window_curve(record.right[view], np.cumsum(record.incoming, dtype=np.int64)[at], window)
    return Drawn(view, (), Curve(at.astype(np.float64) + 1, curve[:, None]), boundaries(trace), window)


def reduced(trace: Trace, view: str, tasks: Sequence[int] | None = None) -> Drawn:
    """Curves of a trace.

    Args:
        trace: of a run.
        view: one that it holds.
        tasks: a column each; None for the mean over the tasks visited so far.
    """
    trace = trace.by_origin()
    accuracy = trace.task_accuracy(view)
    x = trace.iteration.astype(np.float64)
    if tasks is not None:
        return Drawn(view, tuple(tasks), Curve(x, accuracy[:, list(tasks)]), boundaries(trace))
    seen = visited_so_far(trace.visits)[trace.experience]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(seen, accuracy, 0.0).sum(1) / seen.sum(1)
    return Drawn(view, (), Curve(x, mean[:, None]), boundaries(trace))


def draw(boards: Sequence[Board[Drawn]], suffix: str, *, band: Band = "interval", look: Look = PLAIN) -> bytes:
    """Writes the figure of methods to a file.

    Args:
        boards: one, where its runs have a column for each task.
        suffix: .png, .svg or .pdf.
        band: over seeds.
        look: width, title, light or dark.

    Raises:
        UserError: several boards with a panel for each task, or runs of a board with other numbers of tasks.
    """
    return rendered(lambda: figure(boards, band=band, look=look), suffix, look)


def figure(boards: Sequence[Board[Drawn]], *, band: Band = "interval", look: Look = PLAIN) -> Figure:
    """The matplotlib figure; see `draw`."""
    tasks = _tasks(boards)
    width = look.inches(_WIDTH)
    panels = [(board, column) for board in boards for column in range(max(1, len(tasks)))]
    narrow = width < 4.5
    most = (2 if narrow else 4) if tasks else (1 if narrow else 2)
    if tasks:
        grid = Grid(len(panels), balanced(len(panels), most), width, 1.0 if narrow else 1.1, between=0.16)
    else:
        grid = Grid(len(panels), balanced(len(panels), most), width, 1.75 if narrow else 2.1)
    import matplotlib.style

    with matplotlib.style.context(["default", look.settings()], after_reset=True):
        sheet = Sheet(look, _WIDTH, grid.body, legend=legend(boards, look), caption=_caption(boards, band, tasks))
        lowest: list[float] = []
        drawn: list[tuple[Axes, str]] = []
        for i, (board, column) in enumerate(panels):
            axes = sheet.axes(*grid.place(i))
            drawn.append((axes, f"task {tasks[column]}" if tasks else title(board)))
            lowest.append(_panel(axes, board, column, band, sheet, round(grid.wide * sheet.dpi)))
            if i % grid.columns == 0:
                of = "on incoming samples" if _windows(boards) else "on tasks so far"
                axes.set_ylabel("accuracy (%)" if tasks else f"accuracy {of} (%)", fontsize=sheet.sizes.text)
            elif tasks:
                axes.tick_params(labelleft=False)
            if grid.lowest(i):
                axes.set_xlabel("updates", fontsize=sheet.sizes.text, labelpad=2)
            elif tasks:
                axes.tick_params(labelbottom=False)
        if tasks:
            lowest = [min(lowest)] * len(lowest)
        sheet.heads(drawn, grid.wide + (0 if tasks else grid.right))
        for (axes, _), low in zip(drawn, lowest, strict=True):
            axes.set_ylim(low - 2, 102)
        return sheet.figure


def title(board: Board[Drawn]) -> str:
    """Benchmark, view and seeds of a board."""
    view = next((m.data.view for method in board.methods for m in (*method.finished, *method.unfinished)), board.view)
    return f"{board.name}, view {view}, {board.seeds}"


def legend(boards: Sequence[Board[Any]], look: Look) -> list[Entry]:
    """An entry for each method."""
    methods = {method.label: method for board in boards for method in board.methods}
    return [Entry(m.label, look.line(m.number)) for m in sorted(methods.values(), key=lambda m: m.number)]


def _tasks(boards: Sequence[Board[Drawn]]) -> tuple[int, ...]:
    """Tasks of the columns, of all runs the same."""
    kinds = {m.data.tasks for b in boards for method in b.methods for m in (*method.finished, *method.unfinished)}
    tasks = max(kinds, default=())
    if tasks and len(boards) > 1:
        names = ", ".join(board.name for board in boards)
        raise UserError(f"--per-task: got runs of {len(boards)} benchmarks ({names}); name the folder of one.")
    if len(kinds) > 1:
        raise UserError("--per-task: the runs have other numbers of tasks; choose some with --tasks.")
    if len(tasks) > MOST_TASKS:
        raise UserError(f"--per-task: {len(tasks)} tasks, allowed are up to {MOST_TASKS}; choose some with --tasks.")
    return tasks


def _windows(boards: Sequence[Board[Drawn]]) -> set[int]:
    """Sizes of the windows of incoming samples."""
    members = [m for b in boards for method in b.methods for m in (*method.finished, *method.unfinished)]
    return {member.data.window for member in members} - {0}


def _caption(boards: Sequence[Board[Drawn]], band: Band, tasks: Sequence[int]) -> list[str]:
    what = "a task" if tasks else "the tasks visited so far, averaged over tasks"
    lines = [f"Line: test accuracy on {what}, mean over seeds, straight between a method's evaluations."]
    if windows := _windows(boards):
        last = " or ".join(f"{window:,}" for window in sorted(windows))
        lines = [
            f"Line: accuracy on the last {last} incoming samples, each predicted before it is learnt; mean over seeds."
        ]
    if any(len(method.finished) > 1 for board in boards for method in board.methods):
        lines += [BANDS[band]] if BANDS[band] else []
    common = [common_boundaries(board) is not None for board in boards]
    lines += ["Vertical: task boundary."] if any(common) else []
    lines += [] if all(common) else ["Task boundaries that differ between runs are not drawn."]
    lines += ["Thin, ending in a cross: a run that is not finished."] if unfinished_of(boards) else []
    return [*lines, *seeds_of(boards), *warnings_of(boards), *unfinished_of(boards)]


def common_boundaries(board: Board[Drawn]) -> NDArray[np.int64] | None:
    """Updates at the task boundaries of a board; None where runs differ in them."""
    runs = [m for method in board.methods for m in method.finished]
    runs = runs or [m for method in board.methods for m in method.unfinished]
    longest = max((m.data.boundaries for m in runs), key=lambda b: (len(b), int(b[-1])))
    of = [m.data.boundaries for m in runs]
    if any(m.unfinished for m in runs):
        return longest[:-1]
    return longest if all(np.array_equal(b, longest) for b in of) else None


def _panel(axes: Axes, board: Board[Drawn], column: int, band: Band, sheet: Sheet, pixels: int) -> float:
    """Draws one panel; the lowest tenth below everything drawn, in percent."""
    members = [m for method in board.methods for m in (*method.finished, *method.unfinished)]
    end = max(float(m.data.curve.x[-1]) for m in members) or 1.0
    axes.set_xlim(0, end)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_major_locator(_ticks(axes, 5 if pixels > 2 * sheet.dpi else 3))
    at = common_boundaries(board)
    if at is not None:
        inner = at[(at > 0) & (at < end)]
        for x in inner:
            axes.axvline(float(x), color=sheet.look.faint, linewidth=0.6 if len(inner) <= 50 else 0.25, zorder=1)
    low = 90.0
    for method in board.methods:
        line = sheet.look.line(method.number)
        if method.finished:
            x, y = aligned([_column(m, column) for m in method.finished])
            y = 100 * y[:, :, 0]
            low = min(low, band_line(axes, x, y, band, line, pixels, method.number))
        for member in method.unfinished:
            low = min(low, _thin(axes, member, column, line, pixels))
            if not member.data.tasks and sum(len(m.unfinished) for m in board.methods) <= _NAMED:
                _name(axes, member, line, sheet)
    return float(10 * np.floor(low / 10))


def _ticks(axes: Axes, most: int) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=most, steps=[1, 2, 5, 10], integer=True)


def _column(member: Member[Drawn], column: int) -> Curve:
    curve = member.data.curve
    return Curve(curve.x, curve.y[:, column : column + 1])


def band_line(
    axes: Axes, x: Floats, y: Floats, band: Band, line: dict[str, Any], pixels: int, number: int, floor: float = 0.0
) -> float:
    """Draws the mean of curves, its band, and markers at some places; the lowest value drawn.

    Args:
        axes: with their limits of x set.
        x, y: points (G,) and values (S, G).
        band: over seeds.
        line: colour, pattern and marker.
        pixels: width of the axes.
        number: of the method; markers of methods stand at different places.
        floor: the lowest possible value; a band below it counts for nothing.
    """
    limits = axes.get_xlim()
    mean, low, high = mean_and_band(y[:, :, None], band)
    mean, low, high = mean[:, 0], low[:, 0], high[:, 0]
    lowest = [mean]
    if band == "seeds" and len(y) > 1:
        for one in y:
            kept = thinned(x, one, pixels, limits)
            axes.plot(x[kept], one[kept], color=line["color"], linewidth=0.4, alpha=0.55, zorder=1.8)
        lowest = list(y)
    if not np.isnan(low).all():
        kept = np.union1d(thinned(x, low, pixels, limits), thinned(x, high, pixels, limits))
        axes.fill_between(x[kept], low[kept], high[kept], color=line["color"], alpha=0.18, linewidth=0, zorder=1.5)
        lowest.append(np.maximum(low, floor))
    kept = thinned(x, mean, pixels, limits)
    style = {key: line[key] for key in ("color", "linestyle")}
    axes.plot(x[kept], mean[kept], linewidth=1.1, zorder=3 + number / 1e4, **style)
    wanted = limits[0] + (limits[1] - limits[0]) * (np.arange(_MARKED) + (0.2 + 0.6 * (number % 5) / 5)) / _MARKED
    spots = np.unique(np.clip(np.searchsorted(x, wanted), 0, len(x) - 1))
    marks = {key: line[key] for key in ("color", "marker", "fillstyle")}
    axes.plot(x[spots], mean[spots], linestyle="none", markersize=3.4, zorder=3.5 + number / 1e4, **marks)
    known = np.concatenate([part[~np.isnan(part)] for part in lowest])
    return float(known.min()) if known.size else 90.0


def _thin(axes: Axes, member: Member[Drawn], column: int, line: dict[str, Any], pixels: int) -> float:
    """Draws an unfinished run."""
    curve = _column(member, column)
    x, y = curve.x, 100 * curve.y[:, 0]
    kept = thinned(x, y, pixels, axes.get_xlim())
    axes.plot(x[kept], y[kept], color=line["color"], linestyle=line["linestyle"], linewidth=0.6, zorder=2.5)
    known = np.flatnonzero(~np.isnan(y))
    if len(known):
        last = known[-1:]
        axes.plot(x[last], y[last], color=line["color"], marker="x", markersize=4.5, linestyle="none", zorder=4)
    return float(y[known].min()) if len(known) else 90.0


def _name(axes: Axes, member: Member[Drawn], line: dict[str, Any], sheet: Sheet) -> None:
    """Writes the seed of an unfinished run, and how far it is, beside its end."""
    y = 100 * member.data.curve.y[:, 0]
    known = np.flatnonzero(~np.isnan(y))
    if not len(known):
        return
    x, end = float(member.data.curve.x[known[-1]]), float(y[known[-1]])
    left = x < sum(axes.get_xlim()) / 2
    axes.annotate(
        f"seed {member.record.seed}: {plain(member.unfinished or '')}", (x, end), xytext=(4 if left else -4, -7),
        textcoords="offset points", ha="left" if left else "right", va="center_baseline", color=line["color"],
        fontsize=sheet.sizes.small, zorder=5,
        bbox={"facecolor": sheet.look.paper, "edgecolor": "none", "alpha": 0.7, "pad": 0.3},
    )  # fmt: skip
