"""Repetition: tasks enter one by one, and each returns later with its own probability.

After the sampling-based generator of Hemati et al. 2023 (Class-Incremental Learning with Repetition, CoLLAs), where the
first occurrence of a class follows a geometric distribution and each class has a probability of repetition. Differs:
an experience in which nothing would enter or return has one known task, drawn by the same probabilities; the original
fixes the samples of an experience, which `samples` does here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from clbench.apportion import apportion
from clbench.rng import Generator
from clbench.schema import Count, Mistake, Share, mistake
from clbench.stream import Plan, StreamExperience, Timetable
from clbench.streams.families import Schedule, TaskFamily
from clbench.streams.schedules.draws import draw, integers, pick


class RepetitionSchedule(Schedule):
    """Tasks enter one by one, and each returns in later experiences with its own probability."""

    by: Literal["repetition"]
    experiences: Count
    law: Literal["geometric", "zipf", "list"] = "geometric"
    """Probability of the task of rank i = 0, 1, ... : probability (1 - rate)^i, probability / (i + 1)^rate, or
    `probabilities[task]`."""
    probability: Share = 0.5
    rate: Annotated[float, Field(ge=0)] = 0.1
    probabilities: list[Annotated[float, Field(ge=0, le=1)]] | None = None
    """One a task, for the law `list`."""
    first: Literal["even", "geometric"] = "even"
    """Entry of the tasks: at even distances, or in experience v with a probability that falls as (1 - first_rate)^v."""
    first_rate: Annotated[float, Field(gt=0, lt=1)] = 0.1
    samples: Count | None = None
    """Samples of an experience, distributed equally over its tasks; null: all of their samples."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> RepetitionSchedule:
        if (self.law == "list") != (self.probabilities is not None):
            needed = "required for the law 'list', but not given"
            raise mistake(
                needed if self.law == "list" else f"is for the law 'list', not for '{self.law}'", "probabilities"
            )
        if self.law == "geometric" and self.rate >= 1:
            raise mistake(f"got {self.rate:g}. Allowed with the law 'geometric': a number from 0 to below 1", "rate")
        return self

    def data_mistakes(self, tasks: int) -> Iterator[Mistake]:
        """See `Schedule.data_mistakes`."""
        if self.experiences < tasks and self.first == "even":
            yield ["experiences"], f"got {self.experiences}, fewer than the {tasks} tasks."
        if self.samples is not None and self.samples < tasks:
            yield ["samples"], f"got {self.samples}, too few for an experience in which all {tasks} tasks meet."
        if self.probabilities is not None and len(self.probabilities) != tasks:
            yield ["probabilities"], f"got {len(self.probabilities)}, but there are {tasks} tasks."

    def arrange(self, family: TaskFamily, plan: Plan, generator: Generator) -> Timetable:
        """`experiences` experiences, none of them empty."""
        pools = plan.pools
        again = probabilities(self, len(pools), generator)
        first = entries(self, len(pools), generator)
        weights, experiences = [max(w, 1) for w in integers(again)], []
        for v in range(self.experiences):
            chances = generator.uniform(len(pools)).tolist()
            known = [t for t in range(len(pools)) if first[t] < v]
            tasks = [t for t in known if chances[t] < again[t]] + [t for t in range(len(pools)) if first[t] == v]
            if not tasks:
                tasks = [known[draw(generator, [weights[t] for t in known], 1)[0]]]
            sizes = [len(pools[t]) for t in sorted(tasks)]
            amounts = sizes
            if self.samples is not None:
                amounts = apportion(min(self.samples, sum(sizes)), [1] * len(sizes), sizes)
            parts = [(t, pick(generator, pools[t], n)) for t, n in zip(sorted(tasks), amounts, strict=True) if n]
            experiences.append(StreamExperience(tuple(parts), tuple(t for t, _ in parts), v))
        return Timetable(experiences)


def probabilities(schedule: RepetitionSchedule, tasks: int, generator: Generator) -> list[float]:
    """The probability with which each task returns, (T,); ranks are drawn."""
    if schedule.probabilities is not None:
        return list(schedule.probabilities)
    rank = generator.permutation(tasks).tolist()
    if schedule.law == "zipf":
        return [float(schedule.probability / (rank[t] + 1) ** schedule.rate) for t in range(tasks)]
    return [float(schedule.probability * (1 - schedule.rate) ** rank[t]) for t in range(tasks)]


def entries(schedule: RepetitionSchedule, tasks: int, generator: Generator) -> list[int]:
    """The experience in which each task enters, ascending; task 0 enters in the first."""
    if schedule.first == "even":
        return [t * schedule.experiences // tasks for t in range(tasks)]
    weights = integers([(1 - schedule.first_rate) ** v for v in range(schedule.experiences)])
    return [0, *sorted(draw(generator, weights, 1)[0] for _ in range(tasks - 1))]
