"""Predicted outputs of all test samples, for the record at the ends of experiences."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clbench.evaluation.cells import Cells
from clbench.evaluation.competition import Competition


class PredictedOutputs:
    """Fills in what is predicted, in one byte a sample, or two where there are more than 255 outputs.

    Args:
        cells: the test samples.
        views: names of views, without models.
        targets: output unit of each sample, int64 (N,), on the device.
        competition: says which outputs are active.
    """

    def __init__(self, cells: Cells, views: Sequence[str], targets: Tensor, competition: Competition) -> None:
        self._views, self._targets, self._competition, self._outputs = views, targets, competition, cells.outputs
        self._type, self._none = (torch.uint8, 255) if cells.outputs <= 255 else (torch.uint16, 65_535)

    def empty(self, views: Sequence[str]) -> dict[str, Tensor]:
        """By view, with models, the predictions of samples that have none yet, (N,)."""
        shape, device = self._targets.shape, self._targets.device
        return {view: torch.full(shape, self._none, dtype=self._type, device=device) for view in views}

    def fill(
        self,
        suffix: str,
        tasks: list[int],
        seen: frozenset[int],
        predicted: dict[str, Tensor],
        span: tuple[int, int],
        scores: Tensor,
        absent: Tensor | None = None,
    ) -> None:
        """Fills in a span of samples; none for those of a class that has no score yet.

        Args:
            suffix: of the model's views.
            tasks: those that the samples are of, ascending; further ones do no harm.
            seen: output units of the tasks seen so far.
            predicted: as `empty` returned it.
            span: first and one past the last of the samples.
            scores: (n, outputs so far).
            absent: outputs without a score, bool (outputs,).
        """
        a, b = span
        width = scores.shape[1]
        missing = self._outputs - width
        scores = nn.functional.pad(scores, (0, missing), value=float("-inf")) if missing > 0 else scores
        for view in self._views:
            best = self._competition.best(scores, view, tasks, seen, a)
            if missing > 0:
                best = best.masked_fill(self._targets[a:b] >= width, self._none)
            if absent is not None:
                best = best.masked_fill(absent[self._targets[a:b]], self._none)
            predicted[view + suffix][a:b] = best.to(self._type)
