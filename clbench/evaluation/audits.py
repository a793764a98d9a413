"""The schedule of audits: evaluations that compute everything in full, and compare."""

from __future__ import annotations

from dataclasses import dataclass

EVERY = 64
"""Evaluations from one audit to the next, at most."""


@dataclass
class Clock:
    """Counts the evaluations of a model, and says which of them are audits: the first around an experience, the 1st,
    2nd, 4th, ... after it, and every 64th.

    Attributes:
        number: evaluations so far.
        since: those since the last boundary.
    """

    number: int = 0
    since: int = 0

    def renew(self) -> None:
        """Makes the next evaluation an audit: at the boundary of an experience much may change at once."""
        self.since = 0

    def tick(self) -> bool:
        """Begins an evaluation; True if it is an audit."""
        n, self.since = self.since, self.since + 1
        self.number += 1
        return n & (n - 1) == 0 or n % EVERY == 0
