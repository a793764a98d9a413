"""Import paths, `package.module:Name`, checked without importing: Avalanche takes ten seconds, a typing mistake none.

A user's module may lie in the working directory; the command line makes that the last place of `sys.path`.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.machinery
import importlib.util
import os
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from clbench.errors import UserError, hint

_IMPORT_PATH = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")


def is_import_path(text: str) -> bool:
    """
    >>> is_import_path("package.module:Name"), is_import_path("er"), is_import_path("npz:a/b")
    (True, False, False)
    """
    return bool(_IMPORT_PATH.match(text))


def add_working_directory() -> None:
    """Let Python import from the working directory too, after everything that is installed.

    The console script, unlike `python -m`, does not look there. Processes that are started by this one inherit it.
    """
    with contextlib.suppress(OSError):  # the working directory was removed
        folder = os.getcwd()
        if not {"", folder} & set(sys.path):
            sys.path.append(folder)  # last: it cannot shadow anything


def check(path: str) -> None:
    """Checks that `package.module:Name` exists, by reading files, not by importing them.

    Raises:
        UserError: not of that form, no such module, or no such name in it.
    """
    if not is_import_path(path):
        raise UserError(f"'{path}' is no import path; expected package.module:Name.")
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


def find(module_name: str) -> importlib.machinery.ModuleSpec | None:
    """The spec of a module, its parents not imported; None where there is none."""
    locations: list[str] | None = None
    spec, name = None, ""
    for part in module_name.split("."):
        name += f".{part}" if name else part
        try:
            specs = (finder.find_spec(name, locations) for finder in sys.meta_path if hasattr(finder, "find_spec"))
            spec = next((spec for spec in specs if spec is not None), None)  # an editable installation has a finder too
        except KeyError:  # a folder without __init__.py in a package that is not imported
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [os.path.join(above, part) for above in locations or []]
        if spec is None:
            return None
        locations = list(spec.submodule_search_locations or [])
    return spec


def _find(module_name: str) -> importlib.machinery.ModuleSpec:
    """As `find`.

    Raises:
        UserError: there is none; the message names the first part that is missing, and the nearest match.
    """
    spec = find(module_name)
    if spec is not None:
        return spec
    parts = module_name.split(".")
    depth = next(n for n in range(1, len(parts) + 1) if find(".".join(parts[:n])) is None)
    above = find(".".join(parts[: depth - 1])) if depth > 1 else None
    within = None if above is None else list(above.submodule_search_locations or [])
    guess = hint(parts[depth - 1], [m.name for m in pkgutil.iter_modules(within)])
    raise UserError(f"no module named '{'.'.join(parts[:depth])}'.{guess}")


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
