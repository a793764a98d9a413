"""Curves of several seeds: on common updates, their mean, and bands over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Band = Literal["interval", "deviation", "seeds", "none"]

BANDS: dict[Band, str] = {
    "interval": "Band: 95 % Student t interval of the mean.",
    "deviation": "Band: ± standard deviation over seeds.",
    "seeds": "Thin lines: the seeds.",
    "none": "",
}
"""Kinds of bands, with the sentence that says what each is."""


@dataclass(frozen=True)
class Curve:
    """A curve of a run.

    Attributes:
        x: ascending, (E,); a value that occurs twice is a step.
        y: (E, C), C curves on the same points; NaN in gaps.
    """

    x: Floats
    y: Floats


def aligned(curves: Sequence[Curve]) -> tuple[Floats, Floats]:
    """Curves on the points of all of them, linear between their own, steps kept.

    Args:
        curves: with as many columns each.

    Returns:
        Points, ascending, (G,), each twice where curves had different points; and values, (S, G, C), NaN beyond the
        ends of a curve.

    >>> a, b = (Curve(np.array(x, float), np.array(y, float)[:, None]) for x, y in (([0, 2], [0, 4]), ([0, 1], [5, 6])))
    >>> x, y = aligned([a, b])
    >>> x.tolist(), y[0, :, 0].tolist(), y[1, :, 0].tolist()
    ([0.0, 0.0, 1.0, 1.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0, 4.0, 4.0], [5.0, 5.0, 6.0, 6.0, nan, nan])
    """
    first = curves[0]
    if all(len(c.x) == len(first.x) and np.array_equal(c.x, first.x) for c in curves):
        return first.x, np.stack([c.y for c in curves])
    grid = np.unique(np.concatenate([c.x for c in curves]))
    sides = [np.stack([_at(c, grid, "left"), _at(c, grid, "right")], 1) for c in curves]
    return grid.repeat(2), np.stack([s.reshape(2 * len(grid), -1) for s in sides])


def _at(curve: Curve, grid: Floats, side: Literal["left", "right"]) -> Floats:
    """Values at points, (G, C): at a step the first one (left) or the last one (right)."""
    x, y = curve.x, curve.y
    above = np.clip(np.searchsorted(x, grid, "left"), 0, len(x) - 1)
    below = np.clip(np.searchsorted(x, grid, "right") - 1, 0, len(x) - 1)
    width = x[above] - x[below]
    share = np.divide(grid - x[below], width, out=np.zeros_like(grid), where=width > 0)[:, None]
    with np.errstate(invalid="ignore"):
        between = y[below] + share * (y[above] - y[below])
    exact = x[above] == grid
    at = np.where(exact[:, None], y[above] if side == "left" else y[below], between)
    return np.where(((grid < x[0]) | (grid > x[-1]))[:, None], np.nan, at)


def mean_and_band(values: Floats, kind: Band) -> tuple[Floats, Floats, Floats]:
    """Mean over seeds and the ends of its band, each (G, C): NaN where a seed has no value.

    Args:
        values: (S, G, C).
        kind: of the band; of one seed, and of kinds without a band, its ends are NaN.

    >>> y = np.array([[[0.0]], [[1.0]]])
    >>> [part.round(3).tolist() for part in mean_and_band(y, "deviation")]
    [[[0.5]], [[-0.207]], [[1.207]]]
    """
    mean = values.mean(axis=0)
    n = len(values)
    if n < 2 or kind not in ("interval", "deviation"):
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = values.std(axis=0, ddof=1)
    if kind == "interval":
        from clbench.reports.statistics import t_quantile  # it imports scipy

        half = t_quantile(n) * half / np.sqrt(n)
    return mean, mean - half, mean + half
