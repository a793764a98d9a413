"""Result of one evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Evaluation:
    """Result of one evaluation, on the device; on a GPU it is not waited for.

    Attributes:
        counts: per view, int32 (K,): correct predictions, NOT_EVALUATED, UNAVAILABLE, or NAN_SCORES.
        bits: per view, uint8 (ceil(N / 8),): the samples predicted correctly, the first in the highest bit.
        extra: per name, float32 (T,): further quantities of `Watch`.
        sums, values: per view and measure, float64 (K,) and float32 (N,), on the host; see `clbench.trace.Trace`.
        predicted: per view, the predicted output of each sample, uint8 (N,), or uint16 where there are more than 255
            outputs; the largest number of the type where there is none. Empty where it was not asked for.
    """

    counts: dict[str, Tensor]
    bits: dict[str, Tensor]
    extra: dict[str, Tensor]
    sums: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)
    predicted: dict[str, Tensor] = field(default_factory=dict)
