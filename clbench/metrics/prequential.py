"""Prequential (test-then-train) metrics: accuracy on incoming samples, each predicted before it is learnt.

Letters: S incoming samples in order of arrival; c_s is 1 where sample s was predicted correctly, and 0 where it was not
or where there was no prediction. Of a measure that is a number c_s is that number, and a value is undefined which needs
that of a sample without a prediction. Only the first time that a sample comes in counts; see `clbench.prequential`.
Parts for each experience stand at its end: a window and a fading factor do not begin anew. An experience in which
nothing came in for the first time has no value of its own.

They are of the training part of a stream and say nothing of what was forgotten; the test set's metrics do.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.measures import Measure
from clbench.metrics.definition import Floats, Indices, Metric, Value, boundaries, remembered
from clbench.summation import mean, total
from clbench.trace import Trace

WINDOWS = (100, 1000)
"""Sizes of the windows, in samples."""

FADING = (0.99, 0.999)
"""Fading factors; 1 / (1 - a) is the sum of all weights, in samples: 100 and 1,000."""

_GAMA = "Gama, Sebastião and Rodrigues 2013, On evaluating stream learning algorithms"


Samples = NDArray[np.bool_] | NDArray[np.float32]
"""What is right, or the numbers of a measure, (S,)."""


def _samples(trace: Trace, view: str) -> Samples | None:
    """c, (S,), where it is recorded and there is any."""
    samples = None if trace.prequential is None else trace.prequential.of(view)
    return None if samples is None or not len(samples) else samples


def _mean(samples: Samples) -> float:
    """The mean, rounded once; NaN of nothing."""
    if samples.dtype == np.bool_:
        return int(samples.sum()) / len(samples) if len(samples) else math.nan
    return mean(samples.astype(np.float64))


@remembered
def arrived(trace: Trace) -> Indices:
    """Incoming samples up to the end of each experience, with 0 in front, (V + 1,).

    >>> from clbench.testing import make_trace
    >>> arrived(make_trace(np.zeros((2, 4, 2)), prequential=np.ones((2, 6), bool))).tolist()  # 2 updates of 3 samples
    [0, 6, 12]
    """
    assert trace.prequential is not None
    so_far = np.concatenate([[0], np.cumsum(trace.prequential.incoming, dtype=np.int64)])
    bounds: Indices = so_far[boundaries(trace)]
    return bounds


def _undefined(trace: Trace) -> Value:
    return Value(math.nan, np.full(len(trace.visits), np.nan))


def accuracy(trace: Trace, view: str) -> Value:
    """1/S sum_s c_s. In [0, 1], higher is better; parts for each experience, (V,): on the samples that came in in it.

    Source: Dawid 1984 (the prequential principle); as Gama, Sebastião and Rodrigues 2013 without forgetting.

    >>> from clbench.testing import make_trace
    >>> right = np.array([[False, False, True, True], [False, True, True, True]])
    >>> value = accuracy(make_trace(np.zeros((2, 4, 2)), prequential=right), "class")
    >>> value.value, value.parts.tolist()
    (0.625, [0.5, 0.75])
    """
    samples = _samples(trace, view)
    if samples is None:
        return _undefined(trace)
    bounds = arrived(trace)
    return Value(_mean(samples), np.array([_mean(samples[a:b]) for a, b in pairwise(bounds.tolist())]))


def experience_average(trace: Trace, view: str) -> Value:
    """1/V sum_v P_v, P_v the accuracy on the samples that came in in experience v, over those in which any did.

    In [0, 1], higher is better; parts for each experience, (V,): P_v. Experiences weigh the same, whatever their size.

    Source: Dawid 1984, by experience.

    >>> from clbench.testing import make_trace
    >>> right = np.array([[False, False, True, True], [False, True, True, True]])
    >>> experience_average(make_trace(np.zeros((2, 4, 2)), prequential=right), "class").value
    0.625
    """
    parts = accuracy(trace, view).parts
    return Value(mean(parts[np.diff(arrived(trace)) > 0]) if trace.prequential is not None else math.nan, parts)


def windowed(trace: Trace, view: str, *, window: int) -> Value:
    """1/n sum of c_s over the last n = min(w, S) samples. In [0, 1], higher is better.

    Parts for each experience, (V,): the same at its end, over the samples so far.

    Source: Gama, Sebastião and Rodrigues 2013, sliding windows.

    >>> from clbench.testing import make_trace
    >>> right = np.array([[False, False, True, True], [False, True, True, True]])
    >>> value = windowed(make_trace(np.zeros((2, 4, 2)), prequential=right), "class", window=5)
    >>> value.value, value.parts.tolist()
    (0.8, [0.5, 0.8])
    """
    return _at_ends(trace, view, window_curve, window)


def faded(trace: Trace, view: str, *, factor: float) -> Value:
    """sum_{k=0}^{S-1} a^k c_{S-k} / sum_{k=0}^{S-1} a^k, with the fading factor a. In [0, 1], higher is better.

    Parts for each experience, (V,): the same at its end, over the samples so far.

    Source: Gama, Sebastião and Rodrigues 2013, fading factors.

    >>> from clbench.testing import make_trace
    >>> right = np.array([[False, True], [True, True]])
    >>> value = faded(make_trace(np.zeros((2, 4, 2)), prequential=right), "class", factor=0.5)
    >>> round(value.value, 6), value.parts.round(6).tolist()  # 1.75 / 1.875 at the end
    (0.933333, [0.666667, 0.933333])
    """
    return _at_ends(trace, view, fading_curve, factor)


def unavailable(trace: Trace, view: str) -> Value:
    """Share of the incoming samples for which the strategy had no prediction; they count as wrong in the accuracies.

    In [0, 1], lower is better; parts for each experience, (V,).

    Source: this suite.

    >>> from clbench.testing import make_trace
    >>> unavailable(make_trace(np.zeros((1, 4, 1)), prequential=np.ones((1, 4), bool)), "class").value
    0.0
    """
    record = trace.prequential
    if record is None or _samples(trace, view) is None:
        return _undefined(trace)
    so_far = np.concatenate([[0], np.cumsum(record.unavailable, dtype=np.int64)])
    bounds = arrived(trace)
    counts, sizes = np.diff(so_far[boundaries(trace)]), np.diff(bounds)
    parts = np.divide(counts, sizes, out=np.full(len(counts), np.nan), where=sizes > 0)
    return Value(int(record.unavailable.sum()) / int(bounds[-1]), parts)


def window_curve(samples: Samples, at: Indices, window: int) -> Floats:
    """The mean over the last `window` samples, or all where there are fewer, at some places.

    Args:
        samples: (S,).
        at: numbers of samples so far, in [0, S], (n,).
        window: in samples.

    Returns:
        (n,), NaN before the first sample.

    >>> window_curve(np.array([True, False, False]), np.array([0, 1, 2, 3]), 2).tolist()
    [nan, 1.0, 0.5, 0.0]
    """
    first = np.maximum(at - window, 0)
    if samples.dtype != np.bool_:
        return np.array([_mean(samples[a:b]) for a, b in zip(first.tolist(), at.tolist(), strict=True)])
    so_far = np.concatenate([[0], np.cumsum(samples)])
    out: Floats = np.divide(
        so_far[at] - so_far[first], at - first, out=np.full(len(at), np.nan), where=at > 0, casting="unsafe"
    )
    return out


def fading_curve(samples: Samples, at: Indices, factor: float) -> Floats:
    """The mean with a fading factor at some places; see `window_curve`.

    Samples with a weight below e^-50 of the newest one's are left out.

    >>> fading_curve(np.array([True, False, False]), np.array([1, 2]), 0.5).round(3).tolist()
    [1.0, 0.333]
    """
    most = min(len(samples), int(50 / (1 - factor)) + 1)
    # Products one after the other: those are the same on every machine, and powers are not.
    weights = np.multiply.accumulate(np.concatenate([[1.0], np.full(max(0, most - 1), factor)]))
    of = {}
    for n in np.unique(at).tolist():
        mine = weights[: min(n, most)]
        newest_first = samples[max(0, n - most) : n][::-1]
        of[n] = total(mine * newest_first) / total(mine) if n else math.nan
    return np.array([of[n] for n in at.tolist()])


def _at_ends(trace: Trace, view: str, curve: Any, parameter: float) -> Value:
    """A curve at the ends of experiences."""
    samples = _samples(trace, view)
    if samples is None:
        return _undefined(trace)
    parts = curve(samples, arrived(trace)[1:], parameter)
    return Value(float(parts[-1]), parts)


def _metric(name: str, title: str, formula: str, compute: Any, source: str = _GAMA, **more: Any) -> Metric:
    kind: dict[str, Any] = {"better": "higher", "unit": "accuracy"} | more
    return Metric(
        name, title, formula, source, range=(0.0, 1.0), per="experience", compute=compute, record="prequential", **kind
    )


METRICS = (
    _metric(
        "prequential.accuracy", "test-then-train accuracy on all incoming samples", "1/S sum_s c_s",
        accuracy, "Dawid 1984; Gama, Sebastião and Rodrigues 2013",
    ),
    _metric(
        "prequential.experience_average", "test-then-train accuracy, experiences weighing the same",
        "1/V sum_v P_v, P_v the mean of c_s over the samples of v", experience_average, "Dawid 1984, by experience",
    ),
    *(
        _metric(
            f"prequential.windowed_{w}", f"test-then-train accuracy on the last {w:,} incoming samples",
            f"1/n sum of c_s over the last n = min({w}, S)", partial(windowed, window=w),
        )
        for w in WINDOWS
    ),
    *(
        _metric(
            f"prequential.fading_{a}", f"test-then-train accuracy at the end, samples fading by {a}",
            f"sum_k {a}^k c_(S-k) / sum_k {a}^k, k = 0 .. S-1", partial(faded, factor=a),
        )
        for a in FADING
    ),
    _metric(
        "prequential.unavailable", "incoming samples without a prediction", "1/S sum_s [no prediction of s]",
        unavailable, "this suite", better="lower", unit="share",
    ),
)  # fmt: skip


def of_measure(measure: Measure) -> tuple[Metric, ...]:
    """The same metrics of a measure that is a number: `prequential.average` in place of `prequential.accuracy`.

    >>> from clbench.measures import MEASURES
    >>> metric = of_measure(MEASURES["squared_error"])[0]
    >>> metric.name, metric.title, metric.unit, metric.better
    ('prequential.average', 'test-then-train squared error on all incoming samples', 'squared units', 'lower')
    """
    return tuple(
        metric
        if metric.unit != "accuracy"
        else replace(
            metric,
            name="prequential.average" if metric.compute is accuracy else metric.name,
            title=metric.title.replace("accuracy", measure.title),
            better=measure.better,
            range=(0.0, math.inf),
            unit=measure.unit,
        )
        for metric in METRICS
    )
