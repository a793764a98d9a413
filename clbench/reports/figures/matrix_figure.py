"""The figure of accuracy matrices: R of each method, the mean over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clbench.errors import UserError
from clbench.metrics.definition import at, ends
from clbench.reports.figures import heat_panels
from clbench.reports.figures.figure_scales import Scale, scale_of
from clbench.reports.figures.figure_style import PLAIN, Look, rendered
from clbench.reports.figures.study_runs import Board, Method, seeds_of, unfinished_of, warnings_of
from clbench.trace import Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Reduced:
    """The matrix of a run in a view, (V, T)."""

    view: str
    values: Matrix


def reduced(trace: Trace, view: str) -> Reduced:
    """R, (V, T), of a measure its means; parts of one experience are joined."""
    joined = trace.by_origin()
    return Reduced(view, at(joined.task_mean(view), ends(joined)))


def draw(boards: Sequence[Board[Reduced]], suffix: str, *, look: Look = PLAIN) -> bytes:
    """Writes the figure of accuracy matrices to a file; a panel for each method with a finished run.

    Args:
        boards: matrices of their runs; accuracies in [0, 1].
        suffix: .png, .svg or .pdf.
        look: width, title, light or dark.

    Raises:
        UserError: no finished run, boards of several quantities, or seeds of a method with matrices of other shapes.
    """
    return rendered(lambda: figure(boards, look=look), suffix, look)


def figure(boards: Sequence[Board[Reduced]], *, look: Look = PLAIN) -> Figure:
    """The matplotlib figure; see `draw`."""
    scales = {scale_of(m.data.view) for board in boards for method in board.methods for m in method.finished}
    if len(scales) > 1:
        words = ", ".join(sorted(scale.label for scale in scales))
        raise UserError(f"matrix: runs of several quantities ({words}); name the folder of one.")
    scale = next(iter(scales), scale_of("class"))
    panels = []
    for board in boards:
        for method in board.methods:
            if method.finished:
                values = _mean(method, scale)
                names = (tuple(map(str, range(size))) for size in values.shape)
                title = (method.label,) if len(boards) == 1 else (board.name, method.label)
                panels.append(heat_panels.Panel(title, values, *names))
    if not panels:
        raise UserError("matrix: none of the runs is finished.")
    unfinished = [line.replace("Unfinished:", "Left out, unfinished:") for line in unfinished_of(boards)]
    caption = [
        f"Cell: {scale.measured} ({scale.unit}) on a task at the end of an experience, mean over seeds.",
        *(["Plain ground: not evaluated."] if any(np.isnan(panel.values).any() for panel in panels) else []),
        *([f"{board.name}: {board.seeds}." for board in boards]),
        *seeds_of(boards), *warnings_of(boards), *unfinished,
    ]  # fmt: skip
    return heat_panels.figure(
        panels,
        look=look,
        down="after experience",
        across="task",
        bar=scale.label,
        caption=caption,
        percent=scale.is_accuracy,
    )


def _mean(method: Method[Reduced], scale: Scale) -> Matrix:
    matrices = [member.data.values for member in method.finished]
    if len({matrix.shape for matrix in matrices}) > 1:
        raise UserError(f"matrix: the seeds of {method.label} have other numbers of tasks or experiences.")
    mean: Matrix = scale.factor * np.stack(matrices).mean(0)
    return mean
