"""Tasks by classes: each task is a block of classes (Split-MNIST and its relatives).

Order of entry and blocks come from the definition, or from the stream seed. Where classes do not divide by the
number of tasks, the first tasks take one more; no class is left out.
"""

from __future__ import annotations

from clbench.chance import Generator
from clbench.config import ClassTasks, StreamConfig
from clbench.stream import Domain, Layout, Task
from streams.datasets import DataSet


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
    small, larger = divmod(classes, config.count)
    out, start = [], 0
    for t in range(config.count):
        end = start + small + (t < larger)
        out.append(order[start:end])
        start = end
    return out


def lay_out(config: StreamConfig, data: DataSet, generator: Generator) -> Layout:
    """Tasks by classes; targets are the classes themselves or their places within the task."""
    assert isinstance(config.tasks, ClassTasks)
    within = config.tasks.labels == "within_task"
    tasks = []
    for t, members in enumerate(blocks(config.tasks, data.classes, generator)):
        targets = tuple(range(len(members))) if within else tuple(members)
        tasks.append(Task(id=t, domain=0, classes=tuple(members), targets=targets))
    return Layout(tasks=tuple(tasks), domains=(Domain("identity"),))
