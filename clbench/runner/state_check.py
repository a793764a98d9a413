"""A check, at checkpoints, that a strategy's `state_dict` has all of its state.

A method of the user's that forgets a teacher or a scheduler would resume without a word and end in other numbers. So
what a checkpoint would resume to is made and looked at: a second strategy of the same configuration loads the state as
it comes out of a file, and its attributes are compared with those of the strategy in training, bit for bit.

That is done at the first checkpoint, and again once an attribute has changed that was still as constructed by then (a
teacher that is copied after the first experience). Other checkpoints only look for such changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

from clbench.composition import Composed
from clbench.rng import fenced
from clbench.runner.checkpoint import reloaded
from clbench.runner.state_leaves import Leaf, leaves
from clbench.strategy import Learner
from clbench.tracebacks import described

LEFT_OUT = "state_dict() leaves out"
_SHOWN = 4


def state_of(strategy: Learner, skipped: Collection[str] = ()) -> dict[str, Leaf]:
    """The leaves of a strategy's attributes and of its generator, by path; see `leaves`.

    Args:
        strategy: of a composition, the attributes of its parts.
        skipped: names of attributes to leave out, beside those in `Learner.transient`.
    """
    held: dict[str, Leaf] = {}
    for prefix, part in _parts(strategy):
        setup = vars(part.setup)
        known = {id(part), id(part.config), id(part.setup), *(id(v) for n, v in setup.items() if n != "model")}
        known.discard(id(part.setup.generator))
        omitted = {"setup", "config", *part.transient, *skipped}
        for name, value in vars(part).items():
            if name not in omitted:
                held |= leaves(value, prefix + name, known)
        held |= leaves(part.setup.generator, f"{prefix}setup.generator")
    return held


def _state_of_classes(strategy: Learner) -> dict[str, Leaf]:
    """The leaves of attributes of the user's classes, which all runs of a process share."""
    held: dict[str, Leaf] = {}
    for prefix, part in _parts(strategy):
        for kind in type(part).__mro__:
            if kind.__module__.partition(".")[0] == "clbench":
                continue
            for name, value in vars(kind).items():
                method = callable(value) or isinstance(value, (property, classmethod, staticmethod))
                if not (method or name.startswith("__") or name in part.transient):
                    held |= leaves(value, f"{prefix}{kind.__name__}.{name}")
    return held


def _parts(strategy: Learner) -> list[tuple[str, Learner]]:
    if isinstance(strategy, Composed):
        return [(f"{key}.", member) for key, member in strategy.members.items()]
    return [("", strategy)]


class StateCheck:
    """Looks for state that a strategy's `state_dict` leaves out.

    Args:
        strategy: newly constructed.
        remake: constructs another one of the same configuration.
        cuda: whether it draws from the generator of a CUDA device.
    """

    def __init__(self, strategy: Learner, remake: Callable[[], Learner], cuda: bool = False) -> None:
        self._strategy, self._remake, self._cuda = strategy, remake, cuda
        self._constructed = {path: leaf.digest() for path, leaf in self._now().items()}
        self._compared: set[str] | None = None

    def fault(self, state: dict[str, Any]) -> str | None:
        """Reason why the strategy cannot resume from a state; None if it can.

        Args:
            state: the strategy's `state_dict()`.

        Raises:
            Unsaveable: a part of the state is neither a tensor, an array nor a plain value.
        """
        now, compared = self._now(), self._compared or set()
        changed = {
            path
            for path, leaf in now.items()
            if _pattern(path) not in compared and leaf.digest() != self._constructed.get(path)
        }
        if not changed and self._compared is not None:
            return None
        name = type(self._strategy).__name__
        saved = reloaded(state)
        with fenced(self._cuda):
            other = self._remake()
            try:
                other.load_state_dict(saved)
            except Exception as error:  # of the user's code
                return f"load_state_dict() of {name} fails with what state_dict() returned: {described(error)}"
        again = state_of(other)
        shared = _state_of_classes(self._strategy)
        forgotten = {
            leaf.name: leaf.kind
            for path, leaf in now.items()
            if path not in shared and (path in changed or not leaf.is_plain) and not leaf.same(again.get(path))
        }
        forgotten |= {leaf.name: f"{leaf.kind} of the class" for path, leaf in shared.items() if path in changed}
        if forgotten:
            return f"{name} keeps {_named(forgotten)}, which {LEFT_OUT}"
        self._compared = compared | {_pattern(path) for path in changed}
        return None

    def _now(self) -> dict[str, Leaf]:
        return state_of(self._strategy) | _state_of_classes(self._strategy)


def _pattern(path: str) -> str:
    """A path for all elements of a list: one that grows is compared once."""
    return re.sub(r"\[[^\]]*\]", "[]", path)


def _named(attributes: dict[str, str]) -> str:
    words = [f"'{name}' ({kind})" for name, kind in sorted(attributes.items())]
    shown = words[:_SHOWN] + [f"{len(words) - _SHOWN} more"] * (len(words) > _SHOWN)
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
