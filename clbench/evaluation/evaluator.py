"""The evaluator: measures a strategy at any iteration without side effects.

It calls `Strategy.predict` with a *twin* of the model: the same parameter tensors under copies of the modules, in
evaluation mode, with separate buffers. Module modes, batch-norm statistics and gradients of the trained model are
never touched, so nothing has to be restored; draws of a prediction from global generators are fenced.

All views come out of one forward pass. Where a strategy predicts by its model alone (`Strategy.predict` as it is), and
the model is made of ordinary layers, the pass is cheaper with the same result: features of a frozen feature extractor
are cached (`clbench.evaluation.frozen_features`), only samples whose answer can have changed are looked at
(`clbench.evaluation.selection`), and reduced precision decides those with a safe lead
(`clbench.evaluation.reduced_precision`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from clbench import measures
from clbench.config.evaluation import Evaluation as EvaluationConfig
from clbench.config.evaluation import Watch
from clbench.errors import RunFailed
from clbench.evaluation.audits import Clock
from clbench.evaluation.cells import Cells, lay_out_cells
from clbench.evaluation.competition import Competition, Judged, views_of
from clbench.evaluation.evaluated_model import EvaluatedModel
from clbench.evaluation.evaluation import Evaluation
from clbench.evaluation.inputs import TestInputs
from clbench.evaluation.numbers import Numbers, blocks
from clbench.evaluation.passes import Passes, Which
from clbench.evaluation.predicted_outputs import PredictedOutputs
from clbench.evaluation.probes import Internals
from clbench.evaluation.reduced_precision import Reduced, fast_here
from clbench.evaluation.selection import Selection
from clbench.evaluation.twin import Twin, is_ordinary
from clbench.evaluation.weight_averages import Average
from clbench.formatting import consecutive
from clbench.rng import fenced
from clbench.strategy import Learner
from clbench.stream import Stream
from clbench.trace import NAN_SCORES, NOT_EVALUATED, UNAVAILABLE
from clbench.training import heads
from clbench.training.inputs import InputTransform

_BYTE = (128, 64, 32, 16, 8, 4, 2, 1)


class Predictor(Protocol):
    """The part of a strategy that the evaluator uses."""

    @property
    def model(self) -> nn.Module: ...

    def predict(self, model: nn.Module, x: Tensor, task: Tensor | None) -> Tensor | None: ...


class Evaluator:
    """Counts correct predictions per view and cell.

    Args:
        cells: the test samples.
        inputs: the test inputs in the order of the cells, on the device; a tensor, (N, ...), where they are ready.
        views: active logits: in "class" those of all classes seen so far (and, for a task not yet seen, of that task);
            in "task" those of the task; in "domain" all. The first view is the stream's.
        device: where the model is.
        batch_size: most samples of a forward pass; fewer where activations are large.
        tell_task: whether `predict` receives the task of each sample.
        watch: averages, precision, measures, and further records.
        bits: whether per-sample correctness is kept.
        numbers: of a regression, the numbers to predict, float32 (N, D), in the order of the cells; nothing is counted.
        values: whether the number of each sample is kept.
        predictions: whether predicted outputs are to be kept at the ends of experiences.
    """

    def __init__(
        self,
        cells: Cells,
        inputs: TestInputs | Tensor,
        *,
        views: tuple[str, ...],
        device: torch.device,
        batch_size: int,
        tell_task: bool,
        watch: Watch | None = None,
        bits: bool = True,
        numbers: Tensor | None = None,
        values: bool = True,
        predictions: bool = True,
    ) -> None:
        watch = watch or Watch()
        self.cells = cells
        self.samples = int(cells.size.sum())
        self._views = views
        self._inputs = TestInputs(inputs) if isinstance(inputs, Tensor) else inputs
        self._device = device
        self._passes = Passes(self._inputs, device, batch_size)
        self._tell_task = tell_task
        self._keep_bits, self.keeps_predictions = bits, predictions
        self._settings: dict[str, Any] = {"views": views, "device": device, "batch_size": batch_size,
                                          "tell_task": tell_task, "watch": watch, "bits": bits,
                                          "numbers": numbers, "values": values,
                                          "predictions": predictions}  # fmt: skip
        self._start = cells.start
        self._competition = Competition(cells, views, device)
        each = torch.from_numpy(np.repeat(np.arange(len(cells.size)), cells.size))
        self._cell = each.to(device)
        self._targets = torch.from_numpy(cells.target)[each].to(device)
        self._task = torch.from_numpy(cells.task)[each].to(device)
        self._without: tuple[frozenset[int], Tensor | None] = frozenset(), None
        self._outputs = PredictedOutputs(cells, views, self._targets, self._competition)
        self._byte = torch.tensor(_BYTE, dtype=torch.uint8, device=device)
        self._twin = Twin()
        cpu = device.type == "cpu"
        reduced = watch.precision == "auto" and cpu and fast_here()
        averages = [Average(decay=d) for d in watch.ema] + [Average(last=k) for k in watch.last]
        self._evaluated = [
            EvaluatedModel(
                f".{a.name}" if a else "",
                a,
                Reduced() if reduced else None,
                Selection() if cpu and watch.samples == "auto" else None,
            )
            for a in (None, *averages)
        ]
        self._internals = Internals(watch.gradients, watch.features, cells.tasks)
        self._counted = views if numbers is None else ()
        names = measures.recorded(watch.measures, numbers is not None)
        targets = self._targets if numbers is None else numbers
        self._numbers = Numbers(names, cells, targets, views, self._competition, values) if names else None
        self.views = tuple(view + evaluated.suffix for evaluated in self._evaluated for view in self._counted)
        """Names of all views with counts in the order of recording."""

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
        values: bool = True,
        predictions: bool = True,
    ) -> Evaluator:
        """The evaluator of a stream.

        Args:
            seed: seed "stream"; draws the subset of the test set, if there is one.
            bits, predictions: see `Evaluator`.
            tell_task: whether `predict` receives the task of each sample.
        """
        cells = lay_out_cells(stream, evaluation.subset, seed)
        if not (evaluation.every or evaluation.dense):  # all evaluations would be audits, which cost more than others
            watch = watch.model_copy(update={"precision": "float32", "samples": "all"})
        target = stream.data.test_target
        return cls(
            cells,
            TestInputs.of_stream(stream, cells, transform, device),
            views=views_of(stream.setting, evaluation),
            device=device,
            batch_size=evaluation.batch_size,
            tell_task=tell_task,
            watch=watch,
            bits=bits,
            numbers=None if target is None else torch.from_numpy(target[cells.rows]).to(device),
            values=values,
            predictions=predictions,
        )

    def fresh(self) -> Evaluator:
        """Another evaluator as constructed, of the same test inputs in memory, which neither of the two changes."""
        return Evaluator(self.cells, self._inputs, **self._settings)

    def select_no_more(self) -> bool:
        """Looks at all samples from now on. False if it did so anyway."""
        selecting = any(evaluated.selection is not None for evaluated in self._evaluated)
        for evaluated in self._evaluated:
            evaluated.selection = None
        return selecting

    def renew(self) -> None:
        """Call at the boundaries of experiences, where a model's plain containers may have changed."""
        self._twin.renew()
        for evaluated in self._evaluated:
            evaluated.renew()

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
        """Numerics of the predictions, per model: see `Reduced.report`, and under "selection", by what it rests on,
        "audited" or "proven", `Selection.report` and `LinearBound.report`."""
        reports: dict[str, Any] = {}
        for evaluated in self._evaluated:
            name = evaluated.suffix.lstrip(".") or "model"
            if evaluated.reduced is not None:
                reports[name] = evaluated.reduced.report()
            ways = {"audited": evaluated.selection, "proven": evaluated.bound}
            used = {way: part.report() for way, part in ways.items() if part is not None and part.selected}
            if used:
                reports.setdefault(name, {})["selection"] = used
        return reports

    def state_dict(self) -> dict[str, Any]:
        """State of later evaluations: averages of weights, reference features, sizes of passes, numerics."""
        return {
            "sizes": (self._passes.largest, self._passes.work),
            "averages": [e.average.state_dict() for e in self._evaluated if e.average is not None],
            "fronts": [e.front.state_dict() for e in self._evaluated],
            "clocks": [(e.clock.number, e.clock.since) for e in self._evaluated],
            "reduced": [e.reduced.state_dict() for e in self._evaluated if e.reduced is not None],
            "bounds": [e.bound.state_dict() for e in self._evaluated],
            "selections": [e.selection.state_dict() for e in self._evaluated if e.selection is not None],
            "internals": self._internals.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken.

        Raises:
            RunFailed: the state is that of an evaluator with other averages.
        """
        self._passes.largest, self._passes.work = state["sizes"]
        self._internals.load_state_dict(state["internals"])
        for part, states in (
            ("average", "averages"),
            ("front", "fronts"),
            ("bound", "bounds"),
            ("reduced", "reduced"),
            ("selection", "selections"),
        ):
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
        for evaluated, (number, since) in zip(self._evaluated, state["clocks"], strict=True):
            evaluated.clock = Clock(number, since)

    def held_bytes(self) -> dict[str, int]:
        """Memory by kind: test inputs, the same in reduced precision, answers that are kept, frozen features, scores
        kept from a boundary, averages of weights; and the peak of one forward pass: an activation and the next."""
        return {
            "inputs": self._inputs.nbytes,
            "indices": 3 * self._cell.nbytes,
            "reduced": sum(e.reduced.held_bytes() for e in self._evaluated if e.reduced is not None),
            "selections": sum(e.selection.held_bytes() for e in self._evaluated if e.selection is not None),
            "fronts": sum(e.front.held_bytes() for e in self._evaluated),
            "bounds": sum(e.bound.held_bytes() for e in self._evaluated),
            "kept": sum(e.kept.held_bytes() for e in self._evaluated),
            "averages": sum(e.average.held_bytes() for e in self._evaluated if e.average is not None),
            "activations": self._passes.held_bytes(self.samples),
        }

    # ---------------------------------------------------------------------------------------- one evaluation
    def evaluate(
        self,
        strategy: Predictor,
        scope: Iterable[int],
        seen: Iterable[int],
        predictions: bool = False,
    ) -> Evaluation:
        """Evaluates the current predictions.

        Args:
            strategy: predicts; its model and its generators are left unchanged.
            scope: tasks to evaluate.
            seen: tasks seen so far, the current ones included.
            predictions: whether predicted outputs are returned.

        Raises:
            RunFailed: a prediction changed its arguments.
        """
        if isinstance(strategy, Learner):
            strategy.refresh()
        counts = {
            v: torch.full((len(self.cells.size),), NOT_EVALUATED, dtype=torch.int32, device=self._device)
            for v in self.views
        }
        right = {v: torch.zeros(self.samples, dtype=torch.bool, device=self._device) for v in self.views}
        predicted = self._outputs.empty(self.views) if predictions else {}
        sums: dict[str, Tensor] = {}
        values: dict[str, Tensor] = {}
        runs = list(consecutive(sorted(scope)))
        outputs = frozenset(o for t in seen for o in self._competition.task_outputs[t])
        cuda = self._device.type == "cuda"
        shared = [*strategy.model.parameters(), *([] if self._inputs.ready is None else [self._inputs.ready])]
        versions = [t._version for t in shared]
        with torch.inference_mode(), fenced(cuda):
            for evaluated in self._evaluated:
                with self._model(evaluated, strategy.model) as model:
                    if self._counted:
                        self._count(evaluated, strategy, model, runs, outputs, counts, right, predicted)
                    if self._numbers is not None:
                        scores = partial(self._fixed_scores, evaluated, strategy, model)
                        self._numbers.measure(evaluated.suffix, runs, outputs, scores, sums, values)
        extra: dict[str, Tensor] = {}
        if self._internals.wanted:
            with fenced(cuda):
                extra = self._internals.measure(
                    strategy.model,
                    self._inputs_of,
                    scope,
                    partial(self._competition.allowed, self._views[0], seen=outputs),
                )
        if [t._version for t in shared] != versions:
            raise RunFailed("predict_writes", "a prediction changed the test inputs or the parameters in place")
        bits = {v: self._packed(r) for v, r in right.items()} if self._keep_bits else {}
        return Evaluation(counts, bits, extra, sums, values, predicted)

    @contextmanager
    def _model(self, evaluated: EvaluatedModel, model: nn.Module) -> Iterator[nn.Module]:
        with self._twin.of(model) if evaluated.average is None else evaluated.average.of(model) as twin:
            yield twin

    def _count(
        self,
        evaluated: EvaluatedModel,
        strategy: Predictor,
        model: nn.Module,
        runs: list[list[int]],
        seen: frozenset[int],
        counts: dict[str, Tensor],
        right: dict[str, Tensor],
        predicted: dict[str, Tensor],
    ) -> None:
        """Fills in the counts and bits of one model's views, and the predicted outputs where there is room for them."""
        alone, cpu, runs = self._is_alone(strategy, model), self._device.type == "cpu", list(runs)
        absent = self._absent(strategy.model)
        if alone and (not predicted or evaluated.clock.since == 0):
            tasks = tuple(t for run in runs for t in run)
            key = tasks, tuple(sorted(seen))
            verdicts = evaluated.judge(
                model,
                self._passes,
                [self._span(run) for run in runs],
                key,
                lambda scores, which: self._judge(scores, list(tasks), seen, which, cpu),
                self._targets,
                partial(self._outputs.fill, evaluated.suffix, list(tasks), seen, predicted, absent=absent)
                if predicted
                else None,
            )
            for run, judged in zip(runs, verdicts, strict=True):
                self._fill(evaluated, run, judged, counts, right, absent)
            return
        for run in runs:
            scores = None
            if alone:
                scores = evaluated.scores(model, self._passes, self._span(run))
            elif not isinstance(strategy, Learner) or strategy.available():
                scores = self._predict(strategy, model, *self._span(run))
            if scores is None and len(run) > 1:  # no prediction for some, such as tasks without a head as yet
                runs += [[t] for t in run]
                continue
            if scores is None:
                first, last = self.cells.span(run)
                for view in self._views:
                    counts[view + evaluated.suffix][first:last] = UNAVAILABLE
                continue
            self._fill(evaluated, run, self._judge(scores, run, seen, self._span(run), False), counts, right, absent)
            if predicted:
                self._outputs.fill(evaluated.suffix, run, seen, predicted, self._span(run), scores, absent)

    def _absent(self, model: nn.Module) -> Tensor | None:
        """Outputs that a head that grows does not have yet, bool (outputs,); None where it has all."""
        outputs = heads.absent(model)
        if outputs != self._without[0]:
            mask = torch.zeros(self.cells.outputs, dtype=torch.bool)
            mask[sorted(outputs)] = True
            self._without = outputs, mask.to(self._device) if outputs else None
        return self._without[1]

    def _span(self, tasks: list[int]) -> tuple[int, int]:
        """First sample, and one past the last, of consecutive tasks."""
        return int(self._start[tasks[0]]), int(self._start[tasks[-1] + 1])

    def _judge(self, scores: Tensor, tasks: list[int], seen: frozenset[int], which: Which, leads: bool) -> Judged:
        if isinstance(which, Tensor):
            return self._competition.judge(scores, self._targets[which], tasks, seen, which, leads)
        return self._competition.judge(scores, self._targets[slice(*which)], tasks, seen, which[0], leads)

    def _fill(
        self,
        evaluated: EvaluatedModel,
        tasks: list[int],
        judged: Judged,
        counts: dict[str, Tensor],
        right: dict[str, Tensor],
        without: Tensor | None,
    ) -> None:
        """Fills in the counts and bits of consecutive tasks; cells of classes without a score are unavailable.

        Args:
            without: outputs without a score, bool (outputs,), beside those from `judged.width` on.
        """
        a, b = self._span(tasks)
        first, last = self.cells.span(tasks)
        missing = self.cells.target[first:last] >= judged.width
        if without is not None:
            missing = missing | np.isin(self.cells.target[first:last], sorted(self._without[0]))
        absent = np.flatnonzero(missing) + first
        for v, view in enumerate(self._views):
            into = counts[view + evaluated.suffix]
            hit = judged.right[v]
            into[first:last] = 0
            into.index_add_(0, self._cell[a:b], hit.to(torch.int32))
            into[first:last].masked_fill_(judged.broken, NAN_SCORES)
            if len(absent):  # a head that grows has no score for them yet, whatever the others are
                into[torch.from_numpy(absent).to(self._device)] = UNAVAILABLE
                hit = hit & (self._targets[a:b] < judged.width)
                hit = hit if without is None else hit & ~without[self._targets[a:b]]
            right[view + evaluated.suffix][a:b] = hit

    def _packed(self, right: Tensor) -> Tensor:
        """Eight samples to a byte, as `numpy.packbits`."""
        if right.device.type == "cpu":
            return torch.from_numpy(np.packbits(right.numpy()))
        whole = nn.functional.pad(right.to(torch.uint8), (0, -len(right) % 8)).view(-1, 8)
        return (whole * self._byte).sum(1, dtype=torch.uint8)

    # ---------------------------------------------------------------------------------------- scores
    def _is_alone(self, strategy: Predictor, model: nn.Module) -> bool:
        """True if the strategy predicts by its model alone, and that computes each row independently."""
        by_model = getattr(strategy.predict, "__func__", None) is Learner.predict
        available = not isinstance(strategy, Learner) or strategy.available()
        return by_model and available and is_ordinary(model)

    def _fixed_scores(
        self, evaluated: EvaluatedModel, strategy: Predictor, model: nn.Module, a: int, b: int
    ) -> Tensor | None:
        """Scores in float32 of the samples a..b, whatever the size of a pass; see `clbench.evaluation.numbers`."""
        alone = self._is_alone(strategy, model)
        if not alone and isinstance(strategy, Learner) and not strategy.available():
            return None
        parts = []
        for start, end in blocks(a, b):
            which = torch.arange(start, end, device=self._device).clamp(max=self.samples - 1)
            scores: Tensor | None = None
            if alone:
                scores = evaluated.scores_at(model, self._passes, which)
            else:
                scores = self._asked(strategy, model, self._inputs.at(which), self._task[which])
            if scores is None:
                return None
            parts.append(scores[max(0, a - start) : b - start])
        return torch.cat(parts)

    def _predict(self, strategy: Predictor, model: nn.Module, a: int, b: int) -> Tensor | None:
        """Scores of the samples a..b by the strategy's `predict`, (b - a, outputs)."""
        parts = []
        for start, end, x in self._passes.between(a, b):
            scores = self._asked(strategy, model, x, self._task[start:end])
            if scores is None:
                return None
            parts.append(scores)
        return torch.cat(parts)

    def _asked(self, strategy: Predictor, model: nn.Module, x: Tensor, task: Tensor) -> Tensor | None:
        """Scores of one pass by the strategy's `predict`."""
        told = task if self._tell_task else None
        scores: Tensor | None = self._passes.one(lambda x: strategy.predict(model, x, told), x.contiguous(), model)
        if scores is not None and (scores.ndim != 2 or len(scores) != len(x)):
            raise ValueError(f"predict returned the shape {tuple(scores.shape)} for {len(x)} samples")
        return scores

    def _inputs_of(self, task: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets of one task, a forward pass at a time."""
        for a, b, x in self._passes.between(*self._span([task])):
            yield x.contiguous(), self._targets[a:b]
