"""Tasks by transforms: all classes, inputs changed by a fixed transform in each task.

Rotations (Lopez-Paz and Ranzato 2017) are the shorthand of the family: a list of angles. A transform may also permute,
invert, brighten, or add noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from clbench.dataset import Outline
from clbench.rng import Generator
from clbench.schema import Mistake, Model
from clbench.stream import Domain, Layout, Rows, Task
from clbench.streams.families import NonNegative, TaskFamily

Degrees = Annotated[float, Field(ge=-360, le=360)]


class Transform(Model):
    """A change of the input; its parts apply in the order of these keys."""

    rotation: Degrees = 0.0
    """Counter-clockwise angle; images only."""
    permutation: bool = False
    """Pixels (or features) are permuted in an order of this task, drawn by the stream seed."""
    invert: bool = False
    """Pixels are inverted, light and dark; images of whole numbers only."""
    brightness: NonNegative = 1.0
    """Factor of the input; images of whole numbers are clipped at their largest value."""
    noise: NonNegative = 0.0
    """Deviation of Gaussian noise, in units of the largest stored value; a sample's noise is the same each time."""


class RotationTasks(TaskFamily):
    """Each task is all classes, rotated by a fixed angle about the centre (Rotated-MNIST)."""

    by: Literal["rotations"]
    degrees: Annotated[list[Degrees], Field(min_length=1)]
    """Counter-clockwise angles, one a task; bilinear interpolation, zero outside."""

    def number(self, of_data: int | None) -> int | None:
        """Number of tasks."""
        return len(self.degrees)

    def listed(self) -> list[Transform]:
        """The transform of each task, T of them."""
        return [Transform(rotation=d) for d in self.degrees]

    def data_mistakes(self, name: str, classes: int, image: bool, tasks: int | None) -> Iterator[Mistake]:
        """See `TaskFamily.data_mistakes`."""
        if not image:
            yield ["by"], f"rotations need images, and '{name}' holds vectors."

    def lay_out(self, data: Outline, generator: Generator) -> Layout:
        """One domain an angle."""
        return lay_out(self.listed(), data, generator)


class TransformTasks(TaskFamily):
    """Each task is all classes under a transform of a list."""

    by: Literal["transforms"]
    transforms: Annotated[list[Transform], Field(min_length=1)]
    """One a task; {} leaves inputs unchanged."""

    def number(self, of_data: int | None) -> int | None:
        """Number of tasks."""
        return len(self.transforms)

    def listed(self) -> list[Transform]:
        """The transform of each task, T of them."""
        return list(self.transforms)

    def data_mistakes(self, name: str, classes: int, image: bool, tasks: int | None) -> Iterator[Mistake]:
        """See `TaskFamily.data_mistakes`."""
        for i, transform in enumerate(self.transforms):
            for key in ("rotation", "invert"):
                if getattr(transform, key) and not image:
                    yield ["transforms", i, key], f"needs images, and '{name}' holds vectors."

    def lay_out(self, data: Outline, generator: Generator) -> Layout:
        """One domain a transform; permutations are drawn in their order."""
        return lay_out(self.listed(), data, generator)


def domain(transform: Transform, permutation: Rows | None = None) -> Domain:
    """A transform as a domain; whole turns are the identity."""
    degrees = float(transform.rotation)
    return Domain(
        degrees=degrees if degrees % 360 else 0.0,
        permutation=permutation,
        invert=transform.invert,
        brightness=float(transform.brightness),
        noise=float(transform.noise),
    )


def lay_out(transforms: Sequence[Transform], data: Outline, generator: Generator) -> Layout:
    """One domain a transform; permutations are drawn in their order."""
    everything = tuple(range(data.classes))
    positions = int(np.prod(data.shape[-2:]))
    domains = tuple(domain(t, generator.permutation(positions) if t.permutation else None) for t in transforms)
    tasks = tuple(Task(id=t, domain=t, classes=everything, targets=everything) for t in range(len(domains)))
    return Layout(tasks=tasks, domains=domains)
