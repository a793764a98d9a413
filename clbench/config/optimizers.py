"""Models of `training.optimizer`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from clbench.config.schedules import ImportPath
from clbench.schema import Model

LearningRate = Annotated[float, Field(gt=0)]

NonNegative = Annotated[float, Field(ge=0)]

BelowOne = Annotated[float, Field(ge=0, lt=1)]


class Sgd(Model):
    name: Literal["sgd"]
    lr: LearningRate
    momentum: BelowOne = 0.0
    nesterov: bool = False
    weight_decay: NonNegative = 0.0


class Adam(Model):
    name: Literal["adam"]
    lr: LearningRate = 1e-3
    betas: Annotated[list[BelowOne], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: NonNegative = 0.0


class AdamW(Adam):
    name: Literal["adamw"]  # type: ignore[assignment]
    weight_decay: NonNegative = 0.01


class Adagrad(Model):
    name: Literal["adagrad"]
    lr: LearningRate = 1e-2
    eps: Annotated[float, Field(gt=0)] = 1e-10
    weight_decay: NonNegative = 0.0


class RmsProp(Model):
    name: Literal["rmsprop"]
    lr: LearningRate = 1e-2
    alpha: BelowOne = 0.99
    eps: Annotated[float, Field(gt=0)] = 1e-8
    momentum: BelowOne = 0.0
    weight_decay: NonNegative = 0.0


class Imported(Model):
    """A user-defined optimiser: `factory(parameters, lr=lr, **options)` gives a `torch.optim.Optimizer`."""

    name: Literal["imported"]
    factory: ImportPath
    lr: LearningRate
    options: dict[str, Any] = {}
    """Further arguments, by name."""


Optimizer = Annotated[Sgd | Adam | AdamW | Adagrad | RmsProp | Imported, Field(discriminator="name")]
