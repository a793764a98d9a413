"""Naive fine-tuning: trains on the experiences sequentially, with no measure against forgetting.

The lower-bound baseline of every table. The papers' names for it are "None", "SGD", "fine-tuning", "finetune".
"""

from __future__ import annotations

from clbench.strategy import Strategy


class Naive(Strategy):
    """Minimises the training loss of the current batch."""

    regresses = True
