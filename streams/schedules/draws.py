"""Integer weights, for draws and shares that are the same on every machine.

Powers and exponentials may differ in their last bit from one mathematical library to another; weights are rounded to
multiples of 2^-24 before anything depends on them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clbench.rng import Generator


def integers(weights: Sequence[float]) -> list[int]:
    """
    >>> integers([1.0, 0.5, 0.0])
    [16777216, 8388608, 0]
    """
    return [round(w * (1 << 24)) for w in weights]


def rounded(value: float) -> int:
    """The nearest integer, upwards from a half; a last bit of a power does not decide.

    >>> rounded(2.5), rounded(2.4999999999)
    (3, 3)
    """
    return math.floor(round(value, 6) + 0.5)


def draw(generator: Generator, weights: Sequence[int], n: int) -> list[int]:
    """n different indices, drawn one after the other in proportion to the remaining weights.

    Args:
        weights: >= 0, at least n of them positive.
    """
    left, drawn = list(weights), []
    for u in generator.uniform(n).tolist():
        target, i = int(u * sum(left)), 0
        while target >= left[i]:
            target -= left[i]
            i += 1
        drawn.append(i)
        left[i] = 0
    return drawn


def pick(generator: Generator, rows: NDArray[np.int64], n: int | None) -> NDArray[np.int64]:
    """n different rows, drawn uniformly, ascending; all of them where n is None or not fewer."""
    if n is None or n >= len(rows):
        return rows
    return rows[np.sort(generator.sample(len(rows), n))]
