"""Recorder of the evaluations and losses of a run, in chunks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clbench.errors import RunFailed
from clbench.evaluation.cells import Cells
from clbench.evaluation.evaluation import Evaluation
from clbench.evaluation.test_then_train import Arrived
from clbench.prequential import Prequential
from clbench.trace import BROKEN_SUM, NAN_SCORES, Phase, Trace, concatenated

_LOSS_FLUSH = 100
"""Losses kept on a GPU before they are fetched; a NaN is found that many iterations late, and named exactly."""

_BLOCK_ROWS, _BLOCK_BYTES = 64, 1 << 20
"""Most rows, and bytes beyond one row, of a block."""

_BLOCK_SAMPLES = 4096

_CHUNK_BYTES = 16 << 20
"""Recorded bytes after which a chunk is due, so that a crash late in a long experience loses little."""


class _Rows:
    """Tensors of one shape, held in blocks: single ones would lie between an evaluation's large arrays and break up the
    memory that those leave free."""

    def __init__(self) -> None:
        self._blocks: list[Tensor] = []
        self._count = 0
        self._rows = _BLOCK_ROWS

    def append(self, row: Tensor) -> None:
        if not self._count and row.nbytes:
            self._rows = min(_BLOCK_ROWS, max(1, _BLOCK_BYTES // row.nbytes))
        at = self._count % self._rows
        if not at:
            self._blocks.append(torch.empty((self._rows, *row.shape), dtype=row.dtype, device=row.device))
        self._blocks[-1][at] = row
        self._count += 1

    def extend(self, rows: Tensor) -> None:
        """Appends several."""
        while len(rows):
            at = self._count % _BLOCK_SAMPLES
            if not at:
                self._blocks.append(torch.empty(_BLOCK_SAMPLES, dtype=rows.dtype, device=rows.device))
            part = rows[: _BLOCK_SAMPLES - at]
            self._blocks[-1][at : at + len(part)] = part
            self._count += len(part)
            rows = rows[len(part) :]

    def last(self) -> Tensor:
        """The one appended last."""
        return self._blocks[-1][(self._count - 1) % self._rows]

    def stacked(self) -> NDArray[Any]:
        """All of them, (n, ...), on the host."""
        return torch.cat(self._blocks)[: self._count].cpu().numpy() if self._blocks else np.zeros(0, np.bool_)


@dataclass
class Recorder:
    """Collects the evaluations and losses of a run, and returns them in chunks."""

    device: torch.device
    iteration: list[int] = field(default_factory=list)
    experience: list[int] = field(default_factory=list)
    phase: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    updates: int = 0
    """Losses fetched so far, those in earlier chunks included."""
    chunks: list[dict[str, NDArray[Any]]] = field(default_factory=list)
    """Earlier chunks, where they are kept."""
    keep: bool = True
    strict: bool = True
    """Non-finite losses and scores are errors."""
    newest: dict[str, Tensor] = field(default_factory=dict)
    """Counts of the last evaluation, by view, and the last `loss`; on the device."""
    _rows: dict[str, _Rows] = field(default_factory=dict)
    _pending: list[Tensor] = field(default_factory=list)
    _arrived: list[tuple[int, int]] = field(default_factory=list)
    _bytes: int = 0

    def add(self, evaluation: Evaluation, iteration: int, experience: int, phase: Phase) -> None:
        """Adds one evaluation."""
        named = {"correct": evaluation.counts, "bits": evaluation.bits, "extra": evaluation.extra,
                 "sums": evaluation.sums, "values": evaluation.values, "predicted": evaluation.predicted}  # fmt: skip
        for kind, rows in named.items():
            for name, row in rows.items():
                self._rows.setdefault(f"{kind}.{name}", _Rows()).append(row)
                self._bytes += row.nbytes
        self.newest |= {view: self._rows[f"correct.{view}"].last() for view in evaluation.counts}
        self.newest |= {name: self._rows[f"sums.{name}"].last() for name in evaluation.sums}
        self.iteration.append(iteration)
        self.experience.append(experience)
        self.phase.append(int(phase))

    def add_arrived(self, arrived: Arrived, views: tuple[str, ...], measures: tuple[str, ...]) -> None:
        """Adds the incoming samples of one update, before its loss.

        Args:
            arrived: their predictions.
            views: of the rows of `Arrived.right`.
            measures: of the rows of `Arrived.values`.
        """
        kinds = (("prequential", views, arrived.right), ("prequential_values", measures, arrived.values))
        for kind, names, rows in kinds:
            for name, row in zip(names, rows, strict=True):
                self._rows.setdefault(f"{kind}.{name}", _Rows()).extend(row)
                self._bytes += row.nbytes
        self._rows.setdefault("prequential_unavailable", _Rows()).append(arrived.unavailable)
        self._arrived.append((arrived.samples, arrived.repeated))

    def add_loss(self, loss: Tensor, gradient_norm: Tensor | None = None) -> None:
        """Adds one update's loss, and the norm of its gradient where that is recorded; on a GPU they are fetched later.

        Raises:
            RunFailed: the loss is not finite; the update is named.
        """
        self._pending.append(loss)
        self.newest["loss"] = loss
        if gradient_norm is not None:
            self._rows.setdefault("extra.gradient_norm", _Rows()).append(gradient_norm)
        if self.device.type == "cpu" or len(self._pending) >= _LOSS_FLUSH:
            self.fetch_losses()

    def fetch_losses(self) -> None:
        """Brings pending losses to the host and checks them."""
        values = torch.stack(self._pending).tolist() if self._pending else []
        self._pending.clear()
        for value in values:
            self.loss.append(value)
            self.updates += 1
            if self.strict and not math.isfinite(value):
                at = self.updates
                word = "NaN" if math.isnan(value) else "infinite"
                raise RunFailed("nan_loss", f"the loss became {word} at iteration {at}", at)

    @property
    def full(self) -> bool:
        """True if enough is held for a chunk."""
        return self._bytes >= _CHUNK_BYTES

    def nan_scores(self) -> int | None:
        """The iteration of the first evaluation held here in which scores were NaN or infinite."""
        counts = [rows.stacked() for name, rows in self._rows.items() if name.startswith("correct.")]
        sums = [rows.stacked() for name, rows in self._rows.items() if name.startswith("sums.")]
        broken = [np.flatnonzero((c == NAN_SCORES).any(1)) for c in counts]
        broken += [np.flatnonzero((s == BROKEN_SUM).any(1)) for s in sums]
        at = [self.iteration[b[0]] for b in broken if len(b)]
        if "prequential_unavailable" in self._rows:
            updates = np.flatnonzero(self._rows["prequential_unavailable"].stacked() == NAN_SCORES)
            before = self.updates - len(self.loss)
            at += [before + int(updates[0])] if len(updates) else []
        return min(at, default=None)

    def chunk(self) -> dict[str, NDArray[Any]]:
        """Records since the last chunk, by the names of a trace's arrays; empty arrays if there are none.

        Raises:
            RunFailed: a model's scores held NaN or infinity; the update is named.
        """
        self.fetch_losses()
        arrays: dict[str, NDArray[Any]] = {name: rows.stacked() for name, rows in self._rows.items()}
        arrays["iteration"] = np.array(self.iteration, np.int64)
        if self.strict and (at := self.nan_scores()) is not None:
            raise RunFailed("nan_scores", f"the model's scores became NaN or infinite by iteration {at}", at)
        arrays["experience"] = np.array(self.experience, np.int32)
        arrays["phase"] = np.array(self.phase, np.int8)
        arrays["loss"] = np.array(self.loss, np.float32)
        if self._arrived:  # no more updates than have a loss: of a failed run some losses may be lost
            updates = len(self.loss)
            incoming, repeated = np.array(self._arrived, np.int32)[:updates].T
            arrays |= {"prequential_incoming": incoming, "prequential_repeated": repeated}
            arrays["prequential_unavailable"] = arrays["prequential_unavailable"][:updates]
            samples = int(incoming.sum())
            of_samples = ("prequential.", "prequential_values.")
            arrays |= {name: a[:samples] for name, a in arrays.items() if name.startswith(of_samples)}
        self._rows.clear()
        for held in (self._arrived, self.loss, self.iteration, self.experience, self.phase):
            held.clear()
        self._bytes = 0
        if self.keep:
            self.chunks.append(arrays)
        return arrays

    def trace(
        self,
        cells: Cells,
        visits: NDArray[np.bool_],
        origin: NDArray[np.int32],
        every: int,
        dense: int,
        chunks: Iterable[dict[str, NDArray[Any]]] | None = None,
        delay: int | None = None,
    ) -> Trace:
        """The trace from all chunks: the argument, or those kept here.

        Args:
            delay: of the prequential record; None where there is none.
        """
        chunks = self.chunks if chunks is None else chunks
        joined = concatenated(chunks)

        def part(kind: str) -> dict[str, NDArray[Any]]:
            return {name.partition(".")[2]: a for name, a in joined.items() if name.startswith(f"{kind}.")}

        return Trace(
            correct=part("correct"),
            cell_domain=cells.domain,
            cell_class=cells.label,
            cell_size=cells.size,
            cell_population=cells.population,
            task_cells=cells.membership,
            visits=visits,
            origin=origin,
            iteration=joined["iteration"],
            experience=joined["experience"],
            phase=joined["phase"],
            loss=joined["loss"],
            every=every,
            dense=dense,
            rows=cells.rows,
            bits=part("bits"),
            extra=part("extra"),
            prequential=None
            if delay is None
            else Prequential.of_chunks(joined, part("prequential"), part("prequential_values"), delay),
            sums=part("sums"),
            values=part("values"),
            predicted=part("predicted"),
            cell_target=cells.target,
        )
