"""Averages of a model's weights over training, evaluated beside the weights themselves.

    ema    a <- decay a + (1 - decay) w after every update, from the first weights on
           (Soutif-Cormerais, Carta and van de Weijer 2023, temporal ensembles: decay 0.99)
    last   the mean of the weights after the last k updates, the first weights among them until k are done

Training is unaffected. Buffers (batch-norm statistics) are the model's current ones. A
parameter that changes its size restarts its average; where the number of parameters changes, all restart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from clbench.errors import RunFailed
from clbench.evaluation.twin import Twin, is_hooked


class Average:
    """One average of a model's weights.

    Args:
        decay: of the exponential moving average, in [0, 1); or None.
        last: number of updates averaged over, >= 2; or None. Exactly one of the two is set.

    Memory: one copy of the parameters for `decay`, `last` copies for `last`, and one copy of the model for both.
    """

    def __init__(self, decay: float | None = None, last: int | None = None) -> None:
        assert (decay is None) != (last is None)
        self.name = f"ema_{decay}" if last is None else f"last_{last}"
        self._decay = decay
        self._kept: deque[list[Tensor]] = deque(maxlen=last or 1)
        self._twin = Twin(share=False)

    def renew(self) -> None:
        """Forces a new copy of the model's structure at the next call."""
        self._twin.renew()

    def held_bytes(self) -> int:
        """Bytes of the weights kept, and of the copy that holds their mean."""
        kept = sum(t.nbytes for weights in self._kept for t in weights)
        return kept + (sum(t.nbytes for t in self._kept[0]) if self._kept else 0)

    def state_dict(self) -> dict[str, list[list[Tensor]]]:
        """The weights kept."""
        return {"kept": list(self._kept)}

    def load_state_dict(self, state: dict[str, list[list[Tensor]]]) -> None:
        """Continues where `state_dict` was taken."""
        self._kept.clear()
        self._kept.extend(state["kept"])

    @torch.inference_mode(False)
    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """To be called after every update of the model, and once before the first.

        Raises:
            RunFailed: the model has forward hooks, which a copy of it would not have faithfully.
        """
        if any(is_hooked(m) for m in model.modules()):
            raise RunFailed("averages", "watch.ema and watch.last need a model without forward hooks")
        now = self._fitted(model)
        if self._decay is None or not self._kept:
            self._kept.append([p.detach().clone() for p in now])
        else:
            torch._foreach_lerp_(self._kept[0], [p.detach() for p in now], 1 - self._decay)

    def _fitted(self, model: nn.Module) -> list[nn.Parameter]:
        """The model's parameters; what is kept is brought to their number and sizes."""
        now = list(model.parameters())
        for kept in self._kept:
            if [p.shape for p in now] != [a.shape for a in kept]:
                fit = len(now) == len(kept)
                kept[:] = [
                    kept[i] if fit and kept[i].shape == p.shape else p.detach().clone() for i, p in enumerate(now)
                ]
        return now

    @contextmanager
    def of(self, model: nn.Module) -> Iterator[nn.Module]:
        """A copy of the model in evaluation mode that holds the average, for as long as the context lasts."""
        if not self._kept:
            self.update(model)
        with torch.no_grad(), torch.inference_mode(False):
            self._fitted(model)
        with self._twin.of(model) as twin, torch.no_grad():
            mine = [p.detach() for p in twin.parameters()]
            torch._foreach_copy_(mine, self._kept[0])
            for kept in list(self._kept)[1:]:
                torch._foreach_add_(mine, kept)
            torch._foreach_div_(mine, float(len(self._kept)))
            yield twin
