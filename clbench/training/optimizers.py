"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from clbench.config import optimizers
from clbench.errors import UserError


def optimizer(
    settings: optimizers.Optimizer, parameters: Iterable[nn.Parameter], fused: bool = False
) -> torch.optim.Optimizer:
    """The benchmark's optimiser over some parameters.

    Args:
        settings: its kind and hyper-parameters.
        parameters: what it changes.
        fused: see `numerics.fused`.

    Raises:
        UserError: torch has no fused step for this kind.
    """
    if fused and isinstance(settings, optimizers.RmsProp):
        raise UserError("numerics.fused: torch has no fused step for 'rmsprop'. Allowed: false.")
    options = settings.model_dump(exclude={"name"})
    if isinstance(settings, optimizers.Adam):
        options["betas"] = tuple(settings.betas)
    if fused:
        options["fused"] = True
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "adagrad": torch.optim.Adagrad,
        "rmsprop": torch.optim.RMSprop,
    }
    return kinds[settings.name](parameters, **options)
