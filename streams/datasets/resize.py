"""Resizing of images, bit for bit the same on every machine.

Pillow's bilinear filter: a triangle as wide as two pixels of the coarser grid, so plain bilinear when enlarging and
antialiased when shrinking; always first along the width, then along the height, rounded to whole levels after each.
Weights are whole multiples of 2**-22 and sums of whole numbers, so no order of summation can change them.

Reference: Pillow, `src/libImaging/Resample.c`, whose 8-bit results these equal in each direction.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BITS = 22  # of a weight: 8 bits of a pixel, 22 of a weight and two to spare make 32
_CHUNK = 1 << 21  # values that are in float64 at a time


def resize(x: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Images resized to a height and width.

    Args:
        x: uint8 (N, C, H, W).
        height, width: target size, >= 1.

    Returns:
        uint8 (N, C, height, width); x itself where that is its size.

    >>> resize(np.array([[[[0, 100]]]], np.uint8), 1, 4)
    array([[[[  0,  25,  75, 100]]]], dtype=uint8)
    >>> resize(np.array([[[[0, 100, 200, 40]]]], np.uint8), 1, 2)
    array([[[[ 71, 117]]]], dtype=uint8)
    """
    if x.shape[2:] == (height, width):
        return x
    down, across = weights(x.shape[2], height), weights(x.shape[3], width).T
    out = np.empty((*x.shape[:2], height, width), np.uint8)
    rows = max(1, _CHUNK // (x.shape[1] * max(x.shape[2], height) * max(x.shape[3], width)))
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        out[start : start + rows] = _rounded(down @ _rounded(part @ across))
    return out


def weights(before: int, after: int) -> NDArray[np.float64]:
    """Weight of each old position at each new one: float64 (after, before) of whole numbers, about 2**22 a row.

    In float64, because products with pixels and their sums stay whole and below 2**53: exact, and fast.
    """
    table = np.zeros((after, before))
    scale = before / after
    reach = max(scale, 1.0)
    for i in range(after):
        centre = (i + 0.5) * scale
        first, last = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), before)
        row = [max(1.0 - abs((j - centre + 0.5) * (1.0 / reach)), 0.0) for j in range(first, last)]
        total = 0.0
        for weight in row:  # one after the other: `sum` of Python 3.12 rounds otherwise
            total += weight
        table[i, first:last] = [math.floor(0.5 + weight / total * (1 << _BITS)) for weight in row]
    return table


def _rounded(total: NDArray[Any]) -> NDArray[np.float64]:
    """Weighted sums to the nearest level."""
    return np.floor((total + (1 << (_BITS - 1))) / (1 << _BITS)).clip(0, 255)
