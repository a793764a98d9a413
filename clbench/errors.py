"""The one way in which a user's mistake is told (design law: one clear message, exit status 2)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """One or more mistakes of the user. Each problem is one sentence: where, what was given, what is allowed."""

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


def nearest(given: str, allowed: Iterable[str]) -> str | None:
    """The allowed word most like the given one, or None where none is alike.

    >>> nearest("memroy", ["memory", "buffer"])
    'memory'
    """
    words = list(allowed)
    for candidates in (words, [w for w in words if given and (given in w or w in given)]):
        found = difflib.get_close_matches(given, candidates, n=1, cutoff=0.6 if candidates is words else 0.0)
        if found:
            return found[0]
    return None


def unknown(what: str, given: str, allowed: Iterable[str]) -> str:
    """The tail of a sentence about an unknown name.

    >>> unknown("strategy", "nave", ["er", "naive"])
    "unknown strategy 'nave'. Did you mean 'naive'? Allowed: er, naive."
    """
    words = sorted(allowed)
    guess = nearest(given, words)
    hint = f" Did you mean '{guess}'?" if guess else ""
    return f"unknown {what} '{given}'.{hint} Allowed: {', '.join(words) or 'none'}."
