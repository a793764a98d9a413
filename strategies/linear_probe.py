"""Linear probe: only the head is trained, on the features of the initial network.

As initialised they are random features, and the reference for how much of a result the features' learning makes; with
`model.weights` they are pre-trained ones, and the reference for what continual learning of features adds. All but the
last layer is frozen and in evaluation mode: statistics of batch normalisation stay as they are, dropout is off.

The head is trained as `naive` trains the network, with the benchmark's budget and optimiser.
"""

from __future__ import annotations

from typing import Any

from clbench.strategy import Setup, Strategy


class LinearProbe(Strategy):
    """Minimises the loss over the last layer.

    Raises:
        UserError: a network that is no sequence ending in a linear layer.
    """

    regresses = True

    def __init__(self, config: Any, setup: Setup) -> None:
        from clbench.training.models import split

        front, _ = split(setup.model)
        front.requires_grad_(False).eval()
        super().__init__(config, setup)
