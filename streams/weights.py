"""Integer weights: what is drawn or shared out by them is the same on every machine.

Powers and exponentials may differ in their last bit from one mathematical library to another; weights are rounded to
multiples of 2^-24 before anything depends on them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clbench.chance import Generator


def integers(weights: Sequence[float]) -> list[int]:
    """
    >>> integers([1.0, 0.5, 0.0])
    [16777216, 8388608, 0]
    """
    return [round(w * (1 << 24)) for w in weights]


def apportion(total: int, weights: Sequence[int], most: Sequence[int]) -> list[int]:
    """`total` shared out in proportion to integer weights, by largest remainders, the first of equal ones.

    Args:
        total: at most sum(most).
        weights: >= 0. Where all that have room have none, they share equally.
        most: what each can take; what is beyond goes to the others by the same rule.

    >>> apportion(10, [2, 1, 1], [10, 10, 10]), apportion(10, [2, 1, 1], [3, 10, 10])
    ([5, 3, 2], [3, 4, 3])
    """
    if total > sum(most):
        raise ValueError(f"{total} cannot be taken by {sum(most)}")
    out = [0] * len(weights)
    open_ = [i for i, m in enumerate(most) if m]
    while total and open_:
        mine = {i: weights[i] for i in open_}
        if not sum(mine.values()):
            mine = dict.fromkeys(open_, 1)
        mass = sum(mine.values())
        share = {i: total * w // mass for i, w in mine.items()}
        for i in sorted(open_, key=lambda i: (-(total * mine[i] % mass), i))[: total - sum(share.values())]:
            share[i] += 1
        full = [i for i in open_ if share[i] > most[i] - out[i]]
        for i in full or open_:
            taken = min(share[i], most[i] - out[i])
            out[i] += taken
            total -= taken
        open_ = [i for i in open_ if i not in full]
    return out


def draw(generator: Generator, weights: Sequence[int], n: int) -> list[int]:
    """n different places, drawn one after the other in proportion to what is left of the weights.

    Args:
        weights: >= 0, at least n of them positive.
    """
    left, chosen = list(weights), []
    for u in generator.uniform(n).tolist():
        target, i = int(u * sum(left)), 0
        while target >= left[i]:
            target -= left[i]
            i += 1
        chosen.append(i)
        left[i] = 0
    return chosen


def pick(generator: Generator, rows: NDArray[np.int64], n: int | None) -> NDArray[np.int64]:
    """n different rows, drawn uniformly, ascending; all of them where n is None or not fewer."""
    if n is None or n >= len(rows):
        return rows
    return rows[np.sort(generator.sample(len(rows), n))]
