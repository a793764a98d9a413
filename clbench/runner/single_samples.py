"""A check, before training, for batches of one sample that the network cannot learn from.

Batch normalisation has no variance of one value, and a run would break in the middle: 289 samples are nine batches of
32 and one of 1. Whether it would depends on the strategy too, which may add replayed samples or see more than one
experience. So where the sizes of batches and a look at the network give cause, the strategy is tried on a few samples.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import torch

from clbench.errors import UserError
from clbench.rng import fenced
from clbench.runner.components import Components, assemble
from clbench.runner.observer import Observation
from clbench.runner.training_loop import train
from clbench.stream import Rows, StreamExperience
from clbench.training.budget import batches_in_a_pass
from clbench.training.experiences import Experiences


def refuse_single_samples(bench: Components) -> None:
    """Refuses a run in which a batch of one sample would break the training.

    Args:
        bench: the components of the run, before training; they are unchanged.

    Raises:
        UserError: the experience, its batch and the remedy.
    """
    with fenced(bench.device.type == "cuda"):
        met = _first(bench)
        if met is None or not _needs_two(bench):
            return
        number, samples = met
        reason = _tried(bench, number, samples, 1)
        if reason is None or _tried(bench, number, samples, 2) is not None:
            return
    size, of = bench.run.benchmark.training.batch_size, len(bench.budgets)
    if size == 1:
        problem, remedy = f"training.batch_size: got 1: experience {number + 1} of {of} is", "Allowed: 2 and more"
    elif samples == 1:
        problem = f"stream: experience {number + 1} of {of} has 1 sample, so that its batch is"
        remedy = "Allowed: pieces of more samples (stream.online), or a network without batch normalisation"
    else:
        problem = (
            f"training.batch_size: got {size}: experience {number + 1} of {of} has {samples:,} samples, so that its "
            f"batch {-(-samples // size):,} is"
        )
        remedy = "Set training.drop_last: true, or another training.batch_size"
    raise UserError(
        f"{problem} a single sample, which the network cannot learn from under '{bench.run.strategy.name}' ({reason}). "
        f"{remedy}."
    )


def _first(bench: Components) -> tuple[int, int] | None:
    """The first experience with a batch of one sample, and its samples."""
    training, access = bench.run.benchmark.training, bench.strategy.access
    experiences = Experiences(bench.stream, access, bench.run.benchmark.protocol)
    for number, (experience, updates) in enumerate(zip(bench.stream.experiences, bench.budgets, strict=True)):
        n = experience.samples if access == "experience" else len(experiences(number).index)
        batches = batches_in_a_pass(n, training)
        last = min(n - (batches - 1) * training.batch_size, training.batch_size)
        if last == 1 and (updates >= batches or training.batch_size == 1):
            return number, n
        if access == "stream":
            return None
    return None


def _needs_two(bench: Components) -> bool:
    """True if the network can be trained on two samples and not on one."""
    return _forward_fails(bench, 1) and not _forward_fails(bench, 2)


def _forward_fails(bench: Components, samples: int) -> bool:
    model = copy.deepcopy(bench.strategy.model).train()
    shape = bench.stream.data.train_x.shape[1:]
    try:
        with torch.no_grad():
            model(torch.zeros((samples, *shape), device=bench.device))
    except Exception:  # of any network
        return True
    return False


def _tried(bench: Components, number: int, samples: int, last: int) -> str | None:
    """Trains another strategy for one pass over some samples of an experience, after some of the first one.

    Args:
        bench: the components of the run.
        number: of the experience.
        samples: of the experience.
        last: size of its last batch.

    Returns:
        the first line of the error that ends it; None where none does.
    """
    run, stream = bench.run, bench.stream
    size = max(run.benchmark.training.batch_size, last)
    wanted = size + last if samples > size else last
    experiences = [_some(stream.experiences[number], wanted, 0)]
    if number and bench.strategy.access == "experience":
        first, together = stream.experiences[0], stream.experiences[0].origin == stream.experiences[number].origin
        experiences = [
            _some(first, min(size, first.samples), 0),
            _some(stream.experiences[number], wanted, int(not together)),
        ]
    short: dict[str, Any] = {"iterations": None, "epochs": 1, "budget": "experience", "batch_size": size}
    short |= {"schedule": None, "experiences": {}}
    benchmark = run.benchmark.model_copy(update={"training": run.benchmark.training.model_copy(update=short)})
    try:
        short_stream = dataclasses.replace(stream, experiences=tuple(experiences))
        few = assemble(run.model_copy(update={"benchmark": benchmark}), short_stream)
        try:
            train(few, Observation(few, None, lambda: None))
        finally:
            few.release()
    except Exception as error:  # of the strategy
        return str(error).strip().partition("\n")[0].rstrip(".")
    return None


def _some(experience: StreamExperience, samples: int, origin: int) -> StreamExperience:
    """An experience with some of its samples, evenly spread over its parts; samples repeat where there are too few."""
    positions = np.linspace(0, experience.samples - 1, samples).astype(np.int64)
    starts = np.cumsum([0, *(len(rows) for _, rows in experience.parts)])
    parts: list[tuple[int, Rows]] = []
    for (task, rows), start in zip(experience.parts, starts, strict=False):
        within = positions[(positions >= start) & (positions < start + len(rows))] - start
        if len(within):
            parts.append((task, rows[within]))
    return dataclasses.replace(experience, parts=tuple(parts), origin=origin, unlabelled=())
