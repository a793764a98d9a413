"""Tasks by rotations: all classes, images turned by a fixed angle in each task (Lopez-Paz and Ranzato 2017)."""

from __future__ import annotations

from clbench.chance import Generator
from clbench.config import RotationTasks, StreamConfig
from clbench.stream import Domain, Layout, Task
from streams.datasets import DataSet


def lay_out(config: StreamConfig, data: DataSet, generator: Generator) -> Layout:
    """One domain an angle; nothing is drawn."""
    assert isinstance(config.tasks, RotationTasks)
    everything = tuple(range(data.classes))
    domains = tuple(
        Domain("rotation", degrees=float(d)) if float(d) % 360 else Domain("identity") for d in config.tasks.degrees
    )
    tasks = tuple(Task(id=t, domain=t, classes=everything, targets=everything) for t in range(len(domains)))
    return Layout(tasks=tasks, domains=domains)
