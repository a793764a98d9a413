"""Metrics of measures that are numbers, for which lower is better: errors and losses.

They are the metrics of accuracy with the worth W = -L in place of A, L(e, i) the mean of the measure over the test
samples of task i at evaluation e; values are given in the measure's own unit. So a *level* is a mean of L, and a
*difference*, such as forgetting, is what L has risen by: the same number as the fall of W. Shares of a level say
nothing of a loss, which has no greatest value; where accuracy has them, these have shares of a gain or of a drop,
under names that say so. Counts have metrics that numbers do not: samples that are drawn anew, knowledge as
a share of all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np

from clbench.measures import MEASURES, Measure
from clbench.metrics import gap, learning, matrix, sessions, worst_case
from clbench.metrics.definition import (
    WITHIN,
    Floats,
    Metric,
    Value,
    accuracy_matrix,
    at,
    befores,
    ends,
    first_visit,
    mean_over,
    undefined,
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

    Share of what the first visit taught that is lost: 0 where nothing is, 1 where it is as if never visited, more where
    it is worse than before; negative where the task got better. Undefined for a task that its visit taught nothing.

    Source: a normalised `forgetting.after_learning`.
    """
    value, last, first = trace.task_accuracy(view), ends(trace), first_visit(trace.visits)
    matrix, start = accuracy_matrix(trace, view), at(value, befores(trace))
    parts, earlier = undefined(trace), np.flatnonzero(first < len(trace.visits) - 1)
    for j in earlier:
        learnt = matrix[first[j], j] - start[first[j], j]
        parts[j] = (matrix[first[j], j] - matrix[-1, j]) / learnt if learnt > 0 and last[-1] >= 0 else math.nan
    return Value(mean(parts[earlier]), parts)


def updates_to_learn(trace: Trace, view: str) -> tuple[Floats, Floats]:
    """Updates of a task's first visit until 90 % of its gain for the first time, (T,), and the worth then, (T,)."""
    worth, matrix, first = trace.task_accuracy(view), accuracy_matrix(trace, view), first_visit(trace.visits)
    start, n, level = at(worth, befores(trace)), undefined(trace), undefined(trace)
    for i in np.flatnonzero(first < len(matrix)):
        before, after = start[first[i], i], matrix[first[i], i]
        if after > before:
            level[i] = before + LEARNT * (after - before)
            n[i] = learning.updates_until(trace, worth[:, i], int(first[i]), level[i])
    return n, level


def forward_facilitation(trace: Trace, view: str) -> Value:
    """Mean over tasks with f(i) >= 1 of 1 - n_i / n_first, n_i the updates until 90 % of the first visit's gain."""
    n, _ = updates_to_learn(trace, view)
    first = first_visit(trace.visits)
    later = (first >= 1) & (first < len(trace.visits))
    n_first = n[np.flatnonzero(first == 0)[0]] if (first == 0).any() else math.nan
    return Value(mean(1 - n[later] / n_first) if n_first > 0 else math.nan, n)


def savings(trace: Trace, view: str) -> Value:
    """1 - m / n_i over later visits that reached it, m the updates until the level of 90 % of the first gain."""
    n, level = updates_to_learn(trace, view)
    worth, first = trace.task_accuracy(view), first_visit(trace.visits)
    entries = []
    for v, i in np.argwhere(trace.visits):
        if v > first[i]:
            m = learning.updates_until(trace, worth[:, i], int(v), level[i])
            if m != math.inf:
                entries.append((int(i), 1 - m / n[i] if n[i] > 0 else math.nan))
    return mean_over(trace, entries)


def recovery_of_drop(trace: Trace, view: str) -> Value:
    """Mean iterations from a boundary until 90 % of the drop is regained, over gaps of a height that were."""
    gaps = [
        g for g in gap.anatomy(trace, view) if not g.trained_again and g.depth != 0 and g.recovery_of_drop is not None
    ]
    return mean_over(trace, [(g.task, float(g.recovery_of_drop or 0.0)) for g in gaps])


def recovered_of_drop(trace: Trace, view: str) -> Value:
    """Share of gaps of a height after which 90 % of the drop is regained within the experience."""
    entries = []
    for g in gap.anatomy(trace, view):
        if not g.trained_again and g.depth != 0:
            back = g.recovery_of_drop
            entries.append((g.task, 0.0 if back is None else math.nan if math.isnan(back) else 1.0))
    return mean_over(trace, entries)


_OTHERS = (
    Metric(
        "forgetting.share_of_learnt",
        "share of what the first visit taught that is lost",
        "mean_j (L(end, j) - L(end of f(j), j)) / (L(before f(j), j) - L(end of f(j), j))",
        "after De Lange et al. 2023",
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
    return {metric.name: metric for metric in (*levels, *differences, *_OTHERS)}


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
