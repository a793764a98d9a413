"""Data sets as values: facts, outlines without inputs, and whole ones. `streams/datasets` loads them by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clbench.on_disk import Stored

FILE_KINDS = ("npz:", "npy:", "csv:", "parquet:", "hf:", "folder:")
"""Beginnings of data sets' names that are followed by a path, and are no import paths."""


@dataclass(frozen=True)
class Facts:
    """Facts of a data set known without loading its images; None where only running its code would tell."""

    classes: int | None
    image: bool | None
    summary: str = ""
    tasks: int | None = None
    """Number of tasks that the data define."""
    numbers: bool = False
    """Whether numbers are to be predicted."""


def with_names(classes: Iterable[int], names: Sequence[str]) -> str:
    """Classes in a message: their numbers, with names where there are any.

    >>> with_names([0, 2], ["cat", "dog", "fox"]), with_names([0, 2], [])
    ("0 ('cat'), 2 ('fox')", '0, 2')
    """
    return ", ".join(f"{c} ('{names[c]}')" if c < len(names) else str(c) for c in classes)


@dataclass(frozen=True, kw_only=True)
class Outline:
    """All of a data set but its inputs: what a stream is compiled from.

    Attributes:
        name: the name in the configuration.
        train_y: int64 (N,), classes 0..classes-1.
        test_y: the same for the test part.
        train_task, test_task: the task label of each sample in the data, int64 (N,), 0..T-1; None where there is none.
        classes: number of classes.
        shape: of a sample: (C, H, W) of images, (F,) of vectors.
        sha256: over shapes, dtypes and bytes of the arrays; of a list over its members' digests and the size.
        origin: where it came from, for provenance.
        class_names: of classes 0, 1, ..., for messages; empty where the source says none.
        train_target: of a regression: the numbers to predict, float32 (N, D); there is one class then, and the labels
            are all 0. None where classes are to be told.
        test_target: the same for the test part.
        target_names: of the D numbers, for messages and tables; empty where the source says none.
    """

    name: str
    train_y: NDArray[np.int64]
    test_y: NDArray[np.int64]
    train_task: NDArray[np.int64] | None = None
    test_task: NDArray[np.int64] | None = None
    classes: int
    shape: tuple[int, ...]
    sha256: str
    origin: str
    class_names: tuple[str, ...] = ()
    train_target: NDArray[np.float32] | None = None
    test_target: NDArray[np.float32] | None = None
    target_names: tuple[str, ...] = ()

    def named(self, *classes: int) -> str:
        """See `with_names`."""
        return with_names(classes, self.class_names)


def identity(data: Outline, normalise: str) -> str:
    """SHA-256 of the data for records, which tells results apart: that of the data set, but of standardised vectors.

    Until version 0.2 these had one mean and deviation of all features, with other results from the same bytes.

    Args:
        data: the data set, perhaps without inputs.
        normalise: see `StreamConfig.normalise`.
    """
    if normalise == "standard" and len(data.shape) == 1:
        return hashlib.sha256(f"{data.sha256}, each feature standardised".encode()).hexdigest()
    return data.sha256


@dataclass(frozen=True, kw_only=True)
class DataSet(Outline):
    """A data set with its inputs, in memory or on the disk.

    Attributes:
        train_x: uint8 or float32, (N, C, H, W) for images and (N, F) for vectors.
        test_x: the same for the test part.
        top: the stored value that stands for 1.0 (255 for ordinary uint8 images, 1 for floats).
        mean, std: of the training inputs in units of `top`, one number a channel (images) or a feature
            (vectors); 1 in place of a deviation of 0.
        shape: by default that of `train_x`.

    Raises:
        ValueError: `shape` and `train_x` disagree.
    """

    train_x: Stored
    test_x: Stored
    top: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        held = self.train_x.shape[1:]
        if self.shape not in ((), held):
            raise ValueError(f"shape is {self.shape}, but train_x has samples of {held}")
        object.__setattr__(self, "shape", held)
