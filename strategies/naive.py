"""Naive fine-tuning: every experience is trained on as it comes, and nothing is done against forgetting.

The lower reference of every table. The papers' names for it are "None", "SGD", "fine-tuning", "finetune".
"""

from __future__ import annotations

from clbench.strategy import Strategy


class Naive(Strategy):
    """Minimises the training loss of the current batch."""
