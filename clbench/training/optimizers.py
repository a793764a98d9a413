"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from clbench.config import optimizers
from clbench.errors import UserError

_NEGLIGIBLE, _EPS = 1e-33, 1e-8
"""First moments that move no weight from 1e-17 on, and Adam's least epsilon, by which they are divided, for that."""

_EVERY = 64
"""Steps from one removal of them to the next."""


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


@torch.no_grad()
def remove_denormals(optimizer: torch.optim.Optimizer | None) -> None:
    """Sets negligible first moments of Adam on a CPU to zero; to be called after its steps.

    Where a gradient stays zero, as that of inputs that are silent in a task, the first moment ends as a denormal
    number, with which a step takes two to three times as long for the rest of the run (torch 2.15.0, x86). The steps
    are counted by the optimiser's state, so that a resumed run does the same.
    """
    if not isinstance(optimizer, torch.optim.Adam) or any(g["eps"] < _EPS for g in optimizer.param_groups):
        return
    for state in optimizer.state.values():
        step, moment = state.get("step"), state.get("exp_avg")
        if step is None or moment is None or moment.device.type != "cpu" or int(step) % _EVERY:
            return
        moment.masked_fill_(moment.abs() < _NEGLIGIBLE, 0.0)
