"""Active logits of a prediction in each view, the predicted output, and scores that predict nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from clbench.evaluation.cells import Cells


class Competition:
    """Predictions among the active logits.

    Args:
        cells: their targets and their order by task.
        views: names of views, `class`, `task` or `domain`.
        device: where scores are.
    """

    def __init__(self, cells: Cells, views: Sequence[str], device: torch.device) -> None:
        self._views, self._start, self._device = views, cells.start, device
        self.task_outputs = [tuple(sorted(set(cells.target[cells.task == t].tolist()))) for t in range(cells.tasks)]
        """Output units of each task, ascending."""
        self._all = tuple(range(cells.outputs))
        self._seen: tuple[frozenset[int], tuple[int, ...]] = frozenset(), ()
        self._index: dict[tuple[int, ...], Tensor] = {}

    def best(self, scores: Tensor, view: str, tasks: list[int], offset: int, seen: frozenset[int]) -> Tensor:
        """The predicted output of each sample, (N,), among the active logits of the view."""
        best = []
        for a, b, outputs in self._blocks(scores.shape[1], view, tasks, offset, seen):
            if outputs is None:
                best.append(scores[a:b].argmax(1))
            else:
                best.append(outputs[scores[a:b].index_select(1, outputs).argmax(1)])
        return torch.cat(best) if len(best) > 1 else best[0]

    def margin(self, scores: Tensor, tasks: list[int], offset: int, seen: frozenset[int]) -> Tensor:
        """Best score minus second best among the active logits, the smallest over the views, (N,)."""
        smallest: Tensor | None = None
        for view in self._views:
            margins = []
            for a, b, outputs in self._blocks(scores.shape[1], view, tasks, offset, seen):
                block = scores[a:b] if outputs is None else scores[a:b].index_select(1, outputs)
                if block.shape[1] < 2:
                    margins.append(block.new_full((len(block),), float("inf")))
                else:
                    top = block.topk(2, 1).values
                    margins.append(top[:, 0] - top[:, 1])
            margin = torch.cat(margins) if len(margins) > 1 else margins[0]
            smallest = margin if smallest is None else torch.minimum(smallest, margin)
        assert smallest is not None
        return smallest

    def _blocks(
        self, columns: int, view: str, tasks: list[int], offset: int, seen: frozenset[int]
    ) -> Iterator[tuple[int, int, Tensor | None]]:
        """Neighbouring tasks with the same active logits: first sample, one past the last, outputs (None: all)."""
        allowed = [self.allowed(view, t, seen) for t in tasks]
        i = 0
        while i < len(tasks):
            j = i + 1
            while j < len(tasks) and (allowed[j] is allowed[i] or allowed[j] == allowed[i]):
                j += 1
            a, b = int(self._start[tasks[i]]) - offset, int(self._start[tasks[j - 1] + 1]) - offset
            yield a, b, None if len(allowed[i]) == columns else self._on_device(allowed[i])
            i = j

    def allowed(self, view: str, task: int, seen: frozenset[int]) -> tuple[int, ...]:
        """Active logits of a task, ascending."""
        if view == "domain":
            return self._all
        outputs = self.task_outputs[task]
        if view == "task":
            return outputs
        if seen != self._seen[0]:
            self._seen = seen, tuple(sorted(seen))
        return self._seen[1] if seen.issuperset(outputs) else tuple(sorted(seen.union(outputs)))

    def _on_device(self, outputs: tuple[int, ...]) -> Tensor:
        """Output units as a tensor, copied to the device once: a copy at every evaluation would make a GPU wait."""
        if outputs not in self._index:
            if len(self._index) > 4 * len(self.task_outputs):  # active logits of earlier experiences
                self._index.clear()
            self._index[outputs] = torch.tensor(outputs, device=self._device)
        return self._index[outputs]


def overflowed(scores: Tensor) -> Tensor:
    """True if a score is NaN or infinite, bool ().

    Which of the two an overflow ends in depends on the order in which a processor adds. -inf is a masked output.
    """
    return ~(scores.amax() < math.inf) if scores.numel() else scores.new_zeros((), dtype=torch.bool)
