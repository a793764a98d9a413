"""The explicit schedule: a list of experiences, for anything else."""

from __future__ import annotations

from clbench.chance import Generator
from clbench.errors import UserError
from clbench.grammar import ExplicitSchedule, StreamConfig
from clbench.stream import Plan, Timetable, Visit
from streams.weights import pick


def arrange(config: StreamConfig, plan: Plan, generator: Generator) -> Timetable:
    """The listed experiences. Samples are drawn anew in each.

    Raises:
        UserError: more samples are asked for than a task has.
    """
    schedule = config.schedule
    assert isinstance(schedule, ExplicitSchedule)
    pools, visits = plan.pools, list[Visit]()
    for i, lesson in enumerate(schedule.experiences):
        tasks = tuple(sorted(lesson.tasks))
        for t in tasks:
            if lesson.samples is not None and lesson.samples > len(pools[t]):
                raise UserError(
                    f"stream.schedule.experiences[{i}].samples: got {lesson.samples}, but task {t} has {len(pools[t])} "
                    "training samples."
                )
        for _ in range(lesson.repeat):
            parts = tuple((t, pick(generator, pools[t], lesson.samples)) for t in tasks)
            visits.append(Visit(parts, tasks, len(visits)))
    return Timetable(visits)
