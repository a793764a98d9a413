"""The runner's watcher: evaluates by the benchmark's schedule, records, and knows where in the stream a run is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from clbench.evaluation.probes import norm
from clbench.evaluation.recorder import Recorder
from clbench.evaluation.schedule import is_due
from clbench.runner.components import Components
from clbench.strategy import Watcher
from clbench.trace import Phase


@dataclass(frozen=True)
class Position:
    """A place in a run.

    Attributes:
        experience: number of the current one, or of the next.
        done: updates done in it; 0 where it has not begun.
    """

    experience: int = 0
    done: int = 0


class Observation(Watcher):
    """Watches a strategy on a workbench.

    Periods count from the start of a visit, and so do the evaluations before and after it: an online stream is looked
    at as often as the one it was cut from.

    Args:
        bench: what is watched.
        recorder: where it is written; None to watch nothing (training must not notice).
        on_iteration: called after every update and its evaluation, for progress and for leaving.
        on_full: called where the recorder holds so much that it is to be written.
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
        self._in_visit = 0
        self._budget = 0
        self.position = Position()
        self.iterations = 0
        self.evaluations = 0
        self.eval_s = 0.0
        bench.listeners.append(self.after_change)

    def enter(self, number: int, done: int = 0) -> None:
        """An experience begins, or is taken up again after some updates; its tasks count as seen from here on."""
        self.position, self._budget = Position(number, done), self._bench.budgets[number]
        self._seen.update(self._bench.experiences.tasks(number))
        if done:
            return
        if self._begins:
            self._in_visit = 0
        self._bench.evaluator.renew()
        if self._recorder is not None and not self.iterations:
            self._bench.evaluator.begin(self._bench.strategy.model)

    def before_first_update(self) -> None:
        self._bench.evaluator.renew()
        if self._begins:
            self._evaluate(Phase.BEFORE)

    @property
    def _begins(self) -> bool:
        """Whether a visit begins with this experience."""
        number = self.position.experience
        return not number or self._origins[number] != self._origins[number - 1]

    @property
    def visit_ends(self) -> bool:
        """Whether a visit ends with this experience."""
        number = self.position.experience
        return number + 1 == len(self._origins) or self._origins[number] != self._origins[number + 1]

    def after_iteration(self, loss: Tensor) -> bool:
        self.iterations += 1
        self._in_visit += 1
        self.position = Position(self.position.experience, self.position.done + 1)
        if self._recorder is not None:
            start = time.perf_counter()
            model = self._bench.strategy.model
            gradients = [p.grad for p in model.parameters() if p.grad is not None] if self._gradients else None
            self._recorder.add_loss(loss, None if gradients is None else norm(gradients))
            self._bench.evaluator.after_update(model)
            self.eval_s += time.perf_counter() - start
        if is_due(self._evaluation, self._in_visit):
            self._evaluate(Phase.ITERATION)
        self._on_iteration()
        return self.position.done < self._budget

    def after_change(self) -> None:
        """The strategy has changed what it predicts, without an update."""
        self._bench.evaluator.renew()
        self._evaluate(Phase.CHANGE)

    def leave(self) -> None:
        """The strategy has ended the experience."""
        self._bench.evaluator.renew()
        if self.visit_ends:
            self._bench.evaluator.learned(self._bench.stream.visits[self.position.experience].tasks)
            self._evaluate(Phase.END)

    def _evaluate(self, phase: Phase) -> None:
        if self._recorder is None:
            return
        start = time.perf_counter()
        everything = phase is Phase.BEFORE or self._evaluation.scope == "all"
        found = self._bench.evaluator.evaluate(
            self._bench.strategy, self._tasks if everything else self._seen, self._seen
        )
        self._recorder.add(found, self.iterations, self.position.experience, phase)
        self.evaluations += 1
        self.eval_s += time.perf_counter() - start
        if self._recorder.full:
            self._on_full()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run counts on from."""
        return {
            "iterations": self.iterations,
            "evaluations": self.evaluations,
            "in_visit": self._in_visit,
            "eval_s": self.eval_s,
        }

    def load_state_dict(self, state: dict[str, Any], position: Position) -> None:
        """Continues at a position with the counts of `state_dict`."""
        for number in range(position.experience):
            self._seen.update(self._bench.experiences.tasks(number))
        self.position = position
        self.iterations, self.evaluations = state["iterations"], state["evaluations"]
        self._in_visit, self.eval_s = state["in_visit"], state["eval_s"]
