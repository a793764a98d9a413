"""The part of a run's trace that the report draws: task accuracies of the primary view, without cells and samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clbench.measures import measure_of
from clbench.metrics.definition import at, boundaries, ends
from clbench.metrics.dialects import Dialect, dialects
from clbench.reports.after_boundaries import Aftermath, reduced
from clbench.trace import Trace


@dataclass(frozen=True)
class Digest:
    """A trace with experiences that were cut from one joined, in one view.

    Attributes:
        iteration: updates done before an evaluation, (E,).
        experience: of an evaluation, (E,).
        boundaries: updates done before each experience, and at the end, (V + 1,).
        accuracy: (E, T) in [0, 1], or the mean of a measure; NaN where not evaluated.
        visits: (V, T).
        matrix: R, (V, T), see `clbench.metrics.accuracy_matrix`; of a measure its means.
        after: accuracy on earlier tasks after task boundaries; None where nothing of the kind was evaluated.
        libraries: what other libraries would have printed; empty of a measure.
    """

    iteration: NDArray[np.int64]
    experience: NDArray[np.int64]
    boundaries: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    visits: NDArray[np.bool_]
    matrix: NDArray[np.float64]
    after: Aftermath | None
    libraries: tuple[Dialect, ...]

    @classmethod
    def of(cls, trace: Trace, view: str) -> Digest:
        """The digest of a trace."""
        joined = trace.by_origin()
        mean = joined.task_mean(view)
        return cls(
            iteration=joined.iteration,
            experience=joined.experience.astype(np.int64),
            boundaries=boundaries(joined),
            accuracy=mean,
            visits=joined.visits,
            matrix=at(mean, ends(joined)),
            after=reduced(joined, view),
            libraries=tuple(dialects(joined, view)) if measure_of(view) is None else (),
        )
