"""DualPrompt: general prefixes in the first blocks, and prefixes of the task in later ones.

    training   logits = head(f(x; g, e_t)),  t the task of x          L = CE(logits, y) + pull x (1 - cos(q(x), k_t))
    test       t = argmax over the tasks so far of cos(q(x), k_t)

q is the frozen encoder's feature without prompts. Half of the tokens of a prefix are keys of the attention, half are
values. The general prefixes g are trained always, the expert ones e_t and the key k_t in experiences of their task
alone: nothing touches them after it. The encoder is not trained. In training the logits of classes that are not in the
experience are -inf (`local`).

Reference: Wang, Zhang, Ebrahimi, Sun, Zhang, Lee, Ren, Su, Perot, Dy and Pfister 2022, ECCV, "DualPrompt: complementary
prompting for rehearsal-free continual learning".

`tasks` prefixes exist from the start; tasks take them in the order in which they come, and a task that comes again
takes its own. A task may be a domain. Where an experience mixes tasks, each sample has those of its task.

Differs from the paper and the codes: (1) the match is averaged over the batch, with one key for a task (the code of
CODA-Prompt has a key for each block, and sums over the batch and the blocks); (2) a new task's prefixes start anew
(the re-implementation in PyTorch copies those of the task before); (3) with momentum or weight decay the codes' one
tensor for all tasks moves where its gradient is 0; here the prefixes of other tasks have none; (4) keys and prefixes
start uniform in -1..1, prefixes times `prompt_scale` (there 0..1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pydantic
from pydantic import Field

from clbench.errors import UserError
from clbench.lazy import torch
from clbench.schema import mistake
from clbench.strategies.shared.prompt_rules import pull
from clbench.strategies.shared.prompting import PromptConfig, Prompting, check_blocks
from clbench.strategy import Batch, Experience, Knowledge, Setup

if TYPE_CHECKING:
    from torch import Tensor

    from clbench.training.transformers import Prefix, PromptedEncoder


class DualPromptConfig(PromptConfig):
    """Hyper-parameters of DualPrompt."""

    tasks: Annotated[int, Field(ge=1)] = 10
    """Expert prefixes: the most tasks that may come."""
    general_length: Annotated[int, Field(ge=2)] = 6
    """Tokens of a general prefix, keys and values together."""
    expert_length: Annotated[int, Field(ge=2)] = 20
    """Tokens of an expert prefix, keys and values together."""
    general_blocks: list[int] | None = None
    """Blocks with general prefixes. Default: the first two, of which a shallow encoder keeps one for the others."""
    expert_blocks: list[int] | None = None
    """Blocks with expert prefixes. Default: the three, or as many as there are, behind the general ones."""
    pull: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the distance of a sample's query from the key of its task."""
    prompt_scale: Annotated[float, Field(gt=0)] = 1.0
    """Largest initial value of a prefix."""

    @pydantic.model_validator(mode="after")
    def _halves(self) -> DualPromptConfig:
        for key in ("general_length", "expert_length"):
            if getattr(self, key) % 2:
                raise mistake(f"got '{key}' {getattr(self, key)}. Allowed: even numbers, half keys and half values")
        return self


def blocks_of(config: DualPromptConfig, depth: int) -> tuple[list[int], list[int]]:
    """Blocks with general and with expert prefixes.

    >>> blocks_of(DualPromptConfig(), 12), blocks_of(DualPromptConfig(), 2)
    (([0, 1], [2, 3, 4]), ([0], [1]))

    Raises:
        UserError: a block that the encoder does not have, or with both.
    """
    general = list(range(min(2, depth - 1))) if config.general_blocks is None else config.general_blocks
    after = max(general, default=-1) + 1
    expert = list(range(after, min(after + 3, depth))) if config.expert_blocks is None else config.expert_blocks
    check_blocks("general_blocks", general, depth)
    check_blocks("expert_blocks", expert, depth)
    both = next((block for block in expert if block in general), None)
    if both is not None or not expert:
        raise UserError(
            f"strategy.expert_blocks: got {expert} beside general ones in {general}. Allowed: at least one block, and "
            "none with both."
        )
    return general, expert


class DualPrompt(Prompting):
    """General and expert prefixes; the task is told in training and matched by its key at test."""

    Config = DualPromptConfig

    @classmethod
    def needs(cls, config: DualPromptConfig) -> frozenset[Knowledge]:
        """Tasks in training, and boundaries: the prefixes of other tasks are frozen."""
        return frozenset({"boundaries", "task_in_training"})

    def __init__(self, config: DualPromptConfig, setup: Setup) -> None:
        def make(encoder: PromptedEncoder) -> Any:
            from clbench.strategies.shared.prompt_pools import TaskPrefixes

            self.setup = setup
            general, expert = blocks_of(config, encoder.depth)
            f, scale = encoder.width, config.prompt_scale
            return TaskPrefixes(
                scale * self.drawn(len(general), config.general_length, f),
                scale * self.drawn(config.tasks, len(expert), config.expert_length, f),
                self.drawn(config.tasks, f),
                general,
                expert,
            )

        super().__init__(config, setup, "dualprompt", make)
        self._slots: list[int] = []
        """The task of each prefix in use."""
        self._learning: list[int] = []
        self._slot_of = self._table()

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        tasks = [int(task) for task in np.unique(experience.task)]
        self._slots += [task for task in tasks if task not in self._slots]
        if len(self._slots) > self.config.tasks:
            raise UserError(
                f"strategy.tasks: got {self.config.tasks}, and with experience {experience.number} "
                f"{len(self._slots)} tasks have come. Allowed: at least the tasks of the stream."
            )
        self._learning = [self._slots.index(task) for task in tasks]
        self._open()

    def _open(self) -> None:
        self._slot_of = self._table()
        self.prompts.admit(len(self._slots), self._learning)

    def _table(self) -> Tensor:
        """Task -> prefix, int64."""
        table = torch.zeros(max(self._slots, default=0) + 1, dtype=torch.int64)
        table[self._slots] = torch.arange(len(self._slots))
        return table.to(self.setup.device)

    def choose(self, query: Tensor, batch: Batch) -> tuple[None, dict[int, Prefix], Tensor]:
        similarities = self.prompts.similarities(query)
        if isinstance(batch.task, int):
            slot = self._slots.index(batch.task)
            return None, self.prompts.of(slot), self.config.pull * (1 - similarities[:, slot]).mean()
        slots = self._slot_of[batch.task]
        return None, self.prompts.of(slots), self.config.pull * pull(similarities, slots[:, None])

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "slots": list(self._slots), "learning": list(self._learning)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._slots, self._learning = list(state["slots"]), list(state["learning"])
        self._open()
