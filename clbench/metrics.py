"""Metrics: pure functions of the trace. Where the field has several definitions, each has a name of its own.

A(e, i) is the accuracy on task i at evaluation e, R[v, j] the accuracy on task j after experience v. *After learning
task i* is the end of its first visit. Every number is in [0, 1] or [-1, 1]; None where the definition needs
something that the trace does not hold (forgetting of one task, say), which is not zero.

Visits are those of the stream. `joint` and `cumulative` train on more than that, so for them forgetting and min-ACC
describe tasks that are trained on all along.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.trace import Phase, Trace

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A named definition.

    Attributes:
        name: as it appears in files; says the definition.
        title: in words.
        formula: with the letters of this module.
        source: the paper.
        better: "higher" or "lower".
        range: smallest and largest value.
        compute: (trace, view) -> value for each task (T,) and the average over tasks.
    """

    name: str
    title: str
    formula: str
    source: str
    better: str
    range: tuple[float, float]
    compute: Callable[[Trace, str], tuple[Matrix, float]]


def accuracy_matrix(trace: Trace, view: str) -> Matrix:
    """R, shape (V, T): accuracy on each task at the end of each experience; NaN where it was not evaluated."""
    accuracy = trace.task_accuracy(view)
    matrix = np.full(trace.visits.shape, np.nan)
    for v in range(len(matrix)):
        ends = np.flatnonzero((trace.experience == v) & (trace.phase == Phase.END))
        if len(ends):
            matrix[v] = accuracy[ends[-1]]
    return matrix


def first_visit(visits: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The experience in which each task is first visited, (T,); V where it never is.

    >>> first_visit(np.array([[True, False], [True, True]])).tolist()
    [0, 1]
    """
    return np.where(visits.any(0), visits.argmax(0), len(visits)).astype(np.int64)


def average_accuracy(matrix: Matrix, visits: NDArray[np.bool_]) -> tuple[Matrix, float]:
    """Mean over the tasks visited so far of R[last, j].

    >>> R = np.array([[0.9, np.nan], [0.5, 0.8]])
    >>> round(average_accuracy(R, np.eye(2, dtype=bool))[1], 6)
    0.65
    """
    per_task = np.where(visits.any(0), matrix[-1], np.nan)
    return per_task, _mean(per_task)


def average_incremental_accuracy(matrix: Matrix, visits: NDArray[np.bool_]) -> tuple[Matrix, float]:
    """Mean over experiences v of the mean over tasks visited up to v of R[v, j]; no value for a single task.

    >>> R = np.array([[0.9, np.nan], [0.5, 0.8]])
    >>> round(average_incremental_accuracy(R, np.eye(2, dtype=bool))[1], 6)
    0.775
    """
    so_far = np.logical_or.accumulate(visits, axis=0)
    rows = [_mean(np.where(seen, row, np.nan)[seen]) for row, seen in zip(matrix, so_far, strict=True)]
    return np.full(matrix.shape[1], np.nan), _mean(np.array(rows))


def forgetting_after_learning(matrix: Matrix, visits: NDArray[np.bool_]) -> tuple[Matrix, float]:
    """R[f(j), j] - R[last, j], f(j) the first visit of j, averaged over tasks first visited before the last experience.

    >>> R = np.array([[0.9, np.nan], [0.5, 0.8]])
    >>> round(forgetting_after_learning(R, np.eye(2, dtype=bool))[1], 6)
    0.4
    """
    first = first_visit(visits)
    per_task = np.full(len(first), np.nan)
    for j in np.flatnonzero(first < len(matrix) - 1):
        per_task[j] = matrix[first[j], j] - matrix[-1, j]
    return per_task, _mean(per_task[first < len(matrix) - 1])


def forgetting_chaudhry(matrix: Matrix, visits: NDArray[np.bool_]) -> tuple[Matrix, float]:
    """max over f(j) <= v < last of R[v, j], minus R[last, j], averaged over tasks first visited before the last.

    >>> R = np.array([[0.7, np.nan, np.nan], [0.8, 0.9, np.nan], [0.5, 0.6, 0.9]])
    >>> round(forgetting_chaudhry(R, np.eye(3, dtype=bool))[1], 6)
    0.3
    """
    first = first_visit(visits)
    per_task = np.full(len(first), np.nan)
    for j in np.flatnonzero(first < len(matrix) - 1):
        per_task[j] = matrix[first[j] : -1, j].max() - matrix[-1, j]
    return per_task, _mean(per_task[first < len(matrix) - 1])


def backward_transfer(matrix: Matrix, visits: NDArray[np.bool_]) -> tuple[Matrix, float]:
    """R[last, j] - R[f(j), j], averaged over tasks first visited before the last experience.

    >>> R = np.array([[0.9, np.nan], [0.5, 0.8]])
    >>> round(backward_transfer(R, np.eye(2, dtype=bool))[1], 6)
    -0.4
    """
    per_task, mean = forgetting_after_learning(matrix, visits)
    return -per_task, -mean


def minimum_accuracy(trace: Trace, view: str) -> tuple[Matrix, float]:
    """min-ACC: for each earlier task the smallest accuracy after its first visit ended, outside its own visits.

    Averaged over tasks first visited before the last experience. The last update of the first visit does not count
    (n > |T_i|), nor does anything during later visits. Evaluated every n iterations it is an upper bound of the true
    minimum; `Trace.every` says n.
    """
    accuracy, first = trace.task_accuracy(view), first_visit(trace.visits)
    earlier = first < len(trace.visits) - 1
    per_task = np.full(len(first), np.nan)
    for i in np.flatnonzero(earlier):
        last_update = trace.iteration[trace.experience <= first[i]].max()
        counted = (trace.iteration > last_update) & (trace.experience > first[i]) & ~trace.visits[trace.experience, i]
        if counted.any():
            per_task[i] = accuracy[counted, i].min()
    return per_task, _mean(per_task[earlier])


def worst_case_accuracy(trace: Trace, view: str) -> tuple[Matrix, float]:
    """WC-ACC = 1/k A(current) + (1 - 1/k) min-ACC over the k tasks visited: what held at every moment.

    Per task: the accuracy at the end for tasks of the last experience, the minimum for the others. With one task it
    is its accuracy.
    """
    minima, _ = minimum_accuracy(trace, view)
    final = accuracy_matrix(trace, view)[-1]
    current = trace.visits[-1]
    per_task = np.where(current, final, minima)
    return np.where(trace.visits.any(0), per_task, np.nan), _mean(per_task[trace.visits.any(0)])


def _mean(values: Matrix) -> float:
    """The mean; NaN where there is nothing, or where something is missing: a gap is never averaged away."""
    return float(np.mean(values)) if len(values) else float("nan")


def _of_matrix(function: Callable[[Matrix, NDArray[np.bool_]], tuple[Matrix, float]]) -> Callable[[Trace, str], Any]:
    return lambda trace, view: function(accuracy_matrix(trace, view), trace.visits)


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric(
            "average_accuracy", "ACC, average accuracy at the end", "1/T sum_j R[last, j]",
            "Lopez-Paz and Ranzato 2017", "higher", (0, 1), _of_matrix(average_accuracy),
        ),
        Metric(
            "average_incremental_accuracy", "average over experiences of the accuracy on all tasks so far",
            "1/V sum_v mean_{j visited up to v} R[v, j]", "Rebuffi et al. 2017", "higher", (0, 1),
            _of_matrix(average_incremental_accuracy),
        ),
        Metric(
            "forgetting.after_learning", "loss since the end of a task's first visit",
            "mean_j R[f(j), j] - R[last, j]", "De Lange et al. 2023 (FORG)", "lower", (-1, 1),
            _of_matrix(forgetting_after_learning),
        ),
        Metric(
            "forgetting.chaudhry", "loss since the best earlier value, the last experience left out",
            "mean_j max_{f(j) <= v < last} R[v, j] - R[last, j]", "Chaudhry et al. 2018", "lower", (-1, 1),
            _of_matrix(forgetting_chaudhry),
        ),
        Metric(
            "backward_transfer.gem", "BWT, gain since the end of a task's first visit",
            "mean_j R[last, j] - R[f(j), j]", "Lopez-Paz and Ranzato 2017", "higher", (-1, 1),
            _of_matrix(backward_transfer),
        ),
        Metric(
            "min_acc", "min-ACC, average minimum accuracy of earlier tasks",
            "mean_i min_{n > |T_i|} A(n, i)", "De Lange et al. 2023", "higher", (0, 1), minimum_accuracy,
        ),
        Metric(
            "wc_acc", "WC-ACC, worst-case accuracy", "1/k A(end, current) + (1 - 1/k) min-ACC",
            "De Lange et al. 2023", "higher", (0, 1), worst_case_accuracy,
        ),
    )
}  # fmt: skip


def compute(trace: Trace) -> dict[str, dict[str, dict[str, Any]]]:
    """All metrics of all views: view -> metric -> {"value", "per_task"}; None where undefined."""

    def plain(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    out: dict[str, dict[str, dict[str, Any]]] = {}
    for view in trace.correct:
        out[view] = {}
        for name, metric in METRICS.items():
            per_task, value = metric.compute(trace, view)
            out[view][name] = {"value": plain(value), "per_task": [plain(v) for v in per_task]}
    return out
