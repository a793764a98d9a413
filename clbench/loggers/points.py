"""Points for loggers: named values by iteration, from the pieces of a trace; final metrics.

Letters as in `clbench.metrics.definition`: A(e, i) accuracy on task i at evaluation e, n(e) the updates done before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clbench.metrics.definition import first_visit, visited_so_far
from clbench.summation import mean
from clbench.trace import Trace

LOSSES = 5_000
"""Largest number of logged losses of a run; the trace holds all of them."""


class Point(NamedTuple):
    """Logged values of one update, or of one evaluation.

    Attributes:
        number: its index in the run's record, from 0, independent of the pieces of the trace.
        iteration: updates done.
        values: by name, each one that is defined: `loss`; or `experience`, and for each view `VIEW/task_I`,
            `VIEW/average_so_far` and `VIEW/min_acc_so_far`, of a measure `VIEW/worst_so_far`.
    """

    number: int
    iteration: int
    values: dict[str, float]


class Curves:
    """Converts pieces of a trace to points.

    The loss is that of every k-th update, k = ceil(updates / LOSSES): recorded values, not means of several. Accuracies
    are of every evaluation. *average_so_far* is the mean of A(e, i) over the tasks visited up to the experience of e;
    *min_acc_so_far* is `min_acc` of the evaluations up to e, over the tasks first visited in an earlier experience
    (neighbours of one origin are one, also in `experience`). At the end of a run they are its `average_accuracy` and
    its `min_acc`; of a measure, with *worst_so_far* in place of the latter, its `average` and its `worst`.

    Args:
        updates: of the whole run, as planned.
    """

    def __init__(self, updates: int) -> None:
        self._stride = max(1, -(-updates // LOSSES))
        self._losses = self._number = self._experience = self._iteration = 0
        self._ended = np.zeros(0, np.int64)  # updates done at the end of each experience; 0 where it has not ended
        self._least: dict[str, NDArray[np.float64]] = {}  # per view, (T,)
        self._most: dict[str, NDArray[np.float64]] = {}  # per view of a measure, (T,)

    def points(self, piece: Trace) -> Iterator[Point]:
        """The points of the next piece, in the order of the record: the loss of an update, then its evaluation.

        Args:
            piece: evaluations and losses that follow on those of the piece before; `visits`, `origin` and cells are
                those of the whole run.
        """
        piece = piece.by_origin()
        accuracy = {view: piece.task_accuracy(view) for view in piece.correct}
        numbers = {view: piece.task_mean(view) for view in piece.sums}
        visits, first, seen = piece.visits, first_visit(piece.visits), visited_so_far(piece.visits)
        if not len(self._ended):
            self._ended = np.zeros(len(visits), np.int64)
        before, at = self._losses, 0
        for e, (iteration, experience) in enumerate(
            zip(piece.iteration.tolist(), piece.experience.tolist(), strict=True)
        ):
            yield from self._losses_of(piece.loss[at : iteration - before])
            at = iteration - before
            self._ended[self._experience : experience] = self._iteration
            self._experience, self._iteration = experience, iteration
            earlier = first < experience
            learnt = earlier.copy()
            learnt[earlier] = iteration > self._ended[first[earlier]]
            values = {"experience": float(experience)}
            for view, curve in accuracy.items():
                least = self._least.setdefault(view, np.full(len(first), np.inf))
                counted = learnt & ~visits[experience]
                least[counted] = np.minimum(least[counted], curve[e, counted])
                values |= {f"{view}/task_{i}": a for i, a in enumerate(curve[e].tolist())}
                values[f"{view}/average_so_far"] = mean(curve[e, seen[experience]])
                values[f"{view}/min_acc_so_far"] = mean(least[earlier])
            for view, curve in numbers.items():
                most = self._most.setdefault(view, np.full(len(first), -np.inf))
                counted = learnt & ~visits[experience]
                most[counted] = np.maximum(most[counted], curve[e, counted])
                values[f"{view}/worst_so_far"] = mean(most[earlier])
                values |= {f"{view}/task_{i}": a for i, a in enumerate(curve[e].tolist())}
                values[f"{view}/average_so_far"] = mean(curve[e, seen[experience]])
            yield self._point(iteration, {name: v for name, v in values.items() if np.isfinite(v)})
        yield from self._losses_of(piece.loss[at:])

    def _losses_of(self, losses: NDArray[np.float32]) -> Iterator[Point]:
        for loss in losses.tolist():
            self._losses += 1
            if self._losses % self._stride == 0:
                yield self._point(self._losses, {"loss": loss})

    def _point(self, iteration: int, values: dict[str, float]) -> Point:
        self._number += 1
        return Point(self._number - 1, iteration, values)


def final_metrics(record: dict[str, Any]) -> dict[str, float]:
    """Every metric of a finished run that is defined, by `metrics/VIEW/NAME`, from its run.json."""
    views = record["metrics"].items()
    named = {f"metrics/{view}/{name}": m["value"] for view, metrics in views for name, m in metrics.items()}
    return {name: value for name, value in named.items() if value is not None}


def identity(record: dict[str, Any]) -> dict[str, Any]:
    """Identity of a run in its run.json, beside its configuration."""
    return {key: record[key] for key in ("run_id", "definition_hash", "config_hash", "stream")}
