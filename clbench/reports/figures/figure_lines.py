"""Long lines in few points, and labels that do not overlap: geometry that figures share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def thinned(
    x: NDArray[np.float64], y: NDArray[np.float64], columns: int, limits: tuple[float, float]
) -> NDArray[np.int64]:
    """Points that suffice to draw a line: of each pixel column the first, last, lowest and highest.

    Every extreme and every gap stays; a line of few points stays whole.

    Args:
        x: ascending, (E,).
        y: (E,), NaN in gaps.
        columns: pixel columns between the limits.
        limits: the ends of the axis.

    Returns:
        Indices, ascending.

    >>> y = np.array([5.0, 5, 5, 1, 5, 5, np.nan, 5, 5, 5])
    >>> thinned(np.arange(10.0), y, 1, (0, 10)).tolist()
    [0, 3, 5, 6, 7, 9]
    """
    if len(x) <= 4 * columns:
        return np.arange(len(x))
    column = np.clip((x - limits[0]) * columns / (limits[1] - limits[0]), 0, columns - 1).astype(np.int64)
    gap = np.isnan(y)
    edge = np.flatnonzero(gap[1:] != gap[:-1])
    first = np.flatnonzero(np.diff(column, prepend=-1))
    last = np.append(first[1:], len(x)) - 1
    order = np.lexsort((np.where(gap, np.inf, y), column))  # by column, then by height
    lowest = order[first]
    order = np.lexsort((np.where(gap, np.inf, -y), column))
    highest = order[first]
    return np.unique(np.concatenate([first, last, lowest, highest, edge, edge + 1]))


def alone(y: NDArray[np.float64]) -> NDArray[np.int64]:
    """Points between two gaps, of which a line shows nothing."""
    gap = np.concatenate([[True], np.isnan(y), [True]])
    return np.flatnonzero(~gap[1:-1] & gap[:-2] & gap[2:])


def apart(heights: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Ascending heights moved as little as needed to be `least` apart, between `low` and `high` where they fit.

    >>> apart([1.0, 1.0, 9.0], 2.0, 0.0, 10.0)
    [0.0, 2.0, 9.0]
    >>> apart([9.5, 9.6], 2.0, 0.0, 10.0)
    [8.0, 10.0]
    """
    blocks: list[list[float]] = []  # lowest, number, sum of the wished lowest
    for y in heights:
        blocks.append([y, 1, y])
        while True:
            _, number, wish = blocks[-1]
            blocks[-1][0] = min(max(wish / number, low), high - least * (number - 1))
            if len(blocks) < 2 or blocks[-2][0] + least * blocks[-2][1] <= blocks[-1][0]:
                break
            below = blocks[-2]
            merged = below[2] + wish - number * below[1] * least
            blocks[-2:] = [[0.0, below[1] + number, merged]]
    return [start + least * i for start, number, _ in blocks for i in range(int(number))]
