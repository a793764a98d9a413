"""Anatomy of the stability gap: accuracy on earlier tasks after a task boundary.

At every boundary before experience v >= 1, for every task first visited earlier: depth of the drop below its accuracy
a0 = R[v-1, i], the iterations to the trough and to recovery, and the permanent part of the loss. De Lange et al. 2023
named the gap; the quantities are this suite's. All are read from the curve through the evaluations of experience v,
interpolated linearly, so that they depend little on the evaluation frequency; `gap.depth` has a resolution. Of an
experience that was evaluated at its start and end only, the permanent part alone is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from clbench.metrics.definition import (
    WITHIN,
    Floats,
    Indices,
    Metric,
    Value,
    accuracy_matrix,
    boundaries,
    crossing,
    first_visit,
    mean_over,
    points,
    remembered,
    rounding,
    seen_within,
    spacing,
    worth,
)
from clbench.summation import total
from clbench.trace import NOT_EVALUATED, Trace

LEVELS = (0.90, 0.95, 1.00)
"""Shares of a0 whose recovery is timed."""


@dataclass(frozen=True)
class Gap:
    """Stability gap of one task after one task boundary.

    NaN where an evaluation in the experience is missing; all but `before` and `permanent` also where nothing was
    evaluated between its start and its end. In a record of a measure, accuracy is the worth -L, and `depth`, `area`,
    `transient` and `permanent` are of the rise of L, in its unit.

    Attributes:
        experience: v >= 1, the experience after the boundary; neighbours that share their origin are one.
        task: a task first visited before v.
        trained_again: whether experience v visits the task.
        before: a0, accuracy at the end of experience v - 1, in [0, 1].
        depth: max(0, a0 - min A) over the experience, in [0, 1].
        iterations_to_trough: from the boundary to the first minimum, a whole number; 0 where depth is 0.
        recovery: for each of `LEVELS` q, iterations from the boundary until A >= q * a0 for the first time after the
            trough, interpolated; 0 where A was never below; None where not within the experience. NaN of a measure, of
            which a share has no meaning.
        area: integral over the experience of max(0, a0 - A(n)) dn, in accuracy x iterations, exact for the curve.
        transient: depth - permanent.
        permanent: max(0, a0 - A) at the end of the experience.
        recovery_of_drop: as `recovery`, until A >= a0 - (1 - q) depth for q = 0.9: 90 % of the drop is regained.
    """

    experience: int
    task: int
    trained_again: bool
    before: float
    depth: float
    iterations_to_trough: float
    recovery: dict[float, float | None]
    area: float
    transient: float
    permanent: float
    recovery_of_drop: float | None


@remembered
def anatomy(trace: Trace, view: str) -> list[Gap]:
    """The gaps of a run: one for every experience v >= 1 and every task first visited before v, in that order.

    A task that was outside the scope of every evaluation of an experience has no entry there.

    Source: De Lange et al. 2023 for the phenomenon.

    >>> from clbench.testing import make_trace
    >>> curve = np.array([[0, 0, 0, 0.8, 0.8], [0.8, 0.4, 0.6, 0.7, 0.7]])[:, :, None].repeat(2, 2)
    >>> [gap] = anatomy(make_trace(curve), "class")
    >>> gap.experience, gap.task, gap.trained_again, gap.before, round(gap.depth, 6), gap.iterations_to_trough
    (1, 0, False, 0.8, 0.4, 1)
    >>> round(gap.transient, 6), round(gap.permanent, 6), round(gap.area, 6)  # area 0.2 + 0.3 + 0.15
    (0.3, 0.1, 0.65)
    >>> gap.recovery  # it ends at 0.7, below 0.9 * 0.8
    {0.9: None, 0.95: None, 1.0: None}
    """
    trace = trace.by_origin()
    accuracy, matrix, first = worth(trace, view), accuracy_matrix(trace, view), first_visit(trace.visits)
    started, within, gaps = boundaries(trace), seen_within(trace), []
    for v in range(1, len(matrix)):
        inside = points(trace, v)
        n = trace.iteration[inside]
        for i in np.flatnonzero(first < v):
            curve = accuracy[inside, i]
            if np.isnan(curve).any() and len(inside) and _out_of_scope(trace, view, inside, int(i)):
                continue
            again = bool(trace.visits[v, i])
            short = rounding(trace, view, matrix[v - 1, i], curve)
            gap = _gap(v, int(i), again, float(matrix[v - 1, i]), n, curve, int(started[v]), short)
            if view in trace.sums:
                gap = replace(gap, recovery=dict.fromkeys(LEVELS, math.nan))
            gaps.append(gap if within[v] else _unseen(gap))
    return gaps


def _out_of_scope(trace: Trace, view: str, evaluations: Indices, task: int) -> bool:
    """True if each of the evaluations left out a cell of the task."""
    place, counted = np.ix_(evaluations, np.flatnonzero(trace.task_cells[task])), view.partition(":")[0]
    if counted in trace.correct:  # beside sums too, which do not tell what nobody looked at from what had no prediction
        left_out = trace.correct[counted][place] == NOT_EVALUATED
    else:
        left_out = np.isnan(trace.sums[view][place])
    return bool(left_out.any(1).all())


def _gap(v: int, task: int, again: bool, a0: float, n: Indices, curve: Floats, start: int, short: float) -> Gap:
    """The anatomy of one curve over the points of an experience that starts after `start` updates.

    A level is reached where no more than `short` is missing.
    """
    if not len(curve) or np.isnan(a0) or np.isnan(curve).any():
        missing = math.nan
        unknown: dict[float, float | None] = dict.fromkeys(LEVELS, missing)
        return Gap(v, task, again, a0, missing, missing, unknown, missing, missing, missing, missing)
    trough = int(np.argmin(curve))
    depth = max(0.0, float(a0 - curve[trough]))
    permanent = max(0.0, float(a0 - curve[-1]))

    def back_at(level: float) -> float | None:
        back = trough + np.flatnonzero(curve[trough:] >= level - short)
        if not len(back):
            return None
        return 0.0 if back[0] == trough else crossing(n, curve, int(back[0]), level) - start

    return Gap(
        experience=v,
        task=task,
        trained_again=again,
        before=a0,
        depth=depth,
        iterations_to_trough=int(n[trough]) - start if depth else 0,
        recovery={q: back_at(q * a0) for q in LEVELS},
        area=_area(n, a0 - curve) if n[0] == start else math.nan,
        transient=depth - permanent,
        permanent=permanent,
        recovery_of_drop=back_at(a0 - 0.1 * depth),
    )


def _unseen(gap: Gap) -> Gap:
    """The part of a gap that is known without an evaluation between the start and the end of its experience."""
    unknown: dict[float, float | None] = dict.fromkeys(LEVELS, math.nan)
    return replace(
        gap, depth=math.nan, iterations_to_trough=math.nan, recovery=unknown, area=math.nan, transient=math.nan,
        recovery_of_drop=math.nan,
    )  # fmt: skip


def _area(n: Indices, loss: Floats) -> float:
    """Integral of max(0, loss) of a piecewise linear loss; a segment that changes sign counts up to its zero.

    >>> _area(np.array([0, 2, 4]), np.array([1.0, -1.0, -1.0]))  # a triangle of width 1 and height 1
    0.5
    """
    high, low = np.maximum(loss[:-1], loss[1:]), np.minimum(loss[:-1], loss[1:])
    above = (high + np.maximum(low, 0)) / 2
    crossed = np.divide(high**2, 2 * (high - low), out=np.zeros(len(high)), where=(low < 0) & (high > 0))
    return total(np.where(low >= 0, above, crossed) * np.diff(n))


# ---------------------------------------------------------------------------------------- averages
def _average(trace: Trace, view: str, of: Callable[[Gap], float | None], trained_again: bool = False) -> Value:
    """Mean over the gaps of which `of` is not None, and over those of each task."""
    entries = [(gap.task, of(gap)) for gap in anatomy(trace, view) if gap.trained_again == trained_again]
    return mean_over(trace, [(task, value) for task, value in entries if value is not None])


def _resolution(trace: Trace, view: str, value: Value, trained_again: bool) -> Value:
    """The same value with the spacing of the evaluations that its minima are over."""
    if math.isnan(value.value):
        return value
    used = {gap.experience for gap in anatomy(trace, view) if gap.trained_again == trained_again}
    return Value(value.value, value.parts, None, max(spacing(trace, points(trace, v)) for v in used))


def depth(trace: Trace, view: str, trained_again: bool = False) -> Value:
    """Mean depth max(0, a0 - min A). Accuracy in [0, 1], lower is better; parts for each task (T,).

    Over boundaries before experiences that do not visit the task, or over those that do (`trained_again`), for this and
    all metrics below. A lower bound where not every iteration was evaluated, see `Value.resolution`.

    Source: after De Lange et al. 2023.

    >>> from clbench.testing import make_trace
    >>> curve = np.array([[0, 0, 0, 0.8, 0.8], [0.8, 0.4, 0.6, 0.7, 0.7]])[:, :, None].repeat(2, 2)
    >>> gap_depth = depth(make_trace(curve, every=5), "class")
    >>> round(gap_depth.value, 6), gap_depth.resolution  # 0.8 - 0.4
    (0.4, 5)
    """
    return _resolution(trace, view, _average(trace, view, lambda gap: gap.depth, trained_again), trained_again)


def iterations_to_trough(trace: Trace, view: str) -> Value:
    """Mean iterations from a boundary to the first minimum, over gaps of depth > 0. Lower is better; parts (T,).

    Source: after De Lange et al. 2023.

    >>> from clbench.testing import make_trace
    >>> curve = np.array([[0, 0, 0, 0.8, 0.8], [0.8, 0.6, 0.4, 0.7, 0.7]])[:, :, None].repeat(2, 2)
    >>> iterations_to_trough(make_trace(curve, every=5), "class").value  # two periods of five
    10.0
    """
    return _average(trace, view, lambda gap: None if gap.depth == 0 else gap.iterations_to_trough)


def recovery(trace: Trace, view: str, level: float) -> Value:
    """Mean iterations from a boundary until A >= level * a0, over gaps that recovered. Lower is better; parts (T,).

    0 where the accuracy was never below; see `recovered` for the gaps left out.

    Args:
        level: one of `LEVELS`.

    Source: after De Lange et al. 2023.

    >>> from clbench.testing import make_trace
    >>> curve = np.array([[0, 0, 0, 0.8, 0.8], [0.8, 0.4, 0.6, 1.0, 1.0]])[:, :, None].repeat(2, 2)
    >>> recovery(make_trace(curve), "class", 1.0).value  # half way between the second and the third update
    2.5
    """
    return _average(trace, view, lambda gap: gap.recovery[level])


def recovered(trace: Trace, view: str, level: float) -> Value:
    """Share of gaps after which A >= level * a0 again within the experience. In [0, 1], higher is better; parts (T,).

    Source: after De Lange et al. 2023.

    >>> from clbench.testing import make_trace
    >>> curve = np.array([[0, 0, 0, 0.8, 0.8], [0.8, 0.4, 0.6, 0.73, 0.73]])[:, :, None].repeat(2, 2)
    >>> recovered(make_trace(curve), "class", 0.9).value, recovered(make_trace(curve), "class", 1.0).value
    (1.0, 0.0)
    """

    def of(gap: Gap) -> float:
        recovery = gap.recovery[level]
        return 0.0 if recovery is None else math.nan if math.isnan(recovery) else 1.0

    return _average(trace, view, of)


def area(trace: Trace, view: str, trained_again: bool = False) -> Value:
    """Mean area between a0 and the curve below it. Accuracy x iterations, >= 0, lower is better; parts (T,).

    Source: after De Lange et al. 2023.

    >>> from clbench.testing import make_trace
    >>> curve = np.array([[0, 0, 0, 0.8, 0.8], [0.8, 0.4, 0.6, 1.0, 1.0]])[:, :, None].repeat(2, 2)
    >>> round(area(make_trace(curve), "class").value, 6)  # 0.4 / 2 + (0.4 + 0.2) / 2 + a triangle of 0.5 by 0.2
    0.55
    """
    return _average(trace, view, lambda gap: gap.area, trained_again)


def transient(trace: Trace, view: str) -> Value:
    """Mean share of the depth that is regained within the experience. Accuracy in [0, 1], lower is better; parts (T,).

    Source: after De Lange et al. 2023.

    >>> from clbench.testing import make_trace
    >>> curve = np.array([[0, 0, 0, 0.8, 0.8], [0.8, 0.4, 0.6, 0.7, 0.7]])[:, :, None].repeat(2, 2)
    >>> round(transient(make_trace(curve), "class").value, 6)  # 0.7 - 0.4
    0.3
    """
    return _average(trace, view, lambda gap: gap.transient)


def permanent(trace: Trace, view: str) -> Value:
    """Mean loss max(0, a0 - A) left at the end of the experience. Accuracy in [0, 1], lower is better; parts (T,).

    Source: after De Lange et al. 2023.

    >>> from clbench.testing import make_trace
    >>> curve = np.array([[0, 0, 0, 0.8, 0.8], [0.8, 0.4, 0.6, 0.7, 0.7]])[:, :, None].repeat(2, 2)
    >>> round(permanent(make_trace(curve), "class").value, 6)  # 0.8 - 0.7
    0.1
    """
    return _average(trace, view, lambda gap: gap.permanent)


def regained(trace: Trace, view: str) -> Value:
    """Sum of transient over sum of depth. A share in [0, 1], higher is better; parts for each task (T,).

    1 where everything lost came back within its experience. Undefined where nothing was lost.

    Source: after De Lange et al. 2023.

    >>> from clbench.testing import make_trace
    >>> curve = np.array([[0, 0, 0, 0.8, 0.8], [0.8, 0.4, 0.6, 0.7, 0.7]])[:, :, None].repeat(2, 2)
    >>> round(regained(make_trace(curve), "class").value, 6)  # 0.3 / 0.4
    0.75
    """
    gaps = [gap for gap in anatomy(trace, view) if not gap.trained_again]
    of_task: list[list[Gap]] = [[] for _ in range(trace.visits.shape[1])]
    for gap in gaps:
        of_task[gap.task].append(gap)

    def share(some: list[Gap]) -> float:
        lost = total(gap.depth for gap in some)
        return total(gap.transient for gap in some) / lost if lost else math.nan

    return Value(share(gaps), np.array([share(some) for some in of_task]))


_SOURCE = "after De Lange et al. 2023"
METRICS = (
    Metric(
        "gap.depth", "mean depth of the gaps of tasks that are not trained on",
        "mean max(0, a0 - min A), a0 = R[v-1, i]",
        _SOURCE, "lower", (0, 1), "accuracy", "task", depth, "lower", WITHIN,
    ),
    Metric(
        "gap.iterations_to_trough", "mean iterations from a boundary to the lowest accuracy",
        "mean over depth > 0 of n(first minimum) - b_{v-1}", _SOURCE, "lower", (0, math.inf), "iterations", "task",
        iterations_to_trough, None, WITHIN,
    ),
    *(
        Metric(
            f"gap.recovery_{q:.0%}".rstrip("%"),
            f"mean iterations from a boundary until {q:.0%} are back, where they come back",
            f"mean over recovered gaps of n(A >= {q:.2f} a0 after the trough) - b_{{v-1}}", _SOURCE, "lower",
            (0, math.inf), "iterations", "task", partial(recovery, level=q), None, WITHIN,
        )
        for q in LEVELS
    ),
    *(
        Metric(
            f"gap.recovered_{q:.0%}".rstrip("%"),
            f"share of gaps after which {q:.0%} are back within the experience",
            f"mean of [A >= {q:.2f} a0 after the trough]", _SOURCE, "higher", (0, 1), "share", "task",
            partial(recovered, level=q), None, WITHIN,
        )
        for q in LEVELS
    ),
    Metric(
        "gap.area", "mean area of the gaps", "mean integral max(0, a0 - A(n)) dn", _SOURCE, "lower", (0, math.inf),
        "accuracy x iterations", "task", area, None, WITHIN,
    ),
    Metric(
        "gap.transient", "mean loss that comes back within the experience", "mean depth - permanent", _SOURCE, "lower",
        (0, 1), "accuracy", "task", transient, None, WITHIN,
    ),
    Metric(
        "gap.permanent", "mean loss that stays to the end of the experience", "mean max(0, a0 - A(end of v))", _SOURCE,
        "lower", (0, 1), "accuracy", "task", permanent,
    ),
    Metric(
        "gap.regained", "share of the lost accuracy that comes back within the experience",
        "sum transient / sum depth", _SOURCE, "higher", (0, 1), "share", "task", regained, None, WITHIN,
    ),
    Metric(
        "gap.depth.trained_again", "mean depth of the gaps of tasks that are trained on again",
        "gap.depth over experiences that visit the task again", _SOURCE, "lower", (0, 1), "accuracy", "task",
        partial(depth, trained_again=True), "lower", WITHIN,
    ),
    Metric(
        "gap.area.trained_again", "mean area of the gaps of tasks that are trained on again",
        "gap.area over experiences that visit the task again", _SOURCE, "lower", (0, math.inf),
        "accuracy x iterations", "task", partial(area, trained_again=True), None, WITHIN,
    ),
)  # fmt: skip
