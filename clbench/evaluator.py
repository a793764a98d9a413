"""The evaluator: watches a strategy at any iteration and changes nothing.

It asks `Strategy.predict` with a *twin* of the model: the same parameter tensors under copies of the modules, in
evaluation mode, with buffers of its own. Module modes, batch-norm statistics and gradients of the trained model are
never touched, so nothing has to be put back; what a prediction draws from global generators is fenced.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clbench.chance import fenced
from clbench.store import InputTransform
from clbench.stream import Stream
from clbench.trace import NOT_EVALUATED, UNAVAILABLE

_CACHE_BYTES = 2 << 30
"""Transformed test inputs kept ready; beyond it, inputs are transformed anew at each evaluation."""


class Predictor(Protocol):
    """What the evaluator needs of a strategy."""

    @property
    def model(self) -> nn.Module: ...

    def predict(self, model: nn.Module, x: Tensor, task: Tensor | None) -> Tensor | None: ...


class Twin:
    """A model in evaluation mode that shares the parameters of another and nothing else.

    The structure is copied again when the other's parameters or buffers are other tensors than before, and at
    `renew`. Plain attributes of modules that hold numbers or flags follow at every call; those that hold containers
    follow at `renew`. Forward hooks are shared: they fire during evaluation, as they do in any evaluation.
    """

    def __init__(self) -> None:
        self._source: nn.Module | None = None
        self._twin: nn.Module | None = None
        self._tensors: list[Tensor | None] = []
        self._pairs: list[tuple[nn.Module, nn.Module]] = []
        self._from: list[Tensor] = []
        self._to: list[Tensor] = []

    def renew(self) -> None:
        """Forces a new copy of the structure at the next call."""
        self._source = None

    def of(self, model: nn.Module) -> nn.Module:
        """The twin of a model, with the model's present parameters and buffers."""
        tensors = [t for m in model.modules() for d in (m._parameters, m._buffers) for t in d.values()]
        same = model is self._source and len(tensors) == len(self._tensors)
        if not same or any(a is not b for a, b in zip(tensors, self._tensors, strict=True)):
            self._copy(model, tensors)
        else:
            for source, twin in self._pairs:
                for name, value in source.__dict__.items():
                    if name != "training" and isinstance(value, (bool, int, float, str, type(None))):
                        twin.__dict__[name] = value
            if self._from:
                torch._foreach_copy_(self._to, self._from)
        assert self._twin is not None
        return self._twin

    def _copy(self, model: nn.Module, tensors: list[Tensor | None]) -> None:
        memo: dict[int, Any] = {id(p): p for p in model.parameters()}
        with torch.no_grad():
            twin = copy.deepcopy(model, memo)
        twin.eval()
        self._source, self._twin, self._tensors = model, twin, tensors
        self._pairs = list(zip(model.modules(), twin.modules(), strict=True))
        self._from = [b for m, _ in self._pairs for b in m._buffers.values() if b is not None]
        self._to = [b for _, m in self._pairs for b in m._buffers.values() if b is not None]


@dataclass(frozen=True)
class Cells:
    """The cells of a stream, in the order in which test samples are kept: by task, then by class.

    Attributes:
        domain, label, size: of each cell, int32 (K,).
        task: the task that a cell belongs to, int64 (K,).
        rows: rows of the test set, sorted by cell, int64 (N,).
        start: first sample of each task in `rows`, with the end appended, int64 (T + 1,).
    """

    domain: NDArray[np.int32]
    label: NDArray[np.int32]
    size: NDArray[np.int32]
    task: NDArray[np.int64]
    rows: NDArray[np.int64]
    start: NDArray[np.int64]

    @property
    def membership(self) -> NDArray[np.bool_]:
        """Which cells make up a task, (T, K)."""
        return np.arange(len(self.start) - 1)[:, None] == self.task[None, :]


def lay_out_cells(stream: Stream) -> Cells:
    """One cell for each class of each task; a class with no test sample is a cell of size 0."""
    of_class = [np.flatnonzero(stream.data.test_y == c) for c in range(stream.data.classes)]
    domain, label, task, rows, start = [], [], [], [], [0]
    for t in stream.tasks:
        for c in t.classes:
            domain.append(t.domain)
            label.append(c)
            task.append(t.id)
            rows.append(of_class[c])
        start.append(start[-1] + sum(len(of_class[c]) for c in t.classes))
    return Cells(
        domain=np.array(domain, np.int32),
        label=np.array(label, np.int32),
        size=np.array([len(r) for r in rows], np.int32),
        task=np.array(task, np.int64),
        rows=np.concatenate(rows).astype(np.int64),
        start=np.array(start, np.int64),
    )


class Evaluator:
    """Counts correct predictions per view and cell.

    Args:
        stream: tasks, and which outputs are theirs.
        transform: stored samples to inputs.
        device: where the model is.
        batch_size: samples per forward pass.
        tell_task: whether `predict` is given the task of each sample.

    Views: `class` lets all seen classes compete (and, for a task not yet seen, that task's own beside them); `task`
    lets the task's own compete; `domain` lets all outputs compete.
    """

    def __init__(
        self, stream: Stream, transform: InputTransform, device: torch.device, batch_size: int, tell_task: bool
    ) -> None:
        self.cells = lay_out_cells(stream)
        self.views = (stream.setting,)
        self._device = device
        self._batch_size = batch_size
        self._tell_task = tell_task
        self._transform = transform
        self._outputs = stream.outputs
        self._task_outputs = [sorted(set(t.targets)) for t in stream.tasks]
        stored = torch.from_numpy(stream.data.test_x)
        self._stored = stored.to(device)
        self._rows = torch.from_numpy(self.cells.rows).to(device)
        labels = stream.data.test_y[self.cells.rows]
        spans = list(zip(self.cells.start[:-1].tolist(), self.cells.start[1:].tolist(), strict=True))
        targets = [stream.targets(labels[a:b], t) for t, (a, b) in enumerate(spans)]
        self._targets = torch.from_numpy(np.concatenate(targets)).to(device)
        self._task = torch.from_numpy(np.repeat(np.arange(len(spans)), np.diff(self.cells.start))).to(device)
        self._cell = torch.from_numpy(np.repeat(np.arange(len(self.cells.size)), self.cells.size)).to(device)
        self._twin = Twin()
        self._ready: Tensor | None = None
        if len(labels) * stored[0].numel() * 4 <= _CACHE_BYTES:
            pieces = [transform(self._stored.index_select(0, self._rows[a:b]), t) for t, (a, b) in enumerate(spans)]
            self._ready = torch.cat(pieces)

    def renew(self) -> None:
        """To be called where a model's plain containers may have changed: around experiences."""
        self._twin.renew()

    def evaluate(self, strategy: Predictor, scope: Iterable[int], seen: Iterable[int]) -> dict[str, Tensor]:
        """Counts of correct predictions.

        Args:
            strategy: is asked to predict; its model and its chance are left as they are.
            scope: tasks to evaluate.
            seen: tasks that the learner has met, the current ones included.

        Returns:
            per view, int32 (K,) on the device: the count, NOT_EVALUATED, or UNAVAILABLE. On a GPU nothing waits.
        """
        counts = {v: torch.full((len(self.cells.size),), NOT_EVALUATED, dtype=torch.int32, device=self._device) for v in self.views}
        seen_outputs = sorted({o for t in seen for o in self._task_outputs[t]})
        with torch.inference_mode(), fenced(cuda=self._device.type == "cuda"):
            twin = self._twin.of(strategy.model)
            for tasks in _runs(sorted(scope)):
                a, b = int(self.cells.start[tasks[0]]), int(self.cells.start[tasks[-1] + 1])
                scores = self._predict(strategy, twin, a, b)
                cells = self._cell[a:b]
                first, last = _span(self.cells.task, tasks)
                for view, into in counts.items():
                    if scores is None:
                        into[first:last] = UNAVAILABLE
                        continue
                    right = self._best(scores, view, tasks, a, set(seen_outputs)) == self._targets[a:b]
                    into[first:last] = 0
                    into.index_add_(0, cells, right.to(torch.int32))
        return counts

    def _predict(self, strategy: Predictor, twin: nn.Module, a: int, b: int) -> Tensor | None:
        """Scores of the samples a..b, (b - a, outputs)."""
        parts = []
        for start in range(a, b, self._batch_size):
            end = min(start + self._batch_size, b)
            if self._ready is not None:
                x = self._ready[start:end]
            else:
                x = self._transform(self._stored.index_select(0, self._rows[start:end]), self._task[start:end])
            scores = strategy.predict(twin, x, self._task[start:end] if self._tell_task else None)
            if scores is None:
                return None
            if scores.ndim != 2 or len(scores) != end - start:
                raise ValueError(f"predict returned the shape {tuple(scores.shape)} for {end - start} samples")
            parts.append(scores)
        if not parts:
            return torch.zeros((0, self._outputs), device=self._device)
        scores = torch.cat(parts) if len(parts) > 1 else parts[0]
        missing = self._outputs - scores.shape[1]  # a head that grows has no score yet for classes to come
        return nn.functional.pad(scores, (0, missing), value=float("-inf")) if missing > 0 else scores

    def _best(self, scores: Tensor, view: str, tasks: list[int], offset: int, seen: set[int]) -> Tensor:
        """The predicted output of each sample, (N,), among the outputs that the view lets compete."""
        allowed = [self._competitors(view, t, seen) for t in tasks]
        if all(len(o) == scores.shape[1] for o in allowed):
            return scores.argmax(1)
        best = torch.empty(len(scores), dtype=torch.int64, device=self._device)
        i = 0
        while i < len(tasks):  # neighbouring tasks with the same competitors are one block
            j = i + 1
            while j < len(tasks) and allowed[j] == allowed[i]:
                j += 1
            a, b = int(self.cells.start[tasks[i]]) - offset, int(self.cells.start[tasks[j - 1] + 1]) - offset
            outputs = torch.tensor(allowed[i], device=self._device)
            best[a:b] = outputs[scores[a:b].index_select(1, outputs).argmax(1)]
            i = j
        return best

    def _competitors(self, view: str, task: int, seen: set[int]) -> list[int]:
        if view == "domain":
            return list(range(self._outputs))
        own = self._task_outputs[task]
        return sorted(seen.union(own)) if view == "class" else own


def _runs(tasks: list[int]) -> Iterable[list[int]]:
    """Consecutive numbers together: [0, 1, 2, 5] gives [0, 1, 2] and [5]."""
    run: list[int] = []
    for t in tasks:
        if run and t != run[-1] + 1:
            yield run
            run = []
        run.append(t)
    if run:
        yield run


def _span(task_of_cell: NDArray[np.int64], tasks: list[int]) -> tuple[int, int]:
    """First and one past the last cell of consecutive tasks."""
    return int(np.searchsorted(task_of_cell, tasks[0])), int(np.searchsorted(task_of_cell, tasks[-1], side="right"))
