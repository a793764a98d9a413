"""L2P: for each sample, the prompts of a shared pool whose keys are nearest to its query.

    S(x) = the top-N of the pool by cos(q(x), k_m)              logits = head(f([class token, P_s for s in S, x]))
    L    = CE(logits, y) + pull x mean_x sum over S(x) of (1 - cos(q(x), k_s))

q is the frozen encoder's feature without prompts; prompts, keys and head are trained, the encoder is not. In training
the logits of classes that are not in the experience are -inf (`local`).

Reference: Wang, Zhang, Lee, Zhang, Sun, Ren, Su, Perot, Dy and Pfister 2022, CVPR, "Learning to prompt for continual
learning". The re-implementation in PyTorch has pool 10, length 5, top 5, pull 0.1, Adam with clipped
gradients; L2P++ of Smith et al. 2023 has pool 30, length 20, top 5.

Differs from the paper and the codes: (1) the head sees the class token (the re-implementation: the mean over the
outputs at the prompts); (2) prompts stand behind the class token and have no position of their own; (3) no
penalty on frequent prompts in training; (4) `selection: majority` takes, as the re-implementation does, the prompts
that most of a training batch chose, there at test as well, so that a prediction depends on its batch: here each test
sample chooses for itself; (5) the pull term is over a sample's own keys (the code of CODA-Prompt indexes `cos[:,
chosen]`, a sum over the keys of all other samples of the batch too); (6) keys and prompts start uniform in -1..1
times `prompt_scale` (there 0..1); (7) prompts that no sample chose have a gradient of 0, not none: momentum and
weight decay move them, as in the codes. The pool is shared, so later experiences change what earlier ones learnt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
from pydantic import Field

from clbench.schema import mistake
from clbench.strategies.shared.prompt_rules import closest, majority, pull, similarity
from clbench.strategies.shared.prompting import PromptConfig, Prompting
from clbench.strategy import Batch, Setup

if TYPE_CHECKING:
    from torch import Tensor

    from clbench.training.transformers import PromptedEncoder


class L2pConfig(PromptConfig):
    """Hyper-parameters of L2P."""

    pool: Annotated[int, Field(ge=1)] = 10
    """Prompts in the pool."""
    length: Annotated[int, Field(ge=1)] = 5
    """Tokens of a prompt."""
    top: Annotated[int, Field(ge=1)] = 5
    """Prompts of a sample."""
    pull: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the distance of a sample's query from its keys."""
    selection: Literal["sample", "majority"] = "sample"
    """In training, each sample's prompts or those that most of the batch chose. At test always each sample's."""
    prompt_scale: Annotated[float, Field(gt=0)] = 1.0
    """Largest initial value of a prompt."""

    @pydantic.model_validator(mode="after")
    def _within_pool(self) -> L2pConfig:
        if self.top > self.pool:
            raise mistake(f"got 'top' {self.top}, and the pool has {self.pool} prompts. Allowed: 1 to {self.pool}")
        return self


class L2P(Prompting):
    """Learning to prompt: a pool, and a choice by keys."""

    Config = L2pConfig

    def __init__(self, config: L2pConfig, setup: Setup) -> None:
        def make(encoder: PromptedEncoder) -> Any:
            from clbench.strategies.shared.prompt_pools import SelectedPrompts

            self.setup = setup
            prompts = config.prompt_scale * self.drawn(config.pool, config.length, encoder.width)
            return SelectedPrompts(prompts, self.drawn(config.pool, encoder.width), config.top)

        super().__init__(config, setup, "l2p", make)

    def choose(self, query: Tensor, batch: Batch) -> tuple[Tensor, None, Tensor]:
        similarities = similarity(query, self.prompts.keys)
        chosen = closest(similarities, self.config.top)
        if self.config.selection == "majority":
            chosen = majority(chosen, self.config.pool)
        return self.prompts.at(chosen), None, self.config.pull * pull(similarities, chosen)
