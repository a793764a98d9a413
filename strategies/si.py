"""Synaptic intelligence: importance of a weight is its contribution to the decrease of the loss along the path.

Reference: Zenke, Poole and Ganguli 2017 (ICML; Eqs. 3 to 5).

    omega_i  = - sum_t g_i(t) (w_i(t+1) - w_i(t))             along the path of one experience
    Omega_i <- Omega_i + omega_i / ((w_i - w*_i)^2 + xi)      at its end; w* the weights at its start
    L        = L_new + strength sum_i Omega_i (w_i - w*_i)^2  w* the weights at the end of the last experience

g is the gradient of the data's loss, before the step: what this penalty adds to the gradient is taken out again, as in
the authors' code; in van de Ven's code it stays in (`path: total`). What another method adds counts as data; what it
takes away does so where it stands before: in `[agem, si]` g is the projected gradient, in `[si, agem]` it is not.

Differs from the authors' code (ganguli-lab/pathint):
1. Omega is not clamped: a weight that has raised the loss may have a negative importance, as in Eq. 5. Their code sets
   negative Omega to zero, van de Ven's does not; others bound it from above too.
2. The gradient and the change of weights are those of the optimiser's step, whatever it is; theirs is Adam.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from clbench.config.training import Parameters
from clbench.lazy import torch
from clbench.strategies.shared.importance import Anchored
from clbench.strategy import Batch, Experience, Memory, Setup

if TYPE_CHECKING:
    from torch import Tensor


class SiConfig(Parameters):
    """Hyper-parameters of synaptic intelligence."""

    strength: Annotated[float, Field(ge=0)] = 1.0
    """c of the paper; the penalty has no factor 1/2."""
    damping: Annotated[float, Field(gt=0)] = 0.1
    """xi of the paper: bounds the importance of a weight that has barely moved."""
    path: Literal["data", "total"] = "data"
    """Integrated gradient: of the loss of the data, or of the loss with the penalty."""


def path_importance(omega: Tensor, moved: Tensor, damping: float) -> Tensor:
    """omega / (moved^2 + xi), element by element.

    >>> path_importance(torch.tensor([2.0]), torch.tensor([3.0]), 1.0)
    tensor([0.2000])
    """
    return omega / (moved.square() + damping)


class SI(Anchored):
    """Integrates along the path of each experience; the first anchor is the initial weights."""

    regresses = True

    Config = SiConfig

    def __init__(self, config: SiConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config: SiConfig = config
        self.factor = config.strength
        self.omega: list[Tensor] = []
        """The integral of the current experience."""
        self._step: tuple[list[Tensor], list[Tensor]] | None = None  # gradient and weights, between the two hooks

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        self.anchor = self.anchor or self.weights()
        self.omega = [torch.zeros_like(w) for w in self.anchor]

    def before_update(self, batch: Batch) -> None:
        weights = self.weights()
        gradient = [torch.zeros_like(w) if p.grad is None else p.grad for w, p in self._pairs(weights)]
        if self.importance and self.config.path == "data":
            pull = torch._foreach_mul(torch._foreach_sub(weights, self.anchor), self.importance)
            gradient = list(torch._foreach_add(gradient, pull, alpha=-2.0 * self.factor))
        else:
            gradient = [g.clone() for g in gradient]  # others may change it in place
        self._step = gradient, weights

    def after_update(self, batch: Batch) -> None:
        assert self._step is not None
        (gradient, before), self._step = self._step, None
        for omega, g, (w, p) in zip(self.omega, gradient, self._pairs(before), strict=True):
            omega.addcmul_(g, p.detach() - w, value=-1.0)

    def end_experience(self, experience: Experience) -> None:
        weights, older = self.weights(), self.importance or [torch.zeros_like(w) for w in self.anchor]
        self.importance = [
            old + path_importance(omega, w - start, self.config.damping)
            for old, omega, w, start in zip(older, self.omega, weights, self.anchor, strict=True)
        ]
        self.anchor, self.omega = weights, []

    def memory(self) -> Memory:
        held = super().memory()
        return Memory(held.samples, (held.bytes or 0) + sum(t.nbytes for t in self.omega))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "omega": self.omega}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.omega = state["omega"]

    def _pairs(self, tensors: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Tensors and the parameters that they belong to."""
        return list(zip(tensors, self.model.parameters(), strict=True))
