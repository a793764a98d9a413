"""The evaluator: measures a strategy at any iteration without side effects.

It calls `Strategy.predict` with a *twin* of the model: the same parameter tensors under copies of the modules, in
evaluation mode, with separate buffers. Module modes, batch-norm statistics and gradients of the trained model are
never touched, so nothing has to be restored; draws of a prediction from global generators are fenced.

All views come out of one forward pass. Where a strategy predicts by its model alone (`Strategy.predict` as it is), and
the model is made of ordinary layers, the pass is cheaper with the same result: features of a frozen feature extractor
are cached (`clbench.evaluation.frozen_features`), and reduced precision decides predictions with a safe margin
(`clbench.evaluation.reduced_precision`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from clbench.config.evaluation import Evaluation as EvaluationConfig
from clbench.config.evaluation import Watch
from clbench.errors import RunFailed
from clbench.evaluation.cells import Cells, lay_out_cells
from clbench.evaluation.competition import Competition, overflowed
from clbench.evaluation.frozen_features import Front
from clbench.evaluation.probes import Internals
from clbench.evaluation.reduced_precision import Reduced, fast_here
from clbench.evaluation.twin import Twin, is_ordinary
from clbench.evaluation.weight_averages import Average
from clbench.formatting import consecutive
from clbench.rng import fenced
from clbench.strategy import Learner
from clbench.stream import Stream
from clbench.trace import NAN_SCORES, NOT_EVALUATED, UNAVAILABLE
from clbench.training.inputs import InputTransform, StoredInputs

_CACHE_BYTES = 2 << 30
"""Transformed test inputs kept ready; beyond it, inputs are transformed anew at each evaluation."""

_PASS_BYTES = 8 << 20
"""Largest activation of one forward pass on a CPU: beyond the caches, and where memory is mapped anew at every layer,
a convolutional network takes twice the time."""

_TRANSFORMED_AT_ONCE = 500
"""Test inputs that are transformed together."""

_BYTE = (128, 64, 32, 16, 8, 4, 2, 1)


class Predictor(Protocol):
    """The part of a strategy that the evaluator uses."""

    @property
    def model(self) -> nn.Module: ...

    def predict(self, model: nn.Module, x: Tensor, task: Tensor | None) -> Tensor | None: ...


@dataclass(frozen=True)
class Evaluation:
    """Result of one evaluation, on the device; on a GPU it is not waited for.

    Attributes:
        counts: per view, int32 (K,): correct predictions, NOT_EVALUATED, UNAVAILABLE, or NAN_SCORES.
        bits: per view, uint8 (ceil(N / 8),): the samples predicted correctly, the first in the highest bit.
        extra: per name, float32 (T,): further quantities of `Watch`.
    """

    counts: dict[str, Tensor]
    bits: dict[str, Tensor]
    extra: dict[str, Tensor]


@dataclass
class _EvaluatedModel:
    """One model to evaluate: the strategy's or an average of its weights."""

    suffix: str
    average: Average | None
    front: Front
    reduced: Reduced | None


class Evaluator:
    """Counts correct predictions per view and cell.

    Args:
        cells: the test samples.
        inputs: the test inputs in the order of the cells, (N, ...), ready on the device; or a function of a first
            and a last position that returns them.
        views: active logits: in "class" those of all classes seen so far (and, for a task not yet seen, of that task);
            in "task" those of the task; in "domain" all. The first view is the stream's.
        device: where the model is.
        batch_size: most samples of a forward pass; fewer where activations are large.
        tell_task: whether `predict` receives the task of each sample.
        watch: averages, precision, and further records.
        bits: whether per-sample correctness is kept.
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
        watch: Watch | None = None,
        bits: bool = True,
    ) -> None:
        watch = watch or Watch()
        self.cells = cells
        self.samples = int(cells.size.sum())
        self._views = views
        self._inputs = inputs
        self._device = device
        self._batch_size = batch_size
        self._tell_task = tell_task
        self._keep_bits = bits
        self._settings: dict[str, Any] = {"views": views, "device": device, "batch_size": batch_size,
                                          "tell_task": tell_task, "watch": watch, "bits": bits}  # fmt: skip
        self._start = cells.start
        self._competition = Competition(cells, views, device)
        each = torch.from_numpy(np.repeat(np.arange(len(cells.size)), cells.size))
        self._cell = each.to(device)
        self._targets = torch.from_numpy(cells.target)[each].to(device)
        self._task = torch.from_numpy(cells.task)[each].to(device)
        self._byte = torch.tensor(_BYTE, dtype=torch.uint8, device=device)
        self._twin = Twin()
        self._largest = 0.0
        self._channels_last = False
        reduced = watch.precision == "auto" and device.type == "cpu" and isinstance(inputs, Tensor) and fast_here()
        averages = [Average(decay=d) for d in watch.ema] + [Average(last=k) for k in watch.last]
        self._evaluated = [
            _EvaluatedModel(f".{a.name}" if a else "", a, Front(_CACHE_BYTES), Reduced() if reduced else None)
            for a in (None, *averages)
        ]
        self._internals = Internals(watch.gradients, watch.features, cells.tasks)
        self.views = tuple(view + evaluated.suffix for evaluated in self._evaluated for view in views)
        """Names of all views in the order of recording."""

    @classmethod
    def of_stream(
        cls,
        stream: Stream,
        transform: InputTransform,
        device: torch.device,
        evaluation: EvaluationConfig,
        watch: Watch,
        seed: int,
        bits: bool,
        tell_task: bool,
    ) -> Evaluator:
        """The evaluator of a stream.

        Args:
            seed: seed "stream"; draws the subset of the test set, if there is one.
            tell_task: whether `predict` receives the task of each sample.
        """
        cells = lay_out_cells(stream, evaluation.subset, seed)
        stored = StoredInputs(stream.data.test_x, device)
        row = torch.from_numpy(cells.rows).to(device)
        start = cells.start
        task = torch.from_numpy(np.repeat(np.arange(cells.tasks), np.diff(start))).to(device)
        inputs: Tensor | Callable[[int, int], Tensor]
        shape = stream.data.test_x.shape[1:]
        if len(row) * int(np.prod(shape)) * 4 <= _CACHE_BYTES:
            inputs = torch.empty((len(row), *shape), device=device)
            # In blocks: all at once would need several times the memory.
            bounds = [
                (a, min(a + _TRANSFORMED_AT_ONCE, end))
                for begin, end in itertools.pairwise(start.tolist())
                for a in range(begin, end, _TRANSFORMED_AT_ONCE)
            ]
            tasks = np.searchsorted(start, [a for a, _ in bounds], side="right") - 1
            for (a, b), t, samples in zip(bounds, tasks.tolist(), stored.in_turn(row, bounds), strict=True):
                inputs[a:b] = transform(samples, t, row[a:b], "test")
        else:

            def inputs(a: int, b: int) -> Tensor:
                return transform(stored(row[a:b]), task[a:b], row[a:b], "test")

        return cls(
            cells,
            inputs,
            views=views_of(stream.setting, evaluation),
            device=device,
            batch_size=evaluation.batch_size,
            tell_task=tell_task,
            # Around experiences every evaluation is an audit, which costs more than float32 alone.
            watch=watch if evaluation.every or evaluation.dense else watch.model_copy(update={"precision": "float32"}),
            bits=bits,
        )

    def fresh(self) -> Evaluator:
        """Another evaluator as constructed, of the same test inputs in memory, which neither of the two changes."""
        return Evaluator(self.cells, self._inputs, **self._settings)

    def renew(self) -> None:
        """Call at the boundaries of experiences, where a model's plain containers may have changed."""
        self._twin.renew()
        for evaluated in self._evaluated:
            if evaluated.average is not None:
                evaluated.average.renew()
            if evaluated.reduced is not None:
                evaluated.reduced.renew()

    def begin(self, model: nn.Module) -> None:
        """Call before the first update of a run: averages start from these weights."""
        self.after_update(model)

    def after_update(self, model: nn.Module) -> None:
        """Call after every update, evaluated or not: averages follow the weights."""
        for evaluated in self._evaluated:
            if evaluated.average is not None:
                evaluated.average.update(model)

    def learned(self, tasks: Iterable[int]) -> None:
        """Call before the last evaluation of an experience, with its tasks: feature drift is measured from
        the end of a task's first visit."""
        self._internals.learned(tasks)

    def report(self) -> dict[str, Any]:
        """Numerics of the predictions, per model: see `Reduced.report`."""
        return {
            evaluated.suffix.lstrip(".") or "model": evaluated.reduced.report()
            for evaluated in self._evaluated
            if evaluated.reduced is not None
        }

    def state_dict(self) -> dict[str, Any]:
        """State of later evaluations: averages of weights, reference features, and sizes of passes."""
        return {
            "largest": self._largest,
            "averages": [
                evaluated.average.state_dict() for evaluated in self._evaluated if evaluated.average is not None
            ],
            "fronts": [evaluated.front.state_dict() for evaluated in self._evaluated],
            "reduced": [
                evaluated.reduced.state_dict() for evaluated in self._evaluated if evaluated.reduced is not None
            ],
            "internals": self._internals.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken.

        Raises:
            RunFailed: the state is that of an evaluator with other averages.
        """
        self._largest = state["largest"]
        self._internals.load_state_dict(state["internals"])
        for part, states in (("average", "averages"), ("front", "fronts"), ("reduced", "reduced")):
            parts = [of for evaluated in self._evaluated if (of := getattr(evaluated, part)) is not None]
            saved = state[states]
            if len(parts) != len(saved):
                # Another processor may be faster or slower at reduced precision, which changes no result.
                if part == "reduced" and not (parts and saved):
                    continue
                differ = f"the checkpoint has the state of {len(saved)} {states}, the run's evaluator has {len(parts)}"
                raise RunFailed("other_evaluator", f"{differ}; --force starts the run from the beginning")
            for each, its_state in zip(parts, saved, strict=True):
                each.load_state_dict(its_state)

    def held_bytes(self) -> dict[str, int]:
        """Memory by kind: test inputs, the same in reduced precision, frozen features, averages of weights; and the
        peak of one forward pass: an activation and the next."""
        n = self._batch_size
        if self._largest and self._device.type == "cpu":
            n = min(n, max(32, int(_PASS_BYTES / self._largest)))
        return {
            "inputs": self._inputs.nbytes if isinstance(self._inputs, Tensor) else 0,
            "indices": 3 * self._cell.nbytes,
            "reduced": sum(e.reduced.held_bytes() for e in self._evaluated if e.reduced is not None),
            "fronts": sum(e.front.held_bytes() for e in self._evaluated),
            "averages": sum(e.average.held_bytes() for e in self._evaluated if e.average is not None),
            "activations": 2 * int(min(n, self.samples) * self._largest),
        }

    # ---------------------------------------------------------------------------------------- one evaluation
    def evaluate(
        self,
        strategy: Predictor,
        scope: Iterable[int],
        seen: Iterable[int],
        predictions: dict[str, Tensor] | None = None,
    ) -> Evaluation:
        """Evaluates the current predictions.

        Args:
            strategy: predicts; its model and its generators are left unchanged.
            scope: tasks to evaluate.
            seen: tasks seen so far, the current ones included.
            predictions: filled in: by view, the predicted output of each sample that has a prediction, int64 (N,).

        Raises:
            RunFailed: a prediction changed its arguments.
        """
        counts = {
            v: torch.full((len(self.cells.size),), NOT_EVALUATED, dtype=torch.int32, device=self._device)
            for v in self.views
        }
        right = {v: torch.zeros(self.samples, dtype=torch.bool, device=self._device) for v in self.views}
        runs = list(consecutive(sorted(scope)))
        outputs = frozenset(o for t in seen for o in self._competition.task_outputs[t])
        cuda = self._device.type == "cuda"
        shared = [*strategy.model.parameters(), *([self._inputs] if isinstance(self._inputs, Tensor) else [])]
        versions = [t._version for t in shared]
        with torch.inference_mode(), fenced(cuda):
            for evaluated in self._evaluated:
                with self._model(evaluated, strategy.model) as model:
                    self._count(evaluated, strategy, model, runs, outputs, counts, right, predictions)
        extra: dict[str, Tensor] = {}
        if self._internals.wanted:
            with fenced(cuda):
                extra = self._internals.measure(
                    strategy.model,
                    self._passes,
                    scope,
                    partial(self._competition.allowed, self._views[0], seen=outputs),
                )
        if [t._version for t in shared] != versions:
            raise RunFailed("predict_writes", "a prediction changed the test inputs or the parameters in place")
        bits = {v: self._packed(r) for v, r in right.items()} if self._keep_bits else {}
        return Evaluation(counts, bits, extra)

    @contextmanager
    def _model(self, evaluated: _EvaluatedModel, model: nn.Module) -> Iterator[nn.Module]:
        with self._twin.of(model) if evaluated.average is None else evaluated.average.of(model) as twin:
            yield twin

    def _count(
        self,
        evaluated: _EvaluatedModel,
        strategy: Predictor,
        model: nn.Module,
        runs: list[list[int]],
        seen: frozenset[int],
        counts: dict[str, Tensor],
        right: dict[str, Tensor],
        predictions: dict[str, Tensor] | None,
    ) -> None:
        """Fills in the counts and bits of one model's views."""
        ask = self._route(evaluated, strategy, model, seen)
        runs = list(runs)
        for tasks in runs:
            a, b = int(self._start[tasks[0]]), int(self._start[tasks[-1] + 1])
            scores = ask(tasks, a, b)
            if scores is None and len(tasks) > 1:  # no prediction for some, such as tasks without a head as yet
                runs += [[t] for t in tasks]
                continue
            first, last = self.cells.span(tasks)
            if scores is None:
                for view in self._views:
                    counts[view + evaluated.suffix][first:last] = UNAVAILABLE
                continue
            broken, width = overflowed(scores), scores.shape[1]
            scores = self._padded(scores)
            absent = np.flatnonzero(self.cells.target[first:last] >= width) + first
            for view in self._views:
                into = counts[view + evaluated.suffix]
                hit = right[view + evaluated.suffix][a:b]
                best = self._competition.best(scores, view, tasks, a, seen)
                torch.eq(best, self._targets[a:b], out=hit)
                if predictions is not None:
                    predictions[view + evaluated.suffix][a:b] = best
                into[first:last] = 0
                into.index_add_(0, self._cell[a:b], hit.to(torch.int32))
                into[first:last].masked_fill_(broken, NAN_SCORES)
                if len(absent):  # a head that grows has no score for them yet, whatever the others are
                    into[torch.from_numpy(absent).to(self._device)] = UNAVAILABLE
                    hit &= self._targets[a:b] < width

    def _packed(self, right: Tensor) -> Tensor:
        """Eight samples to a byte, as `numpy.packbits`."""
        whole = nn.functional.pad(right.to(torch.uint8), (0, -len(right) % 8)).view(-1, 8)
        return (whole * self._byte).sum(1, dtype=torch.uint8)

    # ---------------------------------------------------------------------------------------- scores
    def _route(
        self, evaluated: _EvaluatedModel, strategy: Predictor, model: nn.Module, seen: frozenset[int]
    ) -> Callable[[list[int], int, int], Tensor | None]:
        """Computation of the scores of consecutive tasks, samples a..b: (tasks, a, b) -> (b - a, outputs so far)."""
        if isinstance(strategy, Learner) and not strategy.available():
            return lambda tasks, a, b: None
        by_model = getattr(strategy.predict, "__func__", None) is Learner.predict
        if not by_model or not isinstance(self._inputs, Tensor) or not is_ordinary(model):
            return lambda tasks, a, b: self._predict(strategy, model, a, b)
        channels_last = self._lay_out(model)
        inputs, rest = evaluated.front.split(model, self._inputs, self._parts)

        def full(x: Tensor) -> Tensor:
            if channels_last and x.ndim == 4:
                x = x.to(memory_format=torch.channels_last)  # selected rows; a slice is so already
            return torch.cat([self._pass(rest, part) for part in x.tensor_split(self._parts(len(x)))])

        reduced = evaluated.reduced
        if reduced is None or not self._largest or reduced.begin(rest, inputs) == "plain":
            return lambda tasks, a, b: full(inputs[a:b])

        def cheap(tasks: list[int], a: int, b: int) -> Tensor:
            return reduced.scores(
                full, inputs, a, b, self._parts(b - a),
                margin=lambda scores: self._competition.margin(self._padded(scores), tasks, a, seen),
                decide=lambda scores: [
                    self._competition.best(self._padded(scores), v, tasks, a, seen) for v in self._views
                ],
            )  # fmt: skip

        return cheap

    def _lay_out(self, model: nn.Module) -> bool:
        """Puts images for a convolutional network in the order in which a CPU convolves and pools 1.5 to 2.5 times
        faster, channels last; a score moves by its last bits. True if they are in that order."""
        assert isinstance(self._inputs, Tensor)
        if (
            self._inputs.ndim != 4
            or self._device.type != "cpu"
            or not any(type(m) is nn.Conv2d for m in model.modules())
        ):
            return False
        if not self._channels_last:
            with torch.inference_mode(False):
                self._inputs = self._inputs.to(memory_format=torch.channels_last)
            self._channels_last = True
        return True

    def _predict(self, strategy: Predictor, model: nn.Module, a: int, b: int) -> Tensor | None:
        """Scores of the samples a..b by the strategy's `predict`, (b - a, outputs)."""
        parts = []
        bounds = np.linspace(a, b, self._parts(b - a) + 1).astype(int).tolist()
        for start, end in itertools.pairwise(bounds):
            x = self._inputs[start:end].contiguous() if isinstance(self._inputs, Tensor) else self._inputs(start, end)
            task = self._task[start:end] if self._tell_task else None
            scores = self._pass(lambda x, t=task: strategy.predict(model, x, t), x, model)
            if scores is None:
                return None
            if scores.ndim != 2 or len(scores) != end - start:
                raise ValueError(f"predict returned the shape {tuple(scores.shape)} for {end - start} samples")
            parts.append(scores)
        return torch.cat(parts)

    def _padded(self, scores: Tensor) -> Tensor:
        missing = self.cells.outputs - scores.shape[1]  # a head that grows has no score yet for classes to come
        return nn.functional.pad(scores, (0, missing), value=float("-inf")) if missing > 0 else scores

    def _parts(self, n: int) -> int:
        """Forward passes for n samples, so that none is much smaller than the others."""
        most = self._batch_size
        if self._largest and self._device.type == "cpu":
            most = min(most, max(32, int(_PASS_BYTES / self._largest)))
        return max(1, -(-n // most))

    def _pass(self, ask: Any, x: Tensor, model: nn.Module | None = None) -> Any:
        """One forward pass. The first of all measures the largest activation of a sample, in bytes."""
        if self._largest:
            return ask(x)
        largest = float(x[0].nbytes) if len(x) else 1.0

        def measure(module: nn.Module, args: Any, out: Any) -> None:
            nonlocal largest
            if isinstance(out, Tensor) and len(x):
                largest = max(largest, out.nbytes / len(x))

        hooked = model if model is not None else ask
        handles = [m.register_forward_hook(measure) for m in hooked.modules()]
        try:
            out = ask(x)
        finally:
            for handle in handles:
                handle.remove()
        if out is not None:
            self._largest = largest
        return out

    def _passes(self, task: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets of one task, a forward pass at a time."""
        a, b = int(self._start[task]), int(self._start[task + 1])
        bounds = np.linspace(a, b, self._parts(b - a) + 1).astype(int).tolist()
        for start, end in itertools.pairwise(bounds):
            x = self._inputs[start:end].contiguous() if isinstance(self._inputs, Tensor) else self._inputs(start, end)
            yield x, self._targets[start:end]


def views_of(setting: str, evaluation: EvaluationConfig) -> tuple[str, ...]:
    """The recorded views, the stream's first; by default the task view beside the class view.

    >>> views_of("class", EvaluationConfig()), views_of("domain", EvaluationConfig())
    (('class', 'task'), ('domain',))
    """
    if evaluation.views is None:
        return ("class", "task") if setting == "class" else (setting,)
    return (setting, *(v for v in evaluation.views if v != setting))
