"""Progress of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clbench.reports.tabular import plain


@dataclass(frozen=True)
class Row:
    """Runs of one combination of a strategy on a stream.

    Attributes:
        name: benchmark and strategy.
        states: number of its runs by state, see `clbench.studies.existing.State`.
        trial: True for trials of tuning.
    """

    name: str
    states: Mapping[str, int]
    trial: bool = False


@dataclass(frozen=True)
class Progress:
    """State of a study's runs.

    Attributes:
        rows: in the order of the study.
        unknown: runs that tuning has not chosen yet.
        problem: reason why the state is not known; None where it is.
    """

    rows: Sequence[Row]
    unknown: int = 0
    problem: str | None = None

    def count(self, *states: str) -> int:
        """Number of runs in some states, trials excluded."""
        return sum(row.states.get(state, 0) for row in self.rows for state in states if not row.trial)

    @property
    def total(self) -> int:
        """Number of runs, trials excluded."""
        return self.unknown + sum(sum(row.states.values()) for row in self.rows if not row.trial)

    @property
    def has_ended(self) -> bool:
        """True if no run is left to do."""
        to_do = ("missing", "unfinished", "outdated")
        return not self.problem and not self.unknown and not any(row.states.get(s) for row in self.rows for s in to_do)


_ORDER = ("completed", "failed", "unfinished", "outdated", "damaged", "missing")


def section(progress: Progress) -> dict[str, Any]:
    """A bar, and a line for each row with a run that is not completed."""
    total = progress.total
    numbers = {state: progress.count(state) for state in _ORDER} | {"not chosen yet": progress.unknown}
    counts = [
        {"state": state, "number": number, "share": round(100 * number / total, 3)}
        for state, number in numbers.items()
        if number
    ]
    rows = [
        {
            "name": plain(row.name) + (" (trial)" if row.trial else ""),
            "states": ", ".join(f"{row.states[state]} {state}" for state in _ORDER if row.states.get(state)),
        }
        for row in progress.rows
        if set(row.states) - {"completed"}
    ]
    return {
        "total": total,
        "completed": progress.count("completed"),
        "counts": counts,
        "rows": rows,
        "problem": None if progress.problem is None else plain(progress.problem),
    }
