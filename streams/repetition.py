"""Repetition: tasks enter one by one, and each returns later with a probability of its own.

After the sampling-based generator of Hemati et al. 2023 (Class-Incremental Learning with Repetition, CoLLAs), where the
first occurrence of a class follows a geometric distribution and each class has a probability of repetition. Differs:
an experience in which nothing would enter or return has one known task, drawn by the same probabilities; the original
fixes the samples of an experience, which `samples` does here.
"""

from __future__ import annotations

from clbench.apportion import apportion
from clbench.chance import Generator
from clbench.grammar import RepetitionSchedule, StreamConfig
from clbench.stream import Plan, Timetable, Visit
from streams.weights import draw, integers, pick


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


def arrange(config: StreamConfig, plan: Plan, generator: Generator) -> Timetable:
    """`experiences` experiences, none of them empty."""
    schedule = config.schedule
    assert isinstance(schedule, RepetitionSchedule)
    pools = plan.pools
    again = probabilities(schedule, len(pools), generator)
    first = entries(schedule, len(pools), generator)
    weights, visits = [max(w, 1) for w in integers(again)], []
    for v in range(schedule.experiences):
        chances = generator.uniform(len(pools)).tolist()
        known = [t for t in range(len(pools)) if first[t] < v]
        tasks = [t for t in known if chances[t] < again[t]] + [t for t in range(len(pools)) if first[t] == v]
        if not tasks:
            tasks = [known[draw(generator, [weights[t] for t in known], 1)[0]]]
        sizes = [len(pools[t]) for t in sorted(tasks)]
        amounts = sizes
        if schedule.samples is not None:
            amounts = apportion(min(schedule.samples, sum(sizes)), [1] * len(sizes), sizes)
        parts = [(t, pick(generator, pools[t], n)) for t, n in zip(sorted(tasks), amounts, strict=True) if n]
        visits.append(Visit(tuple(parts), tuple(t for t, _ in parts), v))
    return Timetable(visits)
