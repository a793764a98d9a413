"""Whole numbers shared out in proportion."""

from __future__ import annotations

from collections.abc import Sequence


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
