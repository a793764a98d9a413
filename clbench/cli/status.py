"""Exit statuses, and their precedence.

    2    a user's mistake
    1    a run failed, a row was not reproduced, or something required is wrong with the environment
    75   a run was left to another process or was stopped; the same command resumes it, or removes it
    0    everything is done

The first that occurs, in this order, is the command's: a mistake has to be corrected, and a failure examined, before
another attempt. An interrupted command exits with 130.
"""

from __future__ import annotations

from collections.abc import Iterable

DONE = 0
FAILED = 1
MISTAKE = 2
BUSY = 75
"""EX_TEMPFAIL of the system, "try again later"."""

INTERRUPTED = 130
"""128 and the number of SIGINT, as in shells."""

_ORDER = (MISTAKE, FAILED, BUSY, DONE)


def worst(statuses: Iterable[int]) -> int:
    """The status of a command of several parts.

    >>> worst([DONE, BUSY, FAILED]), worst([BUSY, DONE]), worst([])
    (1, 75, 0)
    """
    return min(statuses, key=_ORDER.index, default=DONE)
