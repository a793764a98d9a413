"""The sequential schedule: every lesson once, in order."""

from __future__ import annotations

from typing import Literal

from clbench.rng import Generator
from clbench.stream import Plan, StreamExperience, Timetable
from clbench.streams.families import Schedule, TaskFamily


class SequentialSchedule(Schedule):
    """Every task once, in order."""

    by: Literal["sequential"] = "sequential"

    def arrange(self, family: TaskFamily, plan: Plan, generator: Generator) -> Timetable:
        """An experience a lesson."""
        return Timetable([StreamExperience(((task, rows),), (task,), v) for v, (task, rows) in enumerate(plan.lessons)])
