"""Frozen feature extractors: the test features behind layers that do not learn are computed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from clbench.evaluation.inputs import TestInputs, pieces_of
from clbench.evaluation.twin import plain_attributes


class Front:
    """Caches the features of the frozen feature extractor of an ordinary `nn.Sequential` (`twin.is_ordinary`).

    The extractor is the longest run of its first modules in which no parameter requires a gradient and at least one
    exists. That does not prove that it is unchanged: features are reused only where every tensor of the extractor is
    equal, bit for bit, to the one that they were computed with. (On a GPU that comparison waits for the device.)

    Args:
        limit: largest size of cached features, bytes; an extractor with more is run at every evaluation.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._twin: nn.Module | None = None
        self._rest: nn.Module = nn.Identity()
        self._front: nn.Module | None = None
        self._held: list[Tensor] = []
        self._flags: Any = None
        self._features: TestInputs | None = None
        self._passes = self._passes_again = 0
        self.computed = 0
        """Number of times that features were computed."""

    def held_bytes(self) -> int:
        """Bytes of features, and of the weights that they were computed with."""
        return (0 if self._features is None else self._features.nbytes) + sum(t.nbytes for t in self._held)

    def state_dict(self) -> dict[str, int]:
        """Number of forward passes that computed the features: it determines their last bits on recomputation."""
        return {"passes": self._passes_again or self._passes}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues where `state_dict` was taken."""
        self._passes_again = state["passes"]

    def split(self, twin: nn.Module, inputs: TestInputs, parts: Callable[[int], int]) -> tuple[TestInputs, nn.Module]:
        """Remaining work: inputs and the network for them.

        Args:
            twin: the whole network in evaluation mode.
            inputs: of the whole network.
            parts: number of samples -> forward passes to make.
        """
        if twin is not self._twin:
            self._twin, self._front = twin, None
            if type(twin) is nn.Sequential:
                self._cut(twin)
        elif self._front is not None and any(p.requires_grad for p in self._front.parameters()):
            self._front = None
        if self._front is None:
            return inputs, twin
        tensors = [*self._front.parameters(), *self._front.buffers()]
        flags = [(type(m), plain_attributes(m)) for m in self._front.modules()]
        same = (
            self._features is not None
            and flags == self._flags
            and len(tensors) == len(self._held)
            and all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(tensors, self._held, strict=True))
        )
        if not same:
            pieces: list[Tensor] = []
            self._passes, self._passes_again = self._passes_again or parts(len(inputs)), 0
            for a, b in pieces_of(len(inputs), self._passes):
                pieces.append(self._front(inputs.between(a, b)))
                if pieces[0].nbytes / max(1, b - a) * len(inputs) > self._limit:
                    self._front = None
                    return inputs, twin
            self._features = TestInputs(torch.cat(pieces))
            self._held, self._flags = [t.detach().clone() for t in tensors], flags
            self.computed += 1
        assert self._features is not None
        return self._features, self._rest

    def _cut(self, twin: nn.Sequential) -> None:
        children = list(twin)
        n = next((i for i, m in enumerate(children) if any(p.requires_grad for p in m.parameters())), len(children))
        if any(True for m in children[:n] for _ in m.parameters()):
            self._front, self._rest = nn.Sequential(*children[:n]), nn.Sequential(*children[n:])
