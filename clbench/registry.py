"""Names to objects, through explicit tables and import paths.

The three packages `clbench`, `strategies` and `streams` are siblings of one installation. A folder of the user's own
named `strategies/` would be imported instead when Python is started there with `python -m`; `_sibling` tells.
"""

from __future__ import annotations

import importlib
import traceback
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from clbench import import_paths
from clbench.errors import UserError, unknown


@cache
def _sibling(name: str) -> ModuleType:
    """A package that is installed beside this one; an unrelated package of the same name is an error."""
    module = importlib.import_module(name)
    home = Path(__file__).resolve().parent.parent
    found = Path(module.__file__ or "").resolve().parent.parent
    if found != home:
        raise UserError(
            f"the package '{name}' was taken from {found}, not from clbench's own {home}. "
            f"Use the command `clbench` instead of `python -m`, or leave the folder that holds another '{name}'."
        )
    return module


# ------------------------------------------------------------------------------------------------ benchmarks and data
def benchmarks() -> dict[str, str]:
    """Shipped benchmarks: id -> file name in `streams/`."""
    return dict(_sibling("streams").BENCHMARKS)


def benchmark_path(name: str) -> Path | None:
    """The file of a shipped benchmark, or None where the id is not shipped."""
    streams = _sibling("streams")
    return Path(streams.__file__ or "").parent / streams.BENCHMARKS[name] if name in streams.BENCHMARKS else None


def datasets() -> ModuleType:
    """The module of data sets."""
    _sibling("streams")
    return importlib.import_module("streams.datasets")


# ------------------------------------------------------------------------------------------------ strategies
def strategies() -> dict[str, str]:
    """Strategies of the table: name -> "module:Class"."""
    return dict(_sibling("strategies").STRATEGIES)


def strategy(name: str) -> Any:
    """The class or factory of a strategy, by table name or import path, or of several with `+` between their names.

    Raises:
        UserError: unknown name, an import path that does not import, or strategies that do not compose.
    """
    check_strategy_name(name)
    if "+" in name:
        return _composed(name)
    module_name, _, attribute = strategies().get(name, name).partition(":")
    try:
        with warnings.catch_warnings():
            # Of qpsolvers, which Avalanche imports; GEM says so itself when it needs a solver.
            warnings.filterwarnings("ignore", "no QP solver found", UserWarning)
            module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may do anything when it is imported
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
        place = f"{frames[-1].filename}, line {frames[-1].lineno}: " if len(frames) > 1 else ""
        raise UserError(f"strategy '{name}' does not import: {place}{type(error).__name__}: {error}.") from error
    if not hasattr(module, attribute):
        raise UserError(f"strategy '{name}' does not import: module '{module_name}' has no '{attribute}'.")
    return getattr(module, attribute)


def _composed(name: str) -> Any:
    from clbench import composition
    from clbench.strategy import is_strategy

    parts = [strategy(part) for part in composition.parts_of(name)]
    for part, found in zip(composition.parts_of(name), parts, strict=True):
        if not is_strategy(found):
            raise UserError(f"strategy '{name}': '{part}' has a loop of its own and composes with nothing.")
    return composition.compose(name, parts)


def _all_ours(name: str) -> bool:
    """Whether a name is of the table, or all of the names in it are."""
    return all(part in strategies() for part in name.split("+"))


def check_strategy_name(name: str) -> None:
    """Whether a name is in the table or an import path leads somewhere, told without importing the module.

    Raises:
        UserError: one sentence, with the nearest match.
    """
    if "+" in name:
        if not all(map(str.strip, name.split("+"))):
            raise UserError(
                f"strategy '{name}': a name is missing beside '+'. Allowed: names on both sides, like er+ewc."
            )
        for part in name.split("+"):
            check_strategy_name(part)
        return
    if name in strategies():
        return
    if not import_paths.is_import_path(name):
        raise UserError(unknown("strategy", name, strategies(), "or an import path like package.module:Name"))
    import_paths.check(name)


def strategy_config(name: str) -> Any:
    """The pydantic model of a strategy's hyper-parameters; None for strategies outside the table.

    Modules of the table import torch lazily, so this costs none.

    Raises:
        UserError: strategies that do not compose.
    """
    return strategy(name).Config if _all_ours(name) else None


def strategy_needs(name: str, parameters: dict[str, Any]) -> frozenset[str]:
    """What a strategy of the table must be told; nothing is known of others before they are imported."""
    if not _all_ours(name):
        return frozenset()
    found = strategy(name)
    needed: frozenset[str] = found.needs(found.Config.model_validate(parameters))
    return needed
