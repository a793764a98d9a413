"""Data sets inside packages, and generated ones: the digits of scikit-learn, two made of them, Gaussian classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from clbench.rng import Generator
from clbench.streams.datasets.sources import Arrays, split
from clbench.streams.datasets.synthetic import SyntheticData


def digits() -> Arrays:
    """scikit-learn's copy of the UCI handwritten digits; every fifth sample of a class is a test sample."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return split(bunch.images.astype(np.uint8), bunch.target.astype(np.int64), None, "scikit-learn", top=16.0)


def digits_inverted() -> Arrays:
    """The same digits in another domain, dark on light."""
    held = digits()
    return replace(held, train_x=np.uint8(16) - np.asarray(held.train_x), test_x=np.uint8(16) - np.asarray(held.test_x))


def digits_parity() -> Arrays:
    """The same images as another task, to tell even digits from odd ones."""
    held = digits()
    return replace(held, train_y=held.train_y % 2, test_y=held.test_y % 2, class_names=("even", "odd"))


EMBEDDED = {"digits": digits, "digits_inverted": digits_inverted, "digits_parity": digits_parity}
"""Data sets inside packages."""


def synthetic(spec: SyntheticData) -> Arrays:
    """Gaussian classes; values rounded to 1/1024, so that a last bit of a logarithm cannot change the data set."""
    generator = Generator(spec.seed, "synthetic")

    def normal(rows: int) -> NDArray[np.float64]:
        return generator.normal(rows * spec.features).reshape(rows, spec.features)

    means = normal(spec.classes) * (spec.separation / np.sqrt(2.0 * spec.features))
    parts = []
    for per_class in (spec.train_per_class, spec.test_per_class):
        y = np.repeat(np.arange(spec.classes, dtype=np.int64), per_class)
        x = np.rint((means[y] + normal(len(y))) * 1024) / 1024
        parts += [x.astype(np.float32), y]
    train_x, train_y, test_x, test_y = parts
    return Arrays(train_x=train_x, train_y=train_y, test_x=test_x, test_y=test_y, top=1.0, origin="generated")
