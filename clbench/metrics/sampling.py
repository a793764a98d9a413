"""Exact standard error of a metric over draws of the test samples, from the recorded per-sample correctness."""

from __future__ import annotations

import math

import numpy as np

from clbench.metrics.definition import Floats, Indices
from clbench.summation import column_totals, mean, squared_deviations, total
from clbench.trace import Trace

_BLOCK = 4_000_000
"""Bits unpacked at a time: 4 MB."""


def standard_error(trace: Trace, view: str, weights: Floats) -> float:
    """Standard error of sum_{e,i} W[e, i] A(e, i) over test sets of the same class counts, in the metric's unit, >= 0.

    A sample s of cell k adds y_s = sum_i sum_e W[e, i] bit[e, s] / size_i to the sum, over the tasks i that hold the
    cell, so that what one sample does at many evaluations is taken together. Samples are drawn within cells:

        se^2 = sum_k n_k^2 / (n_k - 1) * var_{s in k}(y_s),   var the population variance.

    Where the test set is the whole finite one, this describes test sets drawn anew from the same population. The
    place of a minimum or a maximum is taken as given, and so are the weights.

    Without per-sample correctness it is known only where every cell has at most one evaluation with a non-zero weight:
    y_s is then a weight times a bit, whose variance is p (1 - p).

    Args:
        weights: W, (E, T).

    Returns:
        NaN where bits are needed and missing, or where a weighed cell has fewer than two samples or no count.

    Source: stratified sampling without the correction for a finite population, Cochran 1977, chapter 5.

    >>> from clbench.testing import make_trace
    >>> trace = make_trace(np.full((1, 3, 1), 0.8), size=101)  # 81 of 101 right
    >>> W = np.array([[0.0], [0.0], [1.0]])
    >>> se, p = standard_error(trace, "class", W), 81 / 101
    >>> abs(se - (p * (1 - p) / 100) ** 0.5) < 1e-12
    True

    The same samples are right at both ends: a difference of two equal accuracies is known exactly.

    >>> standard_error(trace, "class", np.array([[-1.0], [0.0], [1.0]]))
    0.0
    """
    rows = np.flatnonzero(weights.any(1))
    size = trace.task_size
    per_sample = np.divide(weights[rows], size, out=np.zeros((len(rows), len(size))), where=weights[rows] != 0)
    weight = np.zeros((len(rows), len(trace.cell_size)))  # (rows, K): what one right sample of a cell adds
    for task, cells in enumerate(trace.task_cells):  # in this order; that of a matrix product is the processor's
        weight[:, cells] += per_sample[:, task, None]
    used = np.flatnonzero(weight.any(0))
    n = trace.cell_size[used].astype(np.float64)
    if view in trace.sums:
        if (n < 2).any() or view not in trace.values:
            return math.nan
        return math.sqrt(total(n**2 / (n - 1) * _variance_of_numbers(trace, view, rows, weight, used)))
    counts = trace.correct[view][np.ix_(rows, used)]
    if (n < 2).any() or ((counts < 0) & (weight[:, used] != 0)).any():
        return math.nan
    if view in trace.bits:
        variance = _population_variance(trace, view, rows, weight, used)
    elif ((weight[:, used] != 0).sum(0) <= 1).all():
        p = np.where(weight[:, used] != 0, counts / n, 0)
        variance = column_totals(weight[:, used] ** 2 * p * (1 - p))
    else:
        return math.nan
    return math.sqrt(total(n**2 / (n - 1) * variance))


def _variance_of_numbers(trace: Trace, view: str, rows: Indices, weight: Floats, used: Indices) -> Floats:
    """Variance of y_s within each used cell, (used,), of a measure's recorded numbers in place of bits."""
    stop = np.cumsum(trace.cell_size, dtype=np.int64)
    out = np.zeros(len(used))
    for number, k in enumerate(used):
        start, size = int(stop[k] - trace.cell_size[k]), int(trace.cell_size[k])
        y = np.zeros(size)
        for row, factor in zip(rows.tolist(), weight[:, k].tolist(), strict=True):
            if factor:  # one after the other: a matrix product adds in the processor's order
                y += factor * trace.values[view][row, start : start + size].astype(np.float64)
        out[number] = squared_deviations(y, mean(y)) / size
    return out


def _population_variance(trace: Trace, view: str, rows: Indices, weight: Floats, used: Indices) -> Floats:
    """Variance of y_s within each used cell, (used,).

    Evaluations of one weight are counted first, in whole numbers: y_s adds one product for each different weight.
    """
    stop = np.cumsum(trace.cell_size, dtype=np.int64)
    out = np.zeros(len(used))
    for number, k in enumerate(used):
        start, size, column = int(stop[k] - trace.cell_size[k]), int(trace.cell_size[k]), weight[:, k]
        packed = trace.bits[view][:, start // 8 : -(-int(stop[k]) // 8)]
        y = np.zeros(size)
        for value in np.unique(column[column != 0]).tolist():
            times, same = np.zeros(size, np.int64), rows[column == value]
            for block in np.split(same, range(_BLOCK // size + 1, len(same), _BLOCK // size + 1)):
                bits = np.unpackbits(packed[block], axis=1)
                times += bits[:, start % 8 : start % 8 + size].sum(0, np.int64)
            y += value * times
        out[number] = squared_deviations(y, mean(y)) / size
    return out
