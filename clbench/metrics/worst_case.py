"""The worst that happened on the way: minima, and the largest change within a window of iterations.

De Lange, van de Ven and Tuytelaars 2023, "Continual evaluation for lifelong learning: identifying the stability gap".
"""

from __future__ import annotations

from functools import partial

import numpy as np

from clbench.metrics.definition import (
    Floats,
    Indices,
    Metric,
    Value,
    Weights,
    at_most_apart,
    boundaries,
    ends,
    first_visit,
    remembered,
    spacing,
    undefined,
    worth,
)
from clbench.rng import Generator
from clbench.summation import mean
from clbench.trace import Trace

SUBSET = 1000
"""Test samples of a task that the published code draws at every evaluation."""

REPLICATES = 20
"""Simulated redraws that are averaged."""


def minimum_accuracy(trace: Trace, view: str) -> Value:
    """min-ACC: mean over earlier tasks of the smallest accuracy after the first visit, outside the task's own visits.

    min over evaluations e with n(e) > b_{f(i)}, in experiences after f(i) that do not visit i. The last update of the
    first visit does not count (n > |T_i|), nor does anything while the task is visited again. Accuracy in [0, 1],
    higher is better; parts for each task (T,). An upper bound of the true minimum where not every iteration was
    evaluated, see `Value.resolution`. The sampling error takes the place of the minimum as given.

    Source: De Lange et al. 2023.

    >>> from clbench.testing import make_trace
    >>> curve = np.full((2, 4, 2), 0.9)
    >>> curve[1, 1, 0] = 0.2  # task 0 after the first update of experience 1
    >>> minimum = minimum_accuracy(make_trace(curve), "class")
    >>> minimum.value, minimum.resolution
    (0.2, 1)
    """
    earlier = np.flatnonzero(first_visit(trace.visits) < len(trace.visits) - 1)
    return _minima_and_ends(trace, view, earlier, np.zeros(0, np.int64))


def worst_case_accuracy(trace: Trace, view: str) -> Value:
    """WC-ACC = 1/k A(end, current) + (1 - 1/k) min-ACC over the k tasks visited: what held at every moment.

    Per task, (T,): the accuracy at the end for tasks of the last experience, the minimum for the others. With one task
    it is its accuracy. Accuracy in [0, 1], higher is better. Resolution and sampling error as of `min_acc`.

    Source: De Lange et al. 2023.

    >>> from clbench.testing import make_trace
    >>> curve = np.full((2, 4, 2), 0.9)
    >>> curve[1, 1, 0] = 0.2
    >>> round(worst_case_accuracy(make_trace(curve), "class").value, 6)  # (0.2 + 0.9) / 2
    0.55
    """
    visited, current = trace.visits.any(0), trace.visits[-1]
    return _minima_and_ends(trace, view, np.flatnonzero(visited & ~current), np.flatnonzero(current))


def _minima_and_ends(trace: Trace, view: str, least: Indices, final: Indices) -> Value:
    """Mean over the minima of some tasks and the accuracies at the end of others."""
    accuracy, last = worth(trace, view), ends(trace)[-1]
    parts, weights, used, tasks = undefined(trace), Weights(trace), [], len(least) + len(final)
    for i in least:
        counted = _after_learning(trace, i)
        if len(counted):
            lowest = counted[np.argmin(accuracy[counted, i])]
            parts[i] = accuracy[lowest, i]
            weights.add(lowest, i, 1 / tasks)
            used.append(counted)
    if last >= 0 and len(final):
        parts[final] = accuracy[last, final]
        weights.add(last, final, 1 / tasks)
    value = mean(parts[np.concatenate([least, final])])
    return Value(value, parts, weights.array, _spacing(trace, used, value))


@remembered
def _after_learning(trace: Trace, task: int) -> Indices:
    """Evaluations that min-ACC of a task is over, in record order."""
    first = first_visit(trace.visits)[task]
    learnt = boundaries(trace)[first + 1]
    elsewhere = (trace.experience > first) & ~trace.visits[trace.experience, task]
    return np.flatnonzero(elsewhere & (trace.iteration > learnt))


def _spacing(trace: Trace, used: list[Indices], value: float) -> int | None:
    """Largest number of iterations between successive evaluations of one experience among those used."""
    if np.isnan(value) or not used:
        return None
    return max(spacing(trace, evaluations) for evaluations in used)


# ---------------------------------------------------------------------------------------- windows
def _largest_change(trace: Trace, view: str, window: int, sign: int) -> Value:
    """Largest rise of sign * A(e, i) between two evaluations at most window - 1 iterations apart, at least 0."""
    accuracy, first, ended = worth(trace, view), first_visit(trace.visits), boundaries(trace)
    visited = np.flatnonzero(trace.visits.any(0))
    parts, used = undefined(trace), []
    for i in visited:
        counted = np.flatnonzero((trace.experience >= first[i]) & (trace.iteration > ended[first[i]]))
        if not len(counted):
            continue
        curve, n = sign * accuracy[counted, i], trace.iteration[counted]
        start = np.searchsorted(n, n - (window - 1))
        used.append(counted)
        if spacing(trace, counted) < window and not np.isnan(curve).any():
            parts[i] = (curve - _range_minimum(curve, start)).max()
    value = mean(parts[visited])
    return Value(value, parts, None, _spacing(trace, used, value))


def _range_minimum(values: Floats, start: Indices) -> Floats:
    """min of values[start[q] .. q] for every q, by a table of minima over powers of two.

    >>> _range_minimum(np.array([3.0, 1.0, 2.0, 5.0]), np.array([0, 0, 1, 2])).tolist()
    [3.0, 1.0, 1.0, 2.0]
    """
    stop = np.arange(len(values))
    level = np.frexp(stop - start + 1)[1] - 1  # the largest power of two that fits
    out, table = values.copy(), values  # table[p]: the minimum of the 2^level values from p on
    for power in range(int(level.max()) + 1):
        if power:
            half = 1 << (power - 1)
            table = np.minimum(table[:-half], table[half:])
        at = np.flatnonzero(level == power)
        out[at] = np.minimum(table[start[at]], table[at - (1 << power) + 1])
    return out


def windowed_forgetting(trace: Trace, view: str, window: int) -> Value:
    """WF^w: mean over tasks of the largest fall of accuracy within a window of w iterations, at least 0.

    max over pairs of evaluations p before q with n(q) - n(p) <= w - 1 of A(p, i) - A(q, i), over evaluations after the
    first update on task i. Accuracy in [0, 1], lower is better; parts for each task (T,). A lower bound where not every
    iteration was evaluated, see `Value.resolution`. Undefined where evaluations are more than w - 1 iterations apart:
    what happens within a window is then seen nowhere, or only in some places.

    Source: De Lange et al. 2023. Differs from the published code: the window is in iterations, not in evaluations.

    >>> from clbench.testing import make_trace
    >>> curve = np.array([0.0, 0.9, 0.7, 0.4, 0.8, 0.8]).reshape(1, 6, 1)
    >>> round(windowed_forgetting(make_trace(curve), "class", 2).value, 6)  # 0.7 - 0.4, one iteration apart
    0.3
    >>> round(windowed_forgetting(make_trace(curve), "class", 3).value, 6)  # 0.9 - 0.4
    0.5
    >>> windowed_forgetting(make_trace(curve, every=10), "class", 10).value
    nan
    """
    return _largest_change(trace, view, window, -1)


def windowed_plasticity(trace: Trace, view: str, window: int) -> Value:
    """WP^w: mean over tasks of the largest rise of accuracy within a window of w iterations, at least 0.

    As `windowed_forgetting` with A(q, i) - A(p, i); higher is better.

    Source: De Lange et al. 2023. Differs from the published code, which skips start values below the largest value so
    far in the window and so under-estimates rises; and its windows are in evaluations.

    >>> from clbench.testing import make_trace
    >>> curve = np.array([0.0, 0.9, 0.7, 0.4, 0.8, 0.8]).reshape(1, 6, 1)
    >>> round(windowed_plasticity(make_trace(curve), "class", 10).value, 6)  # 0.8 - 0.4
    0.4
    """
    return _largest_change(trace, view, window, 1)


# ---------------------------------------------------------------------------------------- redrawn test samples
def redrawn_accuracy(curve: Floats, size: int, task: int, moment: Indices | None = None) -> Floats:
    """Accuracies on a task as if every evaluation drew its own test samples, (REPLICATES, E), in [0, 1].

    At every evaluation SUBSET samples of the task are drawn anew without replacement; how many of them are right is
    hypergeometric given how many of all are. Simulated by the inverse distribution function from uniforms that depend
    on the task and the moment alone. A task of at most SUBSET samples is used whole. NaN where not evaluated.

    Args:
        curve: recorded accuracies, (E,).
        size: test samples of the task.
        task: its number, which names its random numbers.
        moment: (E,), ascending from 0; evaluations of one moment have one draw, so that how a pass was cut moves
            nothing. Default: a separate draw for each evaluation.

    >>> redrawn_accuracy(np.array([0.5, 1.0]), 1000, 0)[0].tolist()
    [0.5, 1.0]
    >>> redrawn_accuracy(np.array([0.0, 1.0]), 2000, 0)[0].tolist()
    [0.0, 1.0]
    """
    out = np.repeat(curve[None], REPLICATES, axis=0)
    if size <= SUBSET:
        return out
    moment = np.arange(len(curve)) if moment is None else moment
    moments = int(moment[-1]) + 1
    uniform = Generator(0, "strategy", "redraw", task).uniform(REPLICATES * moments).reshape(moments, -1)[moment]
    known = np.flatnonzero(~np.isnan(curve))
    right = np.rint(curve[known] * size).astype(np.int64)
    order = known[np.argsort(right, kind="stable")]
    counts, begin = np.unique(np.sort(right), return_index=True)
    for count, same in zip(counts.tolist(), np.split(order, begin[1:]), strict=True):
        least, distribution = _hypergeometric(size, count)
        out[:, same] = (least + np.searchsorted(distribution, uniform[same], side="right")).T / SUBSET
    return out


@remembered
def _redrawn(trace: Trace, view: str) -> tuple[Floats, Floats]:
    """Means over replicates of each task's minimum and of its accuracy at the end, (T,) each."""
    accuracy, sizes, last = trace.task_accuracy(view), trace.task_size, ends(trace)[-1]
    minima, final = undefined(trace), undefined(trace)
    moment = np.unique(trace.iteration, return_inverse=True)[1]
    for i in np.flatnonzero(trace.visits.any(0)).tolist():
        drawn, counted = redrawn_accuracy(accuracy[:, i], int(sizes[i]), i, moment), _after_learning(trace, i)
        if len(counted):
            minima[i] = mean(drawn[:, counted].min(1))
        if last >= 0:
            final[i] = mean(drawn[:, last])
    return minima, final


def _hypergeometric(size: int, count: int) -> tuple[int, Floats]:
    """Smallest number of right samples among SUBSET of `size` with `count` right, and P(number <= it + index).

    By the quotients of neighbouring probabilities, outwards from the most probable number: products and sums in one
    order, whereas exponentials and logarithms have last bits of the machine's own.

    >>> least, distribution = _hypergeometric(1001, 1)
    >>> least, distribution.round(6).tolist()  # the one right sample is left out once in 1,001
    (0, [0.000999, 1.0])
    """
    least, most = max(0, SUBSET - (size - count)), min(SUBSET, count)
    k = np.arange(least, most)
    up = (count - k) * (SUBSET - k) / ((k + 1) * (size - count - SUBSET + k + 1))  # P(k + 1) / P(k), falling
    mode = int(np.count_nonzero(up > 1))
    below, above = np.cumprod(1 / up[:mode][::-1])[::-1], np.cumprod(up[mode:])
    distribution = np.cumsum(np.concatenate([below, [1.0], above]))
    return least, distribution / distribution[-1]


def minimum_accuracy_redraw(trace: Trace, view: str) -> Value:
    """`min_acc` as published code measures it: at every evaluation 1,000 test samples of each task are drawn anew.

    The minimum over many noisy numbers is biased: a constant model of accuracy 0.9 has a min-ACC of 0.9, and well
    below 0.9 of this. It is here to be compared with published numbers. Mean of 20 simulated redraws of the counts
    recorded. Accuracy in [0, 1], higher is better; parts for each task (T,).

    Source: code of De Lange et al. 2023.

    >>> from clbench.testing import make_trace
    >>> trace = make_trace(np.full((2, 202, 2), 0.9), size=10_000)
    >>> minimum_accuracy(trace, "class").value, minimum_accuracy_redraw(trace, "class").value < 0.88
    (0.9, True)
    """
    earlier = np.flatnonzero(first_visit(trace.visits) < len(trace.visits) - 1)
    parts = undefined(trace)
    parts[earlier] = _redrawn(trace, view)[0][earlier]
    value = mean(parts[earlier])
    return Value(value, parts, None, _spacing(trace, [_after_learning(trace, i) for i in earlier.tolist()], value))


def worst_case_accuracy_redraw(trace: Trace, view: str) -> Value:
    """`wc_acc` as published code measures it, with 1,000 test samples drawn anew at every evaluation.

    The accuracy at the end is of redrawn samples too, which does not bias it. See `min_acc.redraw_1000`.

    Source: code of De Lange et al. 2023.

    >>> from clbench.testing import make_trace
    >>> trace = make_trace(np.full((2, 202, 2), 0.9), size=10_000)
    >>> worst_case_accuracy(trace, "class").value, worst_case_accuracy_redraw(trace, "class").value < 0.89
    (0.9, True)
    """
    visited, current = trace.visits.any(0), trace.visits[-1]
    minima, final = _redrawn(trace, view)
    parts = np.where(current, final, np.where(visited, minima, np.nan))
    value = mean(parts[visited])
    used = [_after_learning(trace, i) for i in np.flatnonzero(visited & ~current).tolist()]
    return Value(value, parts, None, _spacing(trace, used, value))


METRICS = (
    Metric(
        "min_acc", "min-ACC, average minimum accuracy of earlier tasks",
        "mean_i min_{n > b_f(i), i not visited} A(n, i)",
        "De Lange et al. 2023", "higher", (0, 1), "accuracy", "task", minimum_accuracy, "upper",
    ),
    Metric(
        "wc_acc", "WC-ACC, worst-case accuracy", "1/k A(end, current) + (1 - 1/k) min-ACC", "De Lange et al. 2023",
        "higher", (0, 1), "accuracy", "task", worst_case_accuracy, "upper",
    ),
    *(
        Metric(
            f"wf_{w}", f"WF^{w}, largest fall within {w} iterations",
            f"mean_i max(0, max_{{n(p) <= n(q) < n(p) + {w}}} A(p, i) - A(q, i))", "De Lange et al. 2023", "lower",
            (0, 1), "accuracy", "task", partial(windowed_forgetting, window=w), "lower", at_most_apart(w - 1),
        )
        for w in (10, 100)
    ),
    *(
        Metric(
            f"wp_{w}", f"WP^{w}, largest rise within {w} iterations",
            f"mean_i max(0, max_{{n(p) <= n(q) < n(p) + {w}}} A(q, i) - A(p, i))",
            "De Lange et al. 2023; their code under-estimates it", "higher", (0, 1), "accuracy", "task",
            partial(windowed_plasticity, window=w), "lower", at_most_apart(w - 1),
        )
        for w in (10, 100)
    ),
    Metric(
        "min_acc.redraw_1000", "min-ACC with 1,000 test samples drawn anew at every evaluation: biased low",
        "mean of 20 simulated redraws of min_acc", "code of De Lange et al. 2023", "higher", (0, 1), "accuracy",
        "task", minimum_accuracy_redraw, "upper",
    ),
    Metric(
        "wc_acc.redraw_1000", "WC-ACC with 1,000 test samples drawn anew at every evaluation: biased low",
        "mean of 20 simulated redraws of wc_acc", "code of De Lange et al. 2023", "higher", (0, 1), "accuracy",
        "task", worst_case_accuracy_redraw, "upper",
    ),
)  # fmt: skip
