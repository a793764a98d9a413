"""Tasks defined by the data set: the array `task` of a file, or the data sets of a list as domains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from clbench.dataset import Outline
from clbench.errors import UserError
from clbench.rng import Generator
from clbench.schema import Mistake
from clbench.stream import Domain, Layout, Rows, Task
from clbench.streams.families import TaskFamily


class GivenTasks(TaskFamily):
    """Tasks defined by the data set: the array `task` of a file, or the data sets of a list as domains."""

    by: Literal["given"]

    @property
    def settings(self) -> tuple[str, ...]:
        """Settings compatible with the family."""
        return ("class", "task", "domain")

    def number(self, of_data: int | None) -> int | None:
        """Number of tasks that the data set defines."""
        return of_data

    def data_mistakes(self, name: str, classes: int, image: bool, tasks: int | None) -> Iterator[Mistake]:
        """See `TaskFamily.data_mistakes`."""
        if tasks is None:
            yield (
                ["by"],
                f"got 'given', but '{name}' has no tasks; a file gives them by train_task and test_task, a table by "
                "columns.task.",
            )

    def lay_out(self, data: Outline, generator: Generator) -> Layout:
        """See `by_task`."""
        if data.train_task is None:
            raise UserError(
                f"stream.tasks: by given, but '{data.name}' has no tasks (arrays train_task and test_task)."
            )
        return by_task(data.train_task, data.train_y)


def by_task(train_task: Rows, train_y: Rows) -> Layout:
    """Tasks with the classes of their training samples, ascending; each has a separate domain, inputs unchanged."""
    tasks = []
    for t in range(int(train_task.max()) + 1):
        classes = tuple(np.unique(train_y[train_task == t]).tolist())
        tasks.append(Task(id=t, domain=t, classes=classes, targets=classes))
    return Layout(tasks=tuple(tasks), domains=tuple(Domain() for _ in tasks), task_labels_given=True)
