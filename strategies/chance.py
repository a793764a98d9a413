"""Chance level: random guesses, without learning. The lower-bound baseline of every benchmark.

A guess is a pseudo-random function of the input's bits and of the run's seed: independent of the time, the order and
the batch of a prediction. All outputs get independent scores, so that in every view each of the k active logits is the
guess with probability 1/k. Inputs of equal bits get equal guesses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clbench.lazy import torch
from clbench.strategy import Batch, Setup, Strategy

if TYPE_CHECKING:
    from torch import Tensor, nn

_STEP = -7046029254386353131  # 2^64 / golden ratio, odd, as are the other two multipliers of SplitMix64
_FIRST, _SECOND = -4658895280553007687, -7723592293110705685


def mixed(words: Tensor) -> Tensor:
    """Words of 64 bits, every bit of each a function of all its bits: the finaliser of SplitMix64 (Steele et al. 2014).

    Args:
        words: int64 of any shape; multiplication is modulo 2^64.

    >>> mixed(torch.tensor([-7046029254386353131])).tolist()  # the first number of SplitMix64 from seed 0
    [-2152535657050944081]
    """
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        words = (words ^ _shifted(words, shift)) * factor
    return words ^ _shifted(words, 31)


def _shifted(words: Tensor, by: int) -> Tensor:
    return (words >> by) & ((1 << (64 - by)) - 1)  # without the copies of the sign that >> draws in


def guesses(x: Tensor, outputs: int, key: int) -> Tensor:
    """Scores (N, outputs), float64, practically independent and uniform in [0, 1).

    Args:
        x: inputs, float32 (N, ...); of each row only its own bits matter.
        outputs: how many.
        key: with another one, other guesses.
    """
    bits = x.reshape(len(x), -1).contiguous().view(torch.int32).to(torch.int64)
    place = torch.arange(1, bits.shape[1] + 1, device=x.device) * _STEP
    row = mixed(mixed(bits + place).sum(1) ^ key)  # a sum modulo 2^64: in any order the same
    each = mixed(row[:, None] + torch.arange(1, outputs + 1, device=x.device) * _STEP)
    return _shifted(each, 11).to(torch.float64) * 2.0**-53


class Chance(Strategy):
    """Random guesses. The training step does nothing and returns the loss 0."""

    def __init__(self, config: Any, setup: Setup) -> None:
        super().__init__(config, setup)
        self._key = int(setup.generator.raw(1).view("int64")[0])

    def step(self, batch: Batch) -> Tensor:
        return torch.zeros((), device=self.setup.device)

    def predict(self, model: nn.Module, x: Tensor, task: Tensor | None) -> Tensor:
        return guesses(x, self.setup.outputs, self._key)
