"""Import paths and attributes that moved: the old ones work for one version, with a warning that names the new one."""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType
from typing import Any, TypeVar

MOVED = {
    "clbench.bridge": "clbench.avalanche",
    "clbench.grammar": "clbench.streams.definition",
    "clbench.statistics": "clbench.reports.statistics",
    "clbench.runner:execute": "clbench.runner.run:execute",
    "clbench.stream:compile_stream": "clbench.streams.compile:compile_stream",
    "clbench.stream:Visit": "clbench.stream:StreamExperience",
    "clbench.stream:definition_hash": "clbench.streams.compile:definition_hash",
    "clbench.stream:Stream.to_avalanche": "clbench.avalanche:benchmark",
    "clbench.stream:Stream.visits": "clbench.stream:Stream.experiences",
    "clbench.stream:Timetable.visits": "clbench.stream:Timetable.experiences",
    "clbench.strategy:Setup.another": "clbench.strategy:Setup.new_generator",
    "clbench.strategy:Setup.changed": "clbench.strategy:Setup.mark_updated",
    "clbench.strategy:Strategy.visits": "clbench.strategy:Strategy.task_blocks",
    "clbench.testing:told_what_it_needs": "clbench.testing:needed_overrides",
}
"""Old -> new: a module, module:name or module:class.attribute. Everything here goes with version 0.3."""

T = TypeVar("T")


def resolve(old: str) -> Any:
    """Import the new place of a row of the table; warns the caller of the function that asks."""
    _warn(old, stacklevel=4)
    module, _, name = MOVED[old].partition(":")
    target = importlib.import_module(module)
    return getattr(target, name) if name else target


def _warn(old: str, stacklevel: int) -> None:
    sentence = f"{old} is now {MOVED[old]}; the old path goes with version 0.3.".replace(":", ".")
    warnings.warn(sentence, DeprecationWarning, stacklevel=stacklevel)


class OldAttribute:
    """The old name of an attribute; an instance may still hold one of its own under that name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.path = f"{owner.__module__}:{owner.__qualname__}.{name}"
        self.new = MOVED[self.path].rpartition(".")[2]

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        _warn(self.path, stacklevel=3)
        return getattr(instance, self.new)


def old_keywords(cls: type[T]) -> type[T]:
    """A data class that can be made with the old names of its attributes too, as by `dataclasses.replace`."""
    old = {name: value for name, value in vars(cls).items() if isinstance(value, OldAttribute)}
    init = cls.__init__

    @functools.wraps(init)
    def __init__(self: T, *args: Any, **kwargs: Any) -> None:
        for name in old.keys() & kwargs.keys():
            _warn(old[name].path, stacklevel=3)
            kwargs[old[name].new] = kwargs.pop(name)
        init(self, *args, **kwargs)

    cls.__init__ = __init__  # type: ignore[assignment]
    return cls


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
