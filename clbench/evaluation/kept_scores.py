"""Scores of the evaluation after one experience, for the evaluation before the next, where nothing changed in between.

Both are recorded and one is computed: of a stream that is evaluated around experiences alone, this is a part of all
work that grows with the share of the tasks seen. That nothing changed is proven and not assumed: all parameters and
buffers are equal, bit for bit, to copies of those that the scores were computed with, and so are the modules'
attributes. (A version counter of torch would not do: it does not count what is written through `.data`.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from clbench.evaluation.inputs import TestInputs
from clbench.evaluation.passes import Scored, Which
from clbench.evaluation.twin import plain_attributes

_BYTES = 64 << 20
"""Largest size of scores that are kept."""


class KeptScores:
    """Float32 scores of the last evaluation at a boundary."""

    def __init__(self) -> None:
        self._tensors: list[Tensor] = []
        self._flags: Any = None
        self._inputs: TestInputs | None = None
        self._scores: dict[tuple[int, int], Tensor] = {}

    def begin(self, model: nn.Module, inputs: TestInputs) -> None:
        """Begins an evaluation at a boundary.

        Args:
            model: an ordinary model in evaluation mode.
            inputs: the same object as before unless they changed.
        """
        tensors = [*model.parameters(), *model.buffers()]
        flags = [(type(m), plain_attributes(m)) for m in model.modules()]
        same = (
            inputs is self._inputs
            and flags == self._flags
            and len(tensors) == len(self._tensors)
            and all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(tensors, self._tensors, strict=True))
        )
        if not same:
            self._scores.clear()
            self._tensors, self._flags, self._inputs = [t.detach().clone() for t in tensors], flags, inputs

    def of(self, which: Which, *, least: int, compute: Scored) -> Tensor:
        """Scores of samples, those of a span taken from the evaluation before as far as it had them.

        Args:
            which: the samples.
            least: fewest samples that have the same bits alone as among others.
            compute: samples -> scores.
        """
        if isinstance(which, Tensor):
            return compute(which)
        a, b = which
        known = next(((s, t) for s, t in self._scores if s == a and least <= t - s and t <= b), None)
        if known is None or 0 < b - known[1] < least:
            scores = compute(which)
        else:
            scores = self._scores[known]
            if known[1] < b:
                scores = torch.cat([scores, compute((known[1], b))])
        if scores.nbytes + sum(t.nbytes for t in self._scores.values()) <= _BYTES:
            self._scores[which] = scores
        return scores

    def end(self) -> None:
        """Call where training goes on: what is kept is of no use any more."""
        self._scores.clear()
        self._tensors, self._flags, self._inputs = [], None, None

    def held_bytes(self) -> int:
        """Bytes of scores, and of the weights that they were computed with."""
        return sum(t.nbytes for t in (*self._scores.values(), *self._tensors))
