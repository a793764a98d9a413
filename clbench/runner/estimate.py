"""Estimate of a run's time, from a few timed updates and evaluations."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from clbench.evaluation.schedule import evaluations
from clbench.formatting import duration
from clbench.runner.components import Components
from clbench.runner.observer import Observation
from clbench.runner.training_loop import train
from clbench.strategy import SelfDrivenLearner
from clbench.training.budget import updates_by_task_block

_PROBE_STEPS = 8
"""Number of timed updates before a run."""


class _Stop(Exception):
    """Ends a probe."""


def estimate(bench: Components) -> str:
    """Estimate of a run's time, from a few timed updates and evaluations of components that are discarded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step_s = _step_s(bench)
    everything = range(len(bench.stream.tasks))
    largest = int(np.argmax(np.diff(bench.evaluator.cells.start)))
    # Five, because the first passes of reduced precision are audits, which a run makes rarely.
    times = [_timed(lambda: bench.evaluator.evaluate(bench.strategy, [largest], everything)) for _ in range(5)]
    pass_s = min(times) * bench.evaluator.samples / max(1, int(np.diff(bench.evaluator.cells.start)[largest]))
    evaluation, seen = bench.run.benchmark.evaluation, set[int]()
    updates, passes, work = 0, 0, 0.0
    sizes = np.diff(bench.evaluator.cells.start) / max(1, bench.evaluator.samples)
    stops = np.cumsum(updates_by_task_block(bench.budgets, bench.stream)).tolist()
    done, block = 0, 0
    for number, n in enumerate(bench.budgets):
        seen.update(bench.experiences.tasks(number))
        done += n
        if done < stops[block]:
            continue
        length = stops[block] - updates
        within = evaluations(evaluation, length) - 1
        updates, passes, block = stops[block], passes + within + 1, block + 1
        work += 1.0 + within * (1.0 if evaluation.scope == "all" else float(sizes[sorted(seen)].sum()))
    train_s, eval_s = updates * step_s, work * pass_s
    return (
        f"about {duration(train_s + eval_s)}: training {duration(train_s)} ({updates:,} updates), "
        f"evaluation {duration(eval_s)} ({passes:,} evaluations of up to {bench.evaluator.samples:,} samples)"
    )


def _step_s(bench: Components) -> float:
    """Seconds of an update. In the second experience, with replay; a strategy with its own training loop is timed in
    the first, because it cannot be stopped between two."""
    if isinstance(bench.strategy, SelfDrivenLearner):
        times: list[float] = []

        def stop() -> None:
            times.append(time.perf_counter())
            if len(times) > _PROBE_STEPS:
                raise _Stop

        with contextlib.suppress(_Stop):
            train(bench, Observation(bench, None, stop))
        return float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    bounded = bench.run.benchmark.protocol.boundaries
    for number in range(min(2, len(bench.stream.experiences))):
        experience, times = bench.experience(number), [time.perf_counter()]
        if bounded or not number:
            bench.strategy.begin_experience(experience if bounded else bench.experiences.unbounded())
        for batch in bench.batches.of(experience, _PROBE_STEPS):
            bench.strategy.step(batch)
            times.append(time.perf_counter())
        if bounded:
            bench.strategy.end_experience(experience)
    return float(np.median(np.diff(times)))


def _timed(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    return time.perf_counter() - start
