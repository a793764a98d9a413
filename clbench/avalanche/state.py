"""The state of a hosted Avalanche strategy as plain values, and back.

A strategy is a graph of objects: network, optimiser, plugins and their helpers, buffers. All reachable objects are
saved once, so that sharing is preserved. The state is restored into a strategy built by the same configuration: objects
of its construction are identified by number and filled in place, and those created in training are created again,
without their constructors. Objects with hidden state (a generator, an open file) are refused. Functions are never
saved, only recognised; their globals, and attributes of classes, are ignored.

Nothing in a file is imported or run: it may refer to objects of the new strategy, and to classes of Avalanche and
PyTorch that are imported already.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import logging
import random
import sys
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from avalanche.core import BasePlugin
from avalanche.logging import BaseLogger
from torch import Tensor, nn

from clbench.errors import RunFailed, Unsaveable

_PLAIN = (type(None), bool, int, float, str)
_NAMED: dict[str, Any] = {
    kind.__name__: kind for kind in (bool, int, float, str, list, tuple, dict, set, torch.zeros, torch.ones)
}
_KNOWN = ("avalanche.", "torch.nn.", "torch.optim.", "torch.utils.data.")
_ROWS: dict[type, str] = {
    list: "list",
    tuple: "tuple",
    torch.Size: "size",
    set: "set",
    frozenset: "frozenset",
    deque: "deque",
}
_MAPS: dict[type, str] = {dict: "dict", OrderedDict: "ordered", defaultdict: "default"}
_MAKE: dict[str, Callable[[], Any]] = {
    "list": list, "set": set, "deque": deque, "dict": dict, "ordered": OrderedDict, "default": defaultdict,
}  # fmt: skip
_FIXED = (
    type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType, enum.Enum,
    logging.Logger, BaseLogger,
)  # fmt: skip
"""Types that are never recreated."""


class _Refused(Exception):
    """A value that cannot be saved; the message describes it."""


class Parts:
    """Objects of a newly built strategy.

    Args:
        strategy: newly built.
        shared: objects that exist in every process, whose state is not part of the strategy's.
        beside: another object to number, such as an example of the strategy's data.
    """

    def __init__(self, strategy: Any, shared: Iterable[Any], beside: Any = None) -> None:
        self._strategy = strategy
        self._objects = list(shared)
        self._shared = {id(part) for part in self._objects}
        self._objects += [part for part, *_ in _reached([(strategy, "", ""), (beside, "", "")], self._shared)]
        self._number = {id(part): n for n, part in enumerate(self._objects)}
        names = "\n".join(_name(type(part)) for part in self._objects)
        self._kinds = hashlib.sha256(names.encode()).hexdigest()

    def state_dict(self, more: Any = None) -> dict[str, Any]:
        """The strategy's current state.

        Args:
            more: a value to save with it, which may share objects with it.

        Raises:
            Unsaveable: a part cannot be saved; the message names it.
        """
        writer = _Writer(self._objects, self._number)
        start = [(self._strategy, f"strategy {type(self._strategy).__name__}", ""), (more, "experience", "")]
        reached = _reached(start, self._shared)
        where = {id(part): n for n, (part, *_) in enumerate(reached)}
        nodes = []
        for part, owner, path in reached:
            try:
                nodes.append(writer.node(part, where, id(part) in self._shared))
            except _Refused as error:
                raise Unsaveable(f"{owner}: attribute '{path}' is {error}" if path else f"{owner} is {error}") from None
        return {
            "built": self._kinds,
            "nodes": nodes,
            "storages": writer.storages,
            "more": writer.of(more, where),
        }

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Continues where `state_dict` was taken; returns `more`.

        Raises:
            RunFailed: the strategy was built of other parts than the saved one.
        """
        if state["built"] != self._kinds:
            raise RunFailed("not_the_same", f"{_name(type(self._strategy))} is built of other parts than before")
        return _Reader(self._objects, state).read(state["more"])


def _name(kind: Any) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _dict(part: Any) -> dict[str, Any] | None:
    """The attributes of an object that has no other state."""
    kind = type(part)
    slotted = any(vars(c).get("__slots__") for c in kind.__mro__)
    if slotted or kind.__basicsize__ > object.__basicsize__ + 16 or kind.__itemsize__:
        return None
    return object.__getattribute__(part, "__dict__") if any("__dict__" in vars(c) for c in kind.__mro__) else None


def _reached(start: Sequence[tuple[Any, str, str]], shared: Container[int]) -> list[tuple[Any, str, str]]:
    """All reachable objects, each once, the nearest first; each with its owner and its attribute path.

    Args:
        start: roots, likewise.
        shared: ids of objects that are not descended into.
    """
    reached = [(part, owner, path) for part, owner, path in start if type(part) not in _PLAIN]
    seen = {id(part) for part, *_ in reached}
    for part, owner, path in reached:  # which grows
        if id(part) in shared:
            continue
        if isinstance(part, BasePlugin):
            owner, path = f"plugin {type(part).__name__}", ""
        for step, inner in _inside(part):
            if type(inner) in _PLAIN or id(inner) in seen:
                continue
            seen.add(id(inner))
            reached.append((inner, owner, (path + step).lstrip(".")))
    return reached


def _inside(part: Any) -> list[tuple[str, Any]]:
    """The values in an object, each with its access expression."""
    if type(part) in _ROWS:
        return [] if _integers(part) else [(f"[{n}]", item) for n, item in enumerate(part)]
    if type(part) in _MAPS:
        pairs = [[(f"[{k!r}]" if type(k) in _PLAIN else "[...]", i) for i in (k, v)] for k, v in part.items()]
        factory = [("", part.default_factory)] if type(part) is defaultdict else []
        return [*factory, *(item for pair in pairs for item in pair)]
    if isinstance(part, Tensor):
        return [(".grad", part.grad)] if part.is_leaf else []
    if type(part) is functools.partial:
        return [(".func", part.func), (".args", part.args), (".keywords", part.keywords)]
    if type(part) is types.MethodType:
        return [(".__self__", part.__self__)]
    if type(part) is types.FunctionType:
        return [(f".{n}", c) for n, c in zip(part.__code__.co_freevars, _cells(part), strict=True)]
    if type(part) is types.GeneratorType and (function := _generator_function(part)) is not None:
        frame: Any = part.gi_frame
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        return [(f".{name}", frame.f_locals[name]) for name in names]
    if isinstance(part, _FIXED):
        return []
    held = _dict(part) or {}
    return [(f".{name}", value) for name, value in held.items() if name != "__orig_class__"]


def _cells(function: Any) -> list[Any]:
    cells = function.__closure__ or ()
    try:
        return [cell.cell_contents for cell in cells]
    except ValueError:  # one is not filled yet
        return [None for _ in cells]


def _generator_function(generator: Any) -> Any:
    """The function of Avalanche's that created a generator, if the generator has not started; else None."""
    frame: Any = generator.gi_frame
    if inspect.getgeneratorstate(generator) != inspect.GEN_CREATED:
        return None
    function = _imported(f"{frame.f_globals.get('__name__')}:{generator.__qualname__}")
    return function if _makes_generators(function) and function.__code__ is generator.gi_code else None


def _makes_generators(function: Any) -> bool:
    """True if a call with positional arguments runs nothing."""
    odd = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    if not inspect.isgeneratorfunction(function) or not inspect.isfunction(function):
        return False
    code = function.__code__
    return not (code.co_flags & odd or code.co_kwonlyargcount or code.co_freevars)


def _integers(part: Any) -> bool:
    """True for a list that is stored as an array."""
    small = type(part) is list and len(part) > 16 and all(type(v) is int for v in part)
    return small and min(part) >= -(2**63) and max(part) < 2**63


class _Writer:
    """Objects to nodes: dictionaries of plain values, with the numbers of other nodes in tuples."""

    def __init__(self, objects: list[Any], number: dict[int, int]) -> None:
        self._number = number
        self._like = {type(part): n for n, part in reversed(list(enumerate(objects)))}
        self.storages: list[Tensor] = []
        self._storage: dict[int, int] = {}
        self._arrays: set[int] = set()

    def of(self, value: Any, where: dict[int, int]) -> Any:
        """A plain value, or the number of a node in a tuple."""
        return value if type(value) in _PLAIN else (where[id(value)],)

    def node(self, part: Any, where: dict[int, int], shared: bool) -> dict[str, Any]:
        """The node of one object.

        Raises:
            _Refused: it cannot be saved.
        """
        number = self._number.get(id(part))
        built = {} if number is None else {"built": number}
        if shared:
            return built
        values = [self.of(value, where) for _, value in _inside(part)]
        return {**self._content(part, number is not None), **built, "of": values}

    def _content(self, part: Any, built: bool) -> dict[str, Any]:
        kind: Any = type(part)
        if kind in _ROWS:
            return self._row(part)
        if kind in _MAPS:
            for key in part:
                self._check_key(key)
            return {"kind": _MAPS[kind]}
        if isinstance(part, Tensor):
            return self._tensor(part)
        if isinstance(part, (np.ndarray, np.generic)):
            return self._array(part)
        if kind in (torch.dtype, torch.device):
            return {"kind": kind.__name__, "value": str(part).removeprefix("torch.")}
        if kind in (bytes, bytearray):
            return {"kind": kind.__name__, "value": np.frombuffer(part, np.uint8).copy()}
        if kind is range:
            return {"kind": "range", "value": (part.start, part.stop, part.step)}
        if kind is torch.Generator:
            return {"kind": "torch_generator", "device": str(part.device), "value": part.get_state()}
        if kind in (np.random.Generator, np.random.RandomState):
            state = part.bit_generator.state if kind is np.random.Generator else part.get_state(legacy=False)
            self._require_built(built, part)
            return {"kind": "numpy_generator", "value": state}
        if kind is random.Random:
            return {"kind": "python_generator", "value": part.getstate()}
        if kind is functools.partial:
            return {"kind": "partial"}
        if kind in (type, types.BuiltinFunctionType) and part in _NAMED.values():
            return {"kind": "named", "value": part.__name__}
        if kind is types.GeneratorType and (function := _generator_function(part)) is not None:
            return {"kind": "generator", "value": _name(function)}
        if kind is object or isinstance(part, _FIXED):
            self._require_built(built, part)
            return {"kind": "function" if kind is types.FunctionType else "fixed"}
        held = _dict(part)
        if held is None:
            raise _Refused(_a(kind))
        names = [name for name in held if name != "__orig_class__"]
        return {"kind": "object", "class": None if built else self._class(kind), "names": names}

    def _row(self, part: Any) -> dict[str, Any]:
        kind = type(part)
        if kind in (set, frozenset):
            for key in part:
                self._check_key(key)
            if any(a is not b for a, b in zip(part, kind(list(part)), strict=True)):
                raise _Refused(f"{_a(kind)} whose order tells how it came about")
        if _integers(part):
            return {"kind": "integers", "value": np.array(part, np.int64)}
        return {"kind": _ROWS[kind], "most": part.maxlen if kind is deque else None}

    def _check_key(self, key: Any) -> None:
        """Checks that a key is found again in another process, by value or by identity."""
        if type(key) is tuple:
            for item in key:
                self._check_key(item)
        elif not isinstance(key, (*_PLAIN, Tensor, np.generic, torch.dtype, torch.device)):
            itself: Any = object.__hash__
            if type(key).__hash__ is not itself:
                raise _Refused(f"a container with {_a(type(key))} for a key")

    def _tensor(self, part: Tensor) -> dict[str, Any]:
        if type(part) not in (Tensor, nn.Parameter) or part.layout is not torch.strided or part.is_quantized:
            raise _Refused(f"a tensor of a special kind, {type(part).__name__}")
        if not part.is_leaf:
            raise _Refused("a tensor with the graph that it came from")
        if part._backward_hooks or vars(part):
            raise _Refused("a tensor with hooks or attributes")
        storage = part.untyped_storage()
        if storage._cdata not in self._storage:
            self._storage[storage._cdata] = len(self.storages)
            self.storages.append(torch.empty(0, dtype=torch.uint8, device=part.device).set_(storage))
        return {
            "kind": "parameter" if type(part) is nn.Parameter else "tensor",
            "dtype": str(part.dtype).removeprefix("torch."),
            "storage": self._storage[storage._cdata],
            "place": (part.storage_offset(), tuple(part.shape), part.stride()),
            "learns": part.requires_grad,
        }

    def _array(self, part: Any) -> dict[str, Any]:
        if part.dtype.kind not in "biuf":
            raise _Refused(f"an array of {part.dtype}")
        base = part
        while isinstance(getattr(base, "base", None), np.ndarray):
            base = base.base
        if isinstance(part, np.generic):
            return {"kind": "number", "value": np.array(part)}
        if getattr(base, "base", None) is not None or id(base) in self._arrays:
            raise _Refused("an array that shares its memory")
        self._arrays.add(id(base))
        turned = part.flags.f_contiguous and not part.flags.c_contiguous
        return {"kind": "array", "turned": turned, "value": part.T if turned else part}

    def _require_built(self, built: bool, part: Any) -> None:
        if not built:
            raise _Refused(f"{_a(type(part))} that it was not built with")

    def _class(self, kind: type) -> str | int:
        if _imported(_name(kind)) is kind:
            return _name(kind)
        if kind in self._like:
            return int(self._like[kind])
        raise _Refused(f"{_a(kind)} that it was not built with, of a class that is not Avalanche's")


def _a(kind: type) -> str:
    return f"a{'n' * (kind.__name__[0] in 'AEIOUaeiou')} {kind.__name__}"


def _imported(name: str) -> Any:
    """The object of a name in an imported module of Avalanche's or PyTorch's; None if there is none."""
    module, _, path = name.partition(":")
    value: Any = sys.modules.get(module) if f"{module}.".startswith(_KNOWN) else None
    for n, step in enumerate(path.split(".")):
        value = vars(value).get(step) if isinstance(value, type if n else types.ModuleType) else None
    return value if getattr(value, "__module__", None) == module else None


class _Reader:
    """Nodes to objects: first all of them, then their contents."""

    def __init__(self, objects: list[Any], state: dict[str, Any]) -> None:
        self._objects, self._nodes = objects, state["nodes"]
        self._storages = [raw.clone().untyped_storage() for raw in state["storages"]]
        self._restored: dict[int, Any] = {}

    def read(self, more: Any) -> Any:
        for n, _ in enumerate(self._nodes):
            self._object(n)
        for n, node in enumerate(self._nodes):
            if "kind" in node:
                self._fill(self._restored[n], node, [self._value(v) for v in node["of"]])
        return self._value(more)

    def _value(self, value: Any) -> Any:
        return self._object(value[0]) if isinstance(value, tuple) else value

    def _object(self, n: int) -> Any:
        if n not in self._restored:
            node = self._nodes[n]
            self._restored[n] = self._objects[node["built"]] if "built" in node else self._new(node)
        return self._restored[n]

    def _new(self, node: dict[str, Any]) -> Any:
        kind: str = node["kind"]
        value: Any = node.get("value")
        if kind == "object":
            named = node["class"]
            cls = _imported(named) if isinstance(named, str) else type(self._objects[named])
            if not isinstance(cls, type):
                raise RunFailed("not_the_same", f"{named} is no class that is imported")
            return object.__new__(cls)
        if kind in ("tensor", "parameter"):
            view = self._view(node)
            return nn.Parameter(view, node["learns"]) if kind == "parameter" else view
        if kind in ("tuple", "size", "frozenset"):
            items = [self._value(v) for v in node["of"]]
            return tuple(items) if kind == "tuple" else torch.Size(items) if kind == "size" else frozenset(items)
        if kind == "partial":
            function, arguments, keywords = node["of"]
            named = self._nodes[keywords[0]]["of"]
            pairs = {self._value(k): self._value(v) for k, v in zip(named[::2], named[1::2], strict=True)}
            return functools.partial(self._value(function), *self._value(arguments), **pairs)
        if kind == "generator":
            function = _imported(value)
            if not _makes_generators(function):
                raise RunFailed("not_the_same", f"{value} is no generator function that is imported")
            return function(*(self._value(v) for v in node["of"]))
        if kind in ("bytes", "bytearray"):
            return bytes(value) if kind == "bytes" else bytearray(value)
        if kind == "array":
            return np.array(value).T if node["turned"] else np.array(value)
        if kind == "deque":
            return deque(maxlen=node["most"])
        simple: dict[str, Callable[[], Any]] = {
            **_MAKE,
            "integers": list,
            "number": lambda: value[()],
            "range": lambda: range(*value),
            "dtype": lambda: getattr(torch, value),
            "device": lambda: torch.device(value),
            "named": lambda: _NAMED[value],
            "torch_generator": lambda: torch.Generator(node["device"]),
            "python_generator": random.Random,
        }
        return simple[kind]()

    def _view(self, node: dict[str, Any]) -> Tensor:
        storage, dtype = self._storages[node["storage"]], getattr(torch, node["dtype"])
        return torch.empty(0, dtype=dtype, device=storage.device).set_(storage, *node["place"])

    def _fill(self, part: Any, node: dict[str, Any], values: list[Any]) -> None:
        kind = node["kind"]
        if kind == "object":
            held = object.__getattribute__(part, "__dict__")
            kept = {n: v for n, v in held.items() if n == "__orig_class__"}
            held.clear()
            held.update(kept, **dict(zip(node["names"], values, strict=True)))
        elif kind in ("tensor", "parameter"):
            if "built" in node:
                part.data = self._view(node)
            part.requires_grad_(node["learns"])
            part.grad = values[0]
        elif kind in ("list", "integers"):
            part[:] = node["value"].tolist() if kind == "integers" else values
        elif kind in ("set", "deque"):
            part.clear()
            (part.update if kind == "set" else part.extend)(values)
        elif kind in ("dict", "ordered", "default"):
            if kind == "default":
                part.default_factory = values.pop(0)
            part.clear()
            part.update(zip(values[::2], values[1::2], strict=True))
        elif kind == "array" and "built" in node:
            part[...] = node["value"].T if node["turned"] else node["value"]
        elif kind == "torch_generator":
            part.set_state(node["value"].cpu())
        elif kind == "numpy_generator":
            if isinstance(part, np.random.Generator):
                part.bit_generator.state = node["value"]
            else:
                part.set_state(node["value"])
        elif kind == "python_generator":
            part.setstate(node["value"])
        elif kind == "function" and _cells(part) != values:
            for cell, value in zip(part.__closure__ or (), values, strict=True):
                cell.cell_contents = value
