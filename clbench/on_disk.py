"""Samples that stay on the disk: memory-mapped arrays, and the items of data sets of PyTorch.

They replace the array of inputs in a data set and are read on demand, in whole batches. The values do not depend on the
reader: this process, or worker processes ahead of it (`CLBENCH_WORKERS`, 0 by default).
"""

from __future__ import annotations

import mmap
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from clbench.errors import UserError
from clbench.rng import Chance, fenced

Rows = NDArray[np.int64]

_VALUES = 1 << 20
"""Values read at a time in a pass over all samples."""


class Source(Protocol):
    """Storage of samples, in their stored form.

    Attributes:
        shape: (N, F), (N, H, W) or (N, H, W, C).
        dtype: of a value.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, rows: Rows) -> NDArray[Any]:
        """Samples by their rows, (n, ...)."""
        ...

    def in_turn(self, lists: Iterable[Rows], through: bool = False) -> Iterator[NDArray[Any]]:
        """`read` of one list after the other; the lists may be asked for ahead.

        Args:
            lists: rows.
            through: whether they go through all samples in order, once.
        """
        ...


@dataclass(frozen=True)
class OnDisk:
    """The inputs of a data set, on the disk.

    Attributes:
        source: reads them.
        chosen: rows of the source that these are, int64 (N,); None for all.
        laid_out: whether they come in a data set's layout (`layout`), or as they are stored.
    """

    source: Source
    chosen: Rows | None = None
    laid_out: bool = False

    def __len__(self) -> int:
        return self.source.shape[0] if self.chosen is None else len(self.chosen)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for _, part in parts(self):
            yield from part

    @property
    def shape(self) -> tuple[int, ...]:
        """As that of the array."""
        shape = self.source.shape[1:]
        if self.laid_out and len(shape) > 1:
            shape = (shape[2], *shape[:2]) if len(shape) == 3 else (1, *shape)
        return (len(self), *shape)

    @property
    def ndim(self) -> int:
        """As that of the array."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """As that of the array."""
        return layout_dtype(self.source.dtype) if self.laid_out else self.source.dtype

    @property
    def nbytes(self) -> int:
        """Bytes that the array would take."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def only(self, wanted: NDArray[np.bool_]) -> OnDisk:
        """The samples where `wanted`, bool (N,)."""
        rows = np.flatnonzero(wanted)
        return replace(self, chosen=rows if self.chosen is None else self.chosen[rows])

    def read(self, rows: Rows) -> NDArray[Any]:
        """Samples by their rows, (n, ...), in memory."""
        samples = self.source.read(self._rows(rows))
        return layout(samples) if self.laid_out else samples

    def in_turn(self, lists: Iterable[Rows], through: bool = False) -> Iterator[NDArray[Any]]:
        """`read` of one list after the other, ahead of time where there are workers; `through`: see `Source`."""
        for samples in self.source.in_turn(map(self._rows, lists), through):
            yield layout(samples) if self.laid_out else samples

    def origin(self, name: str, start: int) -> tuple[str, Rows]:
        """Name of the samples from `start` on, for messages: an array of the source, and their rows in it."""
        if self.chosen is None:
            return name, np.arange(start, len(self))
        return name.removeprefix("train_").removeprefix("test_"), self.chosen[start:]

    def _rows(self, rows: Rows) -> Rows:
        return rows if self.chosen is None else self.chosen[rows]


Stored = NDArray[Any] | OnDisk
"""The inputs of a data set: in memory, or on the disk."""


def layout(x: NDArray[Any], reuse: bool = False) -> NDArray[Any]:
    """(N, H, W) and (N, H, W, C) to (N, C, H, W); floats to float32.

    Args:
        x: inputs.
        reuse: whether the memory of `x` may be that of the result, so that there are no two copies of large data.
    """
    if reuse and x.ndim == 4 and x.dtype == layout_dtype(x.dtype) and x.flags.c_contiguous and x.flags.writeable:
        n, height, width, channels = x.shape
        flat = x.reshape(n, -1)
        for _, part in parts(flat):
            part[:] = part.reshape(-1, height, width, channels).transpose(0, 3, 1, 2).reshape(part.shape)
        return flat.reshape(n, channels, height, width)
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4:
        x = x.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(x, dtype=layout_dtype(x.dtype))


def layout_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """uint8 of uint8, else float32."""
    return np.dtype(np.uint8 if dtype == np.uint8 else np.float32)


def parts(x: Stored) -> Iterator[tuple[int, NDArray[Any]]]:
    """All samples in order, a few at a time: the first one's row, and an array. How many depends on the shape alone."""
    n, step = len(x), max(1, _VALUES // max(1, int(np.prod(x.shape[1:]))))
    if not isinstance(x, OnDisk):
        for start in range(0, n, step):
            yield start, x[start : start + step]
        return
    lists = (np.arange(start, min(start + step, n)) for start in range(0, n, step))
    yield from zip(range(0, n, step), x.in_turn(lists, through=True), strict=True)


# ------------------------------------------------------------------------------------------------ memory maps
class Map:
    """An array in a .npy file, memory-mapped.

    Raises:
        UserError: damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._random: NDArray[Any] | None = None
        array = self._opened()
        self.shape, self.dtype = array.shape, array.dtype

    def read(self, rows: Rows) -> NDArray[Any]:
        """See `Source`."""
        if self._random is None:
            self._random = self._opened(random=True)
        return _taken(self._random, rows)

    def in_turn(self, lists: Iterable[Rows], through: bool = False) -> Iterator[NDArray[Any]]:
        """See `Source`. There are no workers: to hand on what they read would take as long as to read it."""
        for rows in lists:
            # Pages of a map that is closed do not count as this process's.
            yield _taken(self._opened(), rows) if through else self.read(rows)

    def _opened(self, random: bool = False) -> NDArray[Any]:
        try:
            # Copy on write: torch warns of arrays that are read-only.
            array = np.lib.format.open_memmap(self._path, mode="c")
        except (ValueError, EOFError, OSError) as error:
            raise UserError(f"{self._path}: damaged or truncated, not readable as npy ({error}).") from None
        base: Any = array.base
        if sys.platform != "win32" and random and isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
            base.madvise(mmap.MADV_RANDOM)  # no reading ahead: of scattered images it reads fifty times as much
        return np.asarray(array)


def _taken(array: NDArray[Any], rows: Rows) -> NDArray[Any]:
    # `take` is the quicker one, but copies an array of another order as a whole.
    return array.take(rows, 0) if array.flags.c_contiguous else array[rows]


# ------------------------------------------------------------------------------------------------ items
def workers() -> int:
    """`CLBENCH_WORKERS`: processes that read items ahead, >= 0. They change the time that a run takes, and no result.

    Raises:
        UserError: no whole number.
    """
    setting = os.environ.get("CLBENCH_WORKERS") or "0"
    if not setting.isdecimal():
        raise UserError(f"CLBENCH_WORKERS: got '{setting}'. Allowed: a whole number, 0 or more.")
    return int(setting)


class Items:
    """The inputs of a data set's items.

    Args:
        image: item number -> its input, the same each time; mistakes of its code are UserErrors.
        count: number of items, >= 1.
        name: of the data set, for messages.
    """

    def __init__(self, image: Callable[[int], NDArray[Any]], count: int, name: str) -> None:
        first = image(0)
        self.shape, self.dtype = (count, *first.shape), first.dtype
        self._reader = _Reader(image, first.shape, first.dtype, name)
        self._lists = _Lists()
        self._workers = workers()
        # Workers end at once where the loader ends before its queues: not by the garbage collector, which ends all of
        # a cycle's parts in any order.
        self._loader: list[Any] = []
        weakref.finalize(self, self._loader.clear)

    def read(self, rows: Rows) -> NDArray[Any]:
        """See `Source`."""
        return self._reader(rows)

    def in_turn(self, lists: Iterable[Rows], through: bool = False) -> Iterator[NDArray[Any]]:
        """See `Source`. Of several simultaneous iterations only the last continues."""
        if not self._workers:
            yield from map(self.read, lists)
            return
        import torch
        from torch.utils.data import DataLoader

        if not self._loader:
            # A generator of its own: a loader would draw a seed from the global one at every pass.
            self._loader.append(DataLoader(
                cast(Any, self._reader), batch_size=None, sampler=self._lists, num_workers=self._workers,
                persistent_workers=True, generator=torch.Generator(),
            ))  # fmt: skip
        self._lists.now = lists
        for batch in self._loader[0]:
            if isinstance(batch, list):
                raise UserError(*batch)
            yield batch.numpy()


class _Lists:
    """The rows of each batch of the pass that begins."""

    now: Iterable[Rows] = ()

    def __iter__(self) -> Iterator[Rows]:
        return iter(self.now)


@dataclass(frozen=True)
class _Reader:
    """Reader of items, shared by this process and workers."""

    image: Callable[[int], NDArray[Any]]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    name: str

    def __call__(self, rows: Rows) -> NDArray[Any]:
        """Items, (n, ...). What they draw from global generators leaves no trace."""
        out = np.empty((len(rows), *self.shape), self.dtype)
        with fenced():
            Chance(0).seed_globals("stream")  # so that workers draw what this process would
            for place, i in enumerate(rows.tolist()):
                image = self.image(i)
                if (image.shape, image.dtype) != (self.shape, self.dtype):
                    raise UserError(
                        f"data set '{self.name}': item 0 is {self.dtype} of shape {self.shape}, item {i} "
                        f"{image.dtype} of shape {image.shape}; all must be alike."
                    )
                out[place] = image
        return out

    def __getitem__(self, rows: Rows) -> Any:
        """For a loader: a tensor, or the problems in words, which unlike errors arrive without a traceback."""
        import torch

        try:
            return torch.from_numpy(self(rows))
        except UserError as error:
            return list(error.problems)
