"""Active logits of a prediction in each view, the predicted output, and whether it is right, by how much."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clbench.config.evaluation import Evaluation as EvaluationConfig
from clbench.evaluation.cells import Cells


@dataclass
class Judged:
    """Verdict on some samples.

    Attributes:
        right: per view, bool (V, n): whether the predicted output is the target.
        lead: per view, float32 (V, n): score of the target minus the best other active score; positive where it is
            right, negative where it is wrong. None where only `right` was asked for.
        broken: whether a score is NaN or infinite, bool ().
        width: outputs that the scores had; a head that grows has none yet for classes to come.
        exact: whether the leads are those of float32, bool (n,).
    """

    right: Tensor
    lead: Tensor | None
    broken: Tensor
    width: int
    exact: Tensor | None = None


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
        self._apart = cells.own_outputs
        self._seen: tuple[frozenset[int], tuple[int, ...]] = frozenset(), ()
        self._index: dict[tuple[int, ...], Tensor] = {}

    def judge(
        self,
        scores: Tensor,
        targets: Tensor,
        tasks: list[int],
        seen: frozenset[int],
        rows: Tensor | int,
        leads: bool,
    ) -> Judged:
        """Whether the predictions are right, among the active logits of every view.

        Args:
            scores: (n, outputs so far).
            targets: output unit of each sample, int64 (n,).
            tasks: those that they are of, ascending; further ones do no harm.
            seen: output units of the tasks seen so far.
            rows: position of each sample among all, int64 (n,), ascending; or of the first of consecutive ones.
            leads: whether the leads are wanted. Computing them tells right from wrong without the predicted output,
                except at ties, for which a GPU would have to wait.
        """
        broken, width = overflowed(scores), scores.shape[1]
        if width < len(self._all):
            scores = torch.nn.functional.pad(scores, (0, len(self._all) - width), value=float("-inf"))
        if not leads:
            right = torch.stack([self.best(scores, view, tasks, seen, rows) == targets for view in self._views])
            return Judged(right, None, broken, width)
        column = targets.unsqueeze(1)
        mine = scores.gather(1, column).squeeze(1)
        others = scores.scatter(1, column, float("-inf"))
        lead = torch.stack([mine - self._over(others, view, tasks, seen, rows) for view in self._views])
        right = lead > 0
        doubtful = ~(lead.abs() > 0)  # a tie, which the first output wins; or NaN
        if bool(doubtful.any()):
            for v, view in enumerate(self._views):
                right[v] = torch.where(doubtful[v], self.best(scores, view, tasks, seen, rows) == targets, right[v])
        return Judged(right, lead, broken, width)

    def _over(self, others: Tensor, view: str, tasks: list[int], seen: frozenset[int], rows: Tensor | int) -> Tensor:
        """The best score among the active logits, (n,)."""
        best = []
        for a, b, outputs in self._blocks(others, view, tasks, seen, rows):
            best.append((others[a:b] if outputs is None else others[a:b].index_select(1, outputs)).amax(1))
        return torch.cat(best) if len(best) > 1 else best[0]

    def best(self, scores: Tensor, view: str, tasks: list[int], seen: frozenset[int], rows: Tensor | int) -> Tensor:
        """The predicted output of each sample, (n,), among the active logits of the view."""
        best = []
        for a, b, outputs in self._blocks(scores, view, tasks, seen, rows):
            if outputs is None:
                best.append(scores[a:b].argmax(1))
            else:
                best.append(outputs[scores[a:b].index_select(1, outputs).argmax(1)])
        return torch.cat(best) if len(best) > 1 else best[0]

    def log_loss(
        self, scores: Tensor, targets: Tensor, view: str, tasks: list[int], seen: frozenset[int], first: int
    ) -> Tensor:
        """-log of the softmax probability of each target among the active logits of the view, (n,).

        Args:
            scores: of consecutive samples, (n, outputs).
            targets, view, tasks, seen: as for `judge`.
            first: position of the first sample among all.
        """
        out = []
        for a, b, outputs in self._blocks(scores, view, tasks, seen, first):
            active = scores[a:b] if outputs is None else scores[a:b].index_select(1, outputs)
            mine = scores[a:b].gather(1, targets[a:b].unsqueeze(1)).squeeze(1)
            out.append(active.logsumexp(1) - mine)
        return torch.cat(out)

    def _blocks(
        self, scores: Tensor, view: str, tasks: list[int], seen: frozenset[int], rows: Tensor | int
    ) -> Iterator[tuple[int, int, Tensor | None]]:
        """Neighbouring tasks with the same active logits: first sample, one past the last, outputs (None: all)."""
        allowed = [self.allowed(view, t, seen) for t in tasks]
        i = 0
        while i < len(tasks):
            j = i + 1
            while j < len(tasks) and (allowed[j] is allowed[i] or allowed[j] == allowed[i]):
                j += 1
            if i == 0 and j == len(tasks):
                a, b = 0, len(scores)
            elif isinstance(rows, int):
                a = max(0, int(self._start[tasks[i]]) - rows)
                b = min(len(scores), int(self._start[tasks[j - 1] + 1]) - rows)
            else:
                bounds = [int(self._start[tasks[i]]), int(self._start[tasks[j - 1] + 1])]
                a, b = torch.searchsorted(rows, torch.tensor(bounds, device=rows.device)).tolist()
            if a < b or len(tasks) == j - i:
                yield a, b, None if len(allowed[i]) == scores.shape[1] else self._on_device(allowed[i])
            i = j

    def allowed(self, view: str, task: int, seen: frozenset[int]) -> tuple[int, ...]:
        """Active logits of a task, ascending."""
        outputs = self.task_outputs[task]
        if view == "task" or self._apart:
            return outputs
        if view == "domain":
            return self._all
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


def views_of(setting: str, evaluation: EvaluationConfig) -> tuple[str, ...]:
    """The recorded views, the stream's first; by default the task view beside the class view.

    >>> views_of("class", EvaluationConfig()), views_of("domain", EvaluationConfig())
    (('class', 'task'), ('domain',))
    """
    if evaluation.views is None:
        return ("class", "task") if setting == "class" else (setting,)
    return (setting, *(v for v in evaluation.views if v != setting))
