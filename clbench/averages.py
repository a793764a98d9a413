"""Averages of a model's weights over training, to be evaluated beside the weights themselves.

    ema    a <- decay a + (1 - decay) w after every update, from the first weights on
           (Soutif-Cormerais, Carta and van de Weijer 2023, temporal ensembles: decay 0.99)
    last   the mean of the weights after the last k updates

Only copies are made: training does not notice. Buffers (batch-norm statistics) are the model's present ones. A
parameter that is new, or another size than before, starts its average anew.
"""

from __future__ import annotations

import copy
from collections import deque

import torch
from torch import Tensor, nn

from clbench.errors import RunFailed


class Average:
    """One average of a model's weights.

    Args:
        decay: of the exponential moving average, in [0, 1); or None.
        last: number of updates averaged over, >= 2; or None. Exactly one of the two is given.

    Memory: one copy of the parameters for `decay`, `last` copies for `last`, and one copy of the model for both.
    """

    def __init__(self, decay: float | None = None, last: int | None = None) -> None:
        assert (decay is None) != (last is None)
        self.name = f"ema_{decay}" if last is None else f"last_{last}"
        self._decay = decay
        self._kept: deque[list[Tensor]] = deque(maxlen=last or 1)
        self._source: nn.Module | None = None
        self._model: nn.Module = nn.Identity()
        self._parameters: list[nn.Parameter] = []

    @torch.inference_mode(False)
    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """To be called after every update of the model, and once before the first.

        Raises:
            RunFailed: the model has forward hooks, which a copy of it would not have faithfully.
        """
        if any(m._forward_hooks or m._forward_pre_hooks for m in model.modules()):
            raise RunFailed("averages", "watch.ema and watch.last need a model without forward hooks")
        now = list(model.parameters())
        if self._kept and [p.shape for p in now] != [a.shape for a in self._kept[-1]]:
            fit = len(now) == len(self._kept[-1])
            for kept in self._kept:
                kept[:] = [
                    kept[i] if fit and kept[i].shape == p.shape else p.detach().clone() for i, p in enumerate(now)
                ]
        if self._decay is None or not self._kept:
            self._kept.append([p.detach().clone() for p in now])
        else:
            torch._foreach_lerp_(self._kept[0], [p.detach() for p in now], 1 - self._decay)

    @torch.no_grad()
    def model(self, model: nn.Module) -> nn.Module:
        """A copy of the model in evaluation mode that holds the average."""
        parameters = list(model.parameters())
        if not self._kept:
            self.update(model)
        same = model is self._source and len(parameters) == len(self._parameters)
        if not same or any(a is not b for a, b in zip(parameters, self._parameters, strict=True)):
            self._model = copy.deepcopy(model).eval()
            self._source, self._parameters = model, parameters
        mine = [p.detach() for p in self._model.parameters()]
        torch._foreach_copy_(mine, self._kept[0])
        for kept in list(self._kept)[1:]:
            torch._foreach_add_(mine, kept)
        torch._foreach_div_(mine, float(len(self._kept)))
        buffers = list(model.buffers())
        if buffers:
            torch._foreach_copy_(list(self._model.buffers()), buffers)
        return self._model
