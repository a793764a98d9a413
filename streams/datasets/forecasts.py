"""A series in regimes, as samples of a forecast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clbench.streams.datasets.sources import Arrays


def training_steps(steps: int) -> int:
    """Length of the training part of a regime: all but the last fifth, which is one step at least.

    >>> training_steps(10), training_steps(3)
    (8, 2)
    """
    return steps - max(steps // 5, 1)


def windows(
    series: NDArray[np.float64],
    task: NDArray[np.int64],
    *,
    inputs: int,
    horizon: int,
    season: int,
    names: tuple[str, ...],
) -> Arrays:
    """Samples of a forecast: one for each step that belongs to a regime.

    Args:
        series: (S, D).
        task: regime of each step, (S,), ascending; -1 of the first steps, which are inputs alone.
        inputs: latest known steps in an input.
        horizon: steps from the last of them to the target.
        season: steps of a period, `horizon` at least.
        names: of the D numbers.

    Returns:
        Inputs (N, (1 + inputs) * D), step by step in the order of time: a period before the target, then the latest
        known ones. Targets (N, D). The last fifth of each regime is its test part.
    """
    at = np.flatnonzero(task >= 0)
    back = np.array([season, *range(horizon + inputs - 1, horizon - 1, -1)])
    x = series[at[:, None] - back].reshape(len(at), -1).astype(np.float32)
    y, task = series[at].astype(np.float32), task[at]
    lengths = np.bincount(task)
    rank = np.arange(len(at)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    test = rank >= np.array([training_steps(int(n)) for n in lengths])[task]
    none = np.zeros(len(at), np.int64)
    return Arrays(
        train_x=x[~test], train_y=none[~test], train_target=y[~test], train_task=task[~test],
        test_x=x[test], test_y=none[test], test_target=y[test], test_task=task[test],
        target_names=names, top=1.0, origin="generated",
    )  # fmt: skip
