"""The figure of accuracy matrices: R of each method, the mean over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clbench.errors import UserError
from clbench.metrics.definition import accuracy_matrix
from clbench.reports.figures import heat_panels
from clbench.reports.figures.figure_style import PLAIN, Look, rendered
from clbench.reports.figures.study_runs import Board, Method, seeds_of, unfinished_of, warnings_of
from clbench.trace import Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Matrix = NDArray[np.float64]


def reduced(trace: Trace, view: str) -> Matrix:
    """R, (V, T); parts of one experience are joined."""
    return accuracy_matrix(trace.by_origin(), view)


def draw(boards: Sequence[Board[Matrix]], suffix: str, *, look: Look = PLAIN) -> bytes:
    """Writes the figure of accuracy matrices to a file; a panel for each method with a finished run.

    Args:
        boards: matrices of their runs, (V, T) in [0, 1].
        suffix: .png, .svg or .pdf.
        look: width, title, light or dark.

    Raises:
        UserError: no finished run, or seeds of a method with matrices of other shapes.
    """
    return rendered(lambda: figure(boards, look=look), suffix, look)


def figure(boards: Sequence[Board[Matrix]], *, look: Look = PLAIN) -> Figure:
    """The matplotlib figure; see `draw`."""
    panels = []
    for board in boards:
        for method in board.methods:
            if method.finished:
                values = _mean(method)
                names = (tuple(map(str, range(size))) for size in values.shape)
                title = (method.label,) if len(boards) == 1 else (board.name, method.label)
                panels.append(heat_panels.Panel(title, values, *names))
    if not panels:
        raise UserError("matrix: none of the runs is finished.")
    unfinished = [line.replace("Unfinished:", "Left out, unfinished:") for line in unfinished_of(boards)]
    caption = [
        "Cell: test accuracy (%) on a task at the end of an experience, mean over seeds.",
        *(["Plain ground: not evaluated."] if any(np.isnan(panel.values).any() for panel in panels) else []),
        *([f"{board.name}: {board.seeds}." for board in boards]),
        *seeds_of(boards), *warnings_of(boards), *unfinished,
    ]  # fmt: skip
    return heat_panels.figure(
        panels, look=look, down="after experience", across="task", bar="accuracy (%)", caption=caption
    )


def _mean(method: Method[Matrix]) -> Matrix:
    matrices = [member.data for member in method.finished]
    if len({matrix.shape for matrix in matrices}) > 1:
        raise UserError(f"matrix: the seeds of {method.label} have other numbers of tasks or experiences.")
    mean: Matrix = 100 * np.stack(matrices).mean(0)
    return mean
