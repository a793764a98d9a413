"""Metrics of few-shot streams: after each session, the accuracy over all classes so far.

S_v = sum over tasks j visited up to v of R[v, j] size_j / sum of size_j: samples weigh the same, so that a large base
session counts for what it is. Tao et al. 2020 (TOPIC) and what followed.
"""

from __future__ import annotations

import math

import numpy as np

from clbench.metrics.definition import (
    Bools,
    Floats,
    Metric,
    Value,
    Weights,
    ends,
    right_matrix,
    visited_so_far,
)
from clbench.summation import mean, row_totals
from clbench.trace import Trace


def pooled(trace: Trace, view: str, tasks: Bools) -> Floats:
    """Accuracy at the end of each experience over the samples of some tasks (V, T): (V,), NaN where there are none."""
    right = row_totals(np.where(tasks, right_matrix(trace, view), 0.0))
    size = np.where(tasks, trace.task_size, 0).sum(1)
    out: Floats = np.divide(right, size, out=np.full(len(tasks), np.nan), where=size > 0)
    return out


def _weigh(weights: Weights, trace: Trace, experience: int, tasks: Bools, weight: float) -> None:
    """Adds the weights of `pooled` at the end of one experience, times a weight; tasks is a mask (T,)."""
    size = trace.task_size
    if tasks.any():
        weights.add(ends(trace)[experience], tasks, weight * size[tasks] / size[tasks].sum())


def _base(trace: Trace) -> Bools:
    """Tasks of the first session, for each experience, (V, T)."""
    return np.broadcast_to(trace.visits[0], trace.visits.shape)


def _new(trace: Trace) -> Bools:
    """Tasks first visited after the first session and up to an experience, (V, T)."""
    later: Bools = visited_so_far(trace.visits) & ~trace.visits[0]
    return later


def average(trace: Trace, view: str) -> Value:
    """1/V sum_v S_v. Accuracy in [0, 1], higher is better; parts for each experience, (V,): S_v.

    Source: Tao et al. 2020; as PyCIL's average accuracy.

    >>> from clbench.testing import make_trace
    >>> R = np.array([[0.9, 0.0], [0.5, 0.8]])
    >>> round(average(make_trace(R[:, None].repeat(3, 1)), "class").value, 6)  # (0.9 + 0.65) / 2
    0.775
    """
    so_far, weights = visited_so_far(trace.visits), Weights(trace)
    for v, seen in enumerate(so_far):
        _weigh(weights, trace, v, seen, 1 / len(so_far))
    parts = pooled(trace, view, so_far)
    return Value(mean(parts), parts, weights.array)


def final(trace: Trace, view: str) -> Value:
    """S_{V-1}, the accuracy over all classes at the end. In [0, 1], higher is better; parts for each experience: S_v.

    Source: Tao et al. 2020.

    >>> from clbench.testing import make_trace
    >>> R = np.array([[0.9, 0.0], [0.5, 0.8]])
    >>> round(final(make_trace(R[:, None].repeat(3, 1)), "class").value, 6)
    0.65
    """
    so_far, weights = visited_so_far(trace.visits), Weights(trace)
    _weigh(weights, trace, -1, so_far[-1], 1)
    parts = pooled(trace, view, so_far)
    return Value(float(parts[-1]), parts, weights.array)


def performance_drop(trace: Trace, view: str) -> Value:
    """PD = S_0 - S_{V-1}. Accuracy in [-1, 1], lower is better; parts for each experience, (V,): S_0 - S_v.

    Source: Zhang et al. 2021 (CEC).

    >>> from clbench.testing import make_trace
    >>> R = np.array([[0.9, 0.0], [0.5, 0.8]])
    >>> round(performance_drop(make_trace(R[:, None].repeat(3, 1)), "class").value, 6)  # 0.9 - 0.65
    0.25
    """
    so_far, weights = visited_so_far(trace.visits), Weights(trace)
    _weigh(weights, trace, 0, so_far[0], 1)
    _weigh(weights, trace, -1, so_far[-1], -1)
    sessions = pooled(trace, view, so_far)
    return Value(float(sessions[0] - sessions[-1]), sessions[0] - sessions, weights.array)


def base(trace: Trace, view: str) -> Value:
    """Accuracy at the end over the tasks of experience 0. In [0, 1], higher is better; parts for each experience, (V,).

    Source: Tao et al. 2020.

    >>> from clbench.testing import make_trace
    >>> R = np.array([[0.9, 0.0], [0.5, 0.8]])
    >>> base(make_trace(R[:, None].repeat(3, 1)), "class").parts.tolist()
    [0.9, 0.5]
    """
    return _at_the_end(trace, view, _base(trace))


def new(trace: Trace, view: str) -> Value:
    """Accuracy at the end over tasks first visited after experience 0. In [0, 1], higher is better.

    Parts for each experience, (V,): over those visited so far. Undefined where there are none.

    Source: Tao et al. 2020.

    >>> from clbench.testing import make_trace
    >>> R = np.array([[0.9, 0.0], [0.5, 0.8]])
    >>> new(make_trace(R[:, None].repeat(3, 1)), "class").parts.tolist()
    [nan, 0.8]
    """
    return _at_the_end(trace, view, _new(trace))


def _at_the_end(trace: Trace, view: str, tasks: Bools) -> Value:
    weights = Weights(trace)
    _weigh(weights, trace, -1, tasks[-1], 1)
    parts = pooled(trace, view, tasks)
    return Value(float(parts[-1]), parts, weights.array)


def harmonic_mean(trace: Trace, view: str) -> Value:
    """2 b n / (b + n) at the end, b and n the accuracies of `sessions.base` and `sessions.new`; 0 where both are 0.

    In [0, 1], higher is better; parts for each experience, (V,). Undefined where there is nothing new.

    Source: Peng et al. 2022 (ALICE).

    >>> from clbench.testing import make_trace
    >>> R = np.array([[0.9, 0.0], [0.3, 0.6]])
    >>> round(harmonic_mean(make_trace(R[:, None].repeat(3, 1)), "class").value, 6)  # 2 * 0.18 / 0.9
    0.4
    """
    b, n = pooled(trace, view, _base(trace)), pooled(trace, view, _new(trace))
    parts = np.where(b + n == 0, 0, np.divide(2 * b * n, b + n, out=np.full(len(b), np.nan), where=b + n != 0))
    return Value(float(parts[-1]) if len(parts) else math.nan, parts)


METRICS = (
    Metric(
        "sessions.average", "average over sessions of the accuracy over all classes so far",
        "1/V sum_v S_v, S_v = sum_{j visited up to v} R[v, j] size_j / sum size_j", "Tao et al. 2020", "higher", (0, 1),
        "accuracy", "experience", average,
    ),
    Metric(
        "sessions.final", "accuracy over all classes after the last session", "S_{V-1}", "Tao et al. 2020", "higher",
        (0, 1), "accuracy", "experience", final,
    ),
    Metric(
        "sessions.performance_drop", "PD, drop from the first session to the last", "S_0 - S_{V-1}",
        "Zhang et al. 2021 (CEC)", "lower", (-1, 1), "accuracy", "experience", performance_drop,
    ),
    Metric(
        "sessions.base", "accuracy at the end on what the first session taught",
        "sum_{j: f(j) = 0} R[V-1, j] size_j / sum size_j", "Tao et al. 2020", "higher", (0, 1), "accuracy",
        "experience", base,
    ),
    Metric(
        "sessions.new", "accuracy at the end on what later sessions taught",
        "sum_{j: f(j) >= 1} R[V-1, j] size_j / sum size_j", "Tao et al. 2020", "higher", (0, 1), "accuracy",
        "experience", new,
    ),
    Metric(
        "sessions.harmonic_mean", "harmonic mean of sessions.base and sessions.new", "2 b n / (b + n)",
        "Peng et al. 2022 (ALICE)", "higher", (0, 1), "accuracy", "experience", harmonic_mean,
    ),
)  # fmt: skip
