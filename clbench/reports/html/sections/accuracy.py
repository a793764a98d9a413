"""Accuracy during training: a curve for each method, with a band over seeds."""

from __future__ import annotations

from typing import Any

from clbench.formatting import ranges
from clbench.reports.html.boards import BoardRuns, Method
from clbench.reports.html.embedding import curve, scale_of, words_of

MOST_POINTS = 400_000
"""Points of all curves of a report, about; their columns follow from it."""

MOST_TASKS = 20
"""Tasks with curves of their own; of more, these are spread evenly."""

_FEWEST_COLUMNS, _MOST_COLUMNS = 120, 700


def tasks_drawn(tasks: int) -> list[int]:
    """The tasks that have curves of their own.

    >>> tasks_drawn(3), len(tasks_drawn(500)), tasks_drawn(500)[-1]
    ([0, 1, 2], 20, 499)
    """
    if tasks <= MOST_TASKS:
        return list(range(tasks))
    return sorted({round(i * (tasks - 1) / (MOST_TASKS - 1)) for i in range(MOST_TASKS)})


def columns(boards: list[BoardRuns]) -> int:
    """Pixel columns that curves are thinned for, so that the report stays small."""
    curves = 0
    for board in boards:
        for method in board.methods:
            if method.aligned is not None:
                curves += 1 + len(tasks_drawn(method.aligned.accuracy.shape[2]))
    return max(_FEWEST_COLUMNS, min(_MOST_COLUMNS, MOST_POINTS // (5 * max(curves, 1))))


def section(board: BoardRuns, columns: int) -> dict[str, Any] | None:
    """Curves of the mean over the tasks so far and of each task; None where no run has a trace."""
    drawn = [(i, method) for i, method in enumerate(board.methods) if method.aligned is not None]
    if not drawn:
        return None
    tasks = max(_tasks(method) for _, method in drawn)
    shown = tasks_drawn(tasks)
    end = max(int(method.aligned.x[-1]) for _, method in drawn if method.aligned)
    curves: dict[str, list[dict[str, Any]]] = {"mean": []}
    curves |= {str(task): [] for task in shown}
    for i, method in drawn:
        assert method.aligned is not None
        bands = {"mean": method.aligned.so_far().thinned(columns, end)}
        bands |= {str(t): method.aligned.task(t).thinned(columns, end) for t in shown if t < _tasks(method)}
        scale = scale_of(bands.values(), board.measure)
        for key, band in bands.items():
            curves[key].append(curve(i, band, scale))
    longest = max((method.aligned for _, method in drawn if method.aligned), key=lambda aligned: int(aligned.x[-1]))
    choices = [{"key": "mean", "text": "mean over the tasks so far"}]
    choices += [{"key": str(task), "text": f"task {task}"} for task in shown]
    return {
        "choices": choices,
        "left_out": tasks - len(shown),
        "cut": [method.name for _, method in drawn if method.aligned and method.aligned.cut],
        "data": {
            "curves": curves,
            "boundaries": [int(b) for b in longest.boundaries],
            "tasks": [ranges(row.nonzero()[0].tolist()) for row in longest.visits],
            "end": end,
            **words_of(board.measure),
        },
    }


def _tasks(method: Method) -> int:
    return 0 if method.aligned is None else method.aligned.accuracy.shape[2]
