"""Predicts by an exponential moving average of the weights; training is unaffected.

Reference: Soutif-Cormerais, Carta and van de Weijer 2023, "Improving online continual learning performance and
stability with temporal ensembles" (CoLLAs).

    a <- m a + (1 - m) w      after every update, a being the first weights at the start

Meant to be composed: `[er, ema]` trains as `er` and predicts by a. Running statistics of batch normalisation are
averaged like weights, as in the authors' code. `watch.ema` evaluates such averages beside any strategy's own weights;
here they are what the strategy is.

Differs from the paper: nothing known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clbench.config.optimizers import BelowOne
from clbench.config.training import Parameters
from clbench.lazy import torch
from clbench.strategy import Batch, Memory, Setup, Strategy

if TYPE_CHECKING:
    from torch import Tensor, nn


class AverageConfig(Parameters):
    """Hyper-parameters of the average."""

    momentum: BelowOne = 0.99
    """m; at 0 the average is the weights themselves."""


class AveragedWeights(Strategy):
    """Fine-tuning, or the strategy it is composed with; predicts by averaged weights."""

    regresses = True

    Config = AverageConfig

    def __init__(self, config: AverageConfig, setup: Setup) -> None:
        self.config: AverageConfig = config
        super().__init__(config, setup)
        self._average = {name: t.clone() for name, t in _floating(self.model).items()}

    def after_update(self, batch: Batch) -> None:
        now = _floating(self.model)
        fits = {n: a for n, a in self._average.items() if n in now and now[n].shape == a.shape}
        # New parameters, and those that changed their size, restart their average.
        self._average = {n: fits[n] if n in fits else t.clone() for n, t in now.items()}
        torch._foreach_lerp_(list(fits.values()), [now[n] for n in fits], 1 - self.config.momentum)

    def predict(self, model: nn.Module, x: Tensor, task: Tensor | None) -> Tensor | None:
        scores: Tensor = torch.func.functional_call(model, self._average, (x,))
        return scores

    def memory(self) -> Memory:
        """Memory, the average included."""
        return Memory(0, sum(t.nbytes for t in self._average.values()))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "average": dict(self._average)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._average = {n: t.to(self.setup.device, copy=True) for n, t in state["average"].items()}


def _floating(model: nn.Module) -> dict[str, Tensor]:
    """Weights and running statistics, by name."""
    return {name: t.detach() for name, t in model.state_dict().items() if t.is_floating_point()}
