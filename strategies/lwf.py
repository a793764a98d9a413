"""Learning without forgetting: distillation from the network before the experience, on the new samples.

Reference: Li and Hoiem 2016 (ECCV; TPAMI 2018, Eqs. 1 to 5); in the three settings: van de Ven, Tuytelaars and Tolias
2022 (Nature Machine Intelligence 4; GMvandeVen/continual-learning).

    L        = L_new + alpha sum_G L_old(G)
    L_old(G) = - 1/N sum_n sum_(c in G) softmax(z*_n,G / T)_c log softmax(z_n,G / T)_c

z are the logits for a new sample and z* those of the network as it was at the end of the last experience (of all its
pieces, where it comes in pieces). Where the
training loss is over the outputs of the task alone, there is a group G for each task learnt before, its outputs; else
there is one group: the outputs of earlier experiences (`outputs: seen`), or all (`outputs: all`, those not learnt yet
included). There is no factor T^2, by which Hinton et al. preserve the scale of the gradient.

Differs from the papers:
1. The old network answers for each batch (a third more per update), where Li and Hoiem record its answers for the whole
   experience beforehand; it is the same without random augmentation, and then both see the same augmented image.
2. The new task's head is not trained alone first, and there is no weight decay but the optimiser's.
3. van de Ven et al. weigh L_old by the number of earlier experiences outside the class-incremental setting: with a
   mean over the tasks' heads, so that it is the sum above, and with one head of a domain-incremental network; the
   latter is `growing: true`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from clbench.config.training import Parameters
from clbench.errors import UserError
from clbench.lazy import torch
from clbench.strategy import Batch, Experience, Knowledge, Memory, Setup, Strategy

if TYPE_CHECKING:
    from torch import Tensor, nn


class LwfConfig(Parameters):
    """Hyper-parameters of learning without forgetting."""

    alpha: Annotated[float, Field(ge=0)] = 1.0
    """Weight of distillation (lambda_o of Li and Hoiem)."""
    temperature: Annotated[float, Field(gt=0)] = 2.0
    """T: above 1, small probabilities have more weight."""
    outputs: Literal["seen", "all"] = "seen"
    """Distilled outputs: those of earlier experiences, or all. Where each task has separate ones: of earlier tasks."""
    growing: bool = False
    """alpha is multiplied by the number of earlier experiences, sub-experiences counted as one."""


def distillation(logits: Tensor, old: Tensor, groups: Sequence[Sequence[int]], temperature: float) -> Tensor:
    """Distillation loss at a temperature, a mean over samples and a sum over groups of outputs.

    Args:
        logits, old: (N, outputs).
        groups: outputs that make one softmax, for each.
        temperature: > 0.

    >>> z = torch.tensor([[3.0, 3.0, -9.0]])
    >>> [round(float(distillation(z, z, groups, 2.0)), 4) for groups in ([[0, 1]], [[0, 1], [0, 1]], [[2]])]
    [0.6931, 1.3863, 0.0]
    """
    total = logits.new_zeros(())
    for group in groups:
        one = list(group)
        answers = (old[:, one] / temperature).softmax(1)
        total = total - (answers * (logits[:, one] / temperature).log_softmax(1)).sum(1).mean()
    return total


class LwF(Strategy):
    """Distils from a copy of the network from the end of the last experience."""

    Config = LwfConfig

    @classmethod
    def needs(cls, config: LwfConfig) -> frozenset[Knowledge]:
        """Boundaries: the network is copied there."""
        return frozenset({"boundaries"})

    def __init__(self, config: LwfConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config: LwfConfig = config
        if setup.training.loss != "cross_entropy":
            raise UserError(f"training.loss: 'lwf' keeps probabilities; got '{setup.training.loss}'.")
        if config.outputs == "all" and setup.training.active_outputs == "task":
            raise UserError("strategy.outputs: got 'all', which has no effect where each task has outputs of its own.")
        self.old: nn.Module | None = None
        self.learnt: list[list[int]] = []
        """Distilled groups of outputs."""
        self.ended = 0
        """Number of completed experiences."""

    def loss(self, batch: Batch) -> Tensor:
        if self.old is None:
            return super().loss(batch)
        with torch.no_grad():
            old = self.old(batch.x)
        logits = self.model(batch.x)
        alpha = self.config.alpha * (self.ended if self.config.growing else 1)
        kept = distillation(logits, old, self.learnt, self.config.temperature)
        return self.criterion(logits, batch.y, batch.task) + alpha * kept

    def end_experience(self, experience: Experience) -> None:
        if experience.part < experience.parts - 1:
            return
        self.ended += 1
        self.old = self._copy()
        self.learnt = self._groups(experience)

    def _copy(self) -> nn.Module:
        copied = copy.deepcopy(self.model).eval()
        for p in copied.parameters():
            p.requires_grad_(False)
        return copied

    def _groups(self, experience: Experience) -> list[list[int]]:
        if self.setup.training.active_outputs == "task":
            groups = [sorted(self.setup.task_outputs[t]) for t in experience.tasks]
            return [*self.learnt, *(group for group in groups if group not in self.learnt)]
        return [sorted(self._outputs_seen) if self.config.outputs == "seen" else list(range(self.setup.outputs))]

    def memory(self) -> Memory:
        held = super().memory()
        kept = [] if self.old is None else [*self.old.parameters(), *self.old.buffers()]
        return Memory(held.samples, (held.bytes or 0) + sum(t.nbytes for t in kept))

    def state_dict(self) -> dict[str, Any]:
        old = None if self.old is None else self.old.state_dict()
        return {**super().state_dict(), "old": old, "learnt": self.learnt, "ended": self.ended}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.learnt, self.ended, self.old = state["learnt"], state["ended"], None
        if state["old"] is not None:
            self.old = self._copy()
            self.old.load_state_dict(state["old"])
