"""Joint training: every phase trains on the shuffled data of the whole stream. The upper-bound baseline; not continual.

It has as many phases and as many updates as any strategy on the benchmark, so that costs compare (5 x 2,000 updates
on Split-MNIST, as in van de Ven et al. 2022). Where the budget is `epochs`, these are passes over the samples of each
experience: over the whole stream it is as many passes over all data.
"""

from __future__ import annotations

from clbench.strategy import Strategy


class Joint(Strategy):
    """Minimises the training loss of batches from the whole stream."""

    regresses = True

    access = "stream"
