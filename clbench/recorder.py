"""Holds the evaluations and losses of a run as they come, and hands them over in chunks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clbench.errors import RunFailed
from clbench.evaluator import Cells
from clbench.trace import NAN_SCORES, Phase, Trace

_LOSS_FLUSH = 100
"""Losses kept on a GPU before they are fetched; a NaN is found that many iterations late, and named exactly."""


@dataclass
class Recorder:
    """Holds the evaluations and losses of a run, and hands them over in chunks."""

    views: tuple[str, ...]
    device: torch.device
    rows: dict[str, list[Tensor]] = field(init=False)
    iteration: list[int] = field(default_factory=list)
    experience: list[int] = field(default_factory=list)
    phase: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    chunks: list[dict[str, NDArray[Any]]] = field(default_factory=list)
    strict: bool = True
    """Whether a loss or a score that is not finite is an error here."""
    _pending: list[Tensor] = field(default_factory=list)
    _losses_written: int = 0

    def __post_init__(self) -> None:
        self.rows = {view: [] for view in self.views}

    def add(self, counts: dict[str, Tensor], iteration: int, experience: int, phase: Phase) -> None:
        """One evaluation."""
        for view in self.views:
            self.rows[view].append(counts[view])
        self.iteration.append(iteration)
        self.experience.append(experience)
        self.phase.append(int(phase))

    def add_loss(self, loss: Tensor) -> None:
        """One update's loss; on a GPU it is fetched later.

        Raises:
            RunFailed: it is not finite; the update is named.
        """
        self._pending.append(loss)
        if self.device.type == "cpu" or len(self._pending) >= _LOSS_FLUSH:
            self.fetch_losses()

    def fetch_losses(self) -> None:
        """Brings pending losses to the host and checks them."""
        values = torch.stack(self._pending).tolist() if self._pending else []
        self._pending.clear()
        for value in values:
            self.loss.append(value)
            if self.strict and not math.isfinite(value):
                at = len(self.loss)
                word = "NaN" if math.isnan(value) else "infinite"
                raise RunFailed("nan_loss", f"the loss became {word} at iteration {at}", at)

    def chunk(self) -> dict[str, NDArray[Any]]:
        """What came since the last chunk."""
        self.fetch_losses()
        arrays: dict[str, NDArray[Any]] = {
            f"correct.{view}": torch.stack(rows).cpu().numpy() if rows else np.zeros((0, 0), np.int32)
            for view, rows in self.rows.items()
        }
        arrays["iteration"] = np.array(self.iteration, np.int64)
        for view in self.views:
            broken = np.flatnonzero((arrays[f"correct.{view}"] == NAN_SCORES).any(1))
            if self.strict and len(broken):
                at = self.iteration[broken[0]]
                raise RunFailed("nan_scores", f"the model's scores became NaN by iteration {at}", at)
        arrays["experience"] = np.array(self.experience, np.int32)
        arrays["phase"] = np.array(self.phase, np.int8)
        arrays["loss"] = np.array(self.loss[self._losses_written :], np.float32)
        self._losses_written = len(self.loss)
        for rows in self.rows.values():
            rows.clear()
        self.iteration.clear()
        self.experience.clear()
        self.phase.clear()
        self.chunks.append(arrays)
        return arrays

    def trace(self, cells: Cells, visits: NDArray[np.bool_], every: int) -> Trace:
        """The whole record, all of it handed over in chunks before."""
        parts = [c for c in self.chunks if len(c["iteration"])]
        joined = {name: np.concatenate([c[name] for c in parts]) for name in parts[0] if name != "loss"}
        return Trace(
            correct={view: joined[f"correct.{view}"] for view in self.views},
            cell_domain=cells.domain,
            cell_class=cells.label,
            cell_size=cells.size,
            task_cells=cells.membership,
            visits=visits,
            iteration=joined["iteration"],
            experience=joined["experience"],
            phase=joined["phase"],
            loss=np.concatenate([c["loss"] for c in self.chunks]),
            every=every,
        )
