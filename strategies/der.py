"""Dark experience replay: past logits of the network are replayed, and in DER++ the labels too.

Reference: Buzzega, Boschini, Porrello, Abati and Calderara 2020, NeurIPS 33, section 3 (`der`, and DER++: `derpp`).

    L = CE(x, y) + alpha mean ||h(x') - z'||^2                          x', z' from the memory
    L = CE(x, y) + alpha mean ||h(x') - z'||^2 + beta CE(x'', y'')      x'', y'' from a second, independent draw

h are the network's outputs before the softmax, z' those that it had when x' was learnt from and taken into the memory:
of the forward pass of that very update, before its step. The mean is over samples and outputs, as in the authors' code,
to which their alphas belong; each term has a separate forward pass. Every output is matched, whichever logits are
active in the cross-entropies.

Differs from the paper: nothing known. As in the authors' code, where training inputs are augmented a replayed input is
augmented anew, and z' belongs to the augmented input that was learnt from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clbench.config.optimizers import NonNegative
from clbench.lazy import F, torch
from clbench.strategies.shared.buffers import Integers
from clbench.strategies.shared.replay import MemoryConfig, Replaying
from clbench.strategy import Batch, Memory, Setup

if TYPE_CHECKING:
    from torch import Tensor


class DarkConfig(MemoryConfig):
    """Hyper-parameters of DER."""

    alpha: NonNegative = 0.5
    """Weight of the squared distance to the stored logits; at 0 there is no such term."""


class DarkPlusConfig(DarkConfig):
    """Hyper-parameters of DER++."""

    beta: NonNegative = 0.5
    """Weight of the cross-entropy of the second draw; at 0 there is none."""


def distance_to_stored(outputs: Tensor, stored: Tensor) -> Tensor:
    """The mean squared difference over samples and outputs, a scalar.

    Args:
        outputs: of replayed samples now, (N, outputs).
        stored: those of when they were learnt from, (N, outputs).

    >>> float(distance_to_stored(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]])))
    2.0
    """
    return F.mse_loss(outputs, stored)


class DarkReplay(Replaying):
    """DER: cross-entropy of incoming data, and squared distance to the stored logits of past samples."""

    regresses = True

    Config = DarkConfig

    def __init__(self, config: DarkConfig, setup: Setup) -> None:
        self.config: DarkConfig = config
        super().__init__(config, setup)
        # Beside the strategy's own, so that the draw for the labels is that of experience replay.
        self._draws = setup.new_generator("stored outputs")
        self._stored = torch.zeros((0, setup.outputs), device=setup.device)
        self._now: Tensor | None = None

    def loss(self, batch: Batch) -> Tensor:
        outputs: Tensor = self.model(batch.x)
        self._now, loss = outputs.detach(), self.criterion(outputs, batch.y, batch.task)
        if self.config.alpha and len(self.buffer):
            slots = self.buffer.slots(self.config.replay_batch or len(batch.y), self._draws)
            x, _, _ = self.fetch(slots)
            stored = self._stored[torch.from_numpy(slots).to(self.setup.device)]
            loss = loss + self.config.alpha * distance_to_stored(self.model(x), stored)
        return loss

    def kept(self, position: Integers, slot: Integers) -> None:
        assert self._now is not None
        missing = len(self.buffer.index_of) - len(self._stored)
        if missing:
            self._stored = torch.cat([self._stored, self._stored.new_zeros((missing, self.setup.outputs))])
        at, of = (torch.from_numpy(v).to(self.setup.device) for v in (slot, position))
        self._stored[at] = self._now[of].to(self._stored.dtype)
        self._now = None

    def memory(self) -> Memory:
        samples = len(self.buffer)
        outputs_bytes = samples * self.setup.outputs * self._stored.element_size()
        return Memory(samples, samples * self.setup.samples.sample_bytes + outputs_bytes)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "stored": self._stored, "draws": self._draws.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._stored = state["stored"].to(self.setup.device, copy=True)
        self._draws.load_state_dict(state["draws"])


class DarkReplayPlus(DarkReplay):
    """DER++: DER, and cross-entropy of a second draw from the memory."""

    regresses = True

    Config = DarkPlusConfig

    def __init__(self, config: DarkPlusConfig, setup: Setup) -> None:
        self.config: DarkPlusConfig = config
        super().__init__(config, setup)

    def loss(self, batch: Batch) -> Tensor:
        loss = super().loss(batch)
        if self.config.beta and len(self.buffer):
            x, y, task = self.fetch(self.buffer.slots(self.config.replay_batch or len(batch.y)))
            loss = loss + self.config.beta * self.criterion(self.model(x), y, task)
        return loss
