"""Training budget: updates in each experience of a stream. Pure, and without torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from clbench.apportion import apportion
from clbench.config.training import Training
from clbench.errors import UserError
from clbench.stream import Stream


def budgets(training: Training, stream: Stream) -> tuple[int, ...]:
    """Updates in each experience, (V,), by its size whatever a strategy may see; at least one."""
    samples = [experience.samples for experience in stream.experiences]
    if training.budget == "experience":
        return tuple(
            _budget(training.of_block(block), n) for block, n in zip(task_blocks(stream), samples, strict=True)
        )
    total = training.iterations
    if total is None:
        assert training.epochs is not None
        total = training.epochs * batches_in_a_pass(different(stream), training)
    if total < len(samples):
        raise UserError(
            f"training: {total} updates for the whole stream are fewer than its {len(samples)} experiences."
        )
    rest = total - len(samples)
    return tuple(1 + n for n in apportion(rest, samples, [rest] * len(samples)))


def _budget(training: Training, samples: int) -> int:
    if training.iterations is not None:
        return training.iterations
    assert training.epochs is not None
    return training.epochs * batches_in_a_pass(samples, training)


def task_blocks(stream: Stream) -> list[int]:
    """The number of each experience's task block, (V,): the pieces that an experience was cut into share one."""
    origins = stream.origins()
    blocks: list[int] = np.cumsum(np.concatenate([[False], origins[1:] != origins[:-1]])).tolist()
    return blocks


def batches_in_a_pass(n: int, training: Training) -> int:
    """Number of batches in a pass over n samples, the last one perhaps smaller; at least one."""
    whole, rest = divmod(n, training.batch_size)
    return whole + bool(rest and (not training.drop_last or not whole))


def different(stream: Stream) -> int:
    """Number of distinct samples of a stream, counted once for each task."""
    masks: dict[int, Any] = {}
    for experience in stream.experiences:
        for t, rows in experience.parts:
            masks.setdefault(t, np.zeros(len(stream.labels), np.bool_))[rows] = True
    return sum(int(mask.sum()) for mask in masks.values())


def updates_by_task_block(budgets: tuple[int, ...], stream: Stream) -> list[int]:
    """Updates in each task block: a whole experience, or the sub-experiences that one was cut into."""
    starts = np.flatnonzero(np.diff(task_blocks(stream), prepend=-1))
    return [int(n) for n in np.add.reduceat(np.array(budgets), starts)]
