"""CODA-Prompt: a prefix is a weighted sum of components, and each experience adds components of its own.

    alpha_m = cos(q(x) * A_m, K_m)          p = sum_m alpha_m P_m          (* by elements)
    L = CE(head(f(x; p)), y) + orthogonality x sum over blocks (||P P^T - I||^2 + ||K K^T - I||^2 + ||A A^T - I||^2)

q is the frozen encoder's feature without prompts. Half of the L tokens of p are keys of the attention, half are values.
Of `pool` components, pool / experiences belong to each experience and are trained in it alone: older ones contribute
and are never touched again, later ones do not contribute yet. The encoder is not trained. In training the logits of
classes that are not in the experience are -inf (`local`).

Reference: Smith, Karlinsky, Gutta, Cascante-Bonilla, Kim, Arbelle, Panda, Feris and Kira 2023, CVPR, "CODA-Prompt:
continual decomposed attention-based prompting for rehearsal-free continual learning".

`experiences` is a hyper-parameter, because a learner does not know how many will come; one more is an error. The pieces
of an experience that was cut (an online stream) share its components; a task that comes again gets new ones.

Differs from the paper and the codes: (1) as in the authors' current code, an experience's components, keys and
attention vectors start orthonormal and orthogonal to the older ones, as they are then (the paper: the whole pool at
the start); where pool > features they cannot be and start with length 1, in random directions; (2) the penalty is the
squared Frobenius norm of the paper, at its 0.1; the authors' code takes the mean over the elements, a factor of 1 /
M^2, in an earlier version times 1e-6, and its scripts set it to 0; a re-implementation's default multiplies it by 0;
(3) older components are parameters without a gradient, so that momentum and weight decay leave them; in the codes
that holds because each task makes a new optimiser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from pydantic import Field

from clbench.errors import UserError
from clbench.lazy import torch
from clbench.schema import mistake
from clbench.strategies.shared.prompt_rules import orthogonality, orthonormal
from clbench.strategies.shared.prompting import PromptConfig, Prompting, check_blocks
from clbench.strategy import Batch, Experience, Knowledge, Setup

if TYPE_CHECKING:
    from torch import Tensor

    from clbench.training.transformers import Prefix, PromptedEncoder


class CodaPromptConfig(PromptConfig):
    """Hyper-parameters of CODA-Prompt."""

    pool: Annotated[int, Field(ge=1)] = 100
    """Components in all."""
    experiences: Annotated[int, Field(ge=1)] = 10
    """Experiences that the pool is divided for."""
    length: Annotated[int, Field(ge=2)] = 8
    """Tokens of a prefix, keys and values together."""
    blocks: list[int] | None = None
    """Blocks with prefixes. Default: the first five, or all of a shallower encoder."""
    orthogonality: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the penalty on components, keys and attention vectors in use that are not orthonormal."""

    @pydantic.model_validator(mode="after")
    def _divides(self) -> CodaPromptConfig:
        if self.length % 2:
            raise mistake(f"got 'length' {self.length}. Allowed: even numbers, half keys and half values")
        if self.pool < self.experiences:
            raise mistake(
                f"got 'pool' {self.pool} for {self.experiences} experiences. Allowed: at least one component for each"
            )
        return self


class CodaPrompt(Prompting):
    """Assembles prefixes from components by attention; a pool that expands."""

    Config = CodaPromptConfig

    @classmethod
    def needs(cls, config: CodaPromptConfig) -> frozenset[Knowledge]:
        """Boundaries: the pool expands at them."""
        return frozenset({"boundaries"})

    def __init__(self, config: CodaPromptConfig, setup: Setup) -> None:
        def make(encoder: PromptedEncoder) -> Any:
            from clbench.strategies.shared.prompt_pools import AttendedPrefixes

            blocks = list(range(min(5, encoder.depth))) if config.blocks is None else config.blocks
            check_blocks("blocks", blocks, encoder.depth)
            parts = config.experiences
            return AttendedPrefixes(parts, config.pool // parts, config.length, encoder.width, blocks)

        super().__init__(config, setup, "coda_prompt", make)

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        if self.task_blocks > self.config.experiences:
            raise UserError(
                f"strategy.experiences: got {self.config.experiences}, and experience {experience.number} is number "
                f"{self.task_blocks} of those that add components. Allowed: at least the experiences of the stream."
            )
        if experience.part == 0:
            self._expand()
        self._open()

    def _expand(self) -> None:
        """New components, orthonormal where that is possible."""
        number = self.task_blocks - 1
        with torch.no_grad():
            for parameters in self.prompts.parts:
                new = parameters[number]
                older = torch.cat([new[:, :0], *list(parameters)[:number]], 1)
                for block in range(len(new)):
                    drawn = self.drawn(new.shape[1], new[block, 0].numel(), normal=True)
                    new[block] = orthonormal(drawn, older[block].flatten(1)).view_as(new[block])

    def _open(self) -> None:
        self.prompts.admit(self.task_blocks, (self.task_blocks - 1,))

    def choose(self, query: Tensor, batch: Batch) -> tuple[None, dict[int, Prefix], Tensor | None]:
        p, k, a = self.prompts.in_use()
        term = None
        if self.config.orthogonality:
            term = orthogonality(p.flatten(2)) + orthogonality(k) + orthogonality(a)
            term = self.config.orthogonality * term
        return None, self.prompts.assemble(query, p, k, a), term

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._open()
