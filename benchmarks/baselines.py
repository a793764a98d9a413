"""Networks and parts that rows of strategies/published.yaml name: what the baselines of ContinualAI have beside
avalanche-lib (https://github.com/ContinualAI/continual-learning-baselines)."""

from __future__ import annotations

import math
from typing import Any

from avalanche.models import BaseModel
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn


def cope(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Two hidden layers of 400 units and an embedding of 32 numbers: CoPE has no outputs for classes."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(math.prod(shape), 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 32)
    )


def lwf(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A hidden layer of 200 units with tanh."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 200), nn.Tanh(), nn.Linear(200, outputs))


class _WithFeatures(nn.Sequential, BaseModel):  # type: ignore[misc]
    """A network whose features Avalanche can ask for."""

    def get_features(self, x: Tensor) -> Tensor:
        features: Tensor = self[:-1](x)
        return features


def lfl(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A hidden layer of 256 units."""
    return _WithFeatures(nn.Flatten(), nn.Linear(math.prod(shape), 256), nn.ReLU(), nn.Linear(256, outputs))


class ShareOfTheNew(SupervisedPlugin[Any]):  # type: ignore[misc]
    """The loss on the k-th experience counts 1/k; what later plugins add to it counts in full (van de Ven and Tolias
    2019, arXiv 1904.07734)."""

    def before_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        strategy.loss = strategy.loss / (strategy.clock.train_exp_counter + 1)
