"""Online: experiences cut into small sub-experiences, each sample in one of them.

Every sub-experience keeps the origin and the tasks of its experience, so that all metrics mean the same. Within
an experience samples come in an order drawn by the stream seed; the last sub-experience may be smaller, none is lost.
"""

from __future__ import annotations

import numpy as np

from clbench.rng import Generator
from clbench.stream import Rows, Visit, joined


def cut(visits: list[Visit], samples: int, generator: Generator) -> list[Visit]:
    """Sub-experiences of `samples` samples. Unlabelled ones are distributed evenly over them."""
    out: list[Visit] = []
    places: dict[int, int] = {}  # origin before the cut -> its first sub-experience
    for visit in visits:
        first = places.setdefault(visit.origin, len(out))
        index, task = joined(visit.parts)
        order = generator.permutation(len(index))
        pieces = np.split(order, range(samples, len(order), samples))
        spare, spare_task = joined(visit.unlabelled)
        others = np.array_split(generator.permutation(len(spare)), len(pieces))
        for mine, more in zip(pieces, others, strict=True):
            out.append(
                Visit(_by_task(index[mine], task[mine]), visit.tasks, first, _by_task(spare[more], spare_task[more]))
            )
    return out


def _by_task(index: Rows, task: Rows) -> tuple[tuple[int, Rows], ...]:
    return tuple((t, np.sort(index[task == t])) for t in np.unique(task).tolist())
