"""Names to objects, through explicit tables and import paths.

The three packages `clbench`, `strategies` and `streams` are siblings of one installation. A folder of the user's own
named `strategies/` would be imported instead when Python is started there with `python -m`; `_sibling` tells.

Import paths (`package.module:Name`) are checked without importing: importing Avalanche to find a typing mistake
would take ten seconds.
"""

from __future__ import annotations

import ast
import importlib
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from clbench.errors import UserError, nearest, unknown

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


def compile_tasks(kind: str) -> Any:
    """The function that lays out the tasks of one family; see `clbench.stream.compile_stream`."""
    module, _, attribute = _sibling("streams").TASKS[kind].partition(":")
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
    path = strategies().get(name, name)
    module_name, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise UserError(f"strategy '{name}' cannot be imported: {error}.") from error
    except AttributeError:
        raise UserError(f"strategy '{name}': module '{module_name}' has no '{attribute}'.") from None


def check_strategy_name(name: str) -> None:
    """Whether a name is in the table or an import path leads somewhere, told without importing the module.

    Raises:
        UserError: one sentence, with the nearest match.
    """
    if name in strategies():
        return
    if ":" not in name:
        message = unknown("strategy", name, strategies())
        raise UserError(message.rstrip(".") + ", or an import path like package.module:Name.")
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


# ------------------------------------------------------------------------------------------------ import paths
def check_import_path(path: str) -> None:
    """Whether `package.module:Name` names something that exists, found by reading files, not by importing them.

    Raises:
        UserError: not of that form, no such module, or no such name in it.
    """
    if not _IMPORT_PATH.match(path):
        raise UserError(f"'{path}' is no import path; expected package.module:Name.")
    module_name, _, attribute = path.partition(":")
    if module_name in sys.modules:
        names: set[str] | None = set(vars(sys.modules[module_name]))
    else:
        names = _names_of(_find(module_name, path))
    if names is None or attribute in names or "__getattr__" in names:
        return
    guess = nearest(attribute, [n for n in names if not n.startswith("_")])
    hint = f" Did you mean '{guess}'?" if guess else ""
    raise UserError(f"'{path}' does not import: module '{module_name}' has no '{attribute}'.{hint}")


def _find(module_name: str, path: str) -> importlib.machinery.ModuleSpec:
    """The spec of a module, its parents not imported."""
    locations: Any = None
    parts = module_name.split(".")
    spec = None
    for i, part in enumerate(parts):
        name = ".".join(parts[: i + 1])
        if name in sys.builtin_module_names:
            spec = importlib.util.find_spec(name)
        else:
            spec = importlib.machinery.PathFinder.find_spec(name, locations) or (
                importlib.util.find_spec(name) if locations is None else None
            )
        if spec is None:
            raise UserError(f"'{path}' does not import: no module named '{name}' (missing part: '{part}').")
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
    if not spec.origin or not spec.origin.endswith(".py") or depth > 8:
        return None
    try:
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None
    names: set[str] = set()
    package = spec.name if spec.submodule_search_locations is not None else spec.name.rpartition(".")[0]
    for location in spec.submodule_search_locations or []:
        names |= {p.stem for p in Path(location).glob("*.py")} | {
            p.name for p in Path(location).iterdir() if p.is_dir()
        }
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
                base = package.split(".")
                origin = (
                    ".".join([*base[: len(base) - node.level + 1], *filter(None, [node.module])])
                    if node.level
                    else node.module
                )
                try:
                    starred = _names_of(_find(origin or "", ""), depth + 1)
                except UserError:
                    return None
                if starred is None:
                    return None
                names |= starred
    return names
