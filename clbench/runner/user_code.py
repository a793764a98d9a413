"""The user's code in a run: modules that its configuration names by import path, and what these import in turn.

Import statements are read from source files, wherever they stand; nothing is executed. Installed packages and the
standard library end the search, as their versions do not change unnoticed; an installed package that the configuration
names itself counts with all its files. A digest depends on the names of modules and the bytes of their files: not on
folders, the working directory, or the order of imports. Two kinds of import are out of sight: those of a computed name,
for which all modules beside the file count, and what a module reads by other means.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import hashlib
import importlib.util
import inspect
import linecache
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from clbench import import_paths, source
from clbench.dataset import FILE_KINDS
from clbench.run_config import RunConfig

RECORDED = frozenset({"torch", "torchvision", "numpy", "sklearn", "pandas", "avalanche"})
"""Packages whose version is in `provenance.packages`."""


@dataclass(frozen=True)
class UserCode:
    """Digests of a user's modules.

    Attributes:
        modules: module -> SHA-256 of its file; None where no source is available. Such a module equals no other.
        stale: modules whose file has changed since this process imported them; their digest is that of the import.
    """

    modules: dict[str, str | None] = field(default_factory=dict)
    stale: tuple[str, ...] = ()


def of(run: RunConfig, as_imported: bool = True) -> UserCode:
    """The user's code in a run.

    Args:
        run: its configuration.
        as_imported: whether modules that this process has imported count as they were then; else as a new process
            would import them.
    """
    return of_paths(paths_in(run), as_imported)


def of_paths(paths: Iterable[str], as_imported: bool = True) -> UserCode:
    """The code behind some import paths; see `of`."""
    search = _Search(as_imported)
    for path in sorted(paths):
        search.enter(path)
    return UserCode(dict(sorted(search.modules.items())), tuple(sorted(search.stale)))


def paths_in(run: RunConfig) -> frozenset[str]:
    """Import paths in a configuration: of a strategy, its parts and parameters, a network, a data set."""
    benchmark = run.benchmark.model_dump(mode="json", exclude={"id", "title", "source"})
    stream = benchmark["stream"]
    stream.pop("columns", None)  # a name such as "speed:max" is no import path
    names = stream.pop("data")
    data = [name for name in ([names] if isinstance(names, str) else names) if not name.startswith(FILE_KINDS)]
    return frozenset(_paths_in([benchmark, data, run.strategy.model_dump(mode="json")]))


def _paths_in(value: Any) -> Iterator[str]:
    if isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _paths_in(part)
    elif isinstance(value, str) and ":" in value:
        for part in value.split("+"):
            path = part.strip().removeprefix("lazy:")
            if import_paths.is_import_path(path):
                yield path


# ------------------------------------------------------------------------------------------------ comparison
Change = Literal["none", "suite", "unknown", "user"]
OtherCode = Literal["keep", "again"]


def is_repeated(kind: Change, other_code: OtherCode | None) -> bool:
    """True if a finished run is done again after a change of its code.

    Args:
        kind: of change.
        other_code: see `clbench.runner.run.execute`.
    """
    return kind != "none" and (other_code == "again" or (other_code is None and kind == "user"))


def change(
    recorded: Mapping[str, Any], modules: Mapping[str, str | None], code_sha256: str | None
) -> tuple[Change, str]:
    """Kind of change since the code of an earlier run, and the difference in a few words.

    Args:
        recorded: the run's provenance.
        modules: the user's code today.
        code_sha256: of all code today; None where a module's is unknown.

    Returns:
        "none"; "suite" where only clbench differs; "user" where the user's code does; "unknown" where the run was
        recorded without that of the user, by an earlier version.
    """
    if code_sha256 is not None and recorded.get("code_sha256") == code_sha256:
        return "none", ""
    before = recorded.get("user_code") if modules else recorded.get("user_code", {})
    if not isinstance(before, Mapping) or "code_sha256" not in recorded:
        return "unknown", "its record does not tell"
    differ = differing(before, modules)
    return ("user", differ) if differ else ("suite", "clbench changed")


def differing(before: Mapping[str, str | None], modules: Mapping[str, str | None]) -> str:
    """Modules whose code differs or is unknown, in a few words; empty for none."""
    names = sorted(name for name in {*before, *modules} if before.get(name) != modules.get(name))
    words = [f"{', '.join(names)} changed"] if names else []
    unknown = sorted(name for name, digest in modules.items() if digest is None and name not in names)
    return "; ".join([*words, *(f"the source of {name} is not available" for name in unknown)])


# ------------------------------------------------------------------------------------------------ modules
@dataclass(frozen=True)
class _Module:
    """A module as it would be imported, or was.

    Attributes:
        file: of its source, or of its machine code; None for a folder without `__init__.py`, and in a notebook.
        package: whether it has submodules.
        parent: the package that its relative imports start from.
        loader: of a module in an archive.
        identity: of a loaded module, another object after it was imported again.
    """

    name: str
    file: str | None
    package: bool
    parent: str
    loader: Any
    identity: Any = None

    def content(self) -> bytes | None:
        if self.file is None:
            return None
        try:
            return Path(self.file).read_bytes()
        except OSError:
            with contextlib.suppress(OSError, AttributeError, ImportError):
                return bytes(self.loader.get_data(self.file))
        return None


_imported_as: dict[str, tuple[Any, bytes]] = {}
"""Of modules loaded in this process: the identity, and the content when it was read first."""


class _Search:
    def __init__(self, as_imported: bool) -> None:
        self.modules: dict[str, str | None] = {}
        self.stale: set[str] = set()
        self._as_imported = as_imported
        self._seen: set[str] = set()

    def enter(self, path: str) -> None:
        """An import path and all that it needs."""
        name, _, attribute = path.partition(":")
        module = _located(name)
        if module is None:
            return  # the run says so when it imports it
        if module.file is None:
            self._object(name, attribute)
        elif _is_installed(module.file):
            self._installed(name)
        else:
            self._module(name)

    def _module(self, name: str) -> None:
        for depth in range(1, name.count(".") + 2):
            part = ".".join(name.split(".")[:depth])
            if part not in self._seen:
                self._seen.add(part)
                self._one(part)

    def _one(self, name: str) -> None:
        module = _located(name)
        if module is None or module.file is None or _is_installed(module.file) or _is_ours(module.file):
            return
        content = self._content(module)
        self.modules[name] = None if content is None else hashlib.sha256(content).hexdigest()
        if content is None or not module.file.endswith((".py", ".pyw")):
            return
        statements, computed = _imports(content)
        for target, names in statements:
            try:
                base = importlib.util.resolve_name(target, module.parent) if target.startswith(".") else target
            except ImportError:
                continue
            self._module(base)
            if names and (located := _located(base)) is not None and located.package and not _is_apart(located):
                for below in names if "*" not in names else _exported(located):
                    if _located(f"{base}.{below}") is not None:
                        self._module(f"{base}.{below}")
        if computed:
            for beside in _beside(module):
                self._module(beside)

    def _content(self, module: _Module) -> bytes | None:
        content = module.content()
        if module.identity is None or content is None:
            return content
        identity, before = _imported_as.get(module.name, (None, b""))
        if identity is not module.identity:
            _imported_as[module.name] = module.identity, content
        elif before != content:
            self.stale.add(module.name)
            return before if self._as_imported else content
        return content

    def _installed(self, name: str) -> None:
        """All files of an installed package that the configuration names."""
        top = name.partition(".")[0]
        if top in RECORDED or top in self.modules:
            return
        for depth in range(1, name.count(".") + 2):  # the first that is no folder of several distributions
            module = _located(".".join(name.split(".")[:depth]))
            if module is not None and module.file is not None and not _is_ours(module.file):
                folder = Path(module.file).parent
                files = sorted(folder.rglob("*.py")) if module.package else [Path(module.file)]
                digest = hashlib.sha256()
                for path in files:
                    content = path.read_bytes()
                    digest.update(f"{path.relative_to(folder).as_posix()}|{len(content)}|".encode() + content)
                self.modules[module.name] = digest.hexdigest()
                return

    # ---------------------------------------------------------------------------------------- without a file
    def _object(self, name: str, attribute: str) -> None:
        """A class or function of a module without a file, such as `__main__` in a notebook."""
        value = getattr(sys.modules.get(name), attribute, None)
        texts: dict[str, str | None] = {}
        self._value(attribute, value, texts, set())
        if texts:
            known = None not in texts.values()
            joined = "".join(f"{key}|{texts[key]}\n" for key in sorted(texts))
            self.modules[name] = hashlib.sha256(joined.encode()).hexdigest() if known else None

    def _value(self, label: str, value: Any, texts: dict[str, str | None], seen: set[int]) -> None:
        """Adds the source of a value: its cells, and all globals that they use."""
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, types.ModuleType):
            self._module(value.__name__)
        elif isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
            home = value.__module__ or "builtins"
            located = _located(home)
            if home in sys.builtin_module_names:
                return
            if located is not None and located.file is not None:
                self._module(home)
                return
            codes = list(_codes(value))
            if not codes:
                texts[label] = None
            for code in codes:
                texts[code.co_filename] = "".join(linecache.getlines(code.co_filename)) or None
                space = vars(sys.modules.get(home, types.ModuleType(home)))
                for used in sorted(_names_of(code) & space.keys()):
                    self._value(used, space[used], texts, seen)
            for base in value.__bases__ if isinstance(value, type) else ():
                self._value(base.__qualname__, base, texts, seen)
        else:
            texts[label] = repr(value) if _is_plain(value) else None


def _codes(value: Any) -> Iterator[types.CodeType]:
    """Code of a function, or of all functions of a class."""
    if isinstance(value, type):
        for member in vars(value).values():
            yield from _codes(member)
    elif isinstance(value, property):
        for function in (value.fget, value.fset, value.fdel):
            yield from _codes(function)
    else:
        function = inspect.unwrap(getattr(value, "__func__", value)) if callable(value) else value
        if isinstance(function, types.FunctionType):
            yield function.__code__


def _names_of(code: types.CodeType) -> set[str]:
    """Global names that a code object and those inside it look up."""
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    looked_up = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return looked_up.union(*map(_names_of, inner))


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(k) and _is_plain(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, complex, str, bytes))


# ------------------------------------------------------------------------------------------------ files
def _located(name: str) -> _Module | None:
    """A module by name, loaded or not; None where there is none."""
    module, above = sys.modules.get(name), name.rpartition(".")[0]
    if module is not None:
        spec, package = getattr(module, "__spec__", None), hasattr(module, "__path__")
        parent = getattr(module, "__package__", None) or (name if package else above)
        file = getattr(module, "__file__", None)
        return _Module(name, file, package, parent, getattr(spec, "loader", None), spec or module)
    spec = import_paths.find(name)
    if spec is None or spec.origin in ("built-in", "frozen"):
        return None
    package = spec.submodule_search_locations is not None
    return _Module(name, spec.origin, package, name if package else above, spec.loader)


def _is_apart(module: _Module) -> bool:
    return module.file is not None and (_is_installed(module.file) or _is_ours(module.file))


@lru_cache(maxsize=10_000)
def _is_installed(file: str) -> bool:
    """True for a file of the standard library or of an installed package."""
    path = Path(file)
    return bool({"site-packages", "dist-packages"} & {*path.parts}) or any(
        path.is_relative_to(folder) for folder in _installed_folders()
    )


@cache
def _installed_folders() -> frozenset[str]:
    """Folders of the standard library and of installed packages; looking them up takes longer than a small run."""
    return frozenset(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


@cache
def _our_files() -> frozenset[Path]:
    return frozenset(path for _, path in source.files())


@lru_cache(maxsize=10_000)
def _is_ours(file: str) -> bool:
    return Path(file).resolve() in _our_files()


@lru_cache(maxsize=1000)
def _imports(content: bytes) -> tuple[tuple[tuple[str, tuple[str, ...]], ...], bool]:
    """Import statements of a source, each with the names that it takes; and whether a computed name is imported."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError):
        return (), False
    statements: list[tuple[str, tuple[str, ...]]] = []
    computed = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            statements += [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            target = "." * node.level + (node.module or "")
            statements.append((target, tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.Call) and node.args and _imports_by_call(node.func):
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                statements.append((first.value, ()))
            else:
                computed = True
    return tuple(statements), computed


def _imports_by_call(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__", "exec_module", "run_module", "run_path")


def _exported(module: _Module) -> list[str]:
    """Submodules that a package's `import *` may import: those that its `__all__` names."""
    content = module.content() or b""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return []
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def _beside(module: _Module) -> Iterator[str]:
    """Names of all modules in a file's folder, and below it in a package."""
    folder = Path(module.file or "").parent
    for path in sorted(folder.rglob("*.py") if module.parent else folder.glob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join([*([module.parent] if module.parent else []), *(part for part in parts if part != "__init__")])
        if name and all(part.isidentifier() for part in name.split(".")):
            yield name
