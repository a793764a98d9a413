"""Import paths that moved: the old ones work for one version, with a warning that names the new one."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType
from typing import Any

MOVED = {
    "clbench.bridge": "clbench.avalanche",
    "clbench.grammar": "clbench.streams.definition",
    "clbench.leaderboard": "clbench.reports.leaderboard",
    "clbench.statistics": "clbench.reports.statistics",
    "clbench.runner:execute": "clbench.runner.run:execute",
    "clbench.stream:compile_stream": "clbench.streams.compile:compile_stream",
    "clbench.stream:definition_hash": "clbench.streams.compile:definition_hash",
    "clbench.stream:Stream.to_avalanche": "clbench.avalanche:benchmark",
}
"""Old -> new: a module, or module:name. Everything here goes with version 0.3."""


def resolve(old: str) -> Any:
    """Import the new place of a row of the table; warns the caller of the function that asks."""
    new = MOVED[old]
    sentence = f"{old} is now {new}; the old path goes with version 0.3.".replace(":", ".")
    warnings.warn(sentence, DeprecationWarning, stacklevel=3)
    module, _, name = new.partition(":")
    target = importlib.import_module(module)
    return getattr(target, name) if name else target


def attributes(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module that names have moved from; each is looked up once."""

    def __getattr__(name: str) -> Any:
        if f"{module}:{name}" not in MOVED:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        value = vars(sys.modules[module])[name] = resolve(f"{module}:{name}")
        return value

    return __getattr__


class _Alias(Loader):
    """Fills a module that moved with the names of its new place."""

    def exec_module(self, module: ModuleType) -> None:
        target = resolve(module.__name__)
        vars(module).update({k: v for k, v in vars(target).items() if k == "__all__" or not k.startswith("__")})


class _Finder(MetaPathFinder):
    """Finds modules that moved, where no other finder does."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        return importlib.util.spec_from_loader(fullname, _Alias()) if fullname in MOVED else None


def install() -> None:
    """Lets `import` find modules that moved."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
