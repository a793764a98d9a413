"""Evaluation schedule."""

from __future__ import annotations

from clbench.config.evaluation import Evaluation


def evaluations(evaluation: Evaluation, updates: int) -> int:
    """Number of evaluations in an experience, those before and after it included.

    >>> evaluations(Evaluation(every=5, dense=3), 12) - 2
    5
    """
    first = min(evaluation.dense, updates)
    return 2 + first + (updates // evaluation.every - first // evaluation.every if evaluation.every else 0)


def is_due(evaluation: Evaluation, n: int) -> bool:
    """True if the n-th update of an experience (n >= 1) is followed by an evaluation.

    >>> [n for n in range(1, 13) if is_due(Evaluation(every=5, dense=3), n)]
    [1, 2, 3, 5, 10]
    """
    return n <= evaluation.dense or bool(evaluation.every and n % evaluation.every == 0)
