"""Tasks by instances: one task with all classes, its samples dealt out at random to the experiences.

Nothing changes from one experience to the next but the samples. It is the iid control of studies of the stability gap:
what accuracy does after a switch to more of the same cannot be due to a change of the distribution.
"""

from __future__ import annotations

import numpy as np

from clbench.chance import Generator
from clbench.errors import UserError
from clbench.grammar import InstanceTasks, StreamConfig
from clbench.stream import Domain, Layout, Rows, Task
from streams.datasets import Outline


def deal(rows: Rows, parts: int, generator: Generator) -> list[Rows]:
    """Rows in random parts, each ascending; the first ones are larger by one where rows do not divide."""
    return [np.sort(part) for part in np.array_split(rows[generator.permutation(len(rows))], parts)]


def lay_out(config: StreamConfig, data: Outline, generator: Generator) -> Layout:
    """One task; a lesson for each part."""
    assert isinstance(config.tasks, InstanceTasks)
    count = config.tasks.count
    if count > len(data.train_y):
        raise UserError(f"stream.tasks.count: got {count}, but '{data.name}' has {len(data.train_y)} training samples.")
    classes = tuple(range(data.classes))
    lessons = deal(np.arange(len(data.train_y), dtype=np.int64), count, generator)
    return Layout(
        tasks=(Task(id=0, domain=0, classes=classes, targets=classes),),
        domains=(Domain(),),
        lessons=tuple((0, rows) for rows in lessons),
    )
