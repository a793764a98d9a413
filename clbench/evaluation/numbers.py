"""Measures that are numbers: a value of each test sample, and its sum over each cell.

Scores are computed in passes of a fixed number of samples at fixed places of the test set, so that a value depends
neither on the largest size of a pass (`evaluation.batch_size`) nor on which tasks are evaluated: matrix products of
other sizes add in other orders. Values are float64 made of float32 scores, rounded to float32, and a sum over them is
rounded once (`clbench.summation`), so that it depends on no order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from clbench import measures
from clbench.evaluation.cells import Cells
from clbench.evaluation.competition import Competition, overflowed
from clbench.summation import total
from clbench.trace import BROKEN_SUM

BLOCK = 256
"""Samples of a pass; the last one is filled up."""


class Numbers:
    """Values of measures for test samples.

    Args:
        names: of the measures.
        cells: the test samples.
        targets: numbers to predict, float32 (N, D), of a regression; else the output unit of each sample, int64 (N,).
        views: of the evaluator, without names of averages.
        competition: tells the active logits.
        keep: whether the value of each sample is recorded beside the sums.
    """

    def __init__(
        self,
        names: Sequence[str],
        cells: Cells,
        targets: Tensor,
        views: Sequence[str],
        competition: Competition,
        keep: bool,
    ) -> None:
        self.names, self._cells, self._targets, self._views = names, cells, targets, views
        self._competition, self._keep = competition, keep
        self._bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(cells.size, dtype=np.int64)]).tolist()

    def measure(
        self,
        suffix: str,
        runs: list[list[int]],
        seen: frozenset[int],
        scores: Callable[[int, int], Tensor | None],
        sums: dict[str, Tensor],
        values: dict[str, Tensor],
    ) -> None:
        """Fills in the sums (K,) and the values (N,) of one model, on the host.

        Args:
            suffix: of the model's views.
            runs: consecutive tasks to evaluate.
            seen: output units of the tasks seen so far.
            scores: first sample and one past the last of consecutive tasks -> scores in float32, (n, outputs); None
                where there is no prediction for some of them.
            sums, values: filled in, by `clbench.measures.named`.
        """
        of = {(view, name): measures.named(view + suffix, name) for view in self._views for name in self.names}
        for record in of.values():
            sums[record] = torch.full((len(self._cells.size),), float("nan"), dtype=torch.float64)
            if self._keep:
                values[record] = torch.full((len(self._targets),), float("nan"))
        runs = list(runs)
        for tasks in runs:
            start = self._cells.start
            a, b = int(start[tasks[0]]), int(start[tasks[-1] + 1])
            got = scores(a, b)
            if got is None and len(tasks) > 1:
                runs += [[t] for t in tasks]
            if got is None:
                continue
            for (view, name), record in of.items():
                self._fill(tasks, a, b, self._values(name, got, view, tasks, seen, a, b), sums[record], values, record)
            if bool(overflowed(got)):
                first, last = self._cells.span(tasks)
                for record in of.values():
                    sums[record][first:last] = BROKEN_SUM

    def _fill(
        self, tasks: list[int], a: int, b: int, numbers: Tensor, sums: Tensor, values: dict[str, Tensor], record: str
    ) -> None:
        rounded = numbers.to(torch.float32).cpu()
        first, last = self._cells.span(tasks)
        plain = rounded.tolist()
        for cell in range(first, last):
            sums[cell] = total(plain[self._bounds[cell] - a : self._bounds[cell + 1] - a])
        if self._keep:
            values[record][a:b] = rounded

    def _values(
        self, name: str, scores: Tensor, view: str, tasks: list[int], seen: frozenset[int], a: int, b: int
    ) -> Tensor:
        """The measure of each sample, float64 (n,)."""
        target = self._targets[a:b]
        if name == "log_loss":
            missing = self._cells.outputs - scores.shape[1]
            scores = torch.nn.functional.pad(scores, (0, missing), value=float("-inf")) if missing > 0 else scores
            return self._competition.log_loss(scores.double(), target, view, tasks, seen, a)
        if scores.shape != target.shape:
            raise ValueError(f"predict returned the shape {tuple(scores.shape)} for targets of {tuple(target.shape)}")
        error = scores.double() - target.double()
        return (error.abs() if name == "absolute_error" else error.square()).mean(1)


def blocks(a: int, b: int) -> list[tuple[int, int]]:
    """First and one past the last sample of the passes that hold the samples a..b.

    >>> blocks(200, 300)
    [(0, 256), (256, 512)]
    """
    return [(k * BLOCK, (k + 1) * BLOCK) for k in range(a // BLOCK, -(-b // BLOCK))]
