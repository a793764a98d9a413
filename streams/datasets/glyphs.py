"""The generated data set `glyphs`: images of characters that nobody ever wrote, of a few straight strokes each.

A character is a set of strokes between points of a 4 x 4 lattice, drawn once for each class. An image of it moves the
ends of its strokes, then all of it by an affine map, draws it with a pen of some width, and adds noise. So the classes
share their parts and their variation, and features that tell some characters apart serve for others: what pretraining
on a half of them needs. After Omniglot (Lake, Salakhutdinov and Tenenbaum 2015), without its drawers.

Values come from sums, products, quotients and square roots of single numbers, which IEEE 754 rounds in one way, and are
rounded to whole grey levels: the images are the same on every machine.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from clbench.rng import Generator
from clbench.schema import Count, Model
from clbench.streams.datasets.sources import Arrays

_LATTICE = 4
_STROKES = [(a, b) for a in range(_LATTICE**2) for b in range(a)]

_Share = Annotated[float, Field(ge=0, le=1)]


class GlyphsData(Model):
    """Images of invented characters of straight strokes; nothing to download."""

    classes: Annotated[int, Field(ge=2, le=10_000)] = 20
    """Characters."""
    size: Annotated[int, Field(ge=8, le=256)] = 16
    """Height and width."""
    strokes: Annotated[int, Field(ge=1, le=20)] = 4
    """Strokes of a character."""
    train_per_class: Count = 50
    test_per_class: Count = 20
    variation: _Share = 0.4
    """Of the images of a character: 0 draws one image again and again, with other noise."""
    noise: _Share = 0.2
    """Largest noise of a pixel, as a share of the pen's black."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Other seeds draw other characters."""


def glyphs(parameters: GlyphsData) -> Arrays:
    """The data set, uint8 images (N, size, size)."""
    generator = Generator(parameters.seed, "glyphs")
    drawn = np.stack([generator.sample(len(_STROKES), parameters.strokes) for _ in range(parameters.classes)])
    ends = np.array(_STROKES)[drawn]  # (C, S, 2), numbers of points of the lattice
    points = np.stack([ends % _LATTICE, ends // _LATTICE], -1) / (_LATTICE - 1) * 2 - 1  # (C, S, 2, 2) in [-1, 1]
    parts = []
    for per_class in (parameters.train_per_class, parameters.test_per_class):
        y = np.repeat(np.arange(parameters.classes, dtype=np.int64), per_class)
        x = np.concatenate([_images(points[y[a : a + 500]], parameters, generator) for a in range(0, len(y), 500)])
        parts += [x, y]
    train_x, train_y, test_x, test_y = parts
    return Arrays(train_x=train_x, train_y=train_y, test_x=test_x, test_y=test_y, origin="generated")


def _images(points: NDArray[np.float64], parameters: GlyphsData, generator: Generator) -> NDArray[np.uint8]:
    """An image of each character, whose strokes' ends are (N, S, 2, 2)."""
    n, size = len(points), parameters.size

    def uniform(*shape: int, bound: float) -> NDArray[np.float64]:
        """Numbers in [-bound, bound)."""
        return (2 * generator.uniform(int(np.prod(shape))).reshape(shape) - 1) * (bound * parameters.variation)

    moved = points + uniform(*points.shape, bound=0.5)
    turn, shift = uniform(n, 4, bound=0.7), uniform(n, 2, bound=0.8)
    u, v = moved[..., 0], moved[..., 1]
    one, two, three, four = (turn[:, i, None, None] for i in range(4))
    x = 0.7 * (u + one * u + two * v + shift[:, 0, None, None])
    y = 0.7 * (v + three * u + four * v + shift[:, 1, None, None])
    width = 0.14 + uniform(n, bound=0.1)
    centre = (2 * np.arange(size) + 1) / size - 1
    nearest = np.full((n, size, size), np.inf)
    for s in range(points.shape[1]):
        (x0, x1), (y0, y1) = (c[:, s].T[..., None, None] for c in (x, y))
        dx, dy = x1 - x0, y1 - y0
        px, py = centre[None, None, :] - x0, centre[None, :, None] - y0
        along = np.clip((px * dx + py * dy) / np.maximum(dx * dx + dy * dy, 1e-6), 0, 1)
        qx, qy = px - along * dx, py - along * dy
        nearest = np.minimum(nearest, qx * qx + qy * qy)
    ink = np.clip((width[:, None, None] - np.sqrt(nearest)) * (size / 2) + 0.5, 0, 1)
    grey = ink + parameters.noise * (2 * generator.uniform(n * size * size).reshape(ink.shape) - 1)
    return np.asarray(np.rint(255 * np.clip(grey, 0, 1)), np.uint8)
