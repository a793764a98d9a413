"""The test inputs in the order of the cells: ready in memory, or made from the stored samples at each use."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from clbench.evaluation.cells import Cells
from clbench.malloc import give_back
from clbench.stream import Stream
from clbench.training.inputs import InputTransform, StoredInputs

READY_BYTES = 512 << 20
"""Largest size of inputs that are kept ready, where the stored samples are in memory. Several domains of one test set
are larger than what they are made of: a permutation of MNIST takes 31 MB, its images 8."""

READ_BYTES = 2 << 30
"""The same where samples are read from the disk."""

_AT_ONCE = 500
"""Inputs that are made together; all at once would take their size several times over."""

_FEW = 64
"""Samples of a task below which those of several tasks are made together, each through its own transform."""


class TestInputs:
    """Test inputs, float32 (N, ...), by their positions.

    Args:
        ready: all of them; None where they are made.
        make: positions, int64 (n,), ascending, and the task of all or of each -> the inputs.
        start: first position of each task, with the end appended, (T + 1,).
        device: where positions are looked up.
    """

    __test__ = False  # not one of pytest's classes

    def __init__(
        self,
        ready: Tensor | None,
        make: Callable[[Tensor, Tensor | int], Tensor] | None = None,
        start: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None,
        device: torch.device | None = None,
    ) -> None:
        assert ready is not None or (make is not None and start is not None)
        self.ready, self._make = ready, make
        self._start = [] if start is None else start.tolist()
        self._device = device

    @classmethod
    def of_stream(cls, stream: Stream, cells: Cells, transform: InputTransform, device: torch.device) -> TestInputs:
        """The inputs of a stream's test samples."""
        stored = StoredInputs(stream.data.test_x, device)
        row = torch.from_numpy(cells.rows).to(device)
        start = cells.start
        shape = stream.data.test_x.shape[1:]
        most = READY_BYTES if isinstance(stream.data.test_x, np.ndarray) else READ_BYTES
        if len(row) * int(np.prod(shape)) * 4 > most:

            def make(positions: Tensor, task: Tensor | int) -> Tensor:
                rows = row[positions]
                return transform(stored(rows), task, rows, "test")

            return cls(None, make, start, device)
        ready = torch.empty((len(row), *shape), device=device)
        bounds = [
            (a, min(a + _AT_ONCE, end))
            for begin, end in itertools.pairwise(start.tolist())
            for a in range(begin, end, _AT_ONCE)
        ]
        tasks = np.searchsorted(start, [a for a, _ in bounds], side="right") - 1
        for (a, b), t, samples in zip(bounds, tasks.tolist(), stored.in_turn(row, bounds), strict=True):
            ready[a:b] = transform(samples, t, row[a:b], "test")
        return cls(ready)

    def __len__(self) -> int:
        return len(self.ready) if self.ready is not None else self._start[-1]

    @property
    def on_cpu(self) -> bool:
        """Whether they are in the host's memory."""
        device = self._device if self.ready is None else self.ready.device
        return device is None or device.type == "cpu"

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return 0 if self.ready is None else self.ready.nbytes

    def between(self, a: int, b: int) -> Tensor:
        """The inputs a..b."""
        if self.ready is not None:
            return self.ready[a:b]
        return self.at(torch.arange(a, b, device=self._device), (a, b))

    def at(self, positions: Tensor, within: tuple[int, int] | None = None) -> Tensor:
        """The inputs at some positions.

        Args:
            positions: int64 (n,), ascending, some perhaps more than once.
            within: first and one past the last of them, where they follow each other without a gap.
        """
        if self.ready is not None:
            return self.ready.index_select(0, positions)
        assert self._make is not None
        bounds = self._start
        if within is None:
            places = torch.searchsorted(positions, torch.tensor(bounds, device=positions.device)).tolist()
        else:
            places = [min(max(s, within[0]), within[1]) - within[0] for s in bounds]
        parts = [(t, a, b) for t, (a, b) in enumerate(itertools.pairwise(places)) if a < b]
        if len(parts) * _FEW > len(positions):
            tasks = torch.cat([torch.full((b - a,), t, device=positions.device) for t, a, b in parts])
            return self._make(positions, tasks)
        made = [self._make(positions[a:b], t) for t, a, b in parts]
        give_back()  # a pass over 200,000 of them left up to 2 GiB of free pieces
        return torch.cat(made) if len(made) > 1 else made[0]


def pieces_of(n: int, parts: int) -> list[tuple[int, int]]:
    """First and one past the last of n samples cut into parts, the sizes of which differ by one at most.

    >>> pieces_of(10, 3)
    [(0, 4), (4, 7), (7, 10)]
    """
    ends = np.cumsum([0, *(n // parts + (i < n % parts) for i in range(parts))]).tolist()
    return list(itertools.pairwise(ends))
