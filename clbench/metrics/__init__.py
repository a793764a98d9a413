"""Metrics: pure functions of the trace. Where the field has several definitions, each has a separate name.

`METRICS` names all of them, with formula, source, unit, range and the better direction. `compute` gives all metrics of
all views of a trace; each family of definitions has a module:

    matrix       the end of the stream: accuracy, forgetting, transfer
    worst_case   minima and largest changes on the way
    learning     how fast and how lastingly things are learnt
    sessions     few-shot streams: accuracy over all classes so far
    predicted    predicted outputs: confusion, and the share that falls on the newest classes
    gap          anatomy of the stability gap
    prequential  incoming samples, each predicted before it is learnt; of runs that recorded it
    sampling     standard errors
    dialects     definitions of other libraries under the same names
    measured     all of these for errors and losses

Experiences are those of the stream. `joint` and `cumulative` train on more, so for them forgetting, min-ACC and
the stability gap describe tasks that are trained on throughout.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from clbench.measures import measure_of
from clbench.metrics import gap, learning, matrix, measured, predicted, prequential, sessions, worst_case
from clbench.metrics.definition import Metric, Remembering, Value, accuracy_matrix, first_visit
from clbench.metrics.predicted import confusion
from clbench.metrics.sampling import standard_error
from clbench.metrics.worst_case import minimum_accuracy, worst_case_accuracy
from clbench.trace import Trace

__all__ = [
    "METRICS",
    "Metric",
    "Value",
    "accuracy_matrix",
    "compute",
    "confusion",
    "first_visit",
    "metrics_of",
    "minimum_accuracy",
    "standard_error",
    "worst_case_accuracy",
]

_FAMILIES = (matrix, worst_case, learning, sessions, predicted, gap, prequential)

METRICS: dict[str, Metric] = {metric.name: metric for family in _FAMILIES for metric in family.METRICS}


def metrics_of(view: str) -> dict[str, Metric]:
    """The metrics of a record by name: `METRICS` of counts, those of its measure else.

    >>> metrics_of("class") is METRICS, "average" in metrics_of("domain:squared_error")
    (True, True)
    """
    measure = measure_of(view)
    return METRICS if measure is None else measured.metrics_of(measure.name)


def compute(
    trace: Trace, metrics: Iterable[Metric] | None = None, views: Iterable[str] | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """Metrics of views, as plain JSON values: view -> name -> result; None where undefined.

    Neighbouring experiences of one origin are joined first, so that values do not depend on how a pass was cut.

    Args:
        trace: of a run.
        metrics: definitions; default: all of `metrics_of` each view whose record the trace has.
        views: of the trace, those of measures included; default: all.

    Returns:
        For each metric "value"; "per_task" (T,), "per_experience" (V,) or "per_class" (C,); "se", the sampling
        standard error, where the metric is a sum of accuracies; "resolution" in iterations where it is a minimum or
        a maximum.

    >>> import numpy as np
    >>> from clbench.testing import make_trace
    >>> metrics = compute(make_trace(np.full((1, 3, 1), 0.5), size=101))["class"]  # 50 of 101 right
    >>> metrics["min_acc"]
    {'value': None, 'per_task': [None], 'se': None, 'resolution': None}
    >>> metrics["sessions.average"]["per_experience"] == [50 / 101]
    True
    """
    joined = Remembering.of(trace.by_origin())
    chosen = None if metrics is None else list(metrics)

    def definitions(view: str) -> Iterable[Metric]:
        return [m for m in metrics_of(view).values() if m.is_recorded(joined, view)] if chosen is None else chosen

    return {
        view: {metric.name: _plain(metric, metric.compute(joined, view), joined, view) for metric in definitions(view)}
        for view in (trace.views if views is None else views)
    }


def _plain(metric: Metric, outcome: Value, trace: Trace, view: str) -> dict[str, Any]:
    """A value in JSON types."""

    def plain(value: float) -> float | None:
        return float(value) if math.isfinite(value) else None

    out = {"value": plain(outcome.value), f"per_{metric.per}": [plain(part) for part in outcome.parts]}
    if outcome.weights is not None:
        out["se"] = None if math.isnan(outcome.value) else plain(standard_error(trace, view, outcome.weights))
    if metric.bound is not None:
        out["resolution"] = outcome.resolution
    return out
