"""The state that an object holds, as leaves: tensors, arrays and plain values by their access path.

Attributes are read, never computed: no property and no method of the user's is called but `state_dict`. Functions,
what they close over, open files and objects of extension modules without attributes are not looked into.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import io
import logging
import random
import types
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clbench.rng import Generator

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_NAMED = (enum.Enum, torch.dtype, torch.device, np.dtype, PurePath, range, slice)
"""Types whose representation says all of a value."""
_ROWS = (list, tuple, deque)
_SETS = (set, frozenset)
_OPAQUE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, logging.Logger, io.IOBase)
_COLUMNS = 61
_OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {"training"}


@dataclass(frozen=True)
class Leaf:
    """A part of a state.

    Attributes:
        name: of the attribute that it belongs to, such as `teacher` or `helper.teacher`.
        kind: of that attribute, such as "a module".
        value: a tensor, an array, or a plain value as text; None for an iterator, whose position cannot be read.
    """

    name: str
    kind: str
    value: Tensor | NDArray[Any] | str | None

    @property
    def is_plain(self) -> bool:
        """True for numbers, texts, and containers of them."""
        return isinstance(self.value, str)

    def copy(self) -> Leaf:
        """The leaf with a copy of its value."""
        value = self.value
        if isinstance(value, Tensor):
            value = value.detach().clone()
        return Leaf(self.name, self.kind, value.copy() if isinstance(value, np.ndarray) else value)

    def same(self, other: Leaf | None) -> bool:
        """True if both have the same bits; iterators never do."""
        a, b = self.value, None if other is None else other.value
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            alike = a.dtype == b.dtype and a.shape == b.shape
            return alike and torch.equal(_words(a), _words(b.detach().to(a.device)))
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        return isinstance(a, str) and isinstance(b, str) and a == b

    def digest(self) -> bytes:
        """A fingerprint by which a change is noticed, in one pass over the memory.

        Of a large tensor it is the sums of its words in 61 columns: a prime number, so that rows that change places
        change it too.
        """
        value = self.value
        if value is None or isinstance(value, str):
            return hashlib.sha256(repr(value).encode()).digest()
        shape = f"{value.dtype} {tuple(value.shape)}".encode()
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(np.frombuffer(value.tobytes(), np.uint8).copy()) if value.size else torch.zeros(0)
        words = _words(value)
        whole = len(words) - len(words) % (8 * _COLUMNS)
        sums = words[:whole].view(torch.int64).view(-1, _COLUMNS).sum(0)
        return hashlib.sha256(shape + _raw(sums) + _raw(words[whole:])).digest()


def _words(tensor: Tensor) -> Tensor:
    """The bytes of a tensor, uint8 (n,)."""
    flat = tensor.detach().contiguous().view(-1)
    if flat.storage_offset() * flat.element_size() % 8:
        flat = flat.clone()
    return flat.view(torch.uint8)


def _raw(tensor: Tensor) -> bytes:
    return tensor.cpu().numpy().tobytes()


def leaves(root: Any, name: str, skipped: Collection[int] = ()) -> dict[str, Leaf]:
    """The leaves below an object.

    Args:
        root: the value of an attribute.
        name: of that attribute.
        skipped: ids of objects that are not descended into.
    """
    walk = _Walk(set(skipped))
    walk.visit(root, name, name, "")
    return walk.leaves


class _Walk:
    """A walk through the objects below an attribute."""

    def __init__(self, seen: set[int]) -> None:
        self._seen = seen
        self._held: list[Any] = []  # states made on the way: an id is not to be used twice
        self.leaves: dict[str, Leaf] = {}

    def visit(self, value: Any, path: str, name: str, kind: str) -> None:
        """Adds the leaves below a value.

        Args:
            value: anything.
            path: of the value.
            name: of the attribute that it belongs to.
            kind: of that attribute; empty where the value is the attribute itself.
        """
        text = _text(value)
        if text is not None:
            self.leaves[path] = Leaf(name, kind or _kind(value), text)
        elif isinstance(value, (Tensor, np.ndarray)):
            self._numbers(value, path, name, kind or _kind(value))
        elif not isinstance(value, _OPAQUE) and id(value) not in self._seen:
            self._seen.add(id(value))
            self._held.append(value)
            self._inside(value, path, name, kind)

    def _numbers(self, value: Tensor | NDArray[Any], path: str, name: str, kind: str) -> None:
        if isinstance(value, np.ndarray) and value.dtype.hasobject:
            self.visit(value.tolist(), path, name, kind)
        elif isinstance(value, Tensor) and (value.layout is not torch.strided or value.is_quantized):
            self.leaves[path] = Leaf(name, kind, repr(value))
        else:
            self.leaves[path] = Leaf(name, kind, value)

    def _inside(self, value: Any, path: str, name: str, kind: str) -> None:
        owner = kind or _kind(value)
        state = _generator_state(value)
        if state is not None:
            self.visit(state, path, name, owner)
        elif isinstance(value, nn.Module):
            self._module(value, path, name, owner)
        elif isinstance(value, dict):
            for n, (key, item) in enumerate(value.items()):
                self.visit(item, f"{path}[{key!r}]" if _text(key) else f"{path}[#{n}]", name, owner)
        elif isinstance(value, (*_ROWS, *_SETS)):
            for n, item in enumerate(value):
                self.visit(item, f"{path}[{n}]", name, owner)
        elif isinstance(value, types.MethodType):
            self.visit(value.__self__, path, name, kind)
        elif isinstance(value, functools.partial):
            self.visit([value.func, value.args, value.keywords], path, name, owner)
        elif callable(getattr(type(value), "state_dict", None)):
            self.visit(value.state_dict(), path, name, owner)
        elif (held := _attributes(value)) is not None:
            for step, item in held.items():
                if step not in getattr(type(value), "transient", ()):
                    self.visit(item, f"{path}.{step}", name if kind else f"{name}.{step}", kind)
        elif hasattr(type(value), "__next__"):
            self.leaves[path] = Leaf(name, owner, None)

    def _module(self, module: nn.Module, path: str, name: str, kind: str) -> None:
        """Parameters and all buffers, which of them learn, modes, and plain attributes such as a rate of dropout."""
        for part, inner in module.named_modules():
            place = f"{path}.{part}" if part else path
            for key, tensor in (*inner._parameters.items(), *inner._buffers.items()):
                self.visit(tensor, f"{place}.{key}", name, kind)
                if tensor is not None:
                    self.visit(tensor.requires_grad, f"{place}.{key}.requires_grad", name, kind)
            for key, value in vars(inner).items():
                if key not in _OF_EVERY_MODULE:
                    self.visit(value, f"{place}.{key}", name, kind)


def _text(value: Any) -> str | None:
    """A plain value, or a container of plain values, as text; None for anything else."""
    if isinstance(value, np.generic) and value.dtype.kind in "biufc":
        value = value.item()
    if isinstance(value, bool) or type(value) in _PLAIN or isinstance(value, _NAMED):
        return repr(value)
    if isinstance(value, dict):
        pairs = [(_text(k) or type(k).__name__, _text(v)) for k, v in value.items()]
        return None if any(v is None for _, v in pairs) else f"{{{', '.join(f'{k}: {v}' for k, v in sorted(pairs))}}}"
    if isinstance(value, (*_ROWS, *_SETS)):
        items = [_text(v) for v in value]
        if any(v is None for v in items):
            return None
        return f"[{', '.join(sorted(map(str, items)) if isinstance(value, _SETS) else map(str, items))}]"
    return None


def _generator_state(value: Any) -> Any:
    """State of a generator of random numbers; None for anything else."""
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, np.random.BitGenerator):
        return value.state
    if isinstance(value, np.random.RandomState):
        return value.get_state(legacy=False)
    return value.getstate() if isinstance(value, random.Random) else None


def _attributes(value: Any) -> dict[str, Any] | None:
    """Attributes of an object, in its dictionary or in slots; None where it has neither."""
    slots = [s for c in type(value).__mro__ for s in _slots(vars(c).get("__slots__", ()))]
    held = {s: object.__getattribute__(value, s) for s in slots if _is_set(value, s)}
    named = getattr(value, "__dict__", None)
    return held | named if isinstance(named, dict) else held or None


def _slots(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(n for n in names if n not in ("__dict__", "__weakref__"))


def _is_set(value: Any, slot: str) -> bool:
    try:
        object.__getattribute__(value, slot)
    except AttributeError:
        return False
    return True


_KINDS: tuple[tuple[Any, str], ...] = (
    (bool, "a flag"),
    ((int, float, complex, np.generic), "a number"),
    ((str, bytes), "a text"),
    (type(None), "nothing"),
    (Tensor, "a tensor"),
    (np.ndarray, "an array"),
    (nn.Module, "a module"),
    (torch.optim.Optimizer, "an optimiser"),
    (torch.optim.lr_scheduler.LRScheduler, "a scheduler"),
    (dict, "a dictionary"),
    (list, "a list"),
    (tuple, "a tuple"),
    (deque, "a queue"),
    (_SETS, "a set"),
    ((torch.Generator, np.random.Generator, np.random.RandomState, random.Random, Generator), "a generator"),
)


def _kind(value: Any) -> str:
    """The kind of an attribute, in words."""
    name = type(value).__name__
    words = (text for kinds, text in _KINDS if isinstance(value, kinds))
    iterator = hasattr(type(value), "__next__") and not hasattr(value, "__dict__")
    return next(words, "an iterator" if iterator else f"a{'n' * (name[0] in 'AEIOUaeiou')} {name}")
