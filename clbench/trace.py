"""The trace: what the evaluator saw, as integers and bits. Everything reported is computed from it.

Letters: E evaluations, K cells, T tasks, V experiences, I iterations (updates), N evaluated test samples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.measures import MEASURES
from clbench.prequential import Prequential
from clbench.summation import row_totals

SCHEMA = 2
"""Version of the trace's layout; raised when a field changes its meaning. Older ones are read (`_upgraded`).

Not raised for `sums` and `values`: a program that does not know them reads the counts beside them as before, and of a
record without counts it says that there are none.
"""

NOT_EVALUATED = -1
"""Count of a cell outside the evaluation's scope."""

UNAVAILABLE = -2
"""Count of a cell for which the strategy had no prediction yet."""


NAN_SCORES = -3
"""Count of a cell whose scores held NaN or infinity; such a run has failed, and no trace of a finished run holds it."""


BROKEN_SUM = -np.inf
"""Sum of a measure over a cell whose scores held NaN or infinity, as `NAN_SCORES`."""


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

    A *view* says which outputs compete for a prediction: `class`, `task` or `domain`; with the name of a model after
    it, as in `class.ema_0.99`, it is of averaged weights.

    Attributes:
        correct: per view, int32 (E, K): test samples of a cell predicted correctly, or NOT_EVALUATED, or UNAVAILABLE.
        cell_domain, cell_class: what a cell is: one class in one domain, int32 (K,).
        cell_size: evaluated test samples of a cell, int32 (K,).
        cell_population: test samples of a cell in the data set, int32 (K,); more than `cell_size` where a subset is
            evaluated.
        task_cells: which cells make up a task, bool (T, K).
        visits: which experience visits which task, bool (V, T).
        origin: the experience that each was cut from, int32 (V,); neighbours that share it are one task block.
        iteration: updates done before an evaluation, over the whole stream, int64 (E,).
        experience: the experience of an evaluation, int32 (E,).
        phase: a `Phase`, int8 (E,).
        loss: training loss of every update, float32 (I,).
        every: evaluation period in iterations; 0 where only experiences were evaluated.
        dense: iterations at the start of each experience that were all evaluated, whatever the period.
        rows: row of the data set's test samples that each evaluated sample is, int64 (N,), in the order of the cells;
            -1 where unknown.
        sums: per view and measure, such as `domain:squared_error` (`clbench.measures`), float64 (E, K): sum over the
            test samples of a cell, rounded once; NaN where there is none. Empty where predictions are only counted.
        values: per view and measure, float32 (E, N): the number of each sample, NaN outside the scope. Empty where not
            recorded.
        bits: per view, uint8 (E, ceil(N / 8)): whether each sample was predicted correctly, eight to a byte, the first
            in the highest bit; 0 outside the scope. Empty where not recorded.
        predicted: per view, uint8 (B, N), or uint16 where there are more than 255 outputs: the output predicted for
            each sample at each of the B evaluations with `Phase.END`; the largest number of the type where a sample
            was not evaluated or had no prediction. Empty where not recorded; see `predictions`.
        cell_target: output unit of each cell, int64 (K,); empty where no predictions were recorded.
        extra: what was recorded on demand, float32: `gradient_norm` (I,), `task_gradient_norm` (E, T),
            `feature_step` (E, T), `feature_drift` (E, T). See `clbench.config.benchmark.evaluation.Watch`.
        prequential: predictions of incoming samples before they were learnt; None where not recorded.
    """

    correct: dict[str, NDArray[np.int32]]
    cell_domain: NDArray[np.int32]
    cell_class: NDArray[np.int32]
    cell_size: NDArray[np.int32]
    cell_population: NDArray[np.int32]
    task_cells: NDArray[np.bool_]
    visits: NDArray[np.bool_]
    origin: NDArray[np.int32]
    iteration: NDArray[np.int64]
    experience: NDArray[np.int32]
    phase: NDArray[np.int8]
    loss: NDArray[np.float32]
    every: int
    dense: int
    rows: NDArray[np.int64]
    bits: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    extra: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    sums: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    values: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    predicted: dict[str, NDArray[np.uint8] | NDArray[np.uint16]] = field(default_factory=dict)
    cell_target: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    prequential: Prequential | None = None

    def __repr__(self) -> str:
        experiences, tasks = self.visits.shape
        sizes = {"evaluations": len(self.iteration), "updates": len(self.loss), "test samples": self.cell_size.sum()}
        counted = ", ".join(f"{number} {word}" for word, number in sizes.items())
        return f"Trace of {tasks} tasks in {experiences} experiences: {counted}, views {', '.join(self.views)}"

    # ---------------------------------------------------------------------------------------- looking at it
    @property
    def views(self) -> list[str]:
        """Names of all records: the views with counts, then those of measures."""
        return [*self.correct, *self.sums]

    def task_accuracy(self, view: str) -> NDArray[np.float64]:
        """Accuracy of each task at each evaluation, (E, T), in [0, 1].

        NaN where a cell of the task was not evaluated, or the strategy could not predict.

        Raises:
            KeyError: the trace has no counts of this view; means of a measure are `task_mean`.
        """
        counts = self.correct[view]
        member = self.task_cells.astype(np.int64)
        right = np.where(counts < 0, 0, counts).astype(np.int64) @ member.T
        missing = (counts < 0).astype(np.int64) @ member.T
        with np.errstate(invalid="ignore", divide="ignore"):
            accuracy = right / self.task_size
        return np.where(missing > 0, np.nan, accuracy)

    def task_total(self, view: str) -> NDArray[np.float64]:
        """Correct predictions on each task at each evaluation, or the sum of a measure, (E, T). NaN as above."""
        if view in self.sums:
            columns = [self.sums[view][:, cells] for cells in self.task_cells]
            return np.stack([row_totals(of_task) for of_task in columns], axis=1)
        return np.rint(self.task_accuracy(view) * self.task_size)

    def task_mean(self, view: str) -> NDArray[np.float64]:
        """Mean over the test samples of each task of correct predictions, or of a measure, (E, T). NaN as above."""
        if view not in self.sums:
            return self.task_accuracy(view)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean: NDArray[np.float64] = self.task_total(view) / self.task_size
        return mean

    @property
    def task_size(self) -> NDArray[np.int64]:
        """Evaluated test samples of each task, (T,)."""
        size: NDArray[np.int64] = self.task_cells.astype(np.int64) @ self.cell_size.astype(np.int64)
        return size

    @property
    def sample_cell(self) -> NDArray[np.int64]:
        """The cell of each evaluated sample, (N,), ascending."""
        return np.repeat(np.arange(len(self.cell_size)), self.cell_size)

    def sample_correct(self, view: str, evaluations: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
        """Per-sample correctness at some evaluations (default: all), (e, N).

        Raises:
            KeyError: the bits of this view were not recorded.
        """
        packed = self.bits[view] if evaluations is None else self.bits[view][evaluations]
        return np.unpackbits(packed, axis=1, count=int(self.cell_size.sum())).astype(np.bool_)

    def predictions(self, view: str) -> NDArray[np.int64]:
        """Predicted output of each evaluated sample at each evaluation with `Phase.END`, (B, N); -1 where it was not
        evaluated or had no prediction.

        Raises:
            KeyError: the predictions of this view were not recorded.
        """
        return outputs_of(self.predicted[view])

    def class_accuracy(self, view: str) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """The classes, ascending (C,), and the accuracy on each at each evaluation, (E, C) in [0, 1], over all its
        domains that were evaluated; NaN where none was, or the strategy could not predict.
        """
        classes, of = np.unique(self.cell_class, return_inverse=True)
        counts, member = self.correct[view], np.equal.outer(of, np.arange(len(classes))).astype(np.int64)
        known = counts >= 0
        right = np.where(known, counts, 0).astype(np.int64) @ member
        size = np.where(known, self.cell_size, 0).astype(np.int64) @ member
        size[((counts < NOT_EVALUATED).astype(np.int64) @ member) > 0] = 0
        return classes, np.divide(right, size, out=np.full(size.shape, np.nan), where=size > 0)

    def by_origin(self) -> Trace:
        """The same record with the neighbouring experiences of a task block joined to one.

        Evaluations between the parts stay, as `Phase.CHANGE`. Whatever is computed of the joined record is independent
        of how a pass was cut.
        """
        new = np.concatenate([[True], self.origin[1:] != self.origin[:-1]])
        if new.all():
            return self
        of = np.cumsum(new) - 1
        inner_start, inner_end = ~new, np.concatenate([~new[1:], [False]])
        phase = self.phase.copy()
        phase[(phase == Phase.BEFORE) & inner_start[self.experience]] = Phase.CHANGE
        phase[(phase == Phase.END) & inner_end[self.experience]] = Phase.CHANGE
        at_end = phase[self.phase == Phase.END] == Phase.END
        visits = np.zeros((int(of[-1]) + 1, self.visits.shape[1]), np.bool_)
        np.logical_or.at(visits, of, self.visits)
        return dataclasses.replace(
            self,
            visits=visits,
            origin=self.origin[new],
            experience=of[self.experience].astype(np.int32),
            phase=phase,
            predicted={view: outputs[at_end] for view, outputs in self.predicted.items()},
        )

    def begun(self) -> Trace:
        """The record of the experiences with an evaluation; an unfinished run has not reached the others."""
        return self._until(int(self.experience.max()) + 1)

    def ended(self) -> Trace | None:
        """The record joined by origin, of the experiences that have ended; None where none has."""
        joined = self.by_origin()
        at_end = joined.experience[joined.phase == Phase.END]
        return joined._until(int(at_end.max()) + 1) if at_end.size else None

    def _until(self, experiences: int) -> Trace:
        """The record of the first so many experiences."""
        if experiences == len(self.visits):
            return self
        kept = self.experience < experiences
        updates = int(self.iteration[kept].max())
        lengths = {"gradient_norm": updates}
        return dataclasses.replace(
            self,
            correct={view: counts[kept] for view, counts in self.correct.items()},
            visits=self.visits[:experiences],
            origin=self.origin[:experiences],
            iteration=self.iteration[kept],
            experience=self.experience[kept],
            phase=self.phase[kept],
            loss=self.loss[:updates],
            bits={view: packed[kept] for view, packed in self.bits.items()},
            extra={n: a[: lengths[n]] if n in lengths else a[kept] for n, a in self.extra.items()},
            sums={name: sums[kept] for name, sums in self.sums.items()},
            values={name: values[kept] for name, values in self.values.items()},
            predicted={view: outputs[kept[self.phase == Phase.END]] for view, outputs in self.predicted.items()},
            prequential=None if self.prequential is None else self.prequential.until(updates),
        )

    # ---------------------------------------------------------------------------------------- files
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Flat arrays for one npz file; bits as differences of neighbouring evaluations, which compress."""
        flat: dict[str, NDArray[Any]] = {"schema": np.array(SCHEMA)}
        for name in sorted(set(self.__dataclass_fields__) - {"bits", "prequential"}):
            value = getattr(self, name)
            if isinstance(value, dict):
                flat |= {f"{name}.{key}": array for key, array in value.items()}
            else:
                flat[name] = np.asarray(value)
        flat |= {f"bits.{view}": differences(packed) for view, packed in self.bits.items()}
        return flat if self.prequential is None else flat | self.prequential.arrays()

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Trace:
        """The inverse of `arrays`.

        Raises:
            ValueError: an unknown schema version, a missing array, or sizes or kinds that disagree; the message says
                which.
        """
        if "schema" not in arrays:
            raise ValueError("array 'schema' is missing")
        arrays = _upgraded(arrays)
        values: dict[str, Any] = {}
        for name in cls.__dataclass_fields__:
            if name in ("correct", "bits", "extra", "sums", "values", "predicted"):
                values[name] = {k.partition(".")[2]: a for k, a in arrays.items() if k.startswith(f"{name}.")}
            elif name == "cell_target" and name not in arrays and not values["predicted"]:
                values[name] = np.zeros(0, np.int64)
            elif name == "prequential":
                continue
            elif name not in arrays:
                raise ValueError(f"array '{name}' is missing")
            else:
                values[name] = arrays[name]
        if not (values["correct"] or values["sums"]):
            raise ValueError("no array 'correct.*' and none 'sums.*'")
        for name in values["sums"]:
            if name.partition(":")[2] not in MEASURES:
                raise ValueError(f"array 'sums.{name}' is of an unknown measure (known: {', '.join(MEASURES)})")
        for detail, whole in (("bits", "correct"), ("predicted", "correct"), ("values", "sums")):
            if absent := sorted(set(values[detail]) - set(values[whole])):
                raise ValueError(f"array '{whole}.{absent[0]}' is missing")
        for name, shape, expected in _shapes(values):
            if shape != expected:
                raise ValueError(f"array '{name}' has the shape {shape}, expected {expected}")
        for name in ("every", "dense"):
            values[name] = int(values[name])
        values["bits"] = {view: np.bitwise_xor.accumulate(b, axis=0) for view, b in values["bits"].items()}
        values["prequential"] = Prequential.from_arrays(arrays, len(values["loss"]))
        return cls(**values)


def concatenated(chunks: Iterable[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Successive parts of a record as one; a name that a part lacks had no rows in it."""
    chunks = list(chunks)
    names = dict.fromkeys(name for chunk in chunks for name in chunk)
    return {name: np.concatenate([chunk[name] for chunk in chunks if name in chunk]) for name in names}


def outputs_of(predicted: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.int64]:
    """Recorded predictions as output units, int64; -1 where there is none.

    >>> outputs_of(np.array([3, 255], np.uint8)).tolist(), outputs_of(np.array([255, 65535], np.uint16)).tolist()
    ([3, -1], [255, -1])
    """
    return np.where(predicted == np.iinfo(predicted.dtype).max, -1, predicted.astype(np.int64))


def differences(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each row's exclusive or with the row before it; the first row as it is.

    >>> differences(np.array([[3], [1], [1]], np.uint8)).tolist()
    [[3], [2], [0]]
    """
    changed = packed.copy()
    changed[1:] ^= packed[:-1]
    return changed


def _shapes(values: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Each array with the shape it has and the one it needs."""
    evaluations, cells, iterations = (values[n].size for n in ("iteration", "cell_size", "loss"))
    samples = int(values["cell_size"].sum())
    visits = values["visits"].shape if values["visits"].ndim == 2 else (values["visits"].size, -1)
    expected: dict[str, tuple[int, ...]] = {"loss": (iterations,), "rows": (samples,), "every": (), "dense": ()}
    expected |= dict.fromkeys(("iteration", "experience", "phase"), (evaluations,))
    expected |= dict.fromkeys(("cell_size", "cell_domain", "cell_class", "cell_population"), (cells,))
    expected |= {"visits": visits, "origin": (visits[0],), "task_cells": (visits[1], cells)}
    if values["cell_target"].size or values["predicted"]:
        expected["cell_target"] = (cells,)
    for name, shape in expected.items():
        yield name, values[name].shape, shape
    for view, counts in values["correct"].items():
        yield f"correct.{view}", counts.shape, (evaluations, cells)
    for view, packed in values["bits"].items():
        yield f"bits.{view}", packed.shape, (evaluations, -(-samples // 8))
    for view, sums in values["sums"].items():
        yield f"sums.{view}", sums.shape, (evaluations, cells)
    for view, numbers in values["values"].items():
        yield f"values.{view}", numbers.shape, (evaluations, samples)
    for view, outputs in values["predicted"].items():
        yield f"predicted.{view}", outputs.shape, (int((values["phase"] == Phase.END).sum()), samples)
    for name, array in values["extra"].items():
        yield f"extra.{name}", array.shape, (iterations,) if name == "gradient_norm" else (evaluations, visits[1])


def _upgraded(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Arrays of any known schema as those of the newest; what an old one did not record is empty or unknown."""
    schema = int(arrays["schema"])
    if not 1 <= schema <= SCHEMA:
        raise ValueError(f"schema version {schema}, this program reads 1 to {SCHEMA}")
    if schema == 1:
        absent = [name for name in ("cell_size", "visits") if name not in arrays]
        if absent:
            raise ValueError(f"array '{absent[0]}' is missing")
        arrays = {
            **arrays,
            "cell_population": arrays["cell_size"],
            "origin": np.arange(len(arrays["visits"]), dtype=np.int32),
            "dense": np.array(0),
            "rows": np.full(int(arrays["cell_size"].sum()), -1, np.int64),
        }
    return arrays
