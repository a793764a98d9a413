"""Models of `training.schedule`, `training.clip`: how the learning rate goes, and how far a gradient may."""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from clbench.schema import Count, Model, mistake, one_of

ImportPath = Annotated[
    str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", title="an import path like package.module:name")
]


class WarmUp(Model):
    """Linear from `start` to 1; what the schedule does begins after it, as after torch's SequentialLR."""

    length: Count
    """Epochs or updates, see `unit`."""
    start: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor on the learning rate at first."""


class _Schedule(Model):
    warm_up: WarmUp | None = None
    """A linear rise before it."""
    unit: Literal["epochs", "updates"] = "epochs"
    """Of all lengths. By epochs the rate changes once a pass over the experience's samples, else at every update."""
    over: Literal["experience", "stream"] = "experience"
    """It starts anew at every experience (task block, where an online stream cuts experiences), or runs once over the
    whole stream."""


class Constant(_Schedule):
    """The learning rate itself, after a warm-up."""

    name: Literal["constant"]


class Step(_Schedule):
    """The rate is multiplied by `factor` after every so many units."""

    name: Literal["step"]
    every: Count
    factor: Annotated[float, Field(gt=0)] = 0.1


class MultiStep(_Schedule):
    """The rate is multiplied by `factor` at each milestone."""

    name: Literal["multi_step"]
    milestones: Annotated[list[Count], Field(min_length=1)]
    """Units after which the rate changes, ascending; counted from the end of the warm-up."""
    factor: Annotated[float, Field(gt=0)] = 0.1

    @pydantic.model_validator(mode="after")
    def _ascending(self) -> MultiStep:
        if any(a >= b for a, b in itertools.pairwise(self.milestones)):
            raise mistake(f"got {self.milestones}. Allowed: numbers that ascend", "milestones")
        return self


class Exponential(_Schedule):
    """The rate is multiplied by `factor` after each unit."""

    name: Literal["exponential"]
    factor: Annotated[float, Field(gt=0)]


class Cosine(_Schedule):
    """Half a cosine from 1 down to `minimum` (Loshchilov and Hutter 2017, one cycle)."""

    name: Literal["cosine"]
    minimum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the learning rate at the end."""
    length: Count | None = None
    """Units of the descent; the rate stays at the minimum after it. Default: up to the end."""


class Linear(_Schedule):
    """A straight line from `start` to `end`."""

    name: Literal["linear"]
    start: Annotated[float, Field(ge=0)] = 1.0
    """Factor on the learning rate at first."""
    end: Annotated[float, Field(ge=0)] = 0.0
    """Factor at the end."""
    length: Count | None = None
    """Units of the line; the factor stays at `end` after it. Default: up to the end."""


class Imported(_Schedule):
    """A user-defined schedule: `function(update, updates, **options)` gives the factor on the learning rate. It must be
    a pure function, since a resumed run asks it again; its lengths are in updates."""

    name: Literal["imported"]
    function: ImportPath
    options: dict[str, Any] = {}
    """Further arguments, by name."""
    unit: Literal["updates"] = "updates"
    """Of its arguments and of the warm-up."""


Schedule = Annotated[
    Constant | Step | MultiStep | Exponential | Cosine | Linear | Imported, Field(discriminator="name")
]


class Clip(Model):
    """Gradients are clipped after the strategy's changes of them and before the optimiser's step. `watch.gradients`
    records their norm after it."""

    norm: Annotated[float, Field(gt=0)] | None = None
    """Largest Euclidean norm of the gradients of all parameters together."""
    value: Annotated[float, Field(gt=0)] | None = None
    """Largest absolute value of each component."""

    @pydantic.model_validator(mode="after")
    def _one_kind(self) -> Clip:
        one_of(self, "norm", "value")
        return self
