"""Methods that no other one beats in both accuracy and cost. Pure functions of numbers."""

from __future__ import annotations

from collections.abc import Sequence


def non_dominated(costs: Sequence[float], worths: Sequence[float]) -> list[int]:
    """The points of the Pareto front, by ascending cost.

    A point is dominated if another one costs no more and is worth no less, and is better in one of the two. Equal
    points do not dominate each other.

    Args:
        costs: lower is better.
        worths: higher is better, as many.

    Returns:
        Indices, ascending by cost, then as in the arguments.

    >>> non_dominated([1.0, 2.0, 3.0, 3.0], [0.5, 0.4, 0.9, 0.9])
    [0, 2, 3]
    """
    front: list[int] = []
    best = -float("inf")
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -worths[i], i))
    for i in order:
        equal = bool(front) and (costs[i], worths[i]) == (costs[front[-1]], worths[front[-1]])
        if worths[i] > best or equal:
            front.append(i)
            best = worths[i]
    return front
