"""Sums whose last bits are the same on every machine: metrics, sampling errors and statistics add up by these alone.

A sum of floating-point numbers depends on its order, and the order of a matrix product is the processor's: OpenBLAS
0.3.31 takes another kernel on a Haswell than on a SkylakeX, and `a @ b` of the same numbers then ends in other bits.
Python's own `sum` compensates for rounding since 3.12 and did not before. Here a sum is rounded once, at its end
(`math.fsum`: Shewchuk 1997), whatever the order. Counts of samples are whole numbers below 2^53: NumPy adds those
exactly in any order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDING = 1e-12
"""Two values closer than this are equal.

Floating-point sums of the same numbers in another order differ by less. Accuracies, which are counts over a size,
differ by more: so small a difference takes 1e12 of (evaluated samples x averaged evaluations)."""


def total(values: Iterable[float] | Floats) -> float:
    """The sum, correctly rounded; 0 of nothing, NaN where something is missing.

    >>> total([0.1] * 10), total([1e100, 1.0, -1e100]), total([0.5, math.nan]), total([math.inf, -math.inf])
    (1.0, 1.0, nan, nan)
    """
    try:
        return math.fsum(values.tolist() if isinstance(values, np.ndarray) else values)
    except ValueError:  # inf - inf
        return math.nan


def column_totals(rows: Floats) -> Floats:
    """The sum of each column of an array (n, m), correctly rounded, (m,).

    >>> column_totals(np.array([[0.1, 1.0]] * 10)).tolist()
    [1.0, 10.0]
    """
    return np.array([total(column) for column in rows.T], np.float64)


def row_totals(rows: Floats) -> Floats:
    """The sum of each row of an array (n, m), correctly rounded, (n,); NaN where something is missing.

    >>> row_totals(np.array([[0.1] * 10, [1.0] * 10])).tolist()
    [1.0, 10.0]
    """
    if rows.shape[1] == 1:
        return rows[:, 0].astype(np.float64)
    return np.array([total(row) for row in rows], np.float64)


def mean(values: Floats | Sequence[float]) -> float:
    """The mean; NaN where there is nothing or where something is missing.

    >>> mean(np.array([0.5, 1.0])), mean([0.5, math.nan]), mean([])
    (0.75, nan, nan)
    """
    return total(values) / len(values) if len(values) else math.nan


def squared_deviations(values: Floats | Sequence[float], around: float) -> float:
    """sum (v - around)^2, whose quotient by n or n - 1 is a variance.

    >>> squared_deviations([1.0, 3.0], 2.0)
    2.0
    """
    deviation = np.asarray(values, np.float64) - around
    return total(deviation * deviation)
