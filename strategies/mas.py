"""Memory aware synapses: importance of a weight is the sensitivity of the squared norm of the outputs to it.

Reference: Aljundi et al. 2018 (ECCV; Eqs. 2 to 4), the global version.

    Omega_i = 1/N sum_n | d ||f(x_n)||^2 / d w_i |        over the N samples of an experience, with or without labels
    L       = L_new + strength sum_i Omega_i (w_i - w*_i)^2

f are the active logits; w* the weights at the end of the last experience. The network is
in evaluation mode: of batch normalisation the running statistics are used. Importances of experiences are added up, as
in the authors' code (rahafaljundi/MAS-Memory-Aware-Synapses), or averaged.

Differs from the authors' code:
1. The absolute value is taken for every sample, as in Eq. 2; theirs is of the gradient summed over a batch, in which
   samples cancel, and so depends on the batch size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from clbench.config.training import Parameters
from clbench.lazy import torch
from clbench.strategies.shared.importance import Anchored, sum_over_samples
from clbench.strategy import Experience, Setup, evaluating

if TYPE_CHECKING:
    from torch import Tensor, nn


class MasConfig(Parameters):
    """Hyper-parameters of memory aware synapses."""

    strength: Annotated[float, Field(ge=0)] = 0.1
    """lambda of the paper, 1 there; the penalty has no factor 1/2. Added up over many experiences it diverges under SGD
    sooner."""
    samples: Annotated[int, Field(ge=1)] | None = None
    """Number of samples of an experience for the estimate, redrawn each time; null: all."""
    accumulate: Literal["sum", "mean"] = "sum"
    """Sum or mean of the importances of experiences."""


def output_sensitivity(model: nn.Module, x: Tensor, active: Tensor, together: bool | None = None) -> list[Tensor]:
    """sum_n |d ||f(x_n)||^2 / d w|, tensors of the parameters' shapes.

    Args:
        model: in evaluation mode.
        x: inputs (N, ...).
        active: which outputs f consists of, bool (N, outputs).
        together: see `sum_over_samples`.
    """
    return sum_over_samples(model, x, lambda f: [2.0 * f * active], torch.abs, together)


class MAS(Anchored):
    """Estimates the sensitivity of the outputs to each weight at the end of every experience."""

    regresses = True

    Config = MasConfig
    differentiates_outputs = True

    def __init__(self, config: MasConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config: MasConfig = config
        self.factor = config.strength
        self.ended = 0
        """Number of completed experiences."""

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        self.try_single_samples(experience, "Choose another network.")

    def end_experience(self, experience: Experience) -> None:
        new, kept = self._importance(experience), self.ended
        self.ended += 1
        if not self.importance:
            self.importance = new
        elif self.config.accumulate == "sum":
            torch._foreach_add_(self.importance, new)
        else:
            self.importance = [(kept * old + n) / self.ended for old, n in zip(self.importance, new, strict=True)]
        self.anchor = self.weights()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "ended": self.ended}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.ended = state["ended"]

    def _importance(self, experience: Experience) -> list[Tensor]:
        index = np.concatenate([experience.index, experience.unlabelled])
        task = np.concatenate([experience.task, experience.unlabelled_task])
        some = self.drawn(replace(experience, index=index, task=task), self.config.samples)
        total = [torch.zeros_like(w) for w in self.weights()]
        with evaluating(self.model):
            for x, _, of in self.batches(some):
                active = self.active(experience, of)
                torch._foreach_add_(total, output_sensitivity(self.model, x, active, self.together))
        torch._foreach_div_(total, len(some.index))
        return total
