"""The training loop: a strategy trains on a stream, observed by a watcher."""

from __future__ import annotations

from collections.abc import Callable

from clbench.runner.components import Components
from clbench.runner.observer import Observation, Position
from clbench.strategy import SelfDrivenLearner
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
        if isinstance(strategy, SelfDrivenLearner):
            strategy.fit(experience, budget, watcher)
        else:
            if not done:
                if bounded or number == 0:
                    strategy.begin_experience(visible)
                watcher.before_first_update()
            for batch in bench.batches.of(experience, budget, done):
                watcher.before_update(batch)
                loss = strategy.step(batch)
                remove_denormals(getattr(strategy, "optimizer", None))
                watcher.after_iteration(loss)
            if bounded or number == last:
                strategy.end_experience(visible)
        watcher.leave()
        watcher.position = Position(number + 1)
        on_experience()
