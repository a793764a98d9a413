"""Estimate of a run's time, from a few timed updates and evaluations."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from clbench.dataset import DataSet
from clbench.evaluation.schedule import evaluations
from clbench.formatting import duration
from clbench.runner.components import Components
from clbench.runner.observer import Observation
from clbench.runner.training_loop import train
from clbench.strategy import SelfDrivenLearner
from clbench.stream import Stream
from clbench.training.budget import updates_by_task_block

_PROBE_STEPS = 8
"""Updates in the first experience, which are not timed, and at least in the second; fewer of a short run."""

_PROBE_S = 0.25
"""Time of a probe: many slices of a scheduler, so that what other processes take of the machine is in it."""

_MOST_PROBES = 256

_LEAST_PROBES = 4

_SHARE = 0.05
"""Part of a run's updates and evaluations that a probe may make, from `_LEAST_PROBES` on: nobody waits for the estimate
of a short run as long as for the run."""

_AUDITS = 4
"""Evaluations before the timed ones: the first of reduced precision are audits, which a run makes rarely."""


class _Stop(Exception):
    """Ends a probe."""


def estimate(bench: Components) -> str:
    """Estimate of a run's time, from a few timed updates and evaluations of components that are discarded."""
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step_s = _step_s(bench, updates)
    pass_s = _pass_s(bench, work)
    train_s, eval_s = updates * step_s, work * pass_s
    return (
        f"about {duration(train_s + eval_s)}: training {duration(train_s)} ({updates:,} updates), "
        f"evaluation {duration(eval_s)} ({passes:,} evaluations of up to {bench.evaluator.samples:,} samples)"
    )


def _step_s(bench: Components, updates: int) -> float:
    """Seconds of an update. In the second experience, with replay; a strategy with its own training loop is timed in
    the first, because it cannot be stopped between two.

    Args:
        updates: of the run.
    """
    most = _most(updates)
    if isinstance(bench.strategy, SelfDrivenLearner):
        times: list[float] = []

        def stop() -> None:
            times.append(time.perf_counter())
            if _enough(times, most):
                raise _Stop

        with contextlib.suppress(_Stop):
            train(bench, Observation(bench, None, stop))
        return _mean_of(times[1:]) or _mean_of(times)  # the first update warms up
    bounded = bench.run.benchmark.protocol.boundaries
    for number in range(min(2, len(bench.stream.experiences))):
        experience, times = bench.experience(number), [time.perf_counter()]
        bench.recipe.enter(number)
        if bounded or not number:
            bench.strategy.begin_experience(experience if bounded else bench.experiences.unbounded())
        for done, batch in enumerate(bench.batches.of(experience, most if number else min(_PROBE_STEPS, most))):
            bench.recipe.before_update(bench.strategy, number, done)
            bench.strategy.step(batch)
            times.append(time.perf_counter())
            if number and _enough(times, most):
                break
        if bounded:
            bench.strategy.end_experience(experience)
    _synchronise()
    return _mean_of(times)


def _pass_s(bench: Components, work: float) -> float:
    """Seconds of an evaluation of all cells: of one where the run makes many and one takes no longer than a probe, else
    of the largest cell, as many times as the samples ask for.

    Args:
        work: evaluations of the run, in evaluations of all cells.
    """
    sizes, everything = np.diff(bench.evaluator.cells.start), range(len(bench.stream.tasks))
    largest = int(np.argmax(sizes))

    def evaluate(cells: Sequence[int]) -> Callable[[], Any]:
        return lambda: bench.evaluator.evaluate(bench.strategy, cells, everything)

    def timed(cells: Sequence[int], most: int) -> float:
        for _ in range(min(_AUDITS, most // 2)):
            evaluate(cells)()
        return _mean_s(evaluate(cells), most)

    share = float(sizes[largest]) / max(1, bench.evaluator.samples)
    many = work * _SHARE >= _AUDITS + _PROBE_STEPS

    def mean() -> float:
        pass_s = timed([largest], _most(work / share)) / share
        return timed(range(len(sizes)), _most(work)) if many and pass_s < _PROBE_S / _PROBE_STEPS else pass_s

    # Here nothing moves and selection looks at hardly anything; in a run it looks at all at first and at little later.
    still = mean()
    return (still * mean()) ** 0.5 if bench.evaluator.select_no_more() else still


def _most(work: float) -> int:
    """Most updates or evaluations of a probe, of so many in the run.

    >>> _most(5), _most(2_000), _most(100_000)
    (4, 100, 256)
    """
    return min(_MOST_PROBES, max(_LEAST_PROBES, int(work * _SHARE)))


def _enough(times: list[float], most: int) -> bool:
    n = len(times) - 1
    return n >= min(_PROBE_STEPS, most) and (times[-1] - times[0] >= _PROBE_S or n >= most)


def _mean_of(times: list[float]) -> float:
    """Mean time between successive moments; 0 of fewer than two. Not the median: a process that has to wait for a core
    waits in few updates, and long."""
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0


def _mean_s(function: Callable[[], Any], most: int) -> float:
    """Mean time of a call over a probe."""
    times = [time.perf_counter()]
    while not _enough(times, most):
        function()
        _synchronise()
        times.append(time.perf_counter())
    return _mean_of(times)


def _synchronise() -> None:
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()


_LARGE = 20.0
"""Mean plus deviation of an input from which on it is called large: pixels are at most 1, standardised values a few."""


def unscaled(stream: Stream) -> str:
    """A hint where inputs are large and not standardised, by which most networks learn nothing; empty elsewhere."""
    if stream.normalise != "unit" or not isinstance(stream.data, DataSet):
        return ""
    sizes = np.abs(stream.data.mean) + np.array(stream.data.std)
    if sizes.max() < _LARGE:
        return ""
    at = int(sizes.argmax())
    kind = "feature" if len(stream.data.shape) == 1 else "channel"
    return (
        f"inputs are large: {kind} {at} has a mean of {stream.data.mean[at]:,.4g} and a deviation of "
        f"{stream.data.std[at]:,.4g}; -o stream.normalise=standard standardises them"
    )
