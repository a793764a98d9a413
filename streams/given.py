"""Tasks that the data set says itself: the array `task` of a file, or the data sets of a list as domains."""

from __future__ import annotations

import numpy as np

from clbench.chance import Generator
from clbench.errors import UserError
from clbench.grammar import StreamConfig
from clbench.stream import Domain, Layout, Task
from streams.datasets import Outline


def lay_out(config: StreamConfig, data: Outline, generator: Generator) -> Layout:
    """A task has the classes of its training samples, ascending. Each has a domain of its own, inputs unchanged."""
    if data.train_task is None:
        raise UserError(f"stream.tasks: by given, but '{data.name}' says no tasks (arrays train_task and test_task).")
    tasks = []
    for t in range(int(data.train_task.max()) + 1):
        classes = tuple(np.unique(data.train_y[data.train_task == t]).tolist())
        tasks.append(Task(id=t, domain=t, classes=classes, targets=classes))
    return Layout(tasks=tuple(tasks), domains=tuple(Domain() for _ in tasks), given=True)
