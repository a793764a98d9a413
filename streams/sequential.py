"""The sequential schedule: every lesson once, in order."""

from __future__ import annotations

from clbench.chance import Generator
from clbench.grammar import StreamConfig
from clbench.stream import Plan, Timetable, Visit


def arrange(config: StreamConfig, plan: Plan, generator: Generator) -> Timetable:
    """An experience a lesson."""
    return Timetable([Visit(((task, rows),), (task,), v) for v, (task, rows) in enumerate(plan.lessons)])
