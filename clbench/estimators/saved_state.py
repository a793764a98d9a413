"""The state of an estimator as arrays and plain values, without pickle.

A state is the estimator's attributes: arrays of numbers, numbers, texts, None, generators of NumPy, containers of
these, and objects with attributes of these kinds. It is put back into an estimator of the same configuration that has
learnt something, which brings the objects; those without attributes, such as a loss function in Cython, stay as they
were made. Whether the result is the estimator, bit for bit, is checked in memory each time a state is taken.
"""

from __future__ import annotations

import pickle
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.errors import Unsaveable

_PLAIN = (type(None), bool, int, float, str)


def take(estimator: Any, other: Any, name: str) -> Any:
    """The state of an estimator.

    Args:
        estimator: it stays as it is.
        other: one of the same configuration that has learnt something; it is overwritten.
        name: of the estimator, for the message.

    Raises:
        Unsaveable: some of it is of another kind.
    """
    try:
        state = _taken(estimator, {})
        put(state, other)
        whole = pickle.dumps(other) == pickle.dumps(estimator)  # in memory: nothing is loaded from a file
    except Exception:  # of any estimator, such as a tree, whose nodes the other does not have
        whole = False
    if not whole:
        raise Unsaveable(f"the state of {name} is more than its arrays and plain values")
    return state


def put(state: Any, estimator: Any) -> None:
    """Puts a state into an estimator of the same configuration that has learnt something."""
    _put(state, estimator, [])


def arrays(estimator: Any) -> dict[str, NDArray[Any]]:
    """Copies of an estimator's arrays of numbers, by the paths of its attributes."""
    held: dict[str, NDArray[Any]] = {}
    seen: set[int] = set()

    def visit(value: Any, path: str) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, np.ndarray):
            if value.dtype.kind in "biuf":
                held[path] = value.copy()
        elif isinstance(value, (list, tuple)):
            for n, v in enumerate(value):
                visit(v, f"{path}[{n}]")
        elif type(value).__module__.partition(".")[0] != "numpy" and isinstance(getattr(value, "__dict__", None), dict):
            for name, v in vars(value).items():
                visit(v, f"{path}.{name}" if path else name)

    visit(estimator, "")
    return held


def _taken(value: Any, seen: dict[int, int]) -> Any:
    """A value as a pair of its kind and its content; `seen` numbers the objects by their identity."""
    if type(value) in _PLAIN:
        return "plain", value
    if id(value) in seen:
        return "same", seen[id(value)]
    seen[id(value)] = len(seen)
    if isinstance(value, (np.generic, np.ndarray)):
        if value.dtype.kind not in "biuf":
            raise TypeError(value.dtype)
        return "scalar" if isinstance(value, np.generic) else "array", np.array(value)
    if type(value) in (list, tuple):
        return type(value).__name__, [_taken(v, seen) for v in value]
    if type(value) is dict:
        return "dict", [(_taken(k, seen), _taken(v, seen)) for k, v in value.items()]
    if isinstance(value, np.random.RandomState):
        return "random", [_taken(part, {}) for part in value.get_state(legacy=True)]
    held = getattr(value, "__dict__", None)
    if isinstance(held, dict) and not callable(value):
        return "object", [(key, _taken(v, seen)) for key, v in held.items()]
    return "made", type(value).__name__


_NOTHING = object()


def _put(state: Any, old: Any, seen: list[Any]) -> Any:
    """The value of a state; arrays, lists and objects that are there already are changed, and so stay shared."""
    kind, content = state
    if kind == "plain":
        return old if type(content) is str and type(old) is str and old == content else content
    if kind == "same":
        return seen[content]
    place = len(seen)
    seen.append(None)
    value: Any = old
    if kind == "scalar":
        seen[place] = value = content[()]
    elif kind == "array":
        fits = isinstance(old, np.ndarray) and (old.dtype, old.shape) == (content.dtype, content.shape)
        if fits and old.flags.writeable:
            old[...] = content
        else:
            value = content.copy()
        seen[place] = value
    elif kind in ("list", "tuple"):
        before = old if isinstance(old, (list, tuple)) else ()
        if kind == "list":
            value = old if isinstance(old, list) else []
            seen[place] = value
        items = [_put(v, before[n] if n < len(before) else _NOTHING, seen) for n, v in enumerate(content)]
        if kind == "list":
            value[:] = items
        else:
            value = tuple(items)
            seen[place] = value
    elif kind == "dict":
        value = old if type(old) is dict else {}
        seen[place], entries = value, dict(value)
        pairs = []
        for name, v in content:
            key = _put(name, _NOTHING, seen)
            pairs.append((key, _put(v, entries.get(key, _NOTHING), seen)))
        value.clear()
        value.update(pairs)
    elif kind == "random":
        value = old if isinstance(old, np.random.RandomState) else np.random.RandomState()
        seen[place] = value
        value.set_state(tuple(_put(part, _NOTHING, []) for part in content))
    elif kind == "object":
        seen[place] = old
        attributes = dict(vars(old))
        pairs = [(sys.intern(key), _put(v, attributes.get(key, _NOTHING), seen)) for key, v in content]
        vars(old).clear()
        vars(old).update(pairs)
    else:
        seen[place] = old
        if type(old).__name__ != content:
            raise TypeError(f"{type(old).__name__} in place of {content}")
    return value
