"""Tasks by permutations: all classes, pixels in another fixed order in each task (Goodfellow et al. 2014).

One permutation serves all channels of an image. Vectors have their features permuted.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from clbench.dataset import Outline
from clbench.rng import Generator
from clbench.schema import Count
from clbench.stream import Domain, Layout, Task
from clbench.streams.families import TaskFamily


class PermutationTasks(TaskFamily):
    """Each task is all classes under a fixed permutation of the pixels (Permuted-MNIST)."""

    by: Literal["permutations"]
    count: Count
    first: Literal["identity", "permuted"] = "identity"
    """Pixels of the first task: unchanged, or permuted."""

    def number(self, of_data: int | None) -> int | None:
        """Number of tasks."""
        return self.count

    def lay_out(self, data: Outline, generator: Generator) -> Layout:
        """One domain a task; the first may be the identity."""
        positions = int(np.prod(data.shape[-2:]))
        everything = tuple(range(data.classes))
        domains = []
        for t in range(self.count):
            if t == 0 and self.first == "identity":
                domains.append(Domain())
            else:
                domains.append(Domain(permutation=generator.permutation(positions)))
        tasks = tuple(Task(id=t, domain=t, classes=everything, targets=everything) for t in range(self.count))
        return Layout(tasks=tasks, domains=tuple(domains))
