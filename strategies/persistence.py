"""Persistence: the forecast is a value that the input holds already. The references that every forecast has to beat.

    last     the latest known value
    season   the value one period before the target, such as a day: seasonal persistence

Nothing is learnt. An input is a sequence of steps of as many numbers as there are outputs, in the units of the targets
(`normalise: unit`): first the value one period before the target, last the latest known one, as in `link_load` and
`grid_load`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from clbench.errors import UserError
from clbench.lazy import torch
from clbench.schema import Model
from clbench.strategy import Batch, Setup, Strategy

if TYPE_CHECKING:
    from torch import Tensor, nn


class PersistenceConfig(Model):
    """Which value is the forecast."""

    value: Literal["last", "season"] = "last"
    """The latest known one, or the one a period before the target."""


class Persistence(Strategy):
    """Predicts a part of the input. The training step does nothing and returns the loss 0.

    Raises:
        UserError: classes to tell, or inputs that are no steps of as many numbers as there are outputs.
    """

    Config = PersistenceConfig
    regresses = True

    def __init__(self, config: PersistenceConfig, setup: Setup) -> None:
        if setup.training.loss == "cross_entropy":
            raise UserError("strategy.name: 'persistence' forecasts numbers, and training.loss is 'cross_entropy'.")
        numbers = math.prod(setup.input_shape)
        if numbers % setup.outputs:
            raise UserError(
                f"strategy.name: 'persistence' needs inputs that are steps of {setup.outputs} numbers, as the targets "
                f"are; they have {numbers}."
            )
        super().__init__(config, setup)
        self.config: PersistenceConfig = config

    def step(self, batch: Batch) -> Tensor:
        return torch.zeros((), device=self.setup.device)

    def predict(self, model: nn.Module, x: Tensor, task: Tensor | None) -> Any:
        steps = x.reshape(len(x), -1, self.setup.outputs)
        return steps[:, -1 if self.config.value == "last" else 0]
