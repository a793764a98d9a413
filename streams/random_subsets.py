"""Random subsets: each experience draws a few tasks; with one class a task, that is SCoLe.

Lesort et al. 2023 (CoLLAs, arXiv 2207.04543): up to thousands of experiences, so that how often something is met, and
not how long ago, decides what is known. An experience has all training samples of its tasks. Weights are uniform or
fall with a task's rank, (1 - i factor)^entropy_decrease. Differs from the paper's code: no share of the training set
is held out, and no two experiences in a row are kept from being equal (there neither).
"""

from __future__ import annotations

from clbench.chance import Generator
from clbench.errors import UserError
from clbench.grammar import RandomSubsetsSchedule, StreamConfig
from clbench.stream import Plan, Timetable, Visit
from streams.weights import draw, integers, pick


def arrange(config: StreamConfig, plan: Plan, generator: Generator) -> Timetable:
    """`experiences` draws of `size` different tasks.

    Raises:
        UserError: more samples are asked for than a task has.
    """
    schedule = config.schedule
    assert isinstance(schedule, RandomSubsetsSchedule)
    pools = plan.pools
    for t, pool in enumerate(pools):
        if schedule.samples is not None and schedule.samples > len(pool):
            raise UserError(
                f"stream.schedule.samples: got {schedule.samples}, but task {t} has {len(pool)} training samples."
            )
    falling = [max(0.0, 1 - i * schedule.factor) ** schedule.entropy_decrease for i in range(len(pools))]
    by_rank, rank = [max(w, 1) for w in integers(falling)], generator.permutation(len(pools)).tolist()
    weights = [by_rank[rank[t]] for t in range(len(pools))]
    visits = []
    for v in range(schedule.experiences):
        tasks = tuple(sorted(draw(generator, weights, schedule.size)))
        visits.append(Visit(tuple((t, pick(generator, pools[t], schedule.samples)) for t in tasks), tasks, v))
    return Timetable(visits)
