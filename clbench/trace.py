"""The trace: what the evaluator saw, as integers. Everything reported is computed from it.

Letters: E evaluations, K cells, T tasks, V experiences, I iterations (updates).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

SCHEMA = 1
"""Version of the trace's layout; raised when a field changes its meaning."""

NOT_EVALUATED = -1
"""Count of a cell outside the evaluation's scope."""

UNAVAILABLE = -2
"""Count of a cell for which the strategy had no prediction yet."""


NAN_SCORES = -3
"""Count of a cell whose scores held NaN; such a run has failed, and no trace of a finished run holds it."""


class Phase(IntEnum):
    """At which moment an evaluation was made."""

    BEFORE = 0
    """Before the first update of an experience, after the strategy was told of it."""
    ITERATION = 1
    """After an update."""
    CHANGE = 2
    """After a change that is no update."""
    END = 3
    """After the strategy ended the experience."""


@dataclass(frozen=True)
class Trace:
    """The record of one run.

    Attributes:
        correct: per view, int32 (E, K): test samples of a cell predicted correctly, or NOT_EVALUATED, or UNAVAILABLE.
        cell_domain, cell_class: what a cell is: one class in one domain, int32 (K,).
        cell_size: test samples of a cell, int32 (K,).
        task_cells: which cells make up a task, bool (T, K).
        visits: which experience visits which task, bool (V, T).
        iteration: updates done before an evaluation, over the whole stream, int64 (E,).
        experience: the experience of an evaluation, int32 (E,).
        phase: a `Phase`, int8 (E,).
        loss: training loss of every update, float32 (I,).
        every: evaluation period in iterations; 0 where only experiences were evaluated.
    """

    correct: dict[str, NDArray[np.int32]]
    cell_domain: NDArray[np.int32]
    cell_class: NDArray[np.int32]
    cell_size: NDArray[np.int32]
    task_cells: NDArray[np.bool_]
    visits: NDArray[np.bool_]
    iteration: NDArray[np.int64]
    experience: NDArray[np.int32]
    phase: NDArray[np.int8]
    loss: NDArray[np.float32]
    every: int

    def task_accuracy(self, view: str) -> NDArray[np.float64]:
        """Accuracy of each task at each evaluation, (E, T), in [0, 1].

        NaN where a cell of the task was not evaluated, or the strategy could not predict.
        """
        counts = self.correct[view]
        member = self.task_cells.astype(np.int64)
        right = np.where(counts < 0, 0, counts).astype(np.int64) @ member.T
        missing = (counts < 0).astype(np.int64) @ member.T
        with np.errstate(invalid="ignore", divide="ignore"):
            accuracy = right / (member @ self.cell_size)
        return np.where(missing > 0, np.nan, accuracy)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Flat arrays for one npz file."""
        plain = sorted(set(self.__dataclass_fields__) - {"correct", "every"})
        return {
            "schema": np.array(SCHEMA),
            "every": np.array(self.every),
            **{name: getattr(self, name) for name in plain},
            **{f"correct.{view}": counts for view, counts in self.correct.items()},
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> Trace:
        """The inverse of `arrays`.

        Raises:
            ValueError: another schema version, a missing array, or sizes that disagree; the message says which.
        """
        if "schema" not in arrays:
            raise ValueError("array 'schema' is missing")
        if int(arrays["schema"]) != SCHEMA:
            raise ValueError(f"schema version {int(arrays['schema'])}, this program reads {SCHEMA}")
        values = {name: arrays[name] for name in cls.__dataclass_fields__ if name in arrays}
        absent = sorted(set(cls.__dataclass_fields__) - set(values) - {"correct"})
        if absent:
            raise ValueError(f"array '{absent[0]}' is missing")
        values["every"] = int(arrays["every"])  # type: ignore[assignment]
        correct = {name.partition(".")[2]: a for name, a in arrays.items() if name.startswith("correct.")}
        trace = cls(correct=correct, **values)  # type: ignore[arg-type]
        evaluations, cells = len(trace.iteration), len(trace.cell_size)
        shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
            f"correct.{view}": (a.shape, (evaluations, cells)) for view, a in correct.items()
        }
        shapes |= {name: (getattr(trace, name).shape, (evaluations,)) for name in ("experience", "phase")}
        shapes |= {name: (getattr(trace, name).shape, (cells,)) for name in ("cell_domain", "cell_class")}
        shapes["task_cells"] = (trace.task_cells.shape, (trace.visits.shape[1], cells))
        for name, (found, expected) in shapes.items():
            if found != expected:
                raise ValueError(f"array '{name}' has the shape {found}, expected {expected}")
        if not correct:
            raise ValueError("no array 'correct.*'")
        return trace
