"""Metrics and tables of the outputs predicted for the test samples, which a trace holds at the ends of experiences."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from clbench.errors import UserError
from clbench.metrics.definition import Indices, Metric, Value, ends, visited_so_far
from clbench.summation import mean
from clbench.trace import NOT_EVALUATED, Phase, Trace, outputs_of


def predictions_at_ends(trace: Trace, view: str) -> list[Indices | None]:
    """Predicted output of each evaluated sample at the end of each experience, V arrays (N,), -1 without one; None for
    an experience without an END evaluation, and everywhere where no predictions were recorded."""
    if view not in trace.predicted:
        return [None] * len(trace.visits)
    row = np.cumsum(trace.phase == Phase.END) - 1
    return [None if e < 0 else outputs_of(trace.predicted[view][row[e]]) for e in ends(trace).tolist()]


def predicted_newest(trace: Trace, view: str) -> Value:
    """Mean over experiences of the share of test samples of earlier classes that are predicted as newest ones.

    At the end of experience v, newest outputs are those of the tasks visited in v, and earlier samples those of tasks
    visited up to v whose output is none of these; mean over v that have both. A mistake of each such sample, whatever
    the numbers of classes: in [0, 1], lower is better. Parts for each experience, (V,). Undefined where predictions
    were not recorded, and in views `task`, in which outputs of other tasks do not compete.

    Source: the bias towards recent classes, Wu et al. 2019 (BiC); Masana et al. 2022.

    >>> from clbench.testing import make_trace
    >>> trace = make_trace(np.ones((2, 3, 2)), size=4, predicted=np.array([[0] * 8, [0, 1, 1, 1, 1, 1, 1, 0]]))
    >>> predicted_newest(trace, "class").parts.tolist()  # of the 4 samples of class 0, 3 are predicted as class 1
    [nan, 0.75]
    """
    parts = np.full(len(trace.visits), np.nan)
    if view not in trace.predicted or view.partition(".")[0] == "task":
        return Value(float("nan"), parts)
    so_far, cell, both = visited_so_far(trace.visits), trace.sample_cell, []
    for v, predicted in enumerate(predictions_at_ends(trace, view)):
        newest = trace.cell_target[trace.task_cells[trace.visits[v]].any(0)]
        earlier = trace.task_cells[so_far[v]].any(0) & ~np.isin(trace.cell_target, newest)
        samples = earlier[cell]
        if not newest.size or not samples.any():
            continue
        both.append(v)
        if predicted is not None and (predicted[samples] >= 0).all():
            parts[v] = np.isin(predicted[samples], newest).sum() / samples.sum()
    return Value(mean(parts[both]), parts)


def confusion(trace: Trace, view: str, experience: int = -1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Classes, ascending (C,), and the numbers of test samples of each class (row) that are predicted as each (column)
    at the end of an experience, (C, C + 1); the last column is of those without a prediction.

    Samples that were not evaluated then are left out. Where several classes share an output, both are of outputs.

    Args:
        trace: as recorded, or joined by origin.
        view: its name.
        experience: number of the experience, before a cut into sub-experiences; negative from the end.

    Raises:
        UserError: no such experience, or its predictions were not recorded.

    >>> from clbench.testing import make_trace
    >>> trace = make_trace(np.ones((2, 3, 2)), size=4, predicted=np.array([[0] * 8, [0, 1, 1, 1, 1, 1, 1, 0]]))
    >>> confusion(trace, "class")[1].tolist()
    [[1, 3, 0], [1, 3, 0]]
    """
    joined = trace.by_origin()
    number = len(joined.visits)
    if not -number <= experience < number:
        raise UserError(f"there is no experience {experience}. Allowed: 0 to {number - 1}.")
    predicted = predictions_at_ends(joined, view)[experience]
    if predicted is None:
        raise UserError(f"the predictions at the end of experience {experience % number} were not recorded.")
    classes: dict[int, set[int]] = {}
    for target, label in zip(joined.cell_target.tolist(), joined.cell_class.tolist(), strict=True):
        classes.setdefault(target, set()).add(label)
    alone = all(len(labels) == 1 for labels in classes.values())
    outputs = {target: min(labels) if alone else target for target, labels in classes.items()}
    true = (joined.cell_class.astype(np.int64) if alone else joined.cell_target)[joined.sample_cell]
    seen = (joined.correct[view][ends(joined)[experience]] != NOT_EVALUATED)[joined.sample_cell]
    return tabulated(true[seen], predicted[seen], outputs)


def tabulated(
    true: NDArray[np.int64], predicted: NDArray[np.int64], outputs: Mapping[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Classes, ascending (C,), and numbers of samples by class and predicted class, (C, C + 1).

    Args:
        true: class of each sample, (N,).
        predicted: predicted output of each, (N,); -1 without one.
        outputs: output unit -> class.

    >>> tabulated(np.array([3, 3, 5]), np.array([0, 1, -1]), {0: 3, 1: 5})[1].tolist()
    [[1, 1, 0], [0, 0, 1]]
    """
    classes = np.array(sorted({*outputs.values(), *true.tolist()}), np.int64)
    row = {c: i for i, c in enumerate(classes.tolist())}
    counts = np.zeros((len(classes), len(classes) + 1), np.int64)
    columns = [row[outputs[p]] if p in outputs else len(classes) for p in predicted.tolist()]
    np.add.at(counts, ([row[c] for c in true.tolist()], columns), 1)
    return classes, counts


METRICS = (
    Metric(
        "recency.predicted_newest", "share of the test samples of earlier classes predicted as a class of the newest "
        "experience", "mean_{v >= 1} share of {n: y_n seen by v, not taught in v} predicted as a class taught in v",
        "after Wu et al. 2019 (BiC)", "lower", (0, 1), "share", "experience", predicted_newest,
    ),
)  # fmt: skip
