"""Names to objects, through explicit tables and import paths."""

from __future__ import annotations

import importlib
import traceback
import warnings
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from clbench import import_paths, names, source
from clbench.config import avalanche_names
from clbench.errors import UserError, nearest, unknown


@cache
def _part(name: str) -> ModuleType:
    """`clbench.strategies` or `clbench.streams`; that of another checkout than this one is an error.

    An editable installation maps both to the folders of its checkout, whichever `clbench` comes first on the path.
    """
    module = importlib.import_module(f"clbench.{name}")
    origin, expected = Path(module.__file__ or "").resolve().parent, source.folder(name)
    if origin != expected:
        raise UserError(
            f"clbench was imported from {source.PACKAGE} and clbench.{name} from {origin}, not from {expected}. "
            "Install the checkout that is meant: pip install --editable ."
        )
    return module


# ------------------------------------------------------------------------------------------------ benchmarks and data
def benchmarks() -> dict[str, str]:
    """Shipped benchmarks: id -> file name in `streams/benchmarks/`."""
    return {name: f"{name}.yaml" for name in _part("streams").BENCHMARKS}


def benchmark_path(name: str) -> Path | None:
    """The file of a shipped benchmark, or None where the id is not shipped."""
    return source.folder("streams") / "benchmarks" / f"{name}.yaml" if name in _part("streams").BENCHMARKS else None


def benchmark_id(name: str) -> str | None:
    """The shipped benchmark that a name stands for, in any case and without its version; None where there is none.

    A name without a version is that of the newest one.

    >>> benchmark_id("Split-Digits"), benchmark_id("split_digits-v1"), benchmark_id("digits")
    ('split_digits-v1', 'split_digits-v1', None)
    """
    exact = names.match(name, benchmarks())
    if exact is not None:
        return exact
    versions = [(int(version), f"{stem}-v{version}") for stem, _, version in (i.rpartition("-v") for i in benchmarks())
                if names.folded(stem) == names.folded(name)]  # fmt: skip
    return max(versions)[1] if versions else None


def datasets() -> ModuleType:
    """The module of data sets."""
    _part("streams")
    return importlib.import_module("clbench.streams.datasets.load")


def dataset_name(name: str) -> str:
    """A data set's name as its table or its file has it: `MNIST` is `mnist`; one that nothing matches unchanged."""
    module = datasets()
    return name if name in module.DATASETS else names.match(name, module.available()) or name


def presence(name: str) -> Any:
    """See `clbench.streams.datasets.presence`."""
    datasets()
    return importlib.import_module("clbench.streams.datasets.presence").presence(name)


# ------------------------------------------------------------------------------------------------ strategies
def strategies() -> dict[str, str]:
    """Built-in strategies: name -> "module:Class"."""
    return dict(_part("strategies").STRATEGIES)


def strategy_name(name: str) -> str:
    """The name, or each of those that `+` joins, as the table has it; one that is not in it unchanged.

    >>> strategy_name("ER-ACE"), strategy_name("DER++"), strategy_name("Er+EWC"), strategy_name("nave")
    ('er_ace', 'derpp', 'er+ewc', 'nave')
    """
    table = strategies()
    return name if name in table else "+".join(names.match(part, table) or part for part in names.split(name))


def strategy(name: str) -> Any:
    """The class or factory of a strategy, by built-in name or import path, or of several with `+` between their names.

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
    from clbench.config import strategy_names
    from clbench.strategy import is_strategy

    parts = [strategy(part) for part in strategy_names.parts_of(name)]
    for part, kind in zip(strategy_names.parts_of(name), parts, strict=True):
        if not is_strategy(kind):
            raise UserError(f"strategy '{name}': '{part}' has its own training loop and does not compose.")
    return composition.compose(name, parts)


def built_in(name: str) -> bool:
    """True if the name, or each of the names joined by `+`, is built-in."""
    return all(part in strategies() for part in name.split("+"))


def check_strategy_name(name: str) -> None:
    """Checks that a name is built-in or that an import path exists, without importing the module.

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
        raise UserError(unknown_strategy("strategy", name, strategies(), "or an import path like package.module:Name"))
    import_paths.check(name)


def unknown_strategy(what: str, name: str, allowed: Iterable[str], more: str) -> str:
    """As `errors.unknown`, with the import path of Avalanche's strategy of that name, or of one near it."""
    allowed = list(allowed)
    path, guess = avalanche_names.import_path(name), ""
    if path is not None:
        guess = f" Avalanche's is {path}."
    elif nearest(name, allowed) is None and (path := avalanche_names.near(name)) is not None:
        guess = f" Did you mean {path}?"
    return unknown(what, name, allowed, more, guess)


def strategy_config(name: str) -> Any:
    """The pydantic model of a strategy's hyper-parameters; None for user-defined strategies.

    Built-in modules import torch lazily, so this does not import it.

    Raises:
        UserError: strategies that do not compose.
    """
    return strategy(name).Config if built_in(name) else None


def strategy_needs(name: str, parameters: dict[str, Any]) -> frozenset[str]:
    """Information that a built-in strategy requires; for others it is unknown before they are imported."""
    if not built_in(name):
        return frozenset()
    learner = strategy(name)
    needed: frozenset[str] = learner.needs(learner.Config.model_validate(parameters))
    return needed
