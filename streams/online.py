"""Online: experiences cut into small sub-experiences, each sample in one of them.

Every sub-experience keeps the origin and the tasks of its experience, so that all metrics mean the same. Within an
experience samples come in an order drawn by the stream seed, or in that of time; the last sub-experience may be
smaller, none is lost.
"""

from __future__ import annotations

import numpy as np

from clbench.rng import Generator
from clbench.stream import Rows, StreamExperience, joined


def cut(
    experiences: list[StreamExperience], samples: int, generator: Generator, in_order: bool = False
) -> list[StreamExperience]:
    """Sub-experiences of `samples` samples. Unlabelled ones are distributed evenly over them.

    Args:
        experiences: whole ones.
        samples: of a sub-experience.
        generator: draws the order.
        in_order: whether samples keep the order that they have, by task and row.
    """
    out: list[StreamExperience] = []
    places: dict[int, int] = {}  # origin before the cut -> its first sub-experience
    for experience in experiences:
        first = places.setdefault(experience.origin, len(out))
        index, task = joined(experience.parts)
        order = np.arange(len(index)) if in_order else generator.permutation(len(index))
        pieces = np.split(order, range(samples, len(order), samples))
        spare, spare_task = joined(experience.unlabelled)
        others = np.array_split(np.arange(len(spare)) if in_order else generator.permutation(len(spare)), len(pieces))
        for mine, more in zip(pieces, others, strict=True):
            out.append(
                StreamExperience(
                    _by_task(index[mine], task[mine]), experience.tasks, first, _by_task(spare[more], spare_task[more])
                )
            )
    return out


def _by_task(index: Rows, task: Rows) -> tuple[tuple[int, Rows], ...]:
    return tuple((t, np.sort(index[task == t])) for t in np.unique(task).tolist())
