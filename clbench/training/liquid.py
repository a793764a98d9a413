"""Liquid networks: recurrent cells in continuous time, by the package ncps.

CfC: Hasani et al. 2022 (Nature Machine Intelligence 4), in closed form. LTC: Hasani et al. 2021 (AAAI), by a solver of
six steps. An input is a sequence of steps, in the order of time, of as many numbers as there are outputs; the state
after the last one goes to a linear layer. It begins at 0 in each input.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from torch import Tensor, nn

from clbench.errors import UserError


def require() -> None:
    """
    Raises:
        UserError: ncps is not installed.
    """
    _package()


def _package() -> Any:
    try:
        import ncps.torch
    except ImportError:
        raise UserError("model.name: liquid networks need the package ncps: pip install 'clbench[liquid]'") from None
    return ncps.torch


class Liquid(nn.Module):
    """(N, steps * width) to the last state, (N, units).

    Args:
        kind: "cfc" or "ltc".
        width: numbers of a step.
        units: of the cell.
    """

    def __init__(self, kind: Literal["cfc", "ltc"], width: int, units: int) -> None:
        super().__init__()
        cell = {"cfc": _package().CfC, "ltc": _package().LTC}[kind]
        self.width = width
        self.cell = cell(width, units, return_sequences=False)

    def forward(self, x: Tensor) -> Tensor:
        state: Tensor = self.cell(x.reshape(len(x), -1, self.width))[0]
        return state


def build(kind: Literal["cfc", "ltc"], units: int, shape: tuple[int, ...], outputs: int) -> nn.Sequential:
    """A liquid layer and a linear one.

    Args:
        kind, units: see `Liquid`.
        shape: of one input.
        outputs: numbers of a step, and of the targets.

    Raises:
        UserError: ncps is not installed, or an input is no sequence of such steps.
    """
    numbers = math.prod(shape)
    if numbers % outputs:
        raise UserError(
            f"model.name: '{kind}' needs inputs that are steps of {outputs} numbers, as the targets are; they have "
            f"{numbers}."
        )
    return nn.Sequential(Liquid(kind, outputs, units), nn.Linear(units, outputs))
