"""Re-fitting: every so many samples, the last layer is fitted anew to the samples of a sliding window.

    W, b = argmin  sum over the window |W f(x) + b - y|^2  +  ridge |W|^2        y one-hot where classes are told

The incremental method of forecasting practice: the model is a linear one (`model: {name: linear}`, f(x) = x), or a
linear one on the features of a network that stays as it starts. The minimum is computed in closed form, in double
precision; there is no gradient step, and the benchmark's optimiser has no effect. Nothing is predicted before the first
fit. The window holds the last samples in the order in which they were learnt from, whatever their task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from clbench.lazy import F, torch
from clbench.schema import Count, Model
from clbench.strategy import Batch, Setup, Strategy, evaluating

if TYPE_CHECKING:
    from torch import Tensor


class RefitConfig(Model):
    """Hyper-parameters of re-fitting."""

    window: Count = 768
    """Latest samples that are fitted."""
    every: Count = 96
    """Samples between two fits."""
    ridge: Annotated[float, Field(gt=0)] = 1.0
    """Weight of the squared coefficients, beside a sum over the window."""


def ridge_regression(features: Tensor, y: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """The linear map with the least squared error plus a penalty on its coefficients; the bias has none.

    Args:
        features: (N, P).
        y: (N, D).
        penalty: > 0.

    Returns:
        weight (D, P) and bias (D,), float64.

    >>> weight, bias = ridge_regression(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1.0], [3.0], [5.0]]), 1e-9)
    >>> weight.round(decimals=6).tolist(), bias.round(decimals=6).tolist()
    ([[2.0]], [1.0])
    """
    features, y = features.to(torch.float64), y.to(torch.float64)
    centre, level = features.mean(0), y.mean(0)
    x = features - centre
    gram = x.T @ x + penalty * torch.eye(x.shape[1], dtype=torch.float64, device=x.device)
    weight = torch.linalg.solve(gram, x.T @ (y - level)).T
    return weight, level - weight @ centre


class Refit(Strategy):
    """Fits the last layer to a sliding window, in closed form.

    Raises:
        UserError: a network that is no sequence ending in a linear layer.
    """

    Config = RefitConfig
    regresses = True
    learns_by_outputs = False

    def __init__(self, config: RefitConfig, setup: Setup) -> None:
        from clbench.training.heads import require_linear
        from clbench.training.models import split

        front, head = split(setup.model)
        require_linear(head)
        front.requires_grad_(False).eval()
        super().__init__(config, setup)
        self.config: RefitConfig = config
        self._index, self._task = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._new = self._fits = 0

    def step(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            loss = self.loss(batch)
        index = batch.index.cpu().numpy()
        task = np.full(len(index), batch.task) if isinstance(batch.task, int) else batch.task.cpu().numpy()
        window = self.config.window
        self._index, self._task = (
            np.concatenate(pair)[-window:] for pair in ((self._index, index), (self._task, task))
        )
        self._new += len(index)
        if self._new >= self.config.every:
            self._fit()
        return loss

    def _fit(self) -> None:
        from clbench.training.models import split

        device = self.setup.device
        index, task = torch.from_numpy(self._index).to(device), torch.from_numpy(self._task).to(device)
        front, head = split(self.model)
        with torch.no_grad(), evaluating(front):
            x, y = self.setup.samples.fetch(index, task, plain=True)
            targets = y if y.is_floating_point() else F.one_hot(y, self.setup.outputs)
            weight, bias = ridge_regression(front(x), targets, self.config.ridge)
            head.weight.copy_(weight)
            head.bias.copy_(bias)
        self._new = 0
        self._fits += 1

    def available(self) -> bool:
        return self._fits > 0

    def held(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self._index, self._task

    def report(self) -> dict[str, float]:
        """Number of fits."""
        return {"fits": float(self._fits)}

    def state_dict(self) -> dict[str, Any]:
        window = {"index": self._index, "task": self._task, "new": self._new, "fits": self._fits}
        return {**super().state_dict(), "window": window}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        window = state["window"]
        self._index, self._task = (np.asarray(window[name], np.int64) for name in ("index", "task"))
        self._new, self._fits = window["new"], window["fits"]
