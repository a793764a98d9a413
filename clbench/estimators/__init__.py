"""Learners that are no networks: scikit-learn's, river's and CapyMOA's estimators, named by import path.

An estimator learns every batch of the stream and predicts for the evaluator as a network does; it has no optimiser, no
loss and no gradients, and the benchmark's network is not used. Which methods it needs: `clbench.estimators.kinds`.
"""

from __future__ import annotations

from typing import Any

from clbench.errors import UserError
from clbench.strategy import is_strategy


def as_strategy(name: str, target: Any) -> Any:
    """The strategy that hosts an estimator's class; anything else unchanged.

    Args:
        name: its import path.
        target: what the path names.

    Raises:
        UserError: a class that learns only from all samples at once.
    """
    if not isinstance(target, type) or is_strategy(target):
        return target
    from clbench.estimators import hosting, kinds

    kind = kinds.kind_of(target)
    if kind is not None:
        body = {"path": name, "target": target, "kind": kind, "regresses": True}  # the instance tells, once it is built
        return type(target.__name__, (hosting.Estimator,), body)
    fits = callable(getattr(target, "fit", None)) and callable(getattr(target, "predict", None))
    if fits and not callable(getattr(target, "train", None)):  # a strategy of Avalanche trains, and may have both too
        raise UserError(
            f"strategy '{name}': learns from all samples at once (fit), not batch by batch. Allowed: classes with "
            "partial_fit and predict (scikit-learn), learn_one and predict_one (river), or classifiers of CapyMOA."
        )
    return target
