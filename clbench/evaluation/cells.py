"""Layout of the evaluation: test samples in order of task, then class, and their cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clbench.apportion import apportion
from clbench.rng import Generator
from clbench.stream import Stream


@dataclass(frozen=True)
class Cells:
    """Test samples in order of task, then class, and their cells.

    Attributes:
        domain, label: of a cell, one class in one domain, int32 (K,).
        size: evaluated test samples of each cell, int32 (K,).
        population: test samples of each cell in the data set, int32 (K,).
        task: the task that a cell belongs to, int64 (K,), ascending.
        target: output unit of each cell, int64 (K,).
        outputs: number of output units.
        rows: row of each evaluated sample among the test samples, int64 (N,), in the order of the cells.
    """

    domain: NDArray[np.int32]
    label: NDArray[np.int32]
    size: NDArray[np.int32]
    population: NDArray[np.int32]
    task: NDArray[np.int64]
    target: NDArray[np.int64]
    outputs: int
    rows: NDArray[np.int64]
    own_outputs: bool = False

    @property
    def tasks(self) -> int:
        """Number of tasks, T."""
        return int(self.task.max()) + 1

    @property
    def membership(self) -> NDArray[np.bool_]:
        """Cells of each task, a mask (T, K)."""
        return np.equal.outer(np.arange(self.tasks), self.task)

    @property
    def start(self) -> NDArray[np.int64]:
        """First sample of each task, with the end appended, (T + 1,)."""
        sizes = np.bincount(self.task, weights=self.size, minlength=self.tasks).astype(np.int64)
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])

    def span(self, tasks: list[int]) -> tuple[int, int]:
        """First and one past the last cell of consecutive tasks."""
        return int(np.searchsorted(self.task, tasks[0])), int(np.searchsorted(self.task, tasks[-1], side="right"))


def lay_out_cells(stream: Stream, subset: int | None = None, seed: int = 0) -> Cells:
    """One cell for each class of each task. A class with no test sample is a cell of size 0.

    Args:
        stream: its tasks and its test set.
        subset: number of test samples of each task, stratified by class; default, or if not fewer than there are: all.
        seed: seed "stream"; draws the subset, once for the whole run.
    """
    members = [(t, c, target) for t in stream.tasks for c, target in zip(t.classes, t.targets, strict=True)]
    rows = [mine for of_task in stream.test_rows for mine in of_task]
    population = np.array([len(mine) for mine in rows], np.int32)
    task = np.array([t.id for t, _, _ in members], np.int64)
    if subset is not None:
        for t in range(int(task.max()) + 1):
            generator = Generator(seed, "stream", "test subset", t)
            cells = np.flatnonzero(task == t)
            sizes = population[cells].tolist()
            for k, share in zip(cells.tolist(), apportion(min(subset, sum(sizes)), sizes, sizes), strict=True):
                rows[k] = np.sort(rows[k][generator.permutation(len(rows[k]))[:share]])
    return Cells(
        domain=np.array([t.domain for t, _, _ in members], np.int32),
        label=np.array([c for _, c, _ in members], np.int32),
        size=np.array([len(r) for r in rows], np.int32),
        population=population,
        task=task,
        target=np.array([target for _, _, target in members], np.int64),
        outputs=stream.outputs,
        own_outputs=stream.own_outputs,
        rows=np.concatenate(rows).astype(np.int64),
    )
