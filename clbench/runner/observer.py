"""The runner's watcher: evaluates by the benchmark's schedule, records, and tracks the position in the stream."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from clbench.evaluation.probes import norm
from clbench.evaluation.recorder import Recorder
from clbench.evaluation.schedule import is_due
from clbench.evaluation.test_then_train import Arrived
from clbench.measures import primary_view
from clbench.runner.components import Components
from clbench.strategy import Batch, Watcher
from clbench.trace import Phase
from clbench.weak import weakly


@dataclass(frozen=True)
class Position:
    """A position in a run.

    Attributes:
        experience: number of the current one, or of the next.
        done: updates done in it; 0 where it has not begun.
    """

    experience: int = 0
    done: int = 0


class Observation(Watcher):
    """Evaluates a strategy during training.

    Periods count from the start of an experience before its cut into sub-experiences, and so do the evaluations before
    and after it: an online stream is evaluated as often as the original one.

    Args:
        bench: the components of the run.
        recorder: of the results; None for no evaluation (training must be unaffected).
        on_iteration: called after every update and its evaluation, for progress and for stops.
        on_full: called when the recorder holds enough for a chunk.
    """

    def __init__(
        self,
        bench: Components,
        recorder: Recorder | None,
        on_iteration: Callable[[], None],
        on_full: Callable[[], None] = lambda: None,
    ) -> None:
        self._bench = bench
        self._recorder = recorder
        self._on_iteration = on_iteration
        self._on_full = on_full
        self._gradients = bench.run.watch.gradients
        self._evaluation = bench.run.benchmark.evaluation
        self._tasks = range(len(bench.stream.tasks))
        self._seen: set[int] = set()
        self._origins = bench.stream.origins().tolist()
        self._in_block = 0
        self._budget = 0
        self._arrived: Arrived | None = None
        self.position = Position()
        self.iterations = 0
        self.evaluations = 0
        self.eval_s = 0.0
        bench.listeners.append(weakly(self.after_change))

    def enter(self, number: int, done: int = 0) -> None:
        """Begins an experience, or resumes it after some updates; its tasks count as seen from now on."""
        self.position, self._budget = Position(number, done), self._bench.budgets[number]
        self._seen.update(self._bench.experiences.tasks(number))
        if done:
            return
        if self._block_begins:
            self._in_block = 0
        self._renew()
        if self._recorder is not None and not self.iterations:
            self._bench.evaluator.begin(self._bench.strategy.model)

    def before_first_update(self) -> None:
        self._renew()
        if self._block_begins:
            self._evaluate(Phase.BEFORE)

    def before_update(self, batch: Batch) -> None:
        """Called before the strategy learns a batch."""
        predictions = self._bench.prequential
        if self._recorder is None or predictions is None:
            return
        start = time.perf_counter()
        plain = not self._bench.augmenters
        places = self._bench.batches.places
        self._arrived = predictions.before_update(self._bench.strategy, batch, places, plain, self._seen)
        self.eval_s += time.perf_counter() - start

    def _renew(self) -> None:
        self._bench.evaluator.renew()
        if self._bench.prequential is not None:
            self._bench.prequential.renew()

    @property
    def _block_begins(self) -> bool:
        """True if it is the first of its task block."""
        number = self.position.experience
        return not number or self._origins[number] != self._origins[number - 1]

    @property
    def block_ends(self) -> bool:
        """True if it is the last of its task block: the sub-experiences of one experience, or a whole one."""
        number = self.position.experience
        return number + 1 == len(self._origins) or self._origins[number] != self._origins[number + 1]

    def after_iteration(self, loss: Tensor) -> bool:
        self.iterations += 1
        self._in_block += 1
        self.position = Position(self.position.experience, self.position.done + 1)
        if self._recorder is not None:
            start = time.perf_counter()
            model = self._bench.strategy.model
            if self._arrived is not None and self._bench.prequential is not None:
                predictions = self._bench.prequential
                self._recorder.add_arrived(self._arrived, predictions.views, predictions.measures)
            gradients = [p.grad for p in model.parameters() if p.grad is not None] if self._gradients else None
            self._recorder.add_loss(loss, None if gradients is None else norm(gradients))
            self._bench.evaluator.after_update(model)
            self.eval_s += time.perf_counter() - start
        if is_due(self._evaluation, self._in_block):
            self._evaluate(Phase.ITERATION)
        self._on_iteration()
        return self.position.done < self._budget

    def after_change(self) -> None:
        """Called after a change of the strategy's predictions without an update."""
        self._renew()
        self._evaluate(Phase.CHANGE)

    def leave(self) -> None:
        """Called at the end of the experience."""
        self._renew()
        if self.block_ends:
            self._bench.evaluator.learned(self._bench.stream.experiences[self.position.experience].tasks)
            self._evaluate(Phase.END)

    def _evaluate(self, phase: Phase) -> None:
        if self._recorder is None:
            return
        start = time.perf_counter()
        everything = phase is Phase.BEFORE or self._evaluation.scope == "all"
        evaluator, scope = self._bench.evaluator, self._tasks if everything else self._seen
        predictions = phase is Phase.END and evaluator.keeps_predictions
        evaluation = evaluator.evaluate(self._bench.strategy, scope, self._seen, predictions)
        self._recorder.add(evaluation, self.iterations, self.position.experience, phase)
        self.evaluations += 1
        self.eval_s += time.perf_counter() - start
        if self._recorder.full:
            self._on_full()

    @property
    def view(self) -> str:
        """The primary view, with its measure where it does not count."""
        setting: str = self._bench.run.benchmark.stream.setting
        return primary_view(setting, self._bench.run.watch.measures, self._bench.stream.data.train_target is not None)

    def latest(self) -> tuple[float | None, float | None]:
        """Accuracy in the primary view on the classes visited so far, in [0, 1], or the mean of its measure, and the
        last loss; None before any.

        It reads from the device, which waits for it.
        """
        last = {} if self._recorder is None else self._recorder.newest
        counts, loss = last.get(self.view), last.get("loss")
        cells = self._bench.evaluator.cells
        seen = cells.membership[sorted(self._seen)].any(0)
        mean = None
        if counts is not None and seen.any():
            of_cells, size = counts.cpu().numpy()[seen], int(cells.size[seen].sum())
            mean = float(of_cells.sum()) / size if (of_cells >= 0).all() else None
        return mean, None if loss is None else float(loss)

    def state_dict(self) -> dict[str, Any]:
        """Counts of a resumed run."""
        return {
            "iterations": self.iterations,
            "evaluations": self.evaluations,
            "in_visit": self._in_block,
            "eval_s": self.eval_s,
        }

    def load_state_dict(self, state: dict[str, Any], position: Position) -> None:
        """Continues at a position with the counts of `state_dict`."""
        for number in range(position.experience):
            self._seen.update(self._bench.experiences.tasks(number))
        self.position = position
        self.iterations, self.evaluations = state["iterations"], state["evaluations"]
        self._in_block, self.eval_s = state["in_visit"], state["eval_s"]
