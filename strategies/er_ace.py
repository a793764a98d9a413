"""ER-ACE: the active logits of new samples are those of the batch, of replayed ones those of all classes seen.

Reference: Caccia, Aljundi, Asadi, Tuytelaars, Pineau and Belilovsky 2022, ICLR, "New insights on reducing abrupt
representation change in online continual learning".

    L = CE(x, y; C_batch) + CE(x', y'; C_seen)

C_batch are the classes that occur among the new samples of the batch, C_seen all that have occurred in any batch so
far, this one included; a cross-entropy is over the outputs of its set alone, so that new samples do not push down the
outputs of old classes. x', y' are replayed; each term has a forward pass of its own, as in the authors' code. While the
memory is empty the first term is alone.

Differs from the authors' code, where that differs from the paper: outputs numbered above the highest class seen also
compete with new samples there, and all outputs with replayed ones; its classifier normalises weights and features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clbench.errors import UserError
from clbench.lazy import torch
from clbench.strategies.shared.replay import FillConfig, Replaying
from clbench.strategy import Batch, Setup

if TYPE_CHECKING:
    from torch import Tensor


class AsymmetricConfig(FillConfig):
    """Hyper-parameters of ER-ACE."""


def among(logits: Tensor, competing: Tensor) -> Tensor:
    """Logits with -inf for inactive ones.

    Args:
        logits: (N, outputs).
        competing: which outputs compete, bool (outputs,).

    >>> among(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([True, False, True])).tolist()
    [[1.0, -inf, 3.0]]
    """
    return logits.masked_fill(~competing, float("-inf"))


class AsymmetricReplay(Replaying):
    """Experience replay with an asymmetric cross-entropy."""

    Config = AsymmetricConfig

    def __init__(self, config: AsymmetricConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        if setup.training.loss != "cross_entropy":
            raise UserError(f"training.loss: got '{setup.training.loss}', and ER-ACE is a cross-entropy.")
        if setup.training.active_outputs == "batch":
            raise UserError("training.active_outputs: got 'batch', and ER-ACE says itself which outputs compete.")
        self._seen = torch.zeros(setup.outputs, dtype=torch.bool, device=setup.device)

    def loss(self, batch: Batch) -> Tensor:
        present = torch.zeros_like(self._seen)
        present[batch.y] = True
        self._seen |= present
        loss = self.criterion(among(self.model(batch.x), present), batch.y, batch.task)
        if not len(self.buffer):
            return loss
        x, y, task = self.fetch(self.buffer.slots(self.config.replay_batch or len(batch.y)))
        return loss + self.criterion(among(self.model(x), self._seen), y, task)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "seen": self._seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._seen = state["seen"].to(self.setup.device, copy=True)
