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
from clbench.results.files import read_arrays, write_arrays
from clbench.trace import Trace, differences


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
        (self.directory / "trace.npz").unlink(missing_ok=True)

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

    def append(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Appends a chunk; bits as differences of neighbouring evaluations."""
        arrays = {name: differences(a) if name.startswith("bits.") else a for name, a in arrays.items()}
        self.chunks.append(write_arrays(self._path(len(self.chunks)), arrays))

    def read(self) -> Iterator[dict[str, NDArray[Any]]]:
        """The chunks as they were appended."""
        for i in range(len(self.chunks)):
            arrays = read_arrays(self._path(i))
            yield {n: np.bitwise_xor.accumulate(a, axis=0) if n.startswith("bits.") else a for n, a in arrays.items()}

    def _path(self, number: int) -> Path:
        return self.directory / "trace" / f"chunk-{number:06d}.npz"

    def finish(self, trace: Trace) -> str:
        """Writes the whole trace to one file. Returns its SHA-256."""
        return write_arrays(self.directory / "trace.npz", trace.arrays())

    def clear(self) -> None:
        """Removes the chunks."""
        shutil.rmtree(self.directory / "trace", ignore_errors=True)


def read_trace(directory: Path) -> Trace:
    """The trace of a finished run.

    Raises:
        UserError: missing or damaged, of another schema version, or with sizes that disagree.
    """
    path = directory / "trace.npz"
    arrays = read_arrays(path)
    try:
        return Trace.from_arrays(arrays)
    except ValueError as error:
        raise UserError(f"{path}: {error}.") from None
