"""The training loop: a strategy trains on a stream, observed by a watcher."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from clbench.runner.components import Components
from clbench.runner.observer import Observation, Position
from clbench.strategy import SelfDrivenLearner, Watcher
from clbench.training.optimizers import remove_denormals


def train(
    bench: Components,
    watcher: Observation,
    on_experience: Callable[[], None] = lambda: None,
    start: Position | None = None,
) -> None:
    """Trains the strategy from a position of the stream to its end.

    Args:
        bench: components of the run; at `start` with the state of `Components.load_state_dict`.
        watcher: called at every update.
        on_experience: called after each experience.
        start: position to start from; default: the start of the stream.
    """
    start = start or Position()
    strategy, bounded = bench.strategy, bench.run.benchmark.protocol.boundaries
    last = len(bench.budgets) - 1
    for number in range(start.experience, last + 1):
        done, budget = start.done if number == start.experience else 0, bench.budgets[number]
        experience = bench.experience(number)
        visible = experience if bounded else bench.experiences.unbounded()
        watcher.enter(number, done)
        bench.recipe.enter(number)
        if isinstance(strategy, SelfDrivenLearner):
            strategy.fit(experience, budget, _Driven(bench, watcher, number))
        else:
            if not done:
                if bounded or number == 0:
                    strategy.begin_experience(visible)
                watcher.before_first_update()
            for update, batch in enumerate(bench.batches.of(experience, budget, done), done):
                watcher.before_update(batch)
                bench.recipe.before_update(strategy, number, update)
                loss = strategy.step(batch)
                remove_denormals(getattr(strategy, "optimizer", None))
                watcher.after_iteration(loss)
            if bounded or number == last:
                strategy.end_experience(visible)
        watcher.leave()
        watcher.position = Position(number + 1)
        on_experience()


class _Driven(Watcher):
    """The watcher of a strategy that drives itself: between its updates the recipe is followed."""

    def __init__(self, bench: Components, watcher: Watcher, number: int) -> None:
        self._bench, self._watcher, self._number, self._done = bench, watcher, number, 0

    def before_first_update(self) -> None:
        self._watcher.before_first_update()
        self._follow()

    def after_iteration(self, loss: Tensor) -> bool:
        more = self._watcher.after_iteration(loss)
        self._done += 1
        self._follow()
        return more

    def _follow(self) -> None:
        self._bench.recipe.before_update(self._bench.strategy, self._number, self._done)
