"""Tasks by permutations: all classes, pixels in another fixed order in each task (Goodfellow et al. 2014).

One permutation serves all channels of an image. Vectors have their features permuted.
"""

from __future__ import annotations

import numpy as np

from clbench.chance import Generator
from clbench.grammar import PermutationTasks, StreamConfig
from clbench.stream import Domain, Layout, Task
from streams.datasets import Outline


def lay_out(config: StreamConfig, data: Outline, generator: Generator) -> Layout:
    """One domain a task; the first may be the identity."""
    assert isinstance(config.tasks, PermutationTasks)
    positions = int(np.prod(data.shape[-2:]))
    everything = tuple(range(data.classes))
    domains = []
    for t in range(config.tasks.count):
        if t == 0 and config.tasks.first == "identity":
            domains.append(Domain())
        else:
            domains.append(Domain(permutation=generator.permutation(positions)))
    tasks = tuple(Task(id=t, domain=t, classes=everything, targets=everything) for t in range(config.tasks.count))
    return Layout(tasks=tasks, domains=tuple(domains))
