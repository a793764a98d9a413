"""Tasks by classes: each task is a block of classes (Split-MNIST and its relatives).

Order of entry and blocks come from the definition, or from the stream seed. Where classes do not divide by the
number of tasks, the first tasks take one more; no class is left out.

By classes and instances, a block's samples come in parts (the NIC scenario of Lomonaco and Maltoni 2017): an
experience brings new classes, or new instances of classes that are known.
"""

from __future__ import annotations

import numpy as np

from clbench.chance import Generator
from clbench.errors import UserError
from clbench.grammar import ClassTasks, MixedTasks, StreamConfig
from clbench.stream import Domain, Layout, Rows, Task
from streams.datasets import Outline
from streams.instances import deal


def blocks(config: ClassTasks, classes: int, generator: Generator) -> list[list[int]]:
    """The classes of each task, in order of entry."""
    if config.blocks is not None:
        return [list(b) for b in config.blocks]
    if isinstance(config.order, list):
        order = list(config.order)
    elif config.order == "natural":
        order = list(range(classes))
    else:
        order = generator.permutation(classes).tolist()
    assert config.count is not None
    out, start, count = [], 0, config.count
    if config.first is not None:
        out, start, count = [order[: config.first]], config.first, count - 1
    small, larger = divmod(len(order) - start, count)
    for t in range(count):
        end = start + small + (t < larger)
        out.append(order[start:end])
        start = end
    return out


def lay_out(config: StreamConfig, data: Outline, generator: Generator) -> Layout:
    """Tasks by classes; targets are the classes themselves or their places within the task."""
    assert isinstance(config.tasks, ClassTasks)
    within = config.tasks.labels == "within_task"
    tasks = []
    for t, members in enumerate(blocks(config.tasks, data.classes, generator)):
        targets = tuple(range(len(members))) if within else tuple(members)
        tasks.append(Task(id=t, domain=0, classes=tuple(members), targets=targets))
    lessons = _parts(config.tasks, tasks, data, generator) if isinstance(config.tasks, MixedTasks) else None
    return Layout(tasks=tuple(tasks), domains=(Domain(),), lessons=lessons)


def _parts(config: MixedTasks, tasks: list[Task], data: Outline, generator: Generator) -> tuple[tuple[int, Rows], ...]:
    """Each task's samples in parts, a part of task 0 first and all others in random order."""
    lessons: list[tuple[int, Rows]] = []
    for task in tasks:
        rows = np.flatnonzero(np.isin(data.train_y, task.classes))
        if len(rows) < config.parts:
            raise UserError(f"stream.tasks.parts: got {config.parts}, but task {task.id} has {len(rows)} samples.")
        lessons += [(task.id, part) for part in deal(rows, config.parts, generator)]
    order = 1 + generator.permutation(len(lessons) - 1)
    return (lessons[0], *(lessons[i] for i in order.tolist()))
