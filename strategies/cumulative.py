"""Cumulative training: every phase trains on all data so far. The limit of replay with unlimited memory.

It makes as many updates as any strategy on the benchmark, so that costs compare. Where the budget is `epochs`, these
are passes over the new samples of an experience alone: with one epoch and five experiences of equal size, the last one
sees a fifth of all data so far. `training.iterations` gives it as many updates as one wants.
"""

from __future__ import annotations

from clbench.strategy import Strategy


class Cumulative(Strategy):
    """Minimises the training loss of batches from all data up to the current experience."""

    regresses = True

    access = "past"
