"""Optimizers by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch

from clbench.config import optimizers
from clbench.errors import UserError
from clbench.tracebacks import described
from clbench.training.imports import imported

_NEGLIGIBLE, _EPS = 1e-33, 1e-8
"""First moments that move no weight from 1e-17 on, and Adam's least epsilon, by which they are divided, for that."""

_EVERY = 64
"""Steps from one removal of them to the next."""


def optimizer(settings: optimizers.Optimizer, parameters: Iterable[Any], fused: bool = False) -> torch.optim.Optimizer:
    """The benchmark's optimiser over some parameters.

    Args:
        settings: its kind and hyper-parameters.
        parameters: what it changes, or groups of it.
        fused: see `numerics.fused`.

    Raises:
        UserError: torch has no fused step for this kind; a user's factory that fails or takes other arguments.
    """
    if fused and isinstance(settings, (optimizers.RmsProp, optimizers.Imported)):
        raise UserError(f"numerics.fused: torch has no fused step for '{settings.name}'. Allowed: false.")
    options = settings_of(settings)
    if isinstance(settings, optimizers.Imported):
        return _imported(settings.factory, list(parameters), options)
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


def settings_of(settings: optimizers.Optimizer) -> dict[str, Any]:
    """Hyper-parameters as a constructor takes them and a parameter group holds them."""
    if isinstance(settings, optimizers.Imported):
        return {"lr": settings.lr, **settings.options}
    options = settings.model_dump(exclude={"name"})
    if isinstance(settings, optimizers.Adam):
        options["betas"] = tuple(settings.betas)
    return options


def _imported(path: str, parameters: list[Any], options: dict[str, Any]) -> torch.optim.Optimizer:
    """The optimiser of a user's factory.

    Raises:
        UserError: it takes other arguments, fails, or gives something else.
    """
    key = "optimizer.factory"
    factory = imported(path, key)
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # of an extension module: nothing is known of it
        signature = None
    words = ", ".join(options)
    if signature is not None:
        try:
            signature.bind(parameters, **options)
        except TypeError as error:
            shown = inspect.Signature(
                [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
            )
            raise UserError(
                f"{key}: '{path}' takes {shown}, and would be called with the parameters and {words} ({error})."
            ) from None
    try:
        made = factory(parameters, **options)
    except UserError:
        raise
    except Exception as error:  # a user's function may do anything
        raise UserError(
            f"{key}: '{path}', called with the parameters and {words}, failed: {described(error)}."
        ) from error
    if not isinstance(made, torch.optim.Optimizer):
        raise UserError(f"{key}: '{path}' gave {type(made).__name__}. Allowed: a torch.optim.Optimizer.")
    return made


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
