"""Mean and deviation of training inputs, exact for whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.on_disk import Stored, parts


class Moments:
    """Mean and deviation per channel; from exact integer counts for uint8, so equal on every machine.

    Args:
        x: what they are of; its shape and dtype are looked at.
    """

    def __init__(self, x: Stored) -> None:
        channels = x.shape[1] if x.ndim == 4 else 1
        self._n = 0
        self._counts = np.zeros((channels, 256), np.int64)
        self._sums = np.zeros((channels, 2))

    def add(self, part: NDArray[Any]) -> None:
        """Adds samples."""
        channels = [part[:, c] for c in range(part.shape[1])] if part.ndim == 4 else [part]
        self._n += channels[0].size
        for c, values in enumerate(channels):
            if part.dtype == np.uint8:
                self._counts[c] += np.bincount(values.ravel(), minlength=256)
            else:
                self._sums[c] += values.sum(dtype=np.float64), np.square(values, dtype=np.float64).sum()

    def result(self, top: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of all channels, in units of `top`."""
        mean, std = [], []
        for counts, (total, squares) in zip(self._counts.tolist(), self._sums.tolist(), strict=True):
            # Either is zero. Python's integers do not overflow.
            first = (sum(n * v for v, n in enumerate(counts)) + total) / self._n
            second = (sum(n * v * v for v, n in enumerate(counts)) + squares) / self._n
            mean.append(first / top)
            std.append(max(second - first * first, 0.0) ** 0.5 / top or 1.0)
        return tuple(mean), tuple(std)


def moments_of(x: NDArray[Any], top: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    moments = Moments(x)
    for _, part in parts(x):
        moments.add(part)
    return moments.result(top)
