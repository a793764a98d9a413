"""Encoders with prompts, and the pools that these come from, as modules.

A module here is not marked as `rowwise` (`clbench.evaluation.twin`) although it is: where prompts are chosen, a score
jumps when the choice changes, however little the weights moved. Neither a bound measured on other samples nor one on
rounding holds then, so all test samples are evaluated in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from clbench.strategies.shared.prompt_rules import assembled, attention, closest, prefixes_of, similarity
from clbench.training.transformers import Prefix

Chosen = tuple[Tensor | None, Mapping[int, Prefix] | None]
"""The arguments `prompts` and `prefixes` of an encoder."""


class Prompted(nn.Module):
    """A frozen encoder whose prompts depend on the sample: features (N, F).

    Args:
        encoder: see `clbench.training.transformers`; it stays in evaluation mode.
        prompts: queries (N, F) -> `Chosen`, for each sample by itself.
    """

    def __init__(self, encoder: Any, prompts: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False).eval()
        self.prompts = prompts

    def train(self, mode: bool = True) -> Prompted:
        super().train(mode)
        self.encoder.eval()
        return self

    def query(self, x: Tensor) -> Tensor:
        """Features without prompts and without a graph, (N, F)."""
        with torch.no_grad():
            features: Tensor = self.encoder(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.encoder(x, *self.prompts(self.query(x)))
        return features


class SelectedPrompts(nn.Module):
    """L2P's pool: the prompts of the `top` most similar keys beside each other.

    Args:
        prompts: initial values, (M, L, F).
        keys: (M, F).
        top: how many are selected, 1 to M.
    """

    def __init__(self, prompts: Tensor, keys: Tensor, top: int) -> None:
        super().__init__()
        self.prompts, self.keys, self.top = nn.Parameter(prompts), nn.Parameter(keys), top

    def at(self, chosen: Tensor) -> Tensor:
        """Prompts (N, top L, F) of the components (N, top)."""
        return self.prompts[chosen].flatten(1, 2)

    def forward(self, query: Tensor) -> Chosen:
        return self.at(closest(similarity(query, self.keys), self.top)), None


class _Growing(nn.Module):
    """A pool of parts, of which the first `known` are in use, and those in `learning` are trained.

    A part is parameters of its own, so that others have no gradient at all: no optimiser touches them, whatever its
    momentum or weight decay.
    """

    parts: Sequence[nn.ParameterList]

    def admit(self, known: int, learning: Sequence[int]) -> None:
        """Puts the first parts in use and trains some of them."""
        self.known = known
        for parameters in self.parts:
            for number, parameter in enumerate(parameters):
                parameter.requires_grad_(number in learning)
                if number not in learning:
                    parameter.grad = None


class TaskPrefixes(_Growing):
    """DualPrompt's prompts: general ones, and those of the task with the most similar key.

    Args:
        general: initial values, (B, L, F).
        expert: of each task, (T, B', L', F).
        keys: (T, F).
        general_blocks, expert_blocks: numbers of the B and B' blocks.
    """

    def __init__(
        self,
        general: Tensor,
        expert: Tensor,
        keys: Tensor,
        general_blocks: Sequence[int],
        expert_blocks: Sequence[int],
    ) -> None:
        super().__init__()
        self.general = nn.Parameter(general)
        self.expert = nn.ParameterList(expert.clone().unbind())
        self.keys = nn.ParameterList(keys.clone().unbind())
        self.general_blocks, self.expert_blocks = tuple(general_blocks), tuple(expert_blocks)
        self.admit(0, ())

    @property
    def parts(self) -> Sequence[nn.ParameterList]:  # type: ignore[override]
        return self.expert, self.keys

    def similarities(self, query: Tensor) -> Tensor:
        """Of the queries to the keys in use, (N, known)."""
        return similarity(query, torch.stack(list(self.keys)[: self.known]))

    def of(self, slot: Tensor | int) -> dict[int, Prefix]:
        """Prefixes where the expert ones are those of one task, or of the task of each sample, (N,)."""
        known = list(self.expert)[: self.known]
        expert = self.expert[slot] if isinstance(slot, int) else torch.stack(known, 1)[:, slot]
        return {**prefixes_of(self.general, self.general_blocks), **prefixes_of(expert, self.expert_blocks)}

    def forward(self, query: Tensor) -> Chosen:
        if not self.known:
            return None, prefixes_of(self.general, self.general_blocks)
        return None, self.of(self.similarities(query).argmax(1))


class AttendedPrefixes(_Growing):
    """CODA-Prompt's components, keys and attention vectors, by experience.

    Args:
        parts: experiences.
        components: m, of each.
        length: L, tokens.
        features: F.
        blocks: numbers of the B blocks.
    """

    def __init__(self, parts: int, components: int, length: int, features: int, blocks: Sequence[int]) -> None:
        super().__init__()
        b = len(blocks)
        shapes = ((b, components, length, features), (b, components, features), (b, components, features))
        self.components, self.keys, self.attention = (
            nn.ParameterList(torch.zeros(shape) for _ in range(parts)) for shape in shapes
        )
        self.blocks = tuple(blocks)
        self.admit(0, ())

    @property
    def parts(self) -> Sequence[nn.ParameterList]:  # type: ignore[override]
        return self.components, self.keys, self.attention

    def in_use(self) -> tuple[Tensor, Tensor, Tensor]:
        """Components (B, M, L, F), keys and attention vectors (B, M, F) in use."""
        p, k, a = (torch.cat(list(parameters)[: self.known], 1) for parameters in self.parts)
        return p, k, a

    def assemble(self, query: Tensor, p: Tensor, k: Tensor, a: Tensor) -> dict[int, Prefix]:
        """Prefixes of each sample."""
        return prefixes_of(assembled(attention(query, a, k), p), self.blocks)

    def forward(self, query: Tensor) -> Chosen:
        return None, self.assemble(query, *self.in_use()) if self.known else None
