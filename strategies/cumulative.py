"""Cumulative training: every phase trains on all data met so far. What replay approaches as its memory grows."""

from __future__ import annotations

from clbench.strategy import Strategy


class Cumulative(Strategy):
    """Minimises the training loss of batches drawn from everything up to the current experience."""

    access = "past"
