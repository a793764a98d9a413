"""Mean and deviation of training inputs: per channel of images, per feature of vectors; exact for whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.on_disk import Stored, parts


def moments_for(x: Stored) -> ImageMoments | VectorMoments:
    """Moments of inputs to come: per channel of images (N, C, H, W), per feature of vectors (N, F)."""
    return ImageMoments(x.shape[1]) if x.ndim == 4 else VectorMoments()


class ImageMoments:
    """Mean and deviation per channel; from exact integer sums for uint8, so equal on every machine.

    Args:
        channels: their number.
    """

    def __init__(self, channels: int) -> None:
        self._n = 0
        self._sums: list[list[float]] = [[0, 0] for _ in range(channels)]

    def add(self, part: NDArray[Any]) -> None:
        """Adds samples, (n, C, H, W)."""
        channels = [part[:, c] for c in range(part.shape[1])]
        self._n += channels[0].size
        for sums, values in zip(self._sums, channels, strict=True):
            if part.dtype == np.uint8:  # Python's integers do not overflow
                sums[0] += int(values.sum(dtype=np.uint64))
                sums[1] += int(np.multiply(values, values, dtype=np.uint16).sum(dtype=np.uint64))  # 255^2 < 2^16
            else:
                sums[0] += float(values.sum(dtype=np.float64))
                sums[1] += float(np.square(values, dtype=np.float64).sum())

    def result(self, top: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of all channels, in units of `top`."""
        mean, std = [], []
        for total, squares in self._sums:
            first, second = float(total) / self._n, float(squares) / self._n
            mean.append(first / top)
            std.append(max(second - first * first, 0.0) ** 0.5 / top or 1.0)
        return tuple(mean), tuple(std)


class VectorMoments:
    """Mean and deviation per feature, of the distances from the first sample.

    From 0, the squares of a large and nearly constant feature would lose its deviation, and a constant one would have
    a deviation of rounding errors instead of 0.
    """

    def __init__(self) -> None:
        self._n = 0
        self._first: NDArray[np.float64] | None = None
        self._sums: NDArray[np.float64] | float = 0.0
        self._squares: NDArray[np.float64] | float = 0.0

    def add(self, part: NDArray[Any]) -> None:
        """Adds samples, (n, F)."""
        if self._first is None:
            self._first = part[0].astype(np.float64)
        distances = part - self._first
        self._n += len(part)
        self._sums = self._sums + distances.sum(0)
        self._squares = self._squares + np.square(distances).sum(0)

    def result(self, top: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of all features, in units of `top`; 1 in place of a deviation of 0."""
        assert self._first is not None
        shift = self._sums / self._n
        deviation = np.sqrt(np.maximum(self._squares / self._n - shift * shift, 0.0))
        deviation[deviation == 0] = top
        return tuple(((self._first + shift) / top).tolist()), tuple((deviation / top).tolist())


def moments_of(x: NDArray[Any], top: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of inputs in memory, (N, C, H, W) or (N, F), in units of `top`."""
    moments = moments_for(x)
    for _, part in parts(x):
        moments.add(part)
    return moments.result(top)
