"""The prequential record: predictions of incoming samples, each made before the update that learns it.

Letters: I iterations (updates), S incoming samples in their order of arrival.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PER_UPDATE = ("prequential_incoming", "prequential_repeated", "prequential_unavailable")

GROWING = ("prequential", "prequential_values", *_PER_UPDATE)
"""Names of its arrays that grow during a run, up to the first point."""


@dataclass(frozen=True)
class Prequential:
    """Whether each incoming sample was predicted correctly before it was learnt.

    A sample is *incoming* when its row, in its task, comes in as data of the stream for the first time: not in a later
    epoch, in a later visit to the task, or by rehearsal.

    Attributes:
        right: per view, bool (S,), in order of arrival; False where there was no prediction.
        incoming: incoming samples of each update, int32 (I,); their sum is S.
        repeated: further samples of the stream in the batch of each update, which had come in before, int32 (I,).
        unavailable: those of the incoming samples for which the strategy had no prediction, int32 (I,).
        delay: updates between a prediction and the update that learns the sample: 0 is immediately before it. Near the
            start of the stream there are fewer.
        values: per view and measure, such as `domain:squared_error` (`clbench.measures`), float32 (S,): the number of
            each sample, NaN where there was no prediction. Empty where predictions are only counted.
    """

    right: dict[str, NDArray[np.bool_]]
    incoming: NDArray[np.int32]
    repeated: NDArray[np.int32]
    unavailable: NDArray[np.int32]
    delay: int = 0
    values: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def of(self, view: str) -> NDArray[np.bool_] | NDArray[np.float32] | None:
        """What is right, or the numbers of a measure, (S,); None where it is not recorded."""
        return self.right.get(view, self.values.get(view))

    @property
    def iteration(self) -> NDArray[np.int64]:
        """Updates done before the one that learns each sample, int64 (S,), ascending."""
        return np.repeat(np.arange(len(self.incoming)), self.incoming)

    @classmethod
    def of_chunks(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        right: dict[str, NDArray[np.bool_]],
        values: dict[str, NDArray[np.float32]],
        delay: int,
    ) -> Prequential:
        """The record from the arrays of a run's chunks; a name that they lack had no updates in it.

        Args:
            arrays: per update, by the names of `arrays`.
            right, values, delay: see `Prequential`.
        """
        incoming, repeated, unavailable = (arrays.get(name, np.zeros(0, np.int32)) for name in _PER_UPDATE)
        return cls(right, incoming, repeated, unavailable, delay, values)

    def until(self, updates: int) -> Prequential:
        """The record of the first so many updates."""
        samples = int(self.incoming[:updates].sum())
        return replace(
            self,
            right={view: right[:samples] for view, right in self.right.items()},
            incoming=self.incoming[:updates],
            repeated=self.repeated[:updates],
            unavailable=self.unavailable[:updates],
            values={name: values[:samples] for name, values in self.values.items()},
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Flat arrays for an npz file; eight samples to a byte, the first in the highest bit.

        >>> count = np.array([2, 1], np.int32)
        >>> one = Prequential({"class": np.array([True, False, True])}, count, 0 * count, 0 * count)
        >>> {name: array.tolist() for name, array in one.arrays().items()}["prequential.class"]
        [160]
        >>> Prequential.from_arrays(one.arrays(), 2).right["class"].tolist()
        [True, False, True]
        """
        flat: dict[str, NDArray[Any]] = {f"prequential.{v}": np.packbits(right) for v, right in self.right.items()}
        flat |= {name: getattr(self, name.partition("_")[2]) for name in _PER_UPDATE}
        flat |= {f"prequential_values.{name}": values for name, values in self.values.items()}
        return flat | {"prequential_delay": np.array(self.delay)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], updates: int) -> Prequential | None:
        """The inverse of `arrays`; None where nothing was recorded.

        Args:
            arrays: of a trace.
            updates: of the run, I.

        Raises:
            ValueError: sizes or kinds that disagree; the message says which.
        """
        if "prequential_delay" not in arrays:
            return None
        counts = {name: arrays.get(name, np.zeros(0, np.int32)) for name in _PER_UPDATE}
        for name, count in counts.items():
            if count.shape != (updates,) or count.dtype.kind != "i":
                kind = f"the shape {count.shape} and the kind {count.dtype}"
                raise ValueError(f"array '{name}' has {kind}, expected ({updates},) and integers")
        incoming, repeated, unavailable = counts.values()
        samples = int(incoming.sum())
        packed = {name.partition(".")[2]: a for name, a in arrays.items() if name.startswith("prequential.")}
        for view, bits in packed.items():
            if bits.shape != (-(-samples // 8),) or bits.dtype != np.uint8:
                raise ValueError(f"array 'prequential.{view}' does not hold the bits of {samples} samples")
        right = {view: np.unpackbits(bits, count=samples).astype(np.bool_) for view, bits in packed.items()}
        values = {name.partition(".")[2]: a for name, a in arrays.items() if name.startswith("prequential_values.")}
        for name, numbers in values.items():
            if numbers.shape != (samples,) or numbers.dtype.kind != "f":
                raise ValueError(f"array 'prequential_values.{name}' does not hold the numbers of {samples} samples")
        return cls(right, incoming, repeated, unavailable, int(arrays["prequential_delay"]), values)
