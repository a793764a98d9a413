"""The explicit schedule: a list of experiences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from clbench.errors import UserError
from clbench.rng import Generator
from clbench.schema import Count, Mistake, Model, name_classes
from clbench.stream import Plan, StreamExperience, Timetable
from clbench.streams.families import Schedule, TaskFamily
from clbench.streams.schedules.draws import pick


class Lesson(Model):
    """One experience, or several equal ones."""

    tasks: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """Tasks of the experience."""
    samples: Count | None = None
    """Of each task, drawn by the stream seed; null: all."""
    repeat: Count = 1


class ExplicitSchedule(Schedule):
    """A list of experiences."""

    by: Literal["explicit"]
    experiences: Annotated[list[Lesson], Field(min_length=1)]

    def data_mistakes(self, tasks: int) -> Iterator[Mistake]:
        """See `Schedule.data_mistakes`."""
        named: set[int] = set()
        for i, lesson in enumerate(self.experiences):
            beyond = sorted({t for t in lesson.tasks if t >= tasks})
            key: list[str | int] = ["experiences", i, "tasks"]
            if beyond:
                yield key, f"{name_classes(beyond, 'task')} not in the stream, which has tasks 0 to {tasks - 1}."
            if len(set(lesson.tasks)) < len(lesson.tasks):
                yield key, "a task is listed twice."
            named.update(lesson.tasks)
        absent = sorted(set(range(tasks)) - named)
        if absent:
            yield ["experiences"], f"{name_classes(absent, 'task')} in no experience."

    def arrange(self, family: TaskFamily, plan: Plan, generator: Generator) -> Timetable:
        """The listed experiences. Samples are redrawn in each.

        Raises:
            UserError: more samples are requested than a task has.
        """
        pools, experiences = plan.pools, list[StreamExperience]()
        for i, lesson in enumerate(self.experiences):
            tasks = tuple(sorted(lesson.tasks))
            for t in tasks:
                if lesson.samples is not None and lesson.samples > len(pools[t]):
                    raise UserError(
                        f"stream.schedule.experiences[{i}].samples: got {lesson.samples}, but task {t} has "
                        f"{len(pools[t])} training samples."
                    )
            for _ in range(lesson.repeat):
                parts = tuple((t, pick(generator, pools[t], lesson.samples)) for t in tasks)
                experiences.append(StreamExperience(parts, tasks, len(experiences)))
        return Timetable(experiences)
