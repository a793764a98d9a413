"""Blurry boundaries: every sample once, tasks follow each other and mix around their boundaries.

Samples are ordered by task, shuffled within, each at a position. Positions are displaced by noise, and the stream is
cut into equal pieces in the new order, so that nothing is lost or doubled:

    linear     uniform noise: a task's share falls as a line over twice the width (as in Avalanche's linear decay)
    gaussian   normal noise: it falls as the normal distribution function (after the Gaussian schedules of Shanahan et
               al. 2021 and Wang et al. 2022)
    fuzzy      pieces are cut first, and whole pieces are displaced by uniform noise (mini-batches of two tasks take
               turns around a boundary)

`always` takes a share of classes out of this order and spreads their samples evenly over the stream: the blurry classes
of i-Blurry (Koh et al. 2022), whose disjoint ones are the others with width 0.

A piece visits the task of its nominal position, and pieces in a row that visit one task have one origin.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from clbench.errors import UserError
from clbench.rng import Generator
from clbench.schema import Count, Mistake
from clbench.stream import Plan, Rows, StreamExperience, Timetable
from clbench.streams.families import Combination, NonNegative, Schedule, TaskFamily


class BlurrySchedule(Schedule):
    """Every sample once; tasks follow each other, and mix around their boundaries."""

    by: Literal["blurry"]
    experiences: Count
    """Number of equal pieces that the stream is cut into."""
    boundary: Literal["linear", "gaussian", "fuzzy"] = "linear"
    """Samples are displaced by uniform or by normal noise, so that a task's share falls linearly or as the normal
    distribution; or whole pieces of one task swap positions around a boundary."""
    width: NonNegative = 0.25
    """Largest displacement (`gaussian`: its deviation), in mean lengths of a task."""
    always: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of classes, drawn by the stream seed, whose samples are spread evenly over the whole stream."""

    def combination_mistakes(self, tasks: TaskFamily) -> Iterator[Combination]:
        """See `Schedule.combination_mistakes`."""
        if self.always and tasks.by != "classes":
            yield "schedule.always", f"blurry classes need tasks by classes, not by {tasks.by}"

    def data_mistakes(self, tasks: int) -> Iterator[Mistake]:
        """See `Schedule.data_mistakes`."""
        if tasks < 2:
            yield ["by"], f"got '{self.by}', which needs two tasks or more."
        if self.experiences < tasks:
            yield ["experiences"], f"got {self.experiences}, fewer than the {tasks} tasks."

    def arrange(self, family: TaskFamily, plan: Plan, generator: Generator) -> Timetable:
        """`experiences` pieces whose sizes differ by one at most.

        Raises:
            UserError: more pieces than samples, or so few that a task has none.
        """
        always = _always(self, plan, generator)
        spread = [np.isin(plan.data.train_y[pool], always) for pool in plan.pools]
        blocks = [pool[~s] for pool, s in zip(plan.pools, spread, strict=True)]
        places = [(t, len(block)) for t, block in enumerate(blocks)]
        rows = np.concatenate([block[generator.permutation(len(block))] for block in blocks])
        task = np.repeat([t for t, _ in places], [n for _, n in places]).astype(np.int64)
        total = sum(len(pool) for pool in plan.pools)
        if self.experiences > total:
            raise UserError(f"stream.schedule.experiences: got {self.experiences}, but there are {total} samples.")
        width = self.width * len(rows) / len(places)
        if self.boundary == "fuzzy":
            order = _pieces_displaced(task, self.experiences, width, generator)
        else:
            order = np.argsort(
                np.arange(len(rows)) + width * _noise(self.boundary, len(rows), generator), kind="stable"
            )
        nominal = task  # of each position, before the displacement
        rows, task = rows[order], task[order]
        if len(always):
            extra = np.concatenate([pool[s] for pool, s in zip(plan.pools, spread, strict=True)])
            of = np.repeat(np.arange(len(spread)), [int(s.sum()) for s in spread])
            shuffled = generator.permutation(len(extra))
            at = (np.arange(len(extra)) + 0.5) / len(extra)
            position = (np.arange(len(rows)) + 0.5) / max(1, len(rows))
            merged = np.argsort(np.concatenate([position, at]), kind="stable")
            rows = np.concatenate([rows, extra[shuffled]])[merged]
            task = np.concatenate([task, of[shuffled]])[merged]
        return Timetable(_cut(rows, task, nominal, self.experiences, len(plan.tasks)))


def _always(schedule: BlurrySchedule, plan: Plan, generator: Generator) -> Rows:
    """The blurry classes, spread over the whole stream; every task keeps one that is not."""
    order = [(t.id, c) for t in plan.tasks for c in t.classes]
    n, ordinary = round(schedule.always * len(order)), [len(t.classes) for t in plan.tasks]
    blurry: list[int] = []
    for i in generator.permutation(len(order)).tolist():
        t, c = order[i]
        if len(blurry) < n and ordinary[t] > 1:
            blurry.append(c)
            ordinary[t] -= 1
    if len(blurry) < n:
        raise UserError(
            f"stream.schedule.always: got {schedule.always:g}, which is {n} of {len(order)} classes; each task keeps "
            f"one that is not always there, so that {len(blurry)} can be."
        )
    return np.array(blurry, np.int64)


def _noise(boundary: str, n: int, generator: Generator) -> NDArray[np.float64]:
    """n displacements: uniform in [-1, 1), or standard normal; rounded, so that logarithms do not decide an order."""
    if boundary != "gaussian":
        return 2.0 * generator.uniform(n) - 1.0
    return np.asarray(np.rint(generator.normal(n) * 2**30) / 2**30)


def _pieces_displaced(task: Rows, pieces: int, width: float, generator: Generator) -> Rows:
    """An order of positions in which whole pieces, cut at even distances and at every boundary, are displaced."""
    cuts = {round(i * len(task) / pieces) for i in range(pieces)} | {0}
    cuts |= set((np.flatnonzero(np.diff(task)) + 1).tolist())
    parts = np.split(np.arange(len(task)), sorted(cuts)[1:])
    middle = np.array([part.mean() for part in parts])
    order = np.argsort(middle + width * _noise("fuzzy", len(parts), generator), kind="stable")
    return np.concatenate([parts[i] for i in order.tolist()])


def _cut(rows: Rows, task: Rows, nominal: Rows, pieces: int, tasks: int) -> list[StreamExperience]:
    """Equal pieces. A piece visits the task whose nominal positions contain its middle."""
    about = nominal[((np.arange(pieces) + 0.5) * len(nominal) / pieces).astype(np.int64)]
    absent = sorted(set(range(tasks)) - set(about.tolist()))
    if absent:
        raise UserError(f"stream.schedule.experiences: got {pieces}, too few for task {absent[0]} to occur.")
    experiences: list[StreamExperience] = []
    for v, (mine, of) in enumerate(zip(np.array_split(rows, pieces), np.array_split(task, pieces), strict=True)):
        parts = tuple((t, np.sort(mine[of == t])) for t in np.unique(of).tolist())
        same = bool(v) and about[v] == about[v - 1]
        experiences.append(StreamExperience(parts, (int(about[v]),), experiences[-1].origin if same else v))
    return experiences
