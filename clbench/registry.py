"""Names to objects, through explicit tables and import paths.

The three packages `clbench`, `strategies` and `streams` are siblings of one installation. A folder of the user's own
named `strategies/` would be imported instead when Python is started there with `python -m`; `_sibling` tells.

Import paths (`package.module:Name`) are checked without importing: importing Avalanche to find a typing mistake
would take ten seconds. A module of the user's own is looked for in the working directory too, after everything that
is installed.
"""

from __future__ import annotations

import ast
import importlib
import importlib.machinery
import importlib.util
import os
import pkgutil
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from clbench.errors import UserError, hint, unknown

_IMPORT_PATH = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")


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


def stream_part(kind: str, name: str | None = None) -> Any:
    """The function that compiles one part of a stream; see `clbench.stream.compile_stream`.

    Args:
        kind: "tasks" or "schedules", which have a table of names; "supervision" or "online".
    """
    found = getattr(_sibling("streams"), kind.upper())
    module, _, attribute = (found if name is None else found[name]).partition(":")
    return getattr(importlib.import_module(module), attribute)


# ------------------------------------------------------------------------------------------------ strategies
def strategies() -> dict[str, str]:
    """Strategies of the table: name -> "module:Class"."""
    return dict(_sibling("strategies").STRATEGIES)


def strategy(name: str) -> Any:
    """The class or factory of a strategy, by table name or import path.

    Raises:
        UserError: unknown name, or an import path that does not import.
    """
    check_strategy_name(name)
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


def check_strategy_name(name: str) -> None:
    """Whether a name is in the table or an import path leads somewhere, told without importing the module.

    Raises:
        UserError: one sentence, with the nearest match.
    """
    if name in strategies():
        return
    if not _IMPORT_PATH.match(name):
        raise UserError(unknown("strategy", name, strategies(), "or an import path like package.module:Name"))
    check_import_path(name)


def strategy_config(name: str) -> Any:
    """The pydantic model of a strategy's hyper-parameters; None for strategies outside the table.

    Modules of the table import torch lazily, so this costs none.
    """
    path = strategies().get(name)
    if path is None:
        return None
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute).Config


def strategy_needs(name: str, parameters: dict[str, Any]) -> frozenset[str]:
    """What a strategy of the table must be told; nothing is known of others before they are imported."""
    path = strategies().get(name)
    if path is None:
        return frozenset()
    module, _, attribute = path.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    needed: frozenset[str] = found.needs(found.Config.model_validate(parameters))
    return needed


# ------------------------------------------------------------------------------------------------ import paths
def check_import_path(path: str) -> None:
    """Whether `package.module:Name` names something that exists, found by reading files, not by importing them.

    Afterwards the working directory is the last place that Python imports from.

    Raises:
        UserError: not of that form, no such module, or no such name in it.
    """
    if not _IMPORT_PATH.match(path):
        raise UserError(f"'{path}' is no import path; expected package.module:Name.")
    # The console script, unlike `python -m`, does not look in the working directory. Last: it cannot shadow anything.
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    module_name, _, attribute = path.partition(":")
    try:
        loaded = sys.modules.get(module_name)
        names = _names_of(_find(module_name)) if loaded is None else set(vars(loaded))
    except UserError as error:
        raise UserError(f"'{path}' does not import: {error}") from None
    if names is None or attribute in names or "__getattr__" in names:
        return
    guess = hint(attribute, [n for n in names if not n.startswith("_")])
    raise UserError(f"'{path}' does not import: module '{module_name}' has no '{attribute}'.{guess}")


def _find(module_name: str) -> importlib.machinery.ModuleSpec:
    """The spec of a module, its parents not imported."""
    locations: list[str] | None = None
    spec, name = None, ""
    for part in module_name.split("."):
        name += f".{part}" if name else part
        spec = importlib.machinery.PathFinder.find_spec(name, locations)
        if spec is None and locations is None:
            spec = importlib.util.find_spec(name)  # built-in, frozen, or of an editable installation
        if spec is None:
            guess = hint(part, [m.name for m in pkgutil.iter_modules(locations)])
            raise UserError(f"no module named '{name}'.{guess}")
        locations = list(spec.submodule_search_locations or [])
    assert spec is not None
    return spec


def _top_level(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node that runs when the module is imported: not the bodies of functions and classes."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            stack.extend(ast.iter_child_nodes(node))


def _names_of(spec: importlib.machinery.ModuleSpec, depth: int = 0) -> set[str] | None:
    """Names bound at the top level of a module's source; None where the source does not tell."""
    if spec.origin is None:
        return set()  # a folder without __init__.py
    if not spec.origin.endswith(".py") or depth > 8:
        return None
    try:
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise UserError(f"{spec.origin}, line {error.lineno}: {error.msg}.") from None
    except (OSError, ValueError):
        return None
    names: set[str] = set()
    package = spec.name if spec.submodule_search_locations is not None else spec.name.rpartition(".")[0]
    for node in _top_level(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name != "*":
                    names.add(alias.asname or alias.name)
                    continue
                try:
                    origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                    starred = _names_of(_find(origin), depth + 1)
                except (UserError, ImportError):
                    return None
                if starred is None:
                    return None
                names |= starred
    return names
