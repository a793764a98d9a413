"""Cumulative training: every phase trains on all data so far. The limit of replay with unlimited memory."""

from __future__ import annotations

from clbench.strategy import Strategy


class Cumulative(Strategy):
    """Minimises the training loss of batches from all data up to the current experience."""

    access = "past"
