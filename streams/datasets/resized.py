"""Images that are resized when they are read, a batch at a time: the values of `load` with a size, and its digest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.dataset import DataSet
from clbench.errors import UserError
from clbench.on_disk import OnDisk, Rows, Stored
from clbench.streams.datasets import outline_cache
from clbench.streams.datasets.finish import read_through
from clbench.streams.datasets.resize import resize


def sizeless(name: str) -> str:
    """Sentence about a size for a data set of vectors."""
    return f"data set '{name}' holds vectors; only images have a size."


def level_table(data: DataSet) -> NDArray[np.uint8] | None:
    """The level of 0..255, to the nearest, of each stored level of images; None where the top is 255 already.

    Raises:
        UserError: vectors, or images of floats.
    """
    if len(data.shape) != 3:
        raise UserError(sizeless(data.name))
    if data.train_x.dtype != np.uint8:
        raise UserError(f"data set '{data.name}' holds images of floats; a size, and a list, need uint8.")
    if data.top == 255:
        return None
    levels: NDArray[np.uint8] = np.rint(np.arange(256) * (255 / data.top)).clip(0, 255).astype(np.uint8)
    return levels


class Resized:
    """A source (`clbench.on_disk.Source`) of resized images.

    Args:
        x: images, uint8 (N, C, H, W).
        size: their new height and width.
        table: see `level_table`.
    """

    def __init__(self, x: Stored, size: int, table: NDArray[np.uint8] | None) -> None:
        self._x, self._size, self._table = x, size, table
        self.shape: tuple[int, ...] = (len(x), x.shape[1], size, size)
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)

    def read(self, rows: Rows) -> NDArray[Any]:
        """See `Source`."""
        return self._resized(self._x.read(rows) if isinstance(self._x, OnDisk) else self._x[rows])

    def in_turn(self, lists: Iterable[Rows], through: bool = False) -> Iterator[NDArray[Any]]:
        """See `Source`."""
        if isinstance(self._x, OnDisk):
            yield from map(self._resized, self._x.in_turn(lists, through))
        else:
            yield from map(self.read, lists)

    def _resized(self, x: NDArray[Any]) -> NDArray[Any]:
        return resize(x if self._table is None else self._table[x], self._size, self._size)


def resized_in_batches(data: DataSet, size: int) -> DataSet:
    """A data set whose images are resized whenever they are read; itself where they have that size.

    Digest and moments are those of `load` with the size. One pass over all samples computes them, the first time.

    Raises:
        UserError: vectors, or images of floats.
    """
    if data.shape[1:] == (size, size):
        return data
    table = level_table(data)
    train, test = (OnDisk(Resized(x, size, table)) for x in (data.train_x, data.test_x))
    data = replace(data, train_x=train, test_x=test, shape=train.shape[1:], top=255.0)
    key = outline_cache.key("resized", data.sha256, size)
    contents = outline_cache.recall(key)
    if contents is not None:
        return replace(data, **contents)
    data = read_through(data)
    outline_cache.keep(key, data.sha256, data.mean, data.std)
    return data
