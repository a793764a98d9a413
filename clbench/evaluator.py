"""The evaluator: watches a strategy at any iteration and changes nothing.

It asks `Strategy.predict` with a *twin* of the model: the same parameter tensors under copies of the modules, in
evaluation mode, with buffers of its own. Module modes, batch-norm statistics and gradients of the trained model are
never touched, so nothing has to be put back; what a prediction draws from global generators is fenced.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clbench.chance import fenced
from clbench.errors import RunFailed
from clbench.store import InputTransform
from clbench.stream import Stream
from clbench.trace import NAN_SCORES, NOT_EVALUATED, UNAVAILABLE

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
    `renew`. Plain attributes of modules that hold numbers, flags or tensors follow at every call; those that hold
    containers follow at `renew`.

    A module with forward hooks cannot be copied faithfully (a hook may write to the object that made it), so such a
    model is looked at itself, and its modules' attributes and buffers are put back afterwards.
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

    @contextmanager
    def of(self, model: nn.Module) -> Iterator[nn.Module]:
        """The model to predict with, for as long as the context lasts."""
        if any(m._forward_hooks or m._forward_pre_hooks for m in model.modules()):
            with _put_back(model):
                yield model
            return
        tensors = [t for m in model.modules() for d in (m._parameters, m._buffers) for t in d.values()]
        same = model is self._source and len(tensors) == len(self._tensors)
        if not same or any(a is not b for a, b in zip(tensors, self._tensors, strict=True)):
            self._copy(model, tensors)
        else:
            for source, twin in self._pairs:
                for name, value in source.__dict__.items():
                    if name != "training" and isinstance(value, (bool, int, float, str, type(None), Tensor)):
                        twin.__dict__[name] = value
            if self._from:
                torch._foreach_copy_(self._to, self._from)
        assert self._twin is not None
        yield self._twin

    def _copy(self, model: nn.Module, tensors: list[Tensor | None]) -> None:
        memo: dict[int, Any] = {id(p): p for p in model.parameters()}
        for value in (v for m in model.modules() for v in vars(m).values()):
            if isinstance(value, Tensor) and not value.is_leaf:  # kept from a forward pass; cannot be copied
                memo[id(value)] = value.detach()
        twin = copy.deepcopy(model, memo)
        twin.eval()
        self._source, self._twin, self._tensors = model, twin, tensors
        self._pairs = list(zip(model.modules(), twin.modules(), strict=True))
        self._from = [b for m, _ in self._pairs for b in m._buffers.values() if b is not None]
        self._to = [b for _, m in self._pairs for b in m._buffers.values() if b is not None]


@contextmanager
def _put_back(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; modes, attributes and buffers as before outside, also those of modules the user froze."""
    attributes = [(m, dict(m.__dict__)) for m in model.modules()]
    held = [(m, name, b) for m in model.modules() for name, b in m._buffers.items()]
    values = [None if b is None else b.clone() for _, _, b in held]
    try:
        model.eval()
        yield
    finally:
        for module, before in attributes:
            module.__dict__.clear()
            module.__dict__.update(before)
        for (module, name, tensor), value in zip(held, values, strict=True):
            if tensor is not None and value is not None:
                tensor.copy_(value)
            module._buffers[name] = tensor


@dataclass(frozen=True)
class Cells:
    """What is evaluated: test samples in order of task, then class, and the cells that they make up.

    Attributes:
        domain, label, size: of each cell, int32 (K,).
        task: the task that a cell belongs to, int64 (K,), ascending.
        target: output unit of each cell, int64 (K,).
        outputs: number of output units.
    """

    domain: NDArray[np.int32]
    label: NDArray[np.int32]
    size: NDArray[np.int32]
    task: NDArray[np.int64]
    target: NDArray[np.int64]
    outputs: int

    @property
    def tasks(self) -> int:
        """Number of tasks, T."""
        return int(self.task.max()) + 1

    @property
    def membership(self) -> NDArray[np.bool_]:
        """Which cells make up a task, (T, K)."""
        return np.equal.outer(np.arange(self.tasks), self.task)

    @property
    def start(self) -> NDArray[np.int64]:
        """First sample of each task, with the end appended, (T + 1,)."""
        sizes = np.bincount(self.task, weights=self.size, minlength=self.tasks).astype(np.int64)
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


def lay_out_cells(stream: Stream) -> tuple[Cells, NDArray[np.int64]]:
    """One cell for each class of each task, and the rows of the test set in the order of the cells.

    A class with no test sample is a cell of size 0.
    """
    of_class = [np.flatnonzero(stream.data.test_y == c) for c in range(stream.data.classes)]
    members = [(t, c, target) for t in stream.tasks for c, target in zip(t.classes, t.targets, strict=True)]
    cells = Cells(
        domain=np.array([t.domain for t, _, _ in members], np.int32),
        label=np.array([c for _, c, _ in members], np.int32),
        size=np.array([len(of_class[c]) for _, c, _ in members], np.int32),
        task=np.array([t.id for t, _, _ in members], np.int64),
        target=np.array([target for _, _, target in members], np.int64),
        outputs=stream.outputs,
    )
    return cells, np.concatenate([of_class[c] for _, c, _ in members]).astype(np.int64)


class Evaluator:
    """Counts correct predictions per view and cell.

    Args:
        cells: what is evaluated.
        inputs: the test inputs in the order of the cells, (N, ...), ready on the device; or a function of a first
            and a last position that makes them.
        views: "class" lets all seen classes compete (and, for a task not yet seen, that task's own beside them);
            "task" lets the task's own compete; "domain" lets all outputs compete.
        device: where the model is.
        batch_size: samples per forward pass.
        tell_task: whether `predict` is given the task of each sample.
    """

    def __init__(
        self,
        cells: Cells,
        inputs: Tensor | Callable[[int, int], Tensor],
        *,
        views: tuple[str, ...],
        device: torch.device,
        batch_size: int,
        tell_task: bool,
    ) -> None:
        self.cells = cells
        self.views = views
        self.samples = int(cells.size.sum())
        self._inputs = inputs
        self._device = device
        self._batch_size = batch_size
        self._tell_task = tell_task
        self._start = cells.start
        self._task_outputs = [sorted(set(cells.target[cells.task == t].tolist())) for t in range(cells.tasks)]
        each = torch.from_numpy(np.repeat(np.arange(len(cells.size)), cells.size))
        self._cell = each.to(device)
        self._targets = torch.from_numpy(cells.target)[each].to(device)
        self._task = torch.from_numpy(cells.task)[each].to(device)
        self._index: dict[tuple[int, ...], Tensor] = {}
        self._twin = Twin()

    @classmethod
    def of_stream(
        cls, stream: Stream, transform: InputTransform, device: torch.device, batch_size: int, tell_task: bool
    ) -> Evaluator:
        """The evaluator of a stream, on its whole test set, in the stream's setting."""
        cells, rows = lay_out_cells(stream)
        stored = torch.from_numpy(stream.data.test_x).to(device)
        row = torch.from_numpy(rows).to(device)
        start = cells.start
        task = torch.from_numpy(np.repeat(np.arange(cells.tasks), np.diff(start))).to(device)
        inputs: Tensor | Callable[[int, int], Tensor]
        if len(rows) * stored[0].numel() * 4 <= _CACHE_BYTES:
            spans = zip(start[:-1].tolist(), start[1:].tolist(), strict=True)
            inputs = torch.cat([transform(stored.index_select(0, row[a:b]), t) for t, (a, b) in enumerate(spans)])
        else:

            def inputs(a: int, b: int) -> Tensor:
                return transform(stored.index_select(0, row[a:b]), task[a:b])

        return cls(
            cells, inputs, views=(stream.setting,), device=device, batch_size=batch_size, tell_task=tell_task
        )  # fmt: skip

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
            per view, int32 (K,) on the device: the count, NOT_EVALUATED, UNAVAILABLE, or NAN_SCORES. On a GPU nothing
            waits.

        Raises:
            RunFailed: a prediction changed what it was given.
        """
        counts = {
            v: torch.full((len(self.cells.size),), NOT_EVALUATED, dtype=torch.int32, device=self._device)
            for v in self.views
        }
        seen_outputs = sorted({o for t in seen for o in self._task_outputs[t]})
        cuda = self._device.type == "cuda"
        shared = [*strategy.model.parameters(), *([self._inputs] if isinstance(self._inputs, Tensor) else [])]
        versions = [t._version for t in shared]
        with torch.inference_mode(), fenced(cuda), self._twin.of(strategy.model) as twin:
            runs = list(_runs(sorted(scope)))
            for tasks in runs:
                a, b = int(self._start[tasks[0]]), int(self._start[tasks[-1] + 1])
                scores = self._predict(strategy, twin, a, b)
                if scores is None and len(tasks) > 1:  # no prediction for some, such as tasks without a head as yet
                    runs += [[t] for t in tasks]
                    continue
                cells = self._cell[a:b]
                first, last = _span(self.cells.task, tasks)
                for view, into in counts.items():
                    if scores is None:
                        into[first:last] = UNAVAILABLE
                        continue
                    right = self._best(scores, view, tasks, a, set(seen_outputs)) == self._targets[a:b]
                    into[first:last] = 0
                    into.index_add_(0, cells, right.to(torch.int32))
                    into[first:last].masked_fill_(scores.isnan().any(), NAN_SCORES)
        if [t._version for t in shared] != versions:
            raise RunFailed("predict_writes", "a prediction changed the test inputs or the parameters in place")
        return counts

    def _predict(self, strategy: Predictor, twin: nn.Module, a: int, b: int) -> Tensor | None:
        """Scores of the samples a..b, (b - a, outputs)."""
        parts = []
        for start in range(a, b, self._batch_size):
            end = min(start + self._batch_size, b)
            x = self._inputs[start:end] if isinstance(self._inputs, Tensor) else self._inputs(start, end)
            scores = strategy.predict(twin, x, self._task[start:end] if self._tell_task else None)
            if scores is None:
                return None
            if scores.ndim != 2 or len(scores) != end - start:
                raise ValueError(f"predict returned the shape {tuple(scores.shape)} for {end - start} samples")
            parts.append(scores)
        if not parts:
            return torch.zeros((0, self.cells.outputs), device=self._device)
        scores = torch.cat(parts) if len(parts) > 1 else parts[0]
        missing = self.cells.outputs - scores.shape[1]  # a head that grows has no score yet for classes to come
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
            a, b = int(self._start[tasks[i]]) - offset, int(self._start[tasks[j - 1] + 1]) - offset
            outputs = self._on_device(tuple(allowed[i]))
            best[a:b] = outputs[scores[a:b].index_select(1, outputs).argmax(1)]
            i = j
        return best

    def _on_device(self, outputs: tuple[int, ...]) -> Tensor:
        """Output units as a tensor, copied to the device once: a copy at every evaluation would make a GPU wait."""
        if outputs not in self._index:
            self._index[outputs] = torch.tensor(outputs, device=self._device)
        return self._index[outputs]

    def _competitors(self, view: str, task: int, seen: set[int]) -> list[int]:
        if view == "domain":
            return list(range(self.cells.outputs))
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
