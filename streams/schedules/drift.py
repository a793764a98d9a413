"""Drift: the input changes gradually, from each task's transform to the next one's.

The tasks are the evaluated reference points of the drift. A step trains under a separate transform, which lies between
two of them on a straight line (rotation, brightness, noise), and counts to the nearer task; steps in a row that count
to one task have one origin.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from clbench.errors import UserError
from clbench.rng import Generator
from clbench.schema import Count, Mistake
from clbench.stream import Plan, StreamExperience, Task, Timetable
from clbench.streams.families import Combination, Schedule, TaskFamily
from clbench.streams.schedules.draws import pick
from clbench.streams.tasks.transforms import RotationTasks, Transform, TransformTasks, domain


class DriftSchedule(Schedule):
    """The input changes gradually from each task's transform to the next one's; the tasks are its reference points."""

    by: Literal["drift"]
    experiences: Annotated[int, Field(ge=2)]
    """Steps of the change: the first is at the first task's transform, the last at the last one's."""
    samples: Count | None = None
    """Samples of a step, redrawn in each; null: the training set is distributed, every sample once."""

    def combination_mistakes(self, tasks: TaskFamily) -> Iterator[Combination]:
        """See `Schedule.combination_mistakes`."""
        if not isinstance(tasks, RotationTasks | TransformTasks):
            yield "schedule.by", f"got 'drift', which needs tasks by rotations or transforms, not by {tasks.by}"
            return
        references = tasks.listed()
        if len({t.invert for t in references}) > 1 or any(t.permutation for t in references):
            between = "between permuted or inverted inputs and others there is nothing"
            yield "schedule.by", f"got 'drift', which changes rotation, brightness and noise; {between}"
        if len(references) < 2:
            yield "schedule.by", "got 'drift', which needs two tasks or more"

    def data_mistakes(self, tasks: int) -> Iterator[Mistake]:
        """See `Schedule.data_mistakes`."""
        if self.experiences < tasks:
            yield ["experiences"], f"got {self.experiences}, fewer than the {tasks} tasks."

    def arrange(self, family: TaskFamily, plan: Plan, generator: Generator) -> Timetable:
        """A variant and an experience for each step.

        Raises:
            UserError: more steps, or more samples in a step, than there are samples.
        """
        assert isinstance(family, RotationTasks | TransformTasks)
        steps, references, pool = self.experiences, family.listed(), plan.pools[0]
        wanted = self.samples or 1
        if wanted > len(pool) or (self.samples is None and steps > len(pool)):
            key, value = ("samples", wanted) if self.samples else ("experiences", steps)
            raise UserError(f"stream.schedule.{key}: got {value}, but there are {len(pool)} training samples.")
        dealt = np.array_split(pool[generator.permutation(len(pool))], steps) if self.samples is None else None
        variants, domains, experiences = [], [], list[StreamExperience]()
        for v in range(steps):
            segment, rest = divmod(v * (len(references) - 1), steps - 1)
            way = rest / (steps - 1)
            after = references[min(segment + 1, len(references) - 1)]
            domains.append(domain(between(references[segment], after, way)))
            nearest = segment + (way > 0.5)
            number = len(plan.tasks) + v
            first = plan.tasks[0]
            variants.append(Task(number, len(plan.domains) + v, first.classes, first.targets, stands_for=nearest))
            rows = np.sort(dealt[v]) if dealt is not None else pick(generator, pool, self.samples)
            same = bool(experiences) and experiences[-1].tasks == (nearest,)
            experiences.append(StreamExperience(((number, rows),), (nearest,), experiences[-1].origin if same else v))
        absent = sorted(set(range(len(plan.tasks))) - {v.tasks[0] for v in experiences})
        if absent:
            raise UserError(f"stream.schedule.experiences: got {steps}, too few for task {absent[0]} to occur.")
        return Timetable(experiences, tuple(variants), tuple(domains))


def between(a: Transform, b: Transform, share: float) -> Transform:
    """The transform at a share of the way from a to b.

    >>> between(Transform(rotation=0.0), Transform(rotation=90.0, noise=0.5), 0.5)
    Transform(rotation=45.0, permutation=False, invert=False, brightness=1.0, noise=0.25)
    """
    changes = {
        key: getattr(a, key) * (1 - share) + getattr(b, key) * share for key in ("rotation", "brightness", "noise")
    }
    return a.model_copy(update=changes)
