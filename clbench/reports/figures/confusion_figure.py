"""The figure of confusion matrices: the classes that a method predicts after experiences, the mean over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clbench.errors import UserError
from clbench.reports.figures import heat_panels
from clbench.reports.figures.figure_style import PLAIN, Look, rendered
from clbench.reports.figures.study_runs import Board, Method, seeds_of, warnings_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NONE = "none"
"""Name of the column of samples without a prediction."""


@dataclass(frozen=True)
class Confusion:
    """Predictions of a run at the end of an experience.

    Attributes:
        view: name of the view.
        experience: number of the experience; None for the last.
        names: of the classes, ascending, (C,).
        share: of the test samples of each class, those predicted as each, (C, C + 1) in [0, 1]; the last column is
            of samples without a prediction. NaN for a class without test samples.
    """

    view: str
    experience: int | None
    names: tuple[str, ...]
    share: NDArray[np.float64]

    @classmethod
    def of(cls, view: str, experience: int | None, classes: NDArray[np.int64], counts: NDArray[np.int64]) -> Confusion:
        """The shares of numbers of samples.

        Args:
            view, experience: see above.
            classes, counts: see `clbench.metrics.confusion`.

        >>> Confusion.of("class", None, np.array([3, 5]), np.array([[1, 1, 0], [0, 0, 2]])).share.tolist()
        [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
        """
        size = counts.sum(1, keepdims=True)
        share = np.divide(counts, size, out=np.full(counts.shape, np.nan), where=size > 0)
        return cls(view, experience, tuple(map(str, classes.tolist())), share)


Confusions = tuple[Confusion, ...]
"""Confusion matrices of one run, of the same experiences as those of the others."""


def draw(boards: Sequence[Board[Confusions]], suffix: str, *, look: Look = PLAIN) -> bytes:
    """Writes the figure of confusion matrices to a file; a panel for each method and experience.

    Args:
        boards: confusion matrices of their runs.
        suffix: .png, .svg or .pdf.
        look: width, title, light or dark.

    Raises:
        UserError: seeds of a method with other classes.
    """
    return rendered(lambda: figure(boards, look=look), suffix, look)


def figure(boards: Sequence[Board[Confusions]], *, look: Look = PLAIN) -> Figure:
    """The matplotlib figure; see `draw`."""
    panels = []
    views: list[str] = []
    after = "the last experience"
    for board in boards:
        for method in board.methods:
            for number, one in enumerate(method.finished[0].data):
                names, share = _mean(method, number)
                views.append(one.view)
                columns = names
                if np.nansum(share[:, -1]) > 0:
                    columns = (*names, NONE)
                else:
                    share = share[:, :-1]
                title = (method.label,) if len(boards) == 1 else (board.name, method.label)
                if one.experience is not None:
                    title, after = (*title, f"after experience {one.experience}"), "the experience above"
                panels.append(heat_panels.Panel(title, 100 * share, names, columns))
    caption = [
        f"Cell: share (%) of the test samples of a class (row) that are predicted as a class (column) after {after}, "
        "mean over seeds.",
        *(["Plain ground: not evaluated."] if any(np.isnan(panel.values).any() for panel in panels) else []),
        f"View: {', '.join(dict.fromkeys(views))}.",
        *(["Column none: no prediction."] if any(NONE in panel.columns for panel in panels) else []),
        *([f"{board.name}: {board.seeds}." for board in boards]),
        *seeds_of(boards), *warnings_of(boards),
    ]  # fmt: skip
    return heat_panels.figure(
        panels, look=look, down="class", across="predicted class", bar="share of the class (%)", caption=caption
    )


def _mean(method: Method[Confusions], number: int) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    runs = [member.data[number] for member in method.finished]
    if len({run.names for run in runs}) > 1:
        raise UserError(f"confusion: the seeds of {method.label} have other classes.")
    return runs[0].names, np.stack([run.share for run in runs]).mean(0)
