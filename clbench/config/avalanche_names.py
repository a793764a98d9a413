"""Strategies of avalanche-lib, for messages: importing it to ask takes ten seconds. A test compares the table."""

from __future__ import annotations

from clbench.errors import nearest
from clbench.names import match

MODULE = "avalanche.training.supervised"

STRATEGIES = (
    "AETraining", "AGEM", "AR1", "BiC", "CWRStar", "CoPE", "Cumulative", "DER", "ER_ACE", "ER_AML", "EWC",
    "ExpertGateStrategy", "FeatureReplay", "FromScratchTraining", "GDumb", "GEM", "GSS_greedy", "GenerativeReplay",
    "ICaRL", "JointTraining", "LFL", "LaMAML", "LearningToPrompt", "LwF", "MAS", "MER", "MIR", "Naive", "OnlineNaive",
    "PNNStrategy", "PackNet", "Replay", "SCR", "StreamingLDA", "SynapticIntelligence", "VAETraining",
)  # fmt: skip
"""Classes that `avalanche.training.supervised` of avalanche-lib 0.6.0 exports, and `LaMAML`, which has a module."""

_MODULES = {"LaMAML": f"{MODULE}.lamaml_v2"}

_CALLED = {
    "Bias Correction": "BiC",
    "Deep SLDA": "StreamingLDA",
    "Dark Experience Replay": "DER",
    "Expert Gate": "ExpertGateStrategy",
    "GSS": "GSS_greedy",
    "L2P": "LearningToPrompt",
    "PNN": "PNNStrategy",
    "SLDA": "StreamingLDA",
}
"""What papers call some of them."""


def import_path(name: str) -> str | None:
    """The import path of Avalanche's strategy of a name, by its class or its paper; None where it has none.

    >>> import_path("icarl"), import_path("slda"), import_path("nave")
    ('avalanche.training.supervised:ICaRL', 'avalanche.training.supervised:StreamingLDA', None)
    """
    called = match(name, [*STRATEGIES, *_CALLED])
    return None if called is None else _path(_CALLED.get(called, called))


def near(name: str) -> str | None:
    """The import path of the strategy with the nearest name; None where none is near."""
    called = nearest(name, STRATEGIES)
    return None if called is None else _path(called)


def _path(name: str) -> str:
    return f"{_MODULES.get(name, MODULE)}:{name}"
