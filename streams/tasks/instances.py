"""Tasks by instances: one task with all classes, its samples distributed at random over the experiences.

Nothing changes from one experience to the next but the samples. It is the iid control of studies of the stability gap:
a change of accuracy after such a boundary cannot be due to a change of the distribution.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from clbench.dataset import Outline
from clbench.errors import UserError
from clbench.rng import Generator
from clbench.schema import Count
from clbench.stream import Domain, Layout, Rows, Task
from clbench.streams.families import TaskFamily


class InstanceTasks(TaskFamily):
    """One task with all classes, its samples distributed at random: the iid control."""

    in_parts: ClassVar[bool] = True

    by: Literal["instances"]
    count: Count
    """Number of parts, an experience each; the first ones take one sample more where samples do not divide."""

    def number(self, of_data: int | None) -> int | None:
        """One: the parts belong to a single task."""
        return 1

    def lay_out(self, data: Outline, generator: Generator) -> Layout:
        """One task; a lesson for each part."""
        if self.count > len(data.train_y):
            raise UserError(
                f"stream.tasks.count: got {self.count}, but '{data.name}' has {len(data.train_y)} training samples."
            )
        classes = tuple(range(data.classes))
        lessons = deal(np.arange(len(data.train_y), dtype=np.int64), self.count, generator)
        return Layout(
            tasks=(Task(id=0, domain=0, classes=classes, targets=classes),),
            domains=(Domain(),),
            lessons=tuple((0, rows) for rows in lessons),
        )


def deal(rows: Rows, parts: int, generator: Generator) -> list[Rows]:
    """Rows in random parts, each ascending; the first ones are larger by one where rows do not divide."""
    return [np.sort(part) for part in np.array_split(rows[generator.permutation(len(rows))], parts)]
