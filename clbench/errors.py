"""Errors of the user: one clear message, exit status 2."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
    """One or more mistakes of the user. Each problem is one sentence: place, value, allowed values."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class RunFailed(Exception):
    """A run that started and could not end; its run.json says why.

    Args:
        kind: short stable word for the cause, e.g. ``"nan_loss"``.
        message: one sentence for the reader of the leaderboard.
        iteration: updates done when it failed, or None where no update is to blame.
    """

    def __init__(self, kind: str, message: str, iteration: int | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.iteration = iteration


class Unsaveable(Exception):
    """A strategy's state cannot be saved, so that a stopped run restarts; the message names the part of the state."""


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed word closest to a name, or None where none is close.

    >>> nearest("memroy", ["memory", "buffer"]), nearest("acc", ["wc_acc"]), nearest("x", ["xyz"])
    ('memory', 'wc_acc', None)
    >>> nearest("ER", ["er", "ewc"]), nearest("MIRR", ["MIR", "mirror"])  # capitals count only between equals
    ('er', 'MIR')
    """
    words = list(allowed)
    small = {word.casefold(): word for word in words}
    return _nearest(name, words) or small.get(_nearest(name.casefold(), list(small)) or "")


def _nearest(name: str, words: list[str]) -> str | None:
    parts = [w for w in words if min(len(name), len(w)) > 2 and (name in w or w in name)]
    matches = difflib.get_close_matches(name, words, 1, 0.6) or difflib.get_close_matches(name, parts, 1, 0.0)
    return matches[0] if matches else None


def hint(name: str, allowed: Iterable[str]) -> str:
    """The nearest match as a sentence with a space before it, or nothing.

    >>> hint("memroy", ["memory", "buffer"])
    " Did you mean 'memory'?"
    """
    guess = nearest(name, allowed)
    return f" Did you mean '{guess}'?" if guess else ""


def unknown(what: str, name: str, allowed: Iterable[str], more: str = "", guess: str = "") -> str:
    """The tail of a sentence about an unknown name.

    Args:
        what: the kind of name.
        name: the name in the user's input.
        allowed: the names there are.
        more: further allowed inputs, in words.
        guess: a sentence with a space before it, instead of the nearest match.

    >>> unknown("strategy", "nave", ["er", "naive"], "or an import path")
    "unknown strategy 'nave'. Did you mean 'naive'? Allowed: er, naive, or an import path."
    """
    words = sorted(allowed)
    inputs = ", ".join([*words, *filter(None, [more])])
    return f"unknown {what} '{name}'.{guess or hint(name, words)} Allowed: {inputs}."


def shown(value: Any, depth: int = 2) -> str:
    """A value in one short line, as YAML has it, whatever its size.

    >>> shown({"lr": 1e-3, "hidden": [True, None, "a"]})
    "{lr: 0.001, hidden: [true, null, 'a']}"
    >>> shown(float("-inf")), shown([[[1]]]), shown(list(range(99)))
    ('-.inf', '[[[...]]]', '[0, 1, 2, 3, 4, 5, ...]')
    """
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, float) and not math.isfinite(value):
        text = ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    elif isinstance(value, (list, dict)):
        if value and not depth:
            items = ["..."]
        elif isinstance(value, dict):
            items = [f"{key}: {shown(item, depth - 1)}" for key, item in list(value.items())[:7]]
        else:
            items = [shown(item, depth - 1) for item in value[:7]]
        inside = ", ".join(items[:6] + ["..."] * (len(items) > 6))
        text = f"[{inside}]" if isinstance(value, list) else f"{{{inside}}}"
    else:
        text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
