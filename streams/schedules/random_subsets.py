"""Random subsets: each experience draws a few tasks; with one class a task, that is SCoLe.

Lesort et al. 2023 (CoLLAs, arXiv 2207.04543): up to thousands of experiences, so that the frequency of a task, and not
its recency, determines retention. An experience has all training samples of its tasks. Weights are uniform or
fall with a task's rank, (1 - i factor)^entropy_decrease. Differs from the paper's code: no share of the training set
is held out, and no two experiences in a row are kept from being equal (there neither).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from clbench.errors import UserError
from clbench.rng import Generator
from clbench.schema import Count, Mistake
from clbench.stream import Plan, StreamExperience, Timetable
from clbench.streams.families import NonNegative, Schedule, TaskFamily
from clbench.streams.schedules.draws import draw, integers, pick


class RandomSubsetsSchedule(Schedule):
    """Each experience draws a few tasks (SCoLe: with one class a task, a few classes), with all of their samples."""

    by: Literal["random_subsets"]
    experiences: Count
    size: Count = 2
    """Number of different tasks in an experience."""
    entropy_decrease: NonNegative = 0.0
    """e of task i's weight (1 - i factor)^e, tasks ranked by the stream seed; 0: uniform."""
    factor: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """See `entropy_decrease`."""
    samples: Count | None = None
    """Samples of each drawn task, redrawn in each experience; null: all."""

    def data_mistakes(self, tasks: int) -> Iterator[Mistake]:
        """See `Schedule.data_mistakes`."""
        if self.size > tasks:
            yield ["size"], f"got {self.size}, but there are {tasks} tasks."
        if self.entropy_decrease and self.factor * (tasks - 1) >= 1:
            yield ["factor"], f"got {self.factor:g}. Allowed with {tasks} tasks: below {1 / (tasks - 1):g}."

    def arrange(self, family: TaskFamily, plan: Plan, generator: Generator) -> Timetable:
        """`experiences` draws of `size` different tasks.

        Raises:
            UserError: more samples are requested than a task has.
        """
        pools = plan.pools
        for t, pool in enumerate(pools):
            if self.samples is not None and self.samples > len(pool):
                raise UserError(
                    f"stream.schedule.samples: got {self.samples}, but task {t} has {len(pool)} training samples."
                )
        falling = [max(0.0, 1 - i * self.factor) ** self.entropy_decrease for i in range(len(pools))]
        by_rank, rank = [max(w, 1) for w in integers(falling)], generator.permutation(len(pools)).tolist()
        weights = [by_rank[rank[t]] for t in range(len(pools))]
        experiences = []
        for v in range(self.experiences):
            tasks = tuple(sorted(draw(generator, weights, self.size)))
            experiences.append(
                StreamExperience(tuple((t, pick(generator, pools[t], self.samples)) for t in tasks), tasks, v)
            )
        return Timetable(experiences)
