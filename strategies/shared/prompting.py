"""Shared by methods with prompts: training of prompts and head alone, on a frozen encoder.

    q(x) = f(x), the features by the frozen encoder without prompts, no gradient
    logits = head(f(x; prompts of q(x)))

The network is `nn.Sequential(Prompted(encoder, prompts), head)`: its parameters are named `0.encoder.`, `0.prompts.`
and `1.`. The encoder is frozen and in evaluation mode. Prediction chooses for each sample by itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from clbench.config.training import Parameters
from clbench.errors import UserError
from clbench.lazy import torch
from clbench.strategy import Batch, Experience, Knowledge, Memory, Setup, Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from clbench.training.transformers import Prefix, PromptedEncoder


class PromptConfig(Parameters):
    """Hyper-parameters shared by methods with prompts."""

    local: bool = True
    """Local cross-entropy: in training only the classes of the experience compete; the logits of others are -inf."""


def check_blocks(key: str, blocks: Sequence[int], depth: int) -> None:
    """Checks numbers of blocks.

    Raises:
        UserError: one beyond the encoder's depth, or twice.
    """
    beyond = next((b for b in blocks if not 0 <= b < depth), None)
    if beyond is not None:
        raise UserError(f"strategy.{key}: got {beyond}, and the encoder has {depth} blocks. Allowed: 0 to {depth - 1}.")
    if len(set(blocks)) != len(blocks):
        raise UserError(f"strategy.{key}: got {list(blocks)}. Allowed: each block once.")


class Prompting(Strategy):
    """Trains prompts and head; the encoder stays as it is.

    Args:
        name: of the method, for messages.
        make: the encoder -> the module of prompts (see `prompt_pools`).

    Raises:
        UserError: a network without an encoder that takes prompts, or another loss than cross-entropy.
    """

    learns_by_outputs = False

    @classmethod
    def needs(cls, config: Any) -> frozenset[Knowledge]:
        """Boundaries, where only the classes of the experience compete."""
        return frozenset({"boundaries"} if config.local else ())

    def __init__(self, config: Any, setup: Setup, name: str, make: Callable[[PromptedEncoder], Any]) -> None:
        from clbench.strategies.shared.prompt_pools import Prompted
        from clbench.training.transformers import encoder_of

        if setup.training.loss != "cross_entropy":
            raise UserError(
                f"training.loss: got '{setup.training.loss}', and '{name}' is trained by cross-entropy. "
                "Allowed: cross_entropy."
            )
        encoder: Any = encoder_of(setup.model, name)
        self.prompts = make(encoder).to(setup.device)
        self.prompted = Prompted(encoder, self.prompts)
        self.head: Any = setup.model[-1]  # type: ignore[index]
        super().__init__(config, replace(setup, model=torch.nn.Sequential(self.prompted, self.head)))
        self._local = torch.ones(setup.outputs, dtype=torch.bool, device=setup.device)

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        if self.config.local:
            self._local.zero_()
            self._local[list(experience.outputs)] = True

    def choose(self, query: Tensor, batch: Batch) -> tuple[Tensor | None, Mapping[int, Prefix] | None, Tensor | None]:
        """Prompts and prefixes of a training batch, and a term of the loss."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> Tensor:
        prompts, prefixes, term = self.choose(self.prompted.query(batch.x), batch)
        logits = self.head(self.prompted.encoder(batch.x, prompts, prefixes))
        if self.config.local:
            logits = logits.masked_fill(~self._local, float("-inf"))
        loss = self.criterion(logits, batch.y, batch.task)
        return loss if term is None else loss + term

    def drawn(self, *shape: int, normal: bool = False) -> Tensor:
        """Numbers uniform in -1..1, or standard normal."""
        count = torch.Size(shape).numel()
        generator = self.setup.generator
        numbers = generator.normal(count) if normal else 2 * generator.uniform(count) - 1
        return torch.from_numpy(numbers).to(self.setup.device, torch.float32).view(shape)

    def memory(self) -> Memory:
        """Bytes of the whole pool."""
        return Memory(0, sum(p.nbytes for p in self.prompts.parameters()))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "local": self._local.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._local = state["local"].to(self.setup.device, copy=True)
