"""The figure of confusion matrices: the classes that a method predicts at its end, the mean over its seeds."""

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
    """Predictions of a run at its end.

    Attributes:
        view: name of the view.
        names: of the classes, ascending, (C,).
        share: of the test samples of each class, those predicted as each, (C, C + 1) in [0, 1]; the last column is
            of samples without a prediction. NaN for a class without test samples.
    """

    view: str
    names: tuple[str, ...]
    share: NDArray[np.float64]


def confusion(view: str, true: NDArray[np.int64], predicted: NDArray[np.int64], outputs: dict[int, int]) -> Confusion:
    """The confusion matrix of predictions.

    Args:
        view: its name.
        true: class of each test sample, (N,).
        predicted: predicted output of each, (N,); -1 without one.
        outputs: output unit -> class. Where several classes share an output, the matrix is of outputs: map each output
            to itself, and pass the target output of each sample as `true`.

    >>> found = confusion("class", np.array([3, 3, 5]), np.array([0, 1, -1]), {0: 3, 1: 5})
    >>> found.names, found.share.tolist()
    (('3', '5'), [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    """
    classes = sorted({*outputs.values(), *true.tolist()})
    row = {c: i for i, c in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes) + 1))
    columns = [row[outputs[p]] if p in outputs else len(classes) for p in predicted.tolist()]
    np.add.at(counts, ([row[c] for c in true.tolist()], columns), 1)
    size = counts.sum(1, keepdims=True)
    share = np.divide(counts, size, out=np.full_like(counts, np.nan), where=size > 0)
    return Confusion(view, tuple(map(str, classes)), share)


def draw(boards: Sequence[Board[Confusion]], suffix: str, *, look: Look = PLAIN) -> bytes:
    """Writes the figure of confusion matrices to a file; a panel for each method.

    Args:
        boards: confusion matrices of their runs.
        suffix: .png, .svg or .pdf.
        look: width, title, light or dark.

    Raises:
        UserError: seeds of a method with other classes.
    """
    return rendered(lambda: figure(boards, look=look), suffix, look)


def figure(boards: Sequence[Board[Confusion]], *, look: Look = PLAIN) -> Figure:
    """The matplotlib figure; see `draw`."""
    panels = []
    views: list[str] = []
    for board in boards:
        for method in board.methods:
            names, share = _mean(method)
            views.append(method.finished[0].data.view)
            columns = names
            if np.nansum(share[:, -1]) > 0:
                columns = (*names, NONE)
            else:
                share = share[:, :-1]
            title = (method.label,) if len(boards) == 1 else (board.name, method.label)
            panels.append(heat_panels.Panel(title, 100 * share, names, columns))
    caption = [
        "Cell: share (%) of the test samples of a class (row) that are predicted as a class (column) after the last "
        "experience, mean over seeds.",
        f"View: {', '.join(dict.fromkeys(views))}.",
        *(["Column none: no prediction."] if any(NONE in panel.columns for panel in panels) else []),
        *([f"{board.name}: {board.seeds}." for board in boards]),
        *seeds_of(boards), *warnings_of(boards),
    ]  # fmt: skip
    return heat_panels.figure(
        panels, look=look, down="class", across="predicted class", bar="share of the class (%)", caption=caption
    )


def _mean(method: Method[Confusion]) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    runs = [member.data for member in method.finished]
    if len({run.names for run in runs}) > 1:
        raise UserError(f"confusion: the seeds of {method.label} have other classes.")
    return runs[0].names, np.stack([run.share for run in runs]).mean(0)
