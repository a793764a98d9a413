"""A proven bound: the samples whose answer a linear layer behind unchanged features can have changed.

Where all that learns is one linear layer (a frozen feature extractor, or a network without hidden layers), the scores
are linear in the weights, and how far a sample can have moved needs no measurement. With the change of the layer's
weights since a full evaluation, d_c for output c, and of its biases, e_c; a sample with the features f, its class y,
and m the mean of the features of its class,

    |change of (score of y - score of c)| = |(d_y - d_c) f + e_y - e_c|
                                         <= |(d_y - d_c) m + e_y - e_c| + ||d_y - d_c|| ||f - m||     (Cauchy-Schwarz)

for every other output c. Its answer stays where its lead at the full evaluation exceeds the largest of these and what
rounding can have added to float32's scores then and now: gamma ||w|| ||f|| for each, with gamma = k u / (1 - k u),
u = 2^-24 and k the number of features and some, in whatever order a processor adds (N. J. Higham, Accuracy and
Stability of Numerical Algorithms, 2nd ed., SIAM 2002, section 3.1). The others are computed in float32. The bound
itself is computed in float64, a few numbers for each sample.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from clbench.evaluation.competition import Judged
from clbench.evaluation.inputs import TestInputs

_MOST = 0.5
"""Share of samples beyond which looking at all of them is as cheap."""
_INFLATED = 1 + 1e-6
"""Covers the rounding of the bound, which is computed in float64, and of a lead, a difference of two scores."""
_TINY = 1e-30
"""Covers products that float32 cannot represent."""
_AT_ONCE = 4096
_COUNTS = ("selected", "full", "samples", "looked", "_since", "_pause", "_pause_next")
_REFERENCE = ("_weight", "_bias", "_small", "_right")


class LinearBound:
    """The samples of one model to look at, where its scores are linear in what learns.

    Attributes:
        selected, full: evaluations that looked at some samples, and at all.
        samples, looked: samples of the selecting evaluations, and those of them looked at.
    """

    def __init__(self) -> None:
        self.selected = self.full = self.samples = self.looked = 0
        self._since = self._pause = self._pause_next = 0
        self._layer: nn.Linear | None = None
        self._inputs: TestInputs | None = None
        self._key: Any = None
        self._resumed = ""
        self._y = self._mean = self._apart = self._norm = torch.zeros(0)
        self._weight = self._bias = self._small = self._right = torch.zeros(0)

    def state_dict(self) -> dict[str, Any]:
        """The counts, and the reference that later selections depend on."""
        return {
            **{name: getattr(self, name) for name in (*_COUNTS, *_REFERENCE)},
            "key": self._key,
            "features": "" if self._key is None or self._inputs is None else _fingerprint(self._inputs),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken, if the features are the same then, bit for bit."""
        for name in (*_COUNTS, *_REFERENCE):
            setattr(self, name, state[name])
        self._key, self._resumed, self._inputs = state["key"], state["features"], None

    def held_bytes(self) -> int:
        """Bytes of the reference and of the features' norms."""
        held = (self._y, self._mean, self._apart, self._norm, self._weight, self._bias, self._small, self._right)
        return sum(t.nbytes for t in held)

    def renew(self) -> None:
        """Makes the next evaluation look at everything."""
        self._key, self._pause = None, 0

    def begin(
        self,
        network: nn.Module,
        inputs: TestInputs,
        spans: list[tuple[int, int]],
        key: tuple[tuple[int, ...], tuple[int, ...]],
        targets: Tensor,
    ) -> bool:
        """Whether the bound holds for this evaluation; `due` or `refer` comes next, then.

        Args:
            network: the model behind its frozen feature extractor, in evaluation mode.
            inputs: of that; the same object as before unless they changed.
            spans: first and one past the last of the samples evaluated.
            key: the tasks evaluated, and the outputs seen.
            targets: output unit of every sample, int64 (N,).
        """
        layer = _linear(network)
        if layer is None or inputs.ready is None or inputs.ready.dtype != torch.float32 or not inputs.on_cpu:
            return False
        if layer.weight.dtype != torch.float32 or torch.get_float32_matmul_precision() != "highest":
            return False
        if self._pause:
            self._pause -= 1
            self._key = None
            return False
        self._layer = layer
        resumed = bool(self._resumed) and self._resumed == _fingerprint(inputs)
        changed = key != self._key or layer.weight.shape != self._weight.shape
        if changed or not (inputs is self._inputs or resumed):
            self._small = torch.zeros(0)
        if changed or inputs is not self._inputs:
            self._inputs, self._key, self._resumed = inputs, key, ""
            self._measure(inputs.ready, torch.cat([torch.arange(a, b) for a, b in spans]), targets)
        return True

    def _measure(self, features: Tensor, positions: Tensor, targets: Tensor) -> None:
        """Norms of the features, and of their differences from the mean of their class."""
        assert self._layer is not None
        self._y = targets[positions]
        parts = list(zip(torch.split(positions, _AT_ONCE), torch.split(self._y, _AT_ONCE), strict=True))
        total = torch.zeros(self._layer.weight.shape, dtype=torch.float64)
        for rows, y in parts:
            known = y < len(total)  # a head that grows has no output for classes to come
            total.index_add_(0, y[known], features[rows[known]].flatten(1).double())
        count = torch.bincount(self._y, minlength=len(total))[: len(total)].clamp(min=1)
        self._mean = total / count[:, None]
        norms, apart = [], []
        for rows, y in parts:
            x = features[rows].flatten(1).double()
            norms.append(x.norm(dim=1))
            apart.append((x - self._mean[y.clamp(max=len(total) - 1)]).norm(dim=1))
        self._norm, self._apart = torch.cat(norms), torch.cat(apart)

    def due(self) -> Tensor | None:
        """Positions among the samples evaluated of those to look at, int64 (m,), ascending; None for all."""
        n = len(self._small)
        if not n:
            return None
        rows = torch.nonzero(~(self._small > self._bound())).flatten()
        if len(rows) > _MOST * n:
            if not self._since:
                self._pause_next = min(64, max(4, 2 * self._pause_next))
                self._pause = self._pause_next
            return None
        self._since += max(1, len(rows))
        if self._since > n:  # looking at all of them once makes later evaluations cheaper
            return None
        self._pause_next = 0
        return rows

    def _bound(self) -> Tensor:
        """Largest change of each sample's lead since the reference, rounding included, (n,)."""
        assert self._layer is not None
        weight, bias = _weights(self._layer)
        before = self._weight.double()
        d, e = weight - before, bias - self._bias.double()
        gram = d @ d.T
        square = gram.diagonal()
        apart = square[:, None] + square - 2 * gram + 1e-12 * (square[:, None] + square)
        steady = self._mean @ d.T + e  # of class y, the change of the score of c
        steady = (steady.diagonal()[:, None] - steady).abs().amax(1)
        ball = apart.clamp_(min=0).sqrt_().amax(1)
        k = weight.shape[1] + 4
        gamma = k * 2.0**-24 / (1 - k * 2.0**-24)
        size = weight.norm(dim=1).amax() + before.norm(dim=1).amax()
        offset = bias.abs().amax() + self._bias.abs().amax()
        y = self._y.clamp(max=len(weight) - 1)
        moved = steady[y] + ball[y] * self._apart
        bound: Tensor = _INFLATED * (moved + 2 * gamma * (size * self._norm + offset)) + _TINY
        return bound

    def look(self, rows: Tensor, judged: Judged | None) -> Judged:
        """Takes the verdict on the samples that were due, if there are any; returns that on all, without leads."""
        self.selected += 1
        self.samples += len(self._small)
        self.looked += len(rows)
        right = self._right.clone()
        if judged is not None:
            right[:, rows] = judged.right
        return Judged(right, None, torch.zeros((), dtype=torch.bool), len(self._weight))

    def refer(self, judged: Judged) -> None:
        """Takes the verdict on all samples, computed in float32: the reference from now on."""
        assert judged.lead is not None
        assert self._layer is not None
        self.full += 1
        self._since = 0
        self._weight = self._layer.weight.detach().clone()
        self._bias = _weights(self._layer)[1].to(torch.float32)
        self._small, self._right = judged.lead.abs().amin(0).double(), judged.right.clone()

    def report(self) -> dict[str, Any]:
        """Entry in the run's record."""
        return {
            "evaluations": {"selected": self.selected, "full": self.full},
            "samples": self.samples,
            "samples_looked_at": self.looked,
        }


def _linear(network: nn.Module) -> nn.Linear | None:
    """The linear layer, where a network in evaluation mode is that alone."""
    layers = [m for m in network.children() if type(m) not in (nn.Flatten, nn.Identity, nn.Dropout)]
    if type(network) is nn.Linear:
        layers = [network]
    elif type(network) is not nn.Sequential or len(layers) != 1 or network[-1] is not layers[0]:
        return None
    return layers[0] if type(layers[0]) is nn.Linear else None


def _weights(layer: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weights and biases, float64."""
    weight = layer.weight.detach().double()
    return weight, weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().double()


def _fingerprint(inputs: TestInputs) -> str:
    return "" if inputs.ready is None else hashlib.sha256(inputs.ready.contiguous().numpy().data).hexdigest()
