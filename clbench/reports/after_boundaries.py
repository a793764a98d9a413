"""Accuracy of a run on earlier tasks after its task boundaries: the mean of its stability gaps, as figures draw it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clbench.metrics.definition import at, boundaries, ends, first_visit, points, seen_within
from clbench.reports.seed_curves import Curve, aligned
from clbench.trace import Trace


@dataclass(frozen=True)
class Aftermath:
    """Accuracy, or the mean of a measure, of a run on earlier tasks after task boundaries.

    Attributes:
        view: name of the view.
        before: mean on earlier tasks before the boundaries; accuracies in [0, 1].
        curve: mean by updates since the boundary, (E, 1), over the shortest experience after a boundary.
        boundaries: those that were averaged.
    """

    view: str
    before: float
    curve: Curve
    boundaries: int


def reduced(trace: Trace, view: str, first: int | None = None) -> Aftermath | None:
    """Mean over boundaries and earlier tasks; None where nothing of the kind was evaluated.

    A task that was outside the scope of an experience's evaluations is left out there, as in `metrics.gap`.

    Args:
        trace: of a run.
        view: one that it holds.
        first: updates after each boundary that are drawn; None for as many as the shortest experience has.

    >>> from clbench.testing import make_trace
    >>> curve = np.array([[0, 0.8, 0.8, 0.8], [0.8, 0.4, 0.6, 0.6]])[:, :, None].repeat(2, 2)
    >>> after = reduced(make_trace(curve), "class")
    >>> after.before, after.curve.x.tolist(), after.curve.y[:, 0].tolist()
    (0.8, [0.0, 1.0, 2.0, 2.0], [0.8, 0.4, 0.6, 0.6])
    """
    trace = trace.by_origin()
    mean, visited = trace.task_mean(view), first_visit(trace.visits)
    matrix = at(mean, ends(trace))
    started, within = boundaries(trace), seen_within(trace)
    levels: list[float] = []
    curves: list[Curve] = []
    used = 0
    for v in range(1, len(trace.visits)):
        tasks = np.flatnonzero((visited < v) & ~trace.visits[v])
        inside = points(trace, v)
        known = [i for i in tasks if not np.isnan(matrix[v - 1, i]) and not np.isnan(mean[inside, i]).all()]
        if not within[v] or not known or not len(inside):
            continue
        used += 1
        levels += [float(matrix[v - 1, i]) for i in known]
        x = (trace.iteration[inside] - started[v]).astype(np.float64)
        curves.append(Curve(x, mean[np.ix_(inside, known)]))
    if not curves:
        return None
    end = min(float(c.x[-1]) for c in curves)
    end = end if first is None else min(end, first)
    together = [Curve(c.x, c.y[:, i : i + 1]) for c in curves for i in range(c.y.shape[1])]
    x, y = aligned(together)
    kept = x <= end
    return Aftermath(view, float(np.mean(levels)), Curve(x[kept], y[:, kept, 0].mean(0)[:, None]), used)
