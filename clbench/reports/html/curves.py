"""Mean and band over the seeds of a method, on a common grid of updates. Pure functions of arrays.

Letters: S runs, P points of the grid, T tasks, V experiences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clbench.metrics.definition import visited_so_far
from clbench.reports.figures.figure_lines import thinned
from clbench.reports.html.digest import Digest

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Band:
    """A curve over runs.

    Attributes:
        x: updates, ascending, (P,).
        mean: over runs, (P,); NaN where one of them has no value.
        low, high: the lowest and the highest run, (P,).
        runs: S.
    """

    x: Indices
    mean: Floats
    low: Floats
    high: Floats
    runs: int

    @classmethod
    def over(cls, x: Indices, curves: Floats) -> Band:
        """The band of some curves, (S, P).

        >>> band = Band.over(np.array([0, 1]), np.array([[0.25, 0.5], [0.75, np.nan]]))
        >>> band.mean.tolist(), band.low.tolist(), band.high.tolist()
        ([0.5, nan], [0.25, nan], [0.75, nan])
        """
        # Of curves sorted at each point, so that the order of the runs is without effect on the last bits.
        ordered = np.sort(curves, axis=0)  # NaN last
        known = ~np.isnan(ordered[-1])
        mean, low, high = ordered.mean(0), ordered[0], ordered[-1]
        return cls(x, mean, np.where(known, low, np.nan), np.where(known, high, np.nan), len(curves))

    def thinned(self, columns: int, end: int) -> Band:
        """Points that suffice to draw it on an axis from 0 to `end` updates with so many pixel columns.

        Of each column the first and the last point stay, the highest and lowest of the mean, the lowest point of the
        band and its highest: no minimum is lost.
        """
        if len(self.x) <= 4 * columns or end <= 0:
            return self
        x, limits = self.x.astype(np.float64), (0.0, float(end))
        kept = [thinned(x, self.mean, columns, limits)]
        if self.runs > 1:
            column = np.clip(x * columns / end, 0, columns - 1).astype(np.int64)
            first = np.flatnonzero(np.diff(column, prepend=-1))
            for heights in (self.low, -self.high):
                kept.append(np.lexsort((np.where(np.isnan(heights), np.inf, heights), column))[first])
        points = np.unique(np.concatenate(kept))
        return Band(self.x[points], self.mean[points], self.low[points], self.high[points], self.runs)


@dataclass(frozen=True)
class Aligned:
    """Runs on one grid.

    Attributes:
        x: updates, (P,).
        experience: of each point, (P,).
        boundaries: updates done before each experience, and at the end, (V + 1,).
        accuracy: (S, P, T) in [0, 1], NaN where not evaluated.
        visits: (V, T), of the first run.
        cut: True if experiences were cut to the shortest run.
    """

    x: Indices
    experience: Indices
    boundaries: Indices
    accuracy: Floats
    visits: NDArray[np.bool_]
    cut: bool

    def task(self, task: int) -> Band:
        """The accuracy on one task."""
        return Band.over(self.x, self.accuracy[:, :, task])

    def so_far(self) -> Band:
        """The mean accuracy over the tasks visited so far; NaN where one of them was not evaluated."""
        seen = visited_so_far(self.visits)[self.experience]
        total = np.where(seen, self.accuracy, 0.0).sum(2)
        return Band.over(self.x, total / seen.sum(1))


def align(runs: Sequence[Digest]) -> Aligned:
    """Runs of one method on a common grid of updates.

    Where they were evaluated after the same updates, which is the rule, the grid is that of their evaluations. Where
    the experiences of their seeds have different lengths, the runs are aligned at task boundaries, each experience is
    cut to the shortest run, and values between evaluations are interpolated linearly. Of runs that have got to
    different experiences the common ones are left.

    Args:
        runs: one or more.
    """
    first = runs[0]
    if all(
        np.array_equal(run.iteration, first.iteration) and np.array_equal(run.experience, first.experience)
        for run in runs[1:]
    ):
        accuracy = np.stack([run.accuracy for run in runs])
        return Aligned(first.iteration, first.experience, first.boundaries, accuracy, first.visits, False)
    experiences = min(int(run.experience[-1]) + 1 for run in runs)
    lengths = np.min([np.diff(run.boundaries)[:experiences] for run in runs], axis=0)
    boundaries = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    x, experience, pieces = [], [], []
    for v in range(experiences):
        parts = [_within(run, v) for run in runs]
        grid = np.unique(np.concatenate([n for n, _ in parts]))
        grid = grid[grid <= lengths[v]]
        x.append(grid + boundaries[v])
        experience.append(np.full(len(grid), v))
        pieces.append(np.stack([_interpolated(grid, n, values) for n, values in parts]))
    return Aligned(
        np.concatenate(x),
        np.concatenate(experience),
        boundaries,
        np.concatenate(pieces, axis=1),
        first.visits,
        True,
    )


def after_boundaries(run: Digest) -> tuple[Indices, Floats] | None:
    """Accuracy on earlier tasks after task boundaries, less that before them; see `reports.after_boundaries`.

    Returns:
        Updates since the boundary, (P,), and differences in [-1, 1], (P,); None where nothing of it was evaluated.
    """
    if run.after is None:
        return None
    x = run.after.curve.x.astype(np.int64)
    last = np.flatnonzero(np.diff(x, append=x[-1] + 1))  # of a step its end
    return x[last], run.after.curve.y[last, 0] - run.after.before


def _within(run: Digest, v: int) -> tuple[Indices, Floats]:
    """Updates since the start of an experience, each once, and the last accuracies after that many."""
    at = np.flatnonzero(run.experience == v)
    n = run.iteration[at] - run.boundaries[v]
    last = np.flatnonzero(np.diff(n, append=n[-1:] + 1))
    return n[last], run.accuracy[at[last]]


def _interpolated(grid: Indices, n: Indices, values: Floats) -> Floats:
    """Values (N, T) at the points of a grid; NaN outside of the evaluations and beside a missing one."""
    if len(n) == len(grid) and np.array_equal(n, grid):
        return values
    out = np.empty((len(grid), values.shape[1]))
    for task in range(values.shape[1]):
        out[:, task] = np.interp(grid, n, values[:, task], left=np.nan, right=np.nan)
    return out
