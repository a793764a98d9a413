"""Speed of learning, and retention."""

from __future__ import annotations

import math

import numpy as np

from clbench.metrics.definition import (
    WITHIN,
    Floats,
    Indices,
    Metric,
    Value,
    Weights,
    accuracy_matrix,
    after_each_of_the_first,
    boundaries,
    crossing,
    ends,
    first_visit,
    mean_over,
    points,
    remembered,
    right_matrix,
    seen_within,
    undefined,
    visited_so_far,
    worth,
    worth_total,
)
from clbench.summation import ROUNDING, column_totals, mean, total
from clbench.trace import Trace

SHOTS = 10
"""Updates that a learning curve area is over: the beta of LCA."""

LEARNT = 0.9
"""Share of the accuracy at the end of the first visit from which on a task counts as learnt."""


# ---------------------------------------------------------------------------------------- the first updates
def learning_curve_area_a_gem(trace: Trace, view: str) -> Value:
    """LCA_10 = 1/11 sum_{b=0..10} Z_b, Z_b the accuracy on a task after b updates of its first visit; mean over tasks.

    Z_0 is before the first update. Undefined where one of the 11 was not evaluated, so with shorter visits. Accuracy
    in [0, 1], higher is better; parts for each task (T,).

    Source: Chaudhry et al. 2019 (A-GEM).

    >>> from clbench.testing import make_trace
    >>> curve = np.array([0.1, *[0.6] * 5, *[0.8] * 5, 0.8]).reshape(1, 12, 1)
    >>> round(learning_curve_area_a_gem(make_trace(curve), "class").value, 6)  # (0.1 + 5 * 0.6 + 5 * 0.8) / 11
    0.645455
    """
    return _learning_curve_area(trace, view, from_shot=0)


def learning_curve_area_de_lange(trace: Trace, view: str) -> Value:
    """1/10 sum_{b=1..10} Z_b: `lca_10.a_gem` without the accuracy before the first update.

    Source: De Lange et al. 2023, and their code.

    >>> from clbench.testing import make_trace
    >>> curve = np.array([0.1, *[0.6] * 5, *[0.8] * 5, 0.8]).reshape(1, 12, 1)
    >>> round(learning_curve_area_de_lange(make_trace(curve), "class").value, 6)  # (5 * 0.6 + 5 * 0.8) / 10
    0.7
    """
    return _learning_curve_area(trace, view, from_shot=1)


def _learning_curve_area(trace: Trace, view: str, from_shot: int) -> Value:
    accuracy, first, started = worth(trace, view), first_visit(trace.visits), boundaries(trace)
    visited = np.flatnonzero(trace.visits.any(0))
    shots = range(from_shot, SHOTS + 1)
    parts, weights = undefined(trace), Weights(trace)
    for i in visited:
        inside = points(trace, first[i])
        evaluations = [_shot(trace, inside, int(started[first[i]]), shot) for shot in shots]
        for e in evaluations:
            weights.add(e, i, 1 / len(shots) / len(visited))
        if -1 not in evaluations:
            parts[i] = mean(accuracy[evaluations, i])
    return Value(mean(parts[visited]), parts, weights.array)


def _shot(trace: Trace, inside: Indices, start: int, shot: int) -> int:
    """The first evaluation after so many updates of an experience; -1 where there is none."""
    matches = inside[trace.iteration[inside] == start + shot]
    return int(matches[0]) if len(matches) else -1


def anytime_accuracy(trace: Trace, view: str) -> Value:
    """AAA = 1/I sum_v integral from b_{v-1} to b_v of the mean over tasks visited up to v of A(n) dn.

    By the trapezoid rule over the evaluations of an experience, so that it depends little on how often was evaluated.
    Accuracy in [0, 1], higher is better. Parts, (T,): a task's own mean accuracy over the time since its first visit
    began. Undefined where an experience was not evaluated from its start on, or not within.

    Source: Caccia et al. 2022. Differs from the paper, which takes the mean over steps.

    >>> from clbench.testing import make_trace
    >>> curve = np.array([[[0.0], [0.4], [0.8], [0.8]]])  # after 0, 1, 2 updates, and at the end
    >>> round(anytime_accuracy(make_trace(curve), "class").value, 6)  # (0.0 / 2 + 0.4 + 0.8 / 2) / 2
    0.4
    """
    totals, first, ended = worth_total(trace, view), first_visit(trace.visits), boundaries(trace)
    so_far, updates, size = visited_so_far(trace.visits), int(ended[-1]), trace.task_size
    areas, weights, within = np.zeros(so_far.shape), Weights(trace), seen_within(trace)
    for v, seen in enumerate(so_far):
        if ended[v + 1] == ended[v]:
            continue
        inside = points(trace, v)
        n = trace.iteration[inside]
        twice = np.zeros(len(inside), np.int64)  # the width that belongs to each point, in half iterations
        twice[:-1] += np.diff(n)
        twice[1:] += np.diff(n)
        used, twice = inside[twice > 0], twice[twice > 0]
        # In counts, whose sum is exact: two points at one iteration add up to what one would be, to the last bit.
        integral = column_totals(twice[:, None] * totals[used][:, seen]) / (2 * size[seen])
        if n[0] != ended[v] or not within[v]:
            integral[:] = np.nan
        weights.array[np.ix_(used, np.flatnonzero(seen))] += (twice / 2 / seen.sum() / updates)[:, None]
        areas[v, seen] = integral
    means = [mean(area[seen]) for area, seen in zip(areas, so_far, strict=True) if seen.any()]
    since = updates - ended[np.minimum(first, len(so_far))]
    parts = np.where((first < len(so_far)) & (since > 0), column_totals(areas) / np.maximum(since, 1), np.nan)
    return Value(total(means) / updates if updates else math.nan, parts, weights.array)


# ---------------------------------------------------------------------------------------- updates until learnt
def updates_until(trace: Trace, curve: Floats, experience: int, level: float, short: float = ROUNDING) -> float:
    """Updates since the start of an experience until a curve (E,) first reaches a level, interpolated linearly.

    Infinite where it does not within the experience; NaN where that cannot be told.

    Args:
        short: what may be missing from the level, see `definition.rounding`.
    """
    inside = points(trace, experience)
    n, start = trace.iteration[inside], boundaries(trace)[experience]
    if math.isnan(level) or not len(inside) or n[0] != start:
        return math.nan
    reached = np.flatnonzero(np.isnan(curve[inside]) | (curve[inside] >= level - short))
    if not len(reached):
        return math.inf if seen_within(trace)[experience] else math.nan
    if np.isnan(curve[inside][reached[0]]) or (reached[0] and not seen_within(trace)[experience]):
        return math.nan
    return crossing(n, curve[inside], int(reached[0]), level) - float(start)


@remembered
def updates_to_learn(trace: Trace, view: str) -> Floats:
    """n_i: updates of a task's first visit until A(i) >= 0.9 R[f(i), i] for the first time, (T,), in iterations, >= 0.

    Interpolated linearly between evaluations. NaN where the task is never visited, an evaluation is missing, or nothing
    was evaluated within its first visit.

    >>> from clbench.testing import make_trace
    >>> curve = np.array([0.0, 0.36, 0.9, 1.0, 1.0]).reshape(1, 5, 1)
    >>> updates_to_learn(make_trace(curve, every=10), "class").round(6).tolist()  # 0.9 after two periods of ten
    [20.0]
    """
    accuracy, matrix, first = trace.task_accuracy(view), accuracy_matrix(trace, view), first_visit(trace.visits)
    out = undefined(trace)
    for i in np.flatnonzero(first < len(matrix)):
        out[i] = updates_until(trace, accuracy[:, i], int(first[i]), LEARNT * matrix[first[i], i])
    return out


def forward_facilitation(trace: Trace, view: str) -> Value:
    """Mean over tasks with f(i) >= 1 of 1 - n_i / n_first, n_i the updates until 90 % of what the first visit led to.

    n_first is of the first task learnt: the lowest numbered one of experience 0. A share in (-inf, 1], higher is
    better: 0.5 is twice as fast as the first task. Parts, (T,): n_i, in iterations. Undefined where n_first = 0.

    Source: after the savings of Ebbinghaus 1885, between tasks.

    >>> from clbench.testing import make_trace
    >>> curve = np.zeros((2, 4, 2))
    >>> curve[0, :, 0] = 0.0, 0.5, 1.0, 1.0  # 0.9 is reached after 1.8 updates
    >>> curve[1, :, 1] = 0.0, 1.0, 1.0, 1.0  # and here after 0.9
    >>> round(forward_facilitation(make_trace(curve), "class").value, 6)
    0.5
    """
    n, first = updates_to_learn(trace, view), first_visit(trace.visits)
    later = (first >= 1) & (first < len(trace.visits))
    n_first = n[np.flatnonzero(first == 0)[0]] if (first == 0).any() else math.nan
    value = mean(1 - n[later] / n_first) if n_first > 0 else math.nan
    return Value(value, n, None)


@remembered
def _relearning(trace: Trace, view: str) -> list[tuple[int, float]]:
    """(task, m) of every later visit: the updates until it is learnt again, as `updates_until` gives them."""
    accuracy, matrix, first = trace.task_accuracy(view), accuracy_matrix(trace, view), first_visit(trace.visits)
    later = [(int(v), int(i)) for v, i in np.argwhere(trace.visits) if v > first[i]]
    return [(i, updates_until(trace, accuracy[:, i], v, LEARNT * matrix[first[i], i])) for v, i in later]


def savings(trace: Trace, view: str) -> Value:
    """1 - m / n_i: how much faster a task is learnt again, over the later visits in which it was.

    m counts the updates of a later visit until A(i) >= 0.9 R[f(i), i], 0 if at once, and n_i those of the first visit;
    both are interpolated. The mean is over visits. A share in (-inf, 1], higher is better: 1 where nothing had been
    lost, 0 where learning again took as long. Parts, (T,): mean over a task's own later visits. Undefined without any
    such visit, and where n_i = 0.

    Source: Ebbinghaus 1885.

    >>> from clbench.testing import make_trace
    >>> visits = np.array([[True, False], [False, True], [True, False]])
    >>> curve = np.zeros((3, 4, 2))
    >>> curve[0, :, 0] = 0.0, 0.5, 1.0, 1.0  # n = 1.8
    >>> curve[2, :, 0] = 0.0, 1.0, 1.0, 1.0  # m = 0.9
    >>> round(savings(make_trace(curve, visits), "class").value, 6)
    0.5
    """
    n = updates_to_learn(trace, view)
    reached = [(i, m) for i, m in _relearning(trace, view) if m != math.inf]
    return mean_over(trace, [(i, 1 - m / n[i] if n[i] > 0 else math.nan) for i, m in reached])


def savings_reached(trace: Trace, view: str) -> Value:
    """Share of later visits in which 90 % of R[f(i), i] was reached again. In [0, 1], higher is better.

    Parts, (T,): of a task's own later visits. Undefined without any later visit.

    Source: what `savings.90` leaves out.

    >>> from clbench.testing import make_trace
    >>> visits = np.array([[True, False], [False, True], [True, False]])
    >>> curve = np.zeros((3, 4, 2))
    >>> curve[0, :, 0] = 0.0, 0.5, 1.0, 1.0
    >>> curve[2, :, 0] = 0.0, 0.4, 0.8, 0.8
    >>> savings_reached(make_trace(curve, visits), "class").value
    0.0
    """
    relearning = _relearning(trace, view)
    return mean_over(trace, [(i, math.nan if math.isnan(m) else float(m < math.inf)) for i, m in relearning])


# ---------------------------------------------------------------------------------------- over the stream
def knowledge_accumulation(trace: Trace, view: str) -> Value:
    """K_{V-1} - K_0, K_v the share of all test samples that are right: what is not yet taught counts as not known.

    K_v = sum over tasks j visited up to v of R[v, j] size_j, over the sum of size_j over all T tasks. Accuracy in
    [-1, 1], higher is better; parts for each experience, (V,): K_v.

    Source: Lesort et al. 2023 (SCoLe).

    >>> from clbench.testing import make_trace
    >>> R = np.array([[0.9, 0.0], [0.5, 0.8]])
    >>> trace = make_trace(R[:, None].repeat(3, 1))
    >>> round(knowledge_accumulation(trace, "class").value, 6)  # (0.5 + 0.8) / 2 - 0.9 / 2
    0.2
    """
    size, so_far, last = trace.task_size, visited_so_far(trace.visits), ends(trace)
    known = np.where(so_far, right_matrix(trace, view), 0).sum(1) / size.sum()
    weights = Weights(trace)
    weights.add(last[-1], so_far[-1], (size / size.sum())[so_far[-1]])
    weights.add(last[0], so_far[0], -(size / size.sum())[so_far[0]])
    return Value(float(known[-1] - known[0]), known, weights.array)


def recency_bias(trace: Trace, view: str) -> Value:
    """Mean over experiences of the accuracy on what is visited, minus that on what was visited before only.

    At the end of experience v, over tasks visited in v and over tasks visited before v but not in it, samples weighing
    the same; mean over v that have both. Accuracy in [-1, 1], best at 0. Parts for each class
    (C,), ascending: accuracy on it at the end of the stream minus accuracy on all classes of visited tasks.

    Source: the bias towards recent classes, Wu et al. 2019 (BiC).

    >>> from clbench.testing import make_trace
    >>> R = np.array([[0.9, 0.0], [0.5, 0.8]])
    >>> bias = recency_bias(make_trace(R[:, None].repeat(3, 1)), "class")
    >>> round(bias.value, 6), bias.parts.round(6).tolist()  # 0.8 - 0.5; 0.5 - 0.65 and 0.8 - 0.65
    (0.3, [-0.15, 0.15])
    """
    right, size, so_far, last = right_matrix(trace, view), trace.task_size, visited_so_far(trace.visits), ends(trace)
    weights, biases = Weights(trace), []
    both = [v for v in range(1, len(right)) if trace.visits[v].any() and (so_far[v - 1] & ~trace.visits[v]).any()]
    for v in both:
        now, before = trace.visits[v], so_far[v - 1] & ~trace.visits[v]
        samples_now, samples_before = size[now].sum(), size[before].sum()
        biases.append(total(right[v, now]) / samples_now - total(right[v, before]) / samples_before)
        weights.add(last[v], now, size[now] / samples_now / len(both))
        weights.add(last[v], before, -size[before] / samples_before / len(both))
    return Value(mean(np.array(biases)), _class_bias(trace, view, last[-1]), weights.array)


def _class_bias(trace: Trace, view: str, evaluation: int) -> Floats:
    """Accuracy on each class, or the worth of a measure, minus that on all, over the cells of visited tasks, (C,)."""
    taught = trace.task_cells[trace.visits.any(0)].any(0)
    classes = np.unique(trace.cell_class)
    if view in trace.sums:
        right = 0.0 - trace.sums[view][evaluation]
        missing = ~np.isfinite(right)
    else:
        right = trace.correct[view][evaluation].astype(np.float64)
        missing = right < 0
    if evaluation < 0 or not taught.any() or missing[taught].any():
        return np.full(len(classes), np.nan)
    overall = total(right[taught]) / int(trace.cell_size[taught].sum())
    of_class = [taught & (trace.cell_class == c) for c in classes]
    sizes = [int(trace.cell_size[c].sum()) for c in of_class]  # 0 where a subset leaves a class out
    return np.array([total(right[c]) / n - overall if n else np.nan for c, n in zip(of_class, sizes, strict=True)])


METRICS = (
    Metric(
        "lca_10.a_gem", "LCA, mean accuracy over the first 10 updates on a task and before them",
        "mean_i 1/11 sum_{b=0..10} A(b_{f(i)-1} + b, i)", "Chaudhry et al. 2019 (A-GEM)", "higher", (0, 1), "accuracy",
        "task", learning_curve_area_a_gem, None, after_each_of_the_first(SHOTS),
    ),
    Metric(
        "lca_10.de_lange", "LCA, mean accuracy over the first 10 updates on a task",
        "mean_i 1/10 sum_{b=1..10} A(b_{f(i)-1} + b, i)", "De Lange et al. 2023", "higher", (0, 1), "accuracy", "task",
        learning_curve_area_de_lange, None, after_each_of_the_first(SHOTS),
    ),
    Metric(
        "anytime_accuracy", "AAA, average over all iterations of the accuracy on all tasks so far",
        "1/I sum_v integral_{b_{v-1}}^{b_v} mean_{j visited up to v} A(n, j) dn", "Caccia et al. 2022", "higher",
        (0, 1), "accuracy", "task", anytime_accuracy, None, WITHIN,
    ),
    Metric(
        "forward_facilitation.90", "how much faster later tasks are learnt than the first",
        "mean_{i: f(i) >= 1} 1 - n_i / n_first, n_i updates until A >= 0.9 R[f(i), i]", "after Ebbinghaus 1885",
        "higher", (-math.inf, 1), "share", "task", forward_facilitation, None, WITHIN,
    ),
    Metric(
        "savings.90", "how much faster a task is learnt again",
        "mean over later visits that reached it of 1 - m / n_i, m updates until A >= 0.9 R[f(i), i]",
        "Ebbinghaus 1885", "higher", (-math.inf, 1), "share", "task", savings, None, WITHIN,
    ),
    Metric(
        "savings.90_reached", "share of later visits in which a task is learnt again",
        "mean over later visits of [A reached 0.9 R[f(i), i]]", "after Ebbinghaus 1885", "higher", (0, 1), "share",
        "task", savings_reached, None, WITHIN,
    ),
    Metric(
        "knowledge_accumulation", "gain in the share of all test samples that are right, the untaught ones included",
        "K_{V-1} - K_0, K_v = sum_{j visited up to v} R[v, j] size_j / sum_j size_j", "Lesort et al. 2023 (SCoLe)",
        "higher", (-1, 1), "accuracy", "experience", knowledge_accumulation,
    ),
    Metric(
        "recency_bias", "accuracy on what was taught last minus that on what was taught before",
        "mean_{v >= 1} A(end of v, visited in v) - A(end of v, visited only before v)", "after Wu et al. 2019 (BiC)",
        "zero", (-1, 1), "accuracy", "class", recency_bias,
    ),
)  # fmt: skip
