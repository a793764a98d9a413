"""Learning-rate schedules as pure functions of a position: nothing to save, nothing to resume.

    lr(t) = lr x f(t),   t the finished epochs or updates, from 0

    warm-up      f(t) = s + (1 - s) t / w      for t < w; after it the rules below, with t - w in place of t
    constant     f(t) = 1
    step         f(t) = g^(t // n)
    multi_step   f(t) = g^(milestones that are at most t)
    exponential  f(t) = g^t
    cosine       f(t) = m + (1 - m) (1 + cos(pi t / T)) / 2
    linear       f(t) = a + (b - a) t / T

They are the closed forms of `torch.optim.lr_scheduler`'s StepLR, MultiStepLR, ExponentialLR, CosineAnnealingLR and
LinearLR, a warm-up that of SequentialLR. torch goes from each rate to the next by a factor, so that its rates carry the
rounding of all steps before and differ from the closed forms in the last bits.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

from clbench.config import schedules
from clbench.config.training import Training
from clbench.errors import UserError, shown
from clbench.stream import Stream
from clbench.training.budget import batches_in_a_pass, different, task_blocks
from clbench.training.imports import imported


def factor(schedule: schedules.Schedule, t: int, length: int) -> float:
    """Factor on the learning rate.

    Args:
        schedule: its rule.
        t: finished epochs or updates, 0..length - 1.
        length: epochs or updates in all.

    >>> cosine = schedules.Cosine(name="cosine", warm_up={"length": 2, "start": 0.5})
    >>> [factor(cosine, t, 6) for t in (0, 1, 2, 4)]
    [0.5, 0.75, 1.0, 0.5]
    """
    before = schedule.warm_up.length if schedule.warm_up else 0
    if schedule.warm_up and t < before:
        return schedule.warm_up.start + (1.0 - schedule.warm_up.start) * t / before
    t, length = t - before, length - before
    if isinstance(schedule, schedules.Step):
        return float(schedule.factor ** (t // schedule.every))
    if isinstance(schedule, schedules.MultiStep):
        return float(schedule.factor ** bisect_right(schedule.milestones, t))
    if isinstance(schedule, schedules.Exponential):
        return float(schedule.factor**t)
    if isinstance(schedule, schedules.Cosine):
        length = schedule.length or length
        low = schedule.minimum
        return low + (1.0 - low) * (1 + math.cos(math.pi * min(t, length) / length)) / 2
    if isinstance(schedule, schedules.Linear):
        length = schedule.length or length
        return schedule.start + (schedule.end - schedule.start) * min(t, length) / length
    if isinstance(schedule, schedules.Imported):
        return _asked(schedule, t, length)
    return 1.0


def _asked(schedule: schedules.Imported, update: int, updates: int) -> float:
    """The factor of a user's function.

    Raises:
        UserError: it fails, or gives something else than a number from 0.
    """
    where = f"training.schedule.function: '{schedule.function}', called with ({update}, {updates})"
    try:
        value: Any = imported(schedule.function, "training.schedule.function")(update, updates, **schedule.options)
    except UserError:
        raise
    except Exception as error:  # a user's function may do anything
        raise UserError(f"{where}, failed: {type(error).__name__}: {error}.") from error
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise UserError(f"{where}, gave {shown(value)}. Allowed: a number >= 0.")
    return number


@dataclass(frozen=True)
class Block:
    """A task block: an experience, or the pieces that one was cut into.

    Attributes:
        updates: in it.
        a_pass: updates of a pass over its samples.
        updates_before, epochs_before: in the blocks before it.
    """

    updates: int
    a_pass: int
    updates_before: int
    epochs_before: int

    @property
    def epochs(self) -> int:
        """Passes over its samples; the last one may be incomplete."""
        return -(-self.updates // self.a_pass)


class Positions:
    """The position of each update of a run, in its task block and in the stream.

    Args:
        training: the budget.
        stream: its experiences.
        budgets: updates in each experience, (V,).

    Attributes:
        blocks: the task blocks.
        block_of: the number of each experience's task block, (V,).
    """

    def __init__(self, training: Training, stream: Stream, budgets: tuple[int, ...]) -> None:
        self.block_of = task_blocks(stream)
        self._before = [0] * len(budgets)
        self.blocks: list[Block] = []
        totals: list[list[int]] = []
        for number, (experience, updates) in enumerate(zip(stream.experiences, budgets, strict=True)):
            if self.block_of[number] == len(totals):
                totals.append([0, 0])
            self._before[number] = totals[-1][0]
            totals[-1][0] += updates
            totals[-1][1] += batches_in_a_pass(experience.samples, training)
        done = epochs = 0
        for updates, a_pass in totals:
            self.blocks.append(Block(updates, a_pass, done, epochs))
            done, epochs = done + updates, epochs + self.blocks[-1].epochs
        self._updates, self._epochs = done, epochs
        self._a_pass = batches_in_a_pass(different(stream), training) if training.budget == "stream" else None
        """Updates of a pass over the stream, where the budget is that of the stream."""

    def __call__(self, schedule: schedules.Schedule, number: int, done: int) -> tuple[int, int]:
        """Finished epochs or updates, and those in all, as a schedule counts them.

        Args:
            schedule: over an experience or the stream, by epochs or updates.
            number: of the experience.
            done: updates done in it.
        """
        block, done = self.blocks[self.block_of[number]], self._before[number] + done
        epochs = schedule.unit == "epochs"
        if schedule.over == "experience":
            t, length = (done // block.a_pass, block.epochs) if epochs else (done, block.updates)
        elif epochs and self._a_pass is not None:
            t, length = (block.updates_before + done) // self._a_pass, -(-self._updates // self._a_pass)
        elif epochs:
            t, length = block.epochs_before + done // block.a_pass, self._epochs
        else:
            t, length = block.updates_before + done, self._updates
        return min(t, length - 1), length  # a hosted strategy may make more updates than its budget


def check(training: Training, positions: Positions) -> list[str]:
    """A sentence for each schedule that is too long, and for settings of experiences that are not there.

    Args:
        training: the recipe.
        positions: of the updates of a stream.
    """
    blocks = len(positions.blocks)
    problems = [
        f"training.experiences: got the key '{key}', and the stream has {blocks} experiences. "
        f"Allowed: 0 to {blocks - 1}."
        for key in training.experiences
        if int(key) >= blocks
    ]
    seen = set()
    for block in range(blocks):
        settings = training.experiences.get(str(block))
        single = settings is not None and settings.schedule is not None
        schedule = training.of_block(block).schedule
        if schedule is None:
            continue
        _, length = positions(schedule, positions.block_of.index(block), 0)
        where = f"training.experiences.{block}.schedule" if single else "training.schedule"
        of = "the stream" if schedule.over == "stream" else f"experience {block}"
        sentence = _too_long(schedule, where, length, of)
        key = (where, sentence.partition(": ")[0])
        if sentence and key not in seen:
            seen.add(key)
            problems.append(sentence)
        if isinstance(schedule, schedules.Imported) and not sentence:
            factor(schedule, 0, length)
            factor(schedule, length - 1, length)
    return problems


def _too_long(schedule: schedules.Schedule, where: str, length: int, of: str) -> str:
    """The sentence for a schedule that does not fit; empty where it does."""
    before = schedule.warm_up.length if schedule.warm_up else 0
    units = f"{length:,} {schedule.unit}" if length > 1 else f"1 {schedule.unit.removesuffix('s')}"
    after = f" after a warm-up of {before}" if before else ""
    if before >= length:
        return f"{where}.warm_up.length: got {before}, and {of} has {units}. Allowed: less."
    left = length - before
    if isinstance(schedule, schedules.MultiStep) and schedule.milestones[-1] >= left:
        return f"{where}.milestones: got {schedule.milestones[-1]}{after}, and {of} has {units}. Allowed: less."
    if isinstance(schedule, schedules.Step) and schedule.every >= left:
        return f"{where}.every: got {schedule.every}{after}, and {of} has {units}. Allowed: less."
    if isinstance(schedule, (schedules.Cosine, schedules.Linear)) and (schedule.length or 0) > left:
        return f"{where}.length: got {schedule.length}{after}, and {of} has {units}. Allowed: up to {left}."
    return ""
