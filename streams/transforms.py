"""Tasks by transforms: all classes, inputs changed by a fixed transform in each task.

Rotations (Lopez-Paz and Ranzato 2017) are the shorthand of the family: a list of angles. A transform may also permute,
invert, brighten, or add noise.
"""

from __future__ import annotations

import numpy as np

from clbench.chance import Generator
from clbench.grammar import StreamConfig, Transform
from clbench.stream import Domain, Layout, Rows, Task
from streams.datasets import Outline


def domain(transform: Transform, permutation: Rows | None = None) -> Domain:
    """A transform as what is done to inputs; whole turns are none."""
    degrees = float(transform.rotation)
    return Domain(
        degrees=degrees if degrees % 360 else 0.0,
        permutation=permutation,
        invert=transform.invert,
        brightness=float(transform.brightness),
        noise=float(transform.noise),
    )


def lay_out(config: StreamConfig, data: Outline, generator: Generator) -> Layout:
    """One domain a transform; permutations are drawn in their order."""
    everything = tuple(range(data.classes))
    positions = int(np.prod(data.shape[-2:]))
    domains = tuple(
        domain(t, generator.permutation(positions) if t.permutation else None) for t in config.domains_listed()
    )
    tasks = tuple(Task(id=t, domain=t, classes=everything, targets=everything) for t in range(len(domains)))
    return Layout(tasks=tasks, domains=domains)
