"""Construction of an Avalanche strategy from its configuration."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Set
from typing import Any

from avalanche.core import BasePlugin
from avalanche.training.plugins import BiCPlugin, GEMPlugin
from avalanche.training.supervised.lamaml import LaMAML
from torch import nn
from torch.optim.lr_scheduler import MultiStepLR

from clbench import import_paths
from clbench.errors import UserError

OURS = {
    "train_mb_size": "training.batch_size",
    "train_epochs": "training.epochs or training.iterations",
    "eval_mb_size": "evaluation.batch_size",
    "optimizer": "training.optimizer",
    "device": "--device",
    "model": "model",
    "evaluator": None,
    "eval_every": "evaluation.every",
}
"""Arguments of Avalanche's strategies that the benchmark determines, and the key of each."""

_OFFERED = ("criterion", "feature_extractor", "classifier")
"""Further arguments that are passed by default, unless the configuration sets them."""

NEEDS: dict[type, tuple[str, Callable[[], bool]]] = {
    GEMPlugin: ("the package quadprog, which is not installed", lambda: _installed("quadprog")),
    LaMAML: ("the package higher, which is not installed", lambda: _installed("higher")),
    BiCPlugin: ("torch < 2.7, whose MultiStepLR takes 'verbose'", lambda: "verbose" in parameters_of(MultiStepLR)[0]),
}
"""Requirements of Avalanche's parts that fail only during training, and a check of each."""


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def invoke(factory: Callable[..., Any], arguments: dict[str, Any], where: str, spare: Set[str] = frozenset()) -> Any:
    """Calls a third-party constructor or factory; any exception becomes one sentence.

    A spare argument is omitted where the constructor passes it to its base already (StreamingLDA and `model`).
    """
    try:
        return factory(**arguments)
    except UserError:
        raise
    except Exception as error:
        # Python 3.11 sometimes raises a KeyError for it.
        twice = re.search(r"(?:multiple values for (?:keyword )?argument |^)'(\w+)'$", str(error))
        if twice and twice[1] in arguments.keys() & spare:
            return invoke(factory, {k: v for k, v in arguments.items() if k != twice[1]}, where, spare)
        reason = str(error).rstrip(".") or type(error).__name__
        raise UserError(f"{where}: cannot be built: {reason}.") from error


def keywords(factory: Callable[..., Any]) -> dict[str, Any]:
    """Parameters of a strategy's constructor or factory that a benchmark does not set (see `host`), with the defaults.

    Raises:
        ValueError: it has no signature (some built-in functions).
    """
    return {key: default for key, default in parameters_of(factory)[0].items() if key not in {*OURS, *_OFFERED}}


def parameters_of(factory: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """Keyword parameters of a callable (name -> default), `**kwargs` of constructors followed to their bases."""
    accepted: dict[str, Any] = {}
    chain = (
        [vars(c)["__init__"] for c in factory.__mro__ if "__init__" in vars(c)]
        if inspect.isclass(factory)
        else [factory]
    )
    for function in chain:
        parameters = list(inspect.signature(function).parameters.values())
        for p in parameters[1:] if inspect.isclass(factory) else parameters:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                accepted.setdefault(p.name, p.default)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return accepted, False
    return accepted, not inspect.isclass(factory)


def import_parts(value: Any) -> None:
    """Imports the modules named in a configuration value, so that none is first imported in the middle of a run."""
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
        import_parts(part)
    if isinstance(value, dict) and ":" in str(value.get("name", "")):
        with contextlib.suppress(ImportError):  # reported when it is built
            importlib.import_module(value["name"].partition(":")[0])


def build(value: Any, where: str) -> Any:
    """Objects named by import path inside a configuration value."""
    if isinstance(value, list):
        return [build(v, where) for v in value]
    if not isinstance(value, dict) or ":" not in str(value.get("name", "")):
        return value
    path = value["name"]
    try:
        import_paths.check(path)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    module, _, attribute = path.partition(":")
    part = getattr(importlib.import_module(module), attribute)
    allowed = inspect.isclass(part) and (
        issubclass(part, (BasePlugin, nn.Module)) or part.__module__.startswith("avalanche.")
    )
    if not allowed:  # a configuration builds parts of a method; it does not call arbitrary functions
        raise UserError(f"{where}: '{path}' is no plugin, no network module and no class of Avalanche's.")
    arguments = {k: build(v, where) for k, v in value.items() if k != "name"}
    return invoke(part, arguments, f"{where}: '{path}'")


def split(model: nn.Module, where: str) -> tuple[nn.Module, nn.Module]:
    """Feature extractor and classifier of a network: everything but the last layer, and the last layer."""
    if not isinstance(model, nn.Sequential):
        raise UserError(
            f"{where}: this model cannot be cut into feature extractor and classifier; use one of the suite."
        )
    return model[:-1], model[-1]
