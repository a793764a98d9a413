"""Files of a trace: chunks appended during the run, one file at the end."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.errors import UserError
from clbench.prequential import GROWING
from clbench.results.files import PREDICTIONS, read_arrays, write_arrays
from clbench.trace import Trace, concatenated, differences

_GROWING = (
    "correct", "bits", "extra", "sums", "values", "predicted", "iteration", "experience", "phase", "loss", *GROWING,
)  # fmt: skip
"""Fields of a trace that grow during a run."""

_OF_PREDICTIONS = ("predicted", "cell_target")
"""Fields in a file of their own: `trace.npz`, by whose SHA-256 a run is verified, has the bytes that it had before
predictions were recorded."""


def _layout(directory: Path) -> Path:
    return directory / "trace" / "layout.npz"


def _chunk(directory: Path, number: int) -> Path:
    return directory / "trace" / f"chunk-{number:06d}.npz"


def _read_chunk(path: Path) -> dict[str, NDArray[Any]]:
    arrays = read_arrays(path)
    return {n: np.bitwise_xor.accumulate(a, axis=0) if n.startswith("bits.") else a for n, a in arrays.items()}


@dataclass
class TraceWriter:
    """Appends evaluations to a run's `trace/` during the run, and merges them at its end.

    Attributes:
        directory: the run's folder.
        chunks: SHA-256 of each file written so far.
    """

    directory: Path
    chunks: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Removes the chunks of an unfinished earlier attempt, and the result of a finished one."""
        self.resume([])
        for name in ("trace.npz", PREDICTIONS):
            (self.directory / name).unlink(missing_ok=True)

    def resume(self, chunks: list[str]) -> None:
        """Resumes from the first chunks of an unfinished attempt, and removes those after them.

        Raises:
            UserError: one of them is missing or damaged; the message names it. Nothing was removed.
        """
        for i, expected in enumerate(chunks):
            try:
                digest = hashlib.sha256(self._path(i).read_bytes()).hexdigest()
            except OSError as error:
                raise UserError(f"{self._path(i)}: {error.strerror}.") from None
            if digest != expected:
                raise UserError(f"{self._path(i)}: damaged: its SHA-256 is not the recorded one.")
        keep = {self._path(i) for i in range(len(chunks))}
        for path in set((self.directory / "trace").glob("*")) - keep:
            path.unlink()
        self.chunks = list(chunks)

    def describe(self, layout: Trace) -> None:
        """Writes what chunks lack, by which a reader makes a trace of those that exist; see `read_unfinished_trace`."""
        arrays = layout.arrays()
        write_arrays(_layout(self.directory), {n: a for n, a in arrays.items() if n.partition(".")[0] not in _GROWING})

    def append(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Appends a chunk; bits as differences of neighbouring evaluations."""
        arrays = {name: differences(a) if name.startswith("bits.") else a for name, a in arrays.items()}
        self.chunks.append(write_arrays(self._path(len(self.chunks)), arrays))

    def read(self) -> Iterator[dict[str, NDArray[Any]]]:
        """The chunks as they were appended."""
        return (_read_chunk(self._path(i)) for i in range(len(self.chunks)))

    def _path(self, number: int) -> Path:
        return _chunk(self.directory, number)

    def finish(self, trace: Trace) -> str:
        """Writes the whole trace: `trace.npz`, and `predictions.npz` where there are any. Returns the SHA-256 of the
        first."""
        arrays = trace.arrays()
        predictions = {n: arrays.pop(n) for n in list(arrays) if n.partition(".")[0] in _OF_PREDICTIONS}
        if trace.predicted:
            write_arrays(self.directory / PREDICTIONS, predictions)
        return write_arrays(self.directory / "trace.npz", arrays)

    def clear(self) -> None:
        """Removes the chunks."""
        shutil.rmtree(self.directory / "trace", ignore_errors=True)


def read_trace(directory: Path, *, bits: bool = True) -> Trace:
    """The trace of a finished run.

    Args:
        directory: the run's folder.
        bits: whether the correctness and the numbers of single samples are read, most of a long trace.

    Raises:
        UserError: missing or damaged, of another schema version, or with sizes that disagree.
    """
    path = directory / "trace.npz"
    arrays = read_arrays(path, without=() if bits else ("bits.", "values."))
    if (directory / PREDICTIONS).exists():
        arrays |= read_arrays(directory / PREDICTIONS)
    return _made(path, arrays)


def has_begun(directory: Path) -> bool:
    """True if some of an unfinished run's trace is written."""
    return _layout(directory).exists() and _chunk(directory, 0).exists()


def read_unfinished_trace(directory: Path) -> Trace:
    """The trace of an unfinished run up to its last chunk; experiences that it had not reached have no evaluation.

    Raises:
        UserError: nothing is written yet, or damaged.
    """
    path = _layout(directory)
    if not has_begun(directory):
        raise UserError(f"{directory}: no evaluation is written yet.")
    arrays = read_arrays(path)
    chunks: list[dict[str, NDArray[Any]]] = []
    while (part := _chunk(directory, len(chunks))).exists():
        chunks.append(_read_chunk(part))
    try:
        arrays |= concatenated(chunks)
    except ValueError as error:  # parts whose shapes disagree
        raise UserError(f"{path.parent}: damaged ({error}).") from None
    arrays |= {name: differences(a) for name, a in arrays.items() if name.startswith("bits.")}
    arrays |= {name: np.packbits(a) for name, a in arrays.items() if name.startswith("prequential.")}
    trace = _made(path.parent, arrays)
    if not trace.iteration.size:
        raise UserError(f"{directory}: no evaluation is written yet.")
    return trace


def _made(path: Path, arrays: dict[str, NDArray[Any]]) -> Trace:
    try:
        return Trace.from_arrays(arrays)
    except ValueError as error:
        raise UserError(f"{path}: {error}.") from None
