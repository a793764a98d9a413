"""The generated data set `glyphs`: a function of its parameters, the same everywhere, and what an image holds."""

from __future__ import annotations

import numpy as np
import pytest

from clbench.dataset import Facts
from clbench.rng import Generator
from clbench.streams.datasets import load
from clbench.streams.datasets.glyphs import GlyphsData, glyphs

SMALL = GlyphsData(classes=4, size=12, train_per_class=6, test_per_class=2)


def test_it_is_a_function_of_its_parameters() -> None:
    one, other = load.load("glyphs", SMALL), load.load("glyphs", SMALL)
    assert one.sha256 == other.sha256
    assert (one.train_x.shape, one.test_x.shape) == ((24, 1, 12, 12), (8, 1, 12, 12))
    assert np.bincount(one.train_y).tolist() == [6] * 4
    assert load.facts("glyphs", SMALL) == Facts(4, True)
    for change in ({"seed": 1}, {"variation": 0.1}, {"noise": 0.3}, {"strokes": 3}, {"size": 13}):
        assert load.load("glyphs", SMALL.model_copy(update=change)).sha256 != one.sha256


def test_it_is_the_same_on_every_machine() -> None:
    assert load.load("glyphs").sha256.startswith("8ead155b7c5f96bf")


def test_without_variation_and_noise_an_image_is_its_strokes() -> None:
    """Pixels against distances in exact points along each stroke: ink is full within the pen, none a pixel beyond."""
    parameters = GlyphsData(classes=3, size=24, strokes=2, train_per_class=1, test_per_class=1, variation=0, noise=0)
    images = np.asarray(glyphs(parameters).train_x)
    generator = Generator(0, "glyphs")
    pairs = [(a, b) for a in range(16) for b in range(a)]
    centre = (2 * np.arange(24) + 1) / 24 - 1
    for image in images:
        ends = [pairs[i] for i in generator.sample(120, 2).tolist()]
        nearest = np.full((24, 24), np.inf)
        for a, b in ends:
            (ax, ay), (bx, by) = (((p % 4) / 3 * 1.4 - 0.7, (p // 4) / 3 * 1.4 - 0.7) for p in (a, b))
            for t in np.linspace(0, 1, 2001):
                x, y = ax + t * (bx - ax), ay + t * (by - ay)
                nearest = np.minimum(nearest, np.hypot(centre[None, :] - x, centre[:, None] - y))
        ink = np.clip((0.14 - nearest) * 12 + 0.5, 0, 1)
        assert np.abs(image / 255 - ink).max() <= 0.5 / 255 + 12 * 2 / 2000  # rounding, and steps along a stroke


def test_all_images_of_a_character_are_one_without_variation() -> None:
    images = np.asarray(glyphs(SMALL.model_copy(update={"variation": 0.0, "noise": 0.0})).train_x).reshape(4, 6, -1)
    assert (images == images[:, :1]).all()
    assert len({images[c, 0].tobytes() for c in range(4)}) == 4


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_noise_is_bounded(noise: float) -> None:
    clean, noisy = (np.asarray(glyphs(SMALL.model_copy(update={"noise": n})).train_x).astype(int) for n in (0.0, noise))
    assert np.abs(clean[:500] - noisy[:500]).max() <= 255 * noise + 1
