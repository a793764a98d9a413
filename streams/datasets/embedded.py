"""Data sets embedded in a package: the digits of scikit-learn, and two made of them: another domain, another task."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clbench.streams.datasets.sources import Arrays, split


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
