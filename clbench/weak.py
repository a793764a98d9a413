"""Callbacks that do not keep their object alive."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakMethod


def weakly(method: Callable[[], None]) -> Callable[[], None]:
    """A function that calls a bound method for as long as its object lives, and then does nothing.

    An object that is called back by what it holds would be part of a cycle, which lives until Python's collector comes
    by: in a process of many runs, with the test inputs of each.
    """
    reference = WeakMethod(method)

    def call() -> None:
        if (alive := reference()) is not None:
            alive()

    return call
