"""Metrics of measures that are numbers, for which lower is better: errors and losses.

They are the metrics of accuracy with the worth W = -L in place of A, L(e, i) the mean of the measure over the test
samples of task i at evaluation e; values are given in the measure's own unit. A *level* is a mean of L, >= 0. A
*difference*, such as forgetting, is what L has risen by, the same number as the fall of W; transfer is what it has
fallen by. Shares of a level say nothing of a loss, which has no greatest value; where accuracy has them, these have
shares of a gain or of a drop, under names that say so. Counts have metrics that numbers do not: samples that are drawn
anew, knowledge as a share of all, a harmonic mean. What touches an infinite loss is undefined.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np

from clbench.measures import MEASURES, Measure
from clbench.metrics import gap, learning, matrix, prequential, sessions, worst_case
from clbench.metrics.definition import (
    WITHIN,
    Floats,
    Metric,
    Value,
    accuracy_matrix,
    at,
    befores,
    first_visit,
    mean_over,
    rounding,
    undefined,
    worth,
)
from clbench.summation import mean
from clbench.trace import Trace

LEARNT = learning.LEARNT
"""Share of the gain of the first visit from which on a task counts as learnt, and of a drop as regained."""

_COUNTED: dict[str, Metric] = {
    metric.name: metric for family in (matrix, worst_case, learning, sessions, gap) for metric in family.METRICS
}

_LEVELS = {
    "average": ("average_accuracy", "average at the end", "1/T sum_j L(end, j)"),
    "average_incremental": (
        "average_incremental_accuracy",
        "average over experiences of that on all tasks so far",
        "1/V sum_v mean_{j visited up to v} L(end of v, j)",
    ),
    "forward_transfer.all_pairs": (
        "forward_transfer.all_pairs",
        "on tasks not yet trained on, averaged over all pairs",
        "sum_{i < j} L(before i + 1, j) / (T (T - 1) / 2)",
    ),
    "worst": (
        "min_acc",
        "average maximum of earlier tasks",
        "mean_i max_{n > b_f(i), i not visited} L(n, i)",
    ),
    "worst_case": ("wc_acc", "worst case", "1/k L(end, current) + (1 - 1/k) worst"),
    "lca_10.a_gem": (
        "lca_10.a_gem",
        "mean over the first 10 updates on a task and before them",
        "mean_i 1/11 sum_{b=0..10} L(b_{f(i)-1} + b, i)",
    ),
    "lca_10.de_lange": (
        "lca_10.de_lange",
        "mean over the first 10 updates on a task",
        "mean_i 1/10 sum_{b=1..10} L(b_{f(i)-1} + b, i)",
    ),
    "anytime": (
        "anytime_accuracy",
        "average over all iterations of that on all tasks so far",
        "1/I sum_v integral_{b_{v-1}}^{b_v} mean_{j visited up to v} L(n, j) dn",
    ),
    "sessions.average": (
        "sessions.average",
        "average over sessions of that over all samples so far",
        "1/V sum_v S_v, S_v = sum_{j visited up to v} L(end of v, j) size_j / sum size_j",
    ),
    "sessions.final": ("sessions.final", "over all samples after the last session", "S_{V-1}"),
    "sessions.base": (
        "sessions.base",
        "at the end on what the first session taught",
        "sum_{j: f(j) = 0} L(end, j) size_j / sum size_j",
    ),
    "sessions.new": (
        "sessions.new",
        "at the end on what later sessions taught",
        "sum_{j: f(j) >= 1} L(end, j) size_j / sum size_j",
    ),
}
"""Name -> that of accuracy, title, formula; values change their sign."""

_DIFFERENCES = {
    "forgetting.after_learning": ("rise since the end of a task's first visit", "mean_j L(end, j) - L(end of f(j), j)"),
    "forgetting.chaudhry": (
        "rise since the best earlier value, the last experience left out",
        "mean_j L(end, j) - min_{f(j) <= v < V-1} L(end of v, j)",
    ),
    "forgetting.max_including_last": (
        "rise since the best value, the last experience included",
        "mean_j L(end, j) - min_{f(j) <= v <= V-1} L(end of v, j)",
    ),
    "backward_transfer.gem": (
        "BWT, fall since the end of a task's first visit",
        "mean_j L(end of f(j), j) - L(end, j)",
    ),
    "backward_transfer.all_pairs": (
        "fall since learning at every later end, averaged over all pairs",
        "sum_{i > j} (L(end of j, j) - L(end of i, j)) / (T (T - 1) / 2)",
    ),
    "forward_transfer.gem": (
        "FWT, fall on a task before it is trained on, over the untrained model",
        "mean_{i: f(i) >= 1} L(before 0, i) - L(before f(i), i)",
    ),
    **{
        f"wf_{w}": (
            f"largest rise within {w} iterations",
            f"mean_i max(0, max_{{n(p) <= n(q) < n(p) + {w}}} L(q, i) - L(p, i))",
        )
        for w in (10, 100)
    },
    **{
        f"wp_{w}": (
            f"largest fall within {w} iterations",
            f"mean_i max(0, max_{{n(p) <= n(q) < n(p) + {w}}} L(p, i) - L(q, i))",
        )
        for w in (10, 100)
    },
    "recency_bias": (
        "that on what was taught before minus that on what was taught last",
        "mean_{v >= 1} L(end of v, visited only before v) - L(end of v, visited in v)",
    ),
    "sessions.performance_drop": ("rise from the first session to the last", "S_{V-1} - S_0"),
    "gap.depth": (
        "mean height of the gaps of tasks that are not trained on",
        "mean max(0, max L - l0), l0 = L(end of v-1, i)",
    ),
    "gap.iterations_to_trough": (
        "mean iterations from a boundary to the largest value",
        "mean over height > 0 of n(first maximum) - b_{v-1}",
    ),
    "gap.area": ("mean area of the gaps", "mean integral max(0, L(n) - l0) dn"),
    "gap.transient": ("mean rise that is undone within the experience", "mean height - permanent"),
    "gap.permanent": ("mean rise that stays to the end of the experience", "mean max(0, L(end of v) - l0)"),
    "gap.regained": ("share of the rise that is undone within the experience", "sum transient / sum height"),
    "gap.depth.trained_again": (
        "mean height of the gaps of tasks that are trained on again",
        "gap.depth over experiences that visit the task again",
    ),
    "gap.area.trained_again": (
        "mean area of the gaps of tasks that are trained on again",
        "gap.area over experiences that visit the task again",
    ),
}
"""Name, the same as that of accuracy -> title, formula; values are those of the worth."""


def _level(compute: Callable[[Trace, str], Value]) -> Callable[[Trace, str], Value]:
    """The metric of the worth with the sign of the measure."""

    def negative(trace: Trace, view: str) -> Value:
        of = compute(trace, view)
        weights = None if of.weights is None else 0.0 - of.weights
        return Value(0.0 - of.value, 0.0 - of.parts, weights, of.resolution)

    return negative


def forgetting_share_of_learnt(trace: Trace, view: str) -> Value:
    """Mean over earlier tasks of (L(end, j) - L(end of f(j), j)) / (L(before f(j), j) - L(end of f(j), j)).

    Share of what the first visit taught that is lost, in (-inf, inf), lower is better: 0 where nothing is, 1 where the
    task is as before its visit, more where it is worse; negative where it got better. Parts for each task (T,).
    Undefined where a first visit taught nothing.

    Source: `forgetting.after_learning` divided by what was learnt.

    >>> from clbench.testing import make_measured_trace
    >>> curve = np.array([[[5.0, 9.0], [1.0, 9.0], [1.0, 9.0]], [[1.0, 9.0], [2.0, 3.0], [2.0, 3.0]]])
    >>> forgetting_share_of_learnt(make_measured_trace(curve), "domain:squared_error").value  # (2 - 1) / (5 - 1)
    0.25
    """
    first, matrix = first_visit(trace.visits), accuracy_matrix(trace, view)
    start = at(worth(trace, view), befores(trace))
    parts, earlier = undefined(trace), np.flatnonzero(first < len(trace.visits) - 1)
    for j in earlier:
        after = matrix[first[j], j]
        learnt = after - start[first[j], j]
        parts[j] = (after - matrix[-1, j]) / learnt if learnt > 0 else math.nan
    return Value(mean(parts[earlier]), parts)


def updates_to_learn(trace: Trace, view: str) -> tuple[Floats, Floats, Floats]:
    """Updates of a task's first visit until 90 % of its gain for the first time, (T,), in iterations, >= 0.

    Interpolated linearly between evaluations. NaN where the first visit taught nothing, and as for accuracies.

    Returns:
        The updates; the worth that is 90 % of the gain, (T,); and what may be missing from it by rounding, (T,).

    >>> from clbench.testing import make_measured_trace
    >>> curve = np.array([5.0, 3.0, 1.0, 1.0]).reshape(1, 4, 1)  # down to 5 - 0.9 * 4 = 1.4
    >>> n, level, _ = updates_to_learn(make_measured_trace(curve), "domain:squared_error")
    >>> n.round(6).tolist(), level.round(6).tolist()
    ([1.8], [-1.4])
    """
    curve, matrix, first = worth(trace, view), accuracy_matrix(trace, view), first_visit(trace.visits)
    start = at(curve, befores(trace))
    n, level, short = undefined(trace), undefined(trace), undefined(trace)
    for i in np.flatnonzero(first < len(matrix)):
        before, after = start[first[i], i], matrix[first[i], i]
        if after > before:
            level[i], short[i] = before + LEARNT * (after - before), rounding(trace, view, before, after)
            n[i] = learning.updates_until(trace, curve[:, i], int(first[i]), level[i], short[i])
    return n, level, short


def forward_facilitation(trace: Trace, view: str) -> Value:
    """Mean over tasks with f(i) >= 1 of 1 - n_i / n_first, n_i the updates until 90 % of the first visit's gain.

    n_first is of the lowest numbered task of experience 0. A share in (-inf, 1], higher is better: 0.5 is twice as fast
    as the first task. Parts, (T,): n_i, in iterations. Undefined where a first visit taught nothing.

    Source: after the savings of Ebbinghaus 1885, between tasks.

    >>> from clbench.testing import make_measured_trace
    >>> curve = np.full((2, 4, 2), 5.0)
    >>> curve[0, :, 0] = 5.0, 3.0, 1.0, 1.0  # 90 % of the gain after 1.8 updates
    >>> curve[1, :, 1] = 5.0, 1.0, 1.0, 1.0  # and here after 0.9
    >>> round(forward_facilitation(make_measured_trace(curve), "domain:squared_error").value, 6)
    0.5
    """
    n, first = updates_to_learn(trace, view)[0], first_visit(trace.visits)
    later = (first >= 1) & (first < len(trace.visits))
    n_first = n[np.flatnonzero(first == 0)[0]] if (first == 0).any() else math.nan
    return Value(mean(1 - n[later] / n_first) if n_first > 0 else math.nan, n)


def savings(trace: Trace, view: str) -> Value:
    """1 - m / n_i: how much faster a task is learnt again, over the later visits in which it was.

    m counts the updates of a later visit until L is at the level that was 90 % of the first visit's gain, 0 if at once,
    and n_i those of the first visit; both are interpolated. A share in (-inf, 1], higher is better: 1 where nothing had
    been lost. Parts, (T,): mean over a task's own later visits. Undefined without any such visit, and where a first
    visit taught nothing.

    Source: Ebbinghaus 1885.

    >>> from clbench.testing import make_measured_trace
    >>> visits = np.array([[True, False], [False, True], [True, False]])
    >>> curve = np.full((3, 4, 2), 5.0)
    >>> curve[0, :, 0] = 5.0, 3.0, 1.0, 1.0  # n = 1.8
    >>> curve[2, :, 0] = 5.0, 1.0, 1.0, 1.0  # m = 0.9
    >>> round(savings(make_measured_trace(curve, visits), "domain:squared_error").value, 6)
    0.5
    """
    n = updates_to_learn(trace, view)[0]
    reached = [(i, m) for i, m in _relearning(trace, view) if m != math.inf]
    return mean_over(trace, [(i, 1 - m / n[i] if n[i] > 0 else math.nan) for i, m in reached])


def savings_reached(trace: Trace, view: str) -> Value:
    """Share of later visits in which L is again at the level of 90 % of the first gain. In [0, 1], higher is better.

    Parts, (T,): of a task's own later visits. Undefined without any later visit, and where a first visit taught
    nothing.

    Source: what `savings.90_of_gain` leaves out.

    >>> from clbench.testing import make_measured_trace
    >>> visits = np.array([[True, False], [False, True], [True, False]])
    >>> curve = np.full((3, 4, 2), 5.0)
    >>> curve[0, :, 0] = 5.0, 3.0, 1.0, 1.0
    >>> curve[2, :, 0] = 5.0, 3.0, 1.5, 1.5  # 1.4 is not reached
    >>> savings_reached(make_measured_trace(curve, visits), "domain:squared_error").value
    0.0
    """
    relearning = _relearning(trace, view)
    return mean_over(trace, [(i, math.nan if math.isnan(m) else float(m < math.inf)) for i, m in relearning])


def _relearning(trace: Trace, view: str) -> list[tuple[int, float]]:
    """(task, m) of every later visit: the updates until it is learnt again, as `learning.updates_until` gives them."""
    (_, level, short), curve, first = updates_to_learn(trace, view), worth(trace, view), first_visit(trace.visits)
    later = [(int(v), int(i)) for v, i in np.argwhere(trace.visits) if v > first[i]]
    return [(i, learning.updates_until(trace, curve[:, i], v, level[i], short[i])) for v, i in later]


def recovery_of_drop(trace: Trace, view: str) -> Value:
    """Mean iterations from a boundary until 90 % of a gap's height are regained, over gaps of a height that were.

    Until L <= l0 + 0.1 height for the first time after the maximum, interpolated. In [0, inf), lower is better; parts
    (T,).

    Source: after De Lange et al. 2023.

    >>> from clbench.testing import make_measured_trace
    >>> curve = np.array([[9, 9, 1, 1, 1], [1, 5, 3, 1, 1.0]])[:, :, None].repeat(2, 2)
    >>> round(recovery_of_drop(make_measured_trace(curve), "domain:squared_error").value, 6)  # 1.4, from 3 down to 1
    2.8
    """
    regained = [(g.task, g.recovery_of_drop) for g in _high(trace, view)]
    return mean_over(trace, [(task, n) for task, n in regained if n is not None])


def recovered_of_drop(trace: Trace, view: str) -> Value:
    """Share of gaps of a height of which 90 % are regained within the experience. In [0, 1], higher is better; (T,).

    Source: after De Lange et al. 2023.

    >>> from clbench.testing import make_measured_trace
    >>> curve = np.array([[9, 9, 1, 1, 1], [1, 5, 3, 2, 2.0]])[:, :, None].repeat(2, 2)
    >>> recovered_of_drop(make_measured_trace(curve), "domain:squared_error").value  # never down to 1.4
    0.0
    """
    regained = [(g.task, g.recovery_of_drop) for g in _high(trace, view)]
    return mean_over(trace, [(task, 0.0 if n is None else n if math.isnan(n) else 1.0) for task, n in regained])


def _high(trace: Trace, view: str) -> list[gap.Gap]:
    """The gaps of tasks that are not trained on, but those that are known to have no height."""
    return [g for g in gap.anatomy(trace, view) if not g.trained_again and g.depth != 0]


_OTHERS = (
    Metric(
        "forgetting.share_of_learnt",
        "share of what the first visit taught that is lost",
        "mean_j (L(end, j) - L(end of f(j), j)) / (L(before f(j), j) - L(end of f(j), j))",
        "forgetting.after_learning over what was learnt",
        "lower",
        (-math.inf, math.inf),
        "share",
        "task",
        forgetting_share_of_learnt,
    ),
    Metric(
        "forward_facilitation.90_of_gain",
        "how much faster later tasks are learnt than the first",
        "mean_{i: f(i) >= 1} 1 - n_i / n_first, n_i updates until 90 % of the first visit's gain",
        "after Ebbinghaus 1885",
        "higher",
        (-math.inf, 1),
        "share",
        "task",
        forward_facilitation,
        None,
        WITHIN,
    ),
    Metric(
        "savings.90_of_gain",
        "how much faster a task is learnt again",
        "mean over later visits that reached it of 1 - m / n_i, m updates until the level of 90 % of the first gain",
        "after Ebbinghaus 1885",
        "higher",
        (-math.inf, 1),
        "share",
        "task",
        savings,
        None,
        WITHIN,
    ),
    Metric(
        "savings.90_of_gain_reached",
        "share of later visits in which a task is learnt again",
        "mean over later visits of [L reached the level of 90 % of the first gain]",
        "after Ebbinghaus 1885",
        "higher",
        (0, 1),
        "share",
        "task",
        savings_reached,
        None,
        WITHIN,
    ),
    Metric(
        "gap.recovery_90_of_drop",
        "mean iterations from a boundary until 90 % of the rise is undone, where it is",
        "mean over recovered gaps of n(L <= l0 + 0.1 height after the maximum) - b_{v-1}",
        "after De Lange et al. 2023",
        "lower",
        (0, math.inf),
        "iterations",
        "task",
        recovery_of_drop,
        None,
        WITHIN,
    ),
    Metric(
        "gap.recovered_90_of_drop",
        "share of gaps after which 90 % of the rise is undone within the experience",
        "mean of [L <= l0 + 0.1 height after the maximum]",
        "after De Lange et al. 2023",
        "higher",
        (0, 1),
        "share",
        "task",
        recovered_of_drop,
        None,
        WITHIN,
    ),
)


@cache
def metrics_of(name: str) -> dict[str, Metric]:
    """The metrics of a measure, by name.

    Args:
        name: of `clbench.measures.MEASURES`.

    >>> metrics_of("squared_error")["forgetting.after_learning"].unit, metrics_of("log_loss")["average"].better
    ('squared units', 'lower')
    """
    measure = MEASURES[name]
    levels = (_of_level(measure, name, *row) for name, row in _LEVELS.items())
    differences = (_of_difference(measure, name, *row) for name, row in _DIFFERENCES.items())
    return {metric.name: metric for metric in (*levels, *differences, *_OTHERS, *prequential.of_measure(measure))}


def _of_level(measure: Measure, name: str, base: str, title: str, formula: str) -> Metric:
    counted = _COUNTED[base]
    bound = None if counted.bound is None else "lower" if counted.bound == "upper" else "upper"
    return replace(
        counted,
        name=name,
        title=f"{measure.title}, {title}",
        formula=formula,
        better="lower",
        range=(0, math.inf),
        unit=measure.unit,
        compute=_level(counted.compute),
        bound=bound,  # type: ignore[arg-type]
    )


def _of_difference(measure: Measure, name: str, title: str, formula: str) -> Metric:
    counted = _COUNTED[name]
    units = {"accuracy": measure.unit, "accuracy x iterations": f"{measure.unit} x iterations"}
    wide = (counted.range[0] if counted.range[0] >= 0 else -math.inf, math.inf)
    scaled = counted.unit in units
    return replace(
        counted,
        name=name,
        title=f"{measure.title}, {title}",
        formula=formula,
        range=wide if scaled else counted.range,
        unit=units.get(counted.unit, counted.unit),
    )
