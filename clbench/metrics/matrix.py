"""Metrics of the accuracy matrix R, the accuracy on each task at the end of each experience."""

from __future__ import annotations

import numpy as np

from clbench.metrics.definition import (
    Bools,
    Floats,
    Metric,
    Value,
    Weights,
    accuracy_matrix,
    at,
    befores,
    ends,
    first_visit,
    is_square,
    undefined,
    visited_so_far,
    worth,
)
from clbench.summation import mean
from clbench.trace import Trace


def average_accuracy(trace: Trace, view: str) -> Value:
    """ACC = 1/T sum_j R[V-1, j] over the tasks visited. Accuracy in [0, 1], higher is better; parts for each task (T,).

    Source: Lopez-Paz and Ranzato 2017.

    >>> from clbench.testing import make_trace
    >>> R = np.array([[0.9, 0.0], [0.5, 0.8]])
    >>> round(average_accuracy(make_trace(R[:, None].repeat(3, 1)), "class").value, 6)  # (0.5 + 0.8) / 2
    0.65
    """
    visited = trace.visits.any(0)
    parts = np.where(visited, accuracy_matrix(trace, view)[-1], np.nan)
    weights = Weights(trace)
    weights.add(ends(trace)[-1], visited, 1 / max(1, visited.sum()))
    return Value(mean(parts[visited]), parts, weights.array)


def average_incremental_accuracy(trace: Trace, view: str) -> Value:
    """1/V sum_v of the mean over tasks visited up to v of R[v, j]. Accuracy in [0, 1], higher is better.

    Tasks weigh the same; `sessions.average` weighs samples. It has no parts for single tasks: NaN, (T,).

    Source: Rebuffi et al. 2017.

    >>> from clbench.testing import make_trace
    >>> R = np.array([[0.9, 0.0], [0.5, 0.8]])
    >>> trace = make_trace(R[:, None].repeat(3, 1))
    >>> round(average_incremental_accuracy(trace, "class").value, 6)  # (0.9 + (0.5 + 0.8) / 2) / 2
    0.775
    """
    so_far, matrix, last = visited_so_far(trace.visits), accuracy_matrix(trace, view), ends(trace)
    weights = Weights(trace)
    for v, seen in enumerate(so_far):
        weights.add(last[v], seen, 1 / max(1, seen.sum()) / len(so_far))
    rows = np.array([mean(row[seen]) for row, seen in zip(matrix, so_far, strict=True)])
    return Value(mean(rows), undefined(trace), weights.array)


def forgetting_after_learning(trace: Trace, view: str) -> Value:
    """Mean over earlier tasks of R[f(j), j] - R[V-1, j]. Accuracy in [-1, 1], lower is better; parts (T,).

    Source: De Lange et al. 2023 (FORG).

    >>> from clbench.testing import make_trace
    >>> R = np.array([[0.9, 0.0], [0.5, 0.8]])
    >>> round(forgetting_after_learning(make_trace(R[:, None].repeat(3, 1)), "class").value, 6)  # 0.9 - 0.5
    0.4
    """
    matrix, first, last = accuracy_matrix(trace, view), first_visit(trace.visits), ends(trace)
    earlier = np.flatnonzero(first < len(matrix) - 1)
    parts, weights = undefined(trace), Weights(trace)
    for j in earlier:
        parts[j] = matrix[first[j], j] - matrix[-1, j]
        weights.add(last[first[j]], j, 1 / len(earlier))
        weights.add(last[-1], j, -1 / len(earlier))
    return Value(mean(parts[earlier]), parts, weights.array)


def forgetting_chaudhry(trace: Trace, view: str) -> Value:
    """Mean over earlier tasks of max_{f(j) <= v < V-1} R[v, j] - R[V-1, j].

    Accuracy in [-1, 1], lower is better; parts for each task (T,). The last experience is not among those that the
    maximum is over: a task that is best at the end has a negative part. The sampling error takes the place of the
    maximum as given.

    Source: Chaudhry et al. 2018, equation 3.

    >>> from clbench.testing import make_trace
    >>> R = np.array([[0.7, 0.0, 0.0], [0.8, 0.9, 0.0], [0.5, 0.6, 0.9]])
    >>> trace = make_trace(R[:, None].repeat(3, 1))
    >>> round(forgetting_chaudhry(trace, "class").value, 6)  # (0.8 - 0.5 + 0.9 - 0.6) / 2
    0.3
    """
    return _since_best(trace, view, including_last=False)


def forgetting_max_including_last(trace: Trace, view: str) -> Value:
    """Mean over earlier tasks of max_{f(j) <= v <= V-1} R[v, j] - R[V-1, j].

    Accuracy in [0, 1], lower is better; parts for each task (T,). A task that is best at the end counts 0, not a gain.
    The sampling error takes the place of the maximum as given.

    Source: as Mammoth and PyCIL compute Chaudhry et al. 2018.

    >>> from clbench.testing import make_trace
    >>> R = np.array([[0.7, 0.0, 0.0], [0.8, 0.9, 0.0], [0.85, 0.6, 0.9]])
    >>> trace = make_trace(R[:, None].repeat(3, 1))
    >>> round(forgetting_max_including_last(trace, "class").value, 6)  # (0.85 - 0.85 + 0.9 - 0.6) / 2
    0.15
    """
    return _since_best(trace, view, including_last=True)


def _since_best(trace: Trace, view: str, including_last: bool) -> Value:
    matrix, first = accuracy_matrix(trace, view), first_visit(trace.visits)
    earlier = np.flatnonzero(first < len(matrix) - 1)
    parts, weights, last = undefined(trace), Weights(trace), ends(trace)
    for j in earlier:
        rows = matrix[first[j] : len(matrix) - (not including_last), j]
        best = first[j] + int(np.argmax(rows))
        parts[j] = matrix[best, j] - matrix[-1, j]
        weights.add(last[best], j, 1 / len(earlier))
        weights.add(last[-1], j, -1 / len(earlier))
    return Value(mean(parts[earlier]), parts, weights.array)


def backward_transfer_gem(trace: Trace, view: str) -> Value:
    """BWT: mean over earlier tasks of R[V-1, j] - R[f(j), j], the negative of `forgetting.after_learning`.

    Accuracy in [-1, 1], higher is better; parts for each task (T,).

    Source: Lopez-Paz and Ranzato 2017.

    >>> from clbench.testing import make_trace
    >>> R = np.array([[0.9, 0.0], [0.5, 0.8]])
    >>> round(backward_transfer_gem(make_trace(R[:, None].repeat(3, 1)), "class").value, 6)  # 0.5 - 0.9
    -0.4
    """
    forgetting = forgetting_after_learning(trace, view)
    assert forgetting.weights is not None
    return Value(0.0 - forgetting.value, 0.0 - forgetting.parts, 0.0 - forgetting.weights)


def backward_transfer_all_pairs(trace: Trace, view: str) -> Value:
    """sum_{i > j} (R[i, j] - R[j, j]) / (T (T - 1) / 2). Accuracy in [-1, 1], higher is better.

    Defined where task v is visited in experience v and nowhere else, T >= 2. Parts, (T,): mean over i > j for task j.

    Source: Díaz-Rodríguez et al. 2018.

    >>> from clbench.testing import make_trace
    >>> R = np.array([[0.7, 0.0, 0.0], [0.8, 0.9, 0.0], [0.5, 0.6, 0.9]])
    >>> trace = make_trace(R[:, None].repeat(3, 1))
    >>> round(backward_transfer_all_pairs(trace, "class").value, 6)  # (0.1 - 0.2 - 0.3) / 3
    -0.133333
    """
    parts, weights = undefined(trace), Weights(trace)
    if not is_square(trace.visits):
        return Value(float("nan"), parts, weights.array)
    matrix, last, tasks = accuracy_matrix(trace, view), ends(trace), len(trace.visits)
    pairs = tasks * (tasks - 1) // 2
    gains = matrix - np.diag(matrix)
    for j in range(tasks - 1):
        parts[j] = mean(gains[j + 1 :, j])
        for i in range(j + 1, tasks):
            weights.add(last[i], j, 1 / pairs)
        weights.add(last[j], j, -(tasks - 1 - j) / pairs)
    return Value(mean(gains[np.tril_indices(tasks, -1)]), parts, weights.array)


def forward_transfer_gem(trace: Trace, view: str) -> Value:
    """FWT: mean over tasks with f(i) >= 1 of A before experience f(i), minus A before the first update of the stream.

    R[i-1, i] - b_i in the paper, both at a BEFORE evaluation. Accuracy in [-1, 1], higher is better; parts for each
    task (T,). Undefined in views `class`: the classes that compete differ between the two moments.

    Source: Lopez-Paz and Ranzato 2017.

    >>> from clbench.testing import make_trace
    >>> curve = np.array([[[0.1, 0.2], [0.9, 0.2], [0.9, 0.2]], [[0.9, 0.3], [0.5, 0.8], [0.5, 0.8]]])
    >>> round(forward_transfer_gem(make_trace(curve, view="task"), "task").value, 6)  # 0.3 - 0.2
    0.1
    """
    parts, weights = undefined(trace), Weights(trace)
    first, start = first_visit(trace.visits), befores(trace)
    later = np.flatnonzero((first >= 1) & (first < len(trace.visits)))
    if view.partition(":")[0].partition(".")[0] == "class" or not len(later):
        return Value(float("nan"), parts, weights.array)
    untrained = at(worth(trace, view), start)
    for i in later:
        parts[i] = untrained[first[i], i] - untrained[0, i]
        weights.add(start[first[i]], i, 1 / len(later))
        weights.add(start[0], i, -1 / len(later))
    return Value(mean(parts[later]), parts, weights.array)


def forward_transfer_all_pairs(trace: Trace, view: str) -> Value:
    """sum_{i < j} Z[i, j] / (T (T - 1) / 2), Z[i, j] the accuracy on j before the first update of experience i + 1.

    Accuracy in [0, 1], higher is better. Defined where task v is visited in experience v and nowhere else, T >= 2.
    Parts, (T,): mean over i < j for task j.

    Source: Díaz-Rodríguez et al. 2018.

    >>> from clbench.testing import make_trace
    >>> before = np.array([[0.0, 0.0, 0.0], [0.0, 0.1, 0.2], [0.0, 0.0, 0.6]])
    >>> trace = make_trace(before[:, None].repeat(3, 1))
    >>> round(forward_transfer_all_pairs(trace, "class").value, 6)  # (0.1 + 0.2 + 0.6) / 3
    0.3
    """
    parts, weights = undefined(trace), Weights(trace)
    if not is_square(trace.visits):
        return Value(float("nan"), parts, weights.array)
    start, tasks = befores(trace), len(trace.visits)
    after = at(worth(trace, view), start)[1:]  # Z[i], i = 0 .. T - 2
    pairs = tasks * (tasks - 1) // 2
    for j in range(1, tasks):
        parts[j] = mean(after[:j, j])
        for i in range(j):
            weights.add(start[i + 1], j, 1 / pairs)
    upper: Bools = np.arange(tasks - 1)[:, None] < np.arange(tasks)
    values: Floats = after[upper]
    return Value(mean(values), parts, weights.array)


METRICS = (
    Metric(
        "average_accuracy", "ACC, average accuracy at the end", "1/T sum_j R[V-1, j]",
        "Lopez-Paz and Ranzato 2017", "higher", (0, 1), "accuracy", "task", average_accuracy,
    ),
    Metric(
        "average_incremental_accuracy", "average over experiences of the accuracy on all tasks so far",
        "1/V sum_v mean_{j visited up to v} R[v, j]", "Rebuffi et al. 2017", "higher", (0, 1), "accuracy", "task",
        average_incremental_accuracy,
    ),
    Metric(
        "forgetting.after_learning", "loss since the end of a task's first visit", "mean_j R[f(j), j] - R[V-1, j]",
        "De Lange et al. 2023 (FORG)", "lower", (-1, 1), "accuracy", "task", forgetting_after_learning,
    ),
    Metric(
        "forgetting.chaudhry", "loss since the best earlier value, the last experience left out",
        "mean_j max_{f(j) <= v < V-1} R[v, j] - R[V-1, j]", "Chaudhry et al. 2018", "lower", (-1, 1), "accuracy",
        "task", forgetting_chaudhry,
    ),
    Metric(
        "forgetting.max_including_last", "loss since the best value, the last experience included",
        "mean_j max_{f(j) <= v <= V-1} R[v, j] - R[V-1, j]", "Chaudhry et al. 2018 as Mammoth and PyCIL compute it",
        "lower", (0, 1), "accuracy", "task", forgetting_max_including_last,
    ),
    Metric(
        "backward_transfer.gem", "BWT, gain since the end of a task's first visit", "mean_j R[V-1, j] - R[f(j), j]",
        "Lopez-Paz and Ranzato 2017", "higher", (-1, 1), "accuracy", "task", backward_transfer_gem,
    ),
    Metric(
        "backward_transfer.all_pairs", "gain since learning at every later end, averaged over all pairs",
        "sum_{i > j} (R[i, j] - R[j, j]) / (T (T - 1) / 2)", "Díaz-Rodríguez et al. 2018", "higher", (-1, 1),
        "accuracy", "task", backward_transfer_all_pairs,
    ),
    Metric(
        "forward_transfer.gem", "FWT, gain on a task before it is trained on, over the untrained model",
        "mean_{i: f(i) >= 1} A(before f(i), i) - A(before 0, i)", "Lopez-Paz and Ranzato 2017", "higher", (-1, 1),
        "accuracy", "task", forward_transfer_gem,
    ),
    Metric(
        "forward_transfer.all_pairs", "accuracy on tasks not yet trained on, averaged over all pairs",
        "sum_{i < j} A(before i + 1, j) / (T (T - 1) / 2)", "Díaz-Rodríguez et al. 2018", "higher", (0, 1),
        "accuracy", "task", forward_transfer_all_pairs,
    ),
)  # fmt: skip
