"""Blocks of a table in the order of time, and the test part of each.

Rows of one time stay together. The test part of a block is its last fifth, at least one row, begun earlier where it
would divide rows of one time: every test row of a block is later than all of the block's training rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.errors import UserError

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]


def check_order(where: str, column: str, time: NDArray[Any], texts: Sequence[Any]) -> None:
    """Checks that times ascend.

    Args:
        where: the file, for messages.
        column: of the times.
        time: sortable values (N,).
        texts: the same as the file has them, for messages.

    Raises:
        UserError: a row is earlier than the one before.
    """
    falls = np.flatnonzero(time[1:] < time[:-1])
    if len(falls):
        at = int(falls[0]) + 1
        raise UserError(
            f"{where}: column '{column}' is not sorted: {texts[at]} in row {at + 1} comes after {texts[at - 1]}; tasks "
            "by time need rows in the order of time."
        )


def starts(where: str, column: str, time: NDArray[Any], count: int) -> Rows:
    """The first row of each of a number of blocks, int64 (count,), of as equal sizes as rows of one time allow.

    Raises:
        UserError: more blocks than the times allow.

    >>> starts("", "", np.array([1, 1, 1, 2, 2, 3, 4]), 2)
    array([0, 5])
    """
    n = len(time)
    wanted = [(k * n + count - 1) // count for k in range(count)]
    # The first row of a time at or after the wanted one.
    firsts = np.flatnonzero(np.append(True, time[1:] != time[:-1]))
    at = np.searchsorted(firsts, wanted)
    if at[-1] >= len(firsts) or (np.diff(at) == 0).any():
        raise UserError(
            f"{where}: column '{column}' has {len(firsts):,} different times in {n:,} rows, which make no {count} "
            "blocks; rows of one time stay together."
        )
    return firsts[at].astype(np.int64)


def starts_at(where: str, column: str, time: NDArray[Any], changes: NDArray[Any], texts: Sequence[Any]) -> Rows:
    """The first row of each block, where a new one begins at given times: int64 (len(changes) + 1,).

    Raises:
        UserError: changes that do not ascend, or a block without rows.
    """
    rows = np.searchsorted(time, changes, side="left")
    edges = np.concatenate([[0], rows, [len(time)]])
    for k, size in enumerate(np.diff(edges).tolist()):
        if size > 0:
            continue
        if 0 < k < len(changes) and changes[k] <= changes[k - 1]:
            raise UserError(f"stream.tasks.changes: {texts[k]} comes after {texts[k - 1]}; changes ascend.")
        place = f"before {texts[0]}" if k == 0 else f"at {texts[k - 1]} or later"
        until = f" and before {texts[k]}" if 0 < k < len(changes) else ""
        raise UserError(f"{where}: column '{column}' has no row {place}{until}, so that block {k} is empty.")
    return edges[:-1].astype(np.int64)


def divide(where: str, column: str, time: NDArray[Any], first: Rows, texts: Sequence[Any]) -> tuple[Rows, Mask]:
    """The block of each row, int64 (N,), and a mask of the test rows, bool (N,).

    Raises:
        UserError: a block with rows of one time.

    >>> divide("", "", np.array([1, 2, 3, 4, 5, 6, 6, 7, 7]), np.array([0, 5]), "")[1].astype(int)
    array([0, 0, 0, 0, 1, 0, 0, 1, 1])
    """
    last = np.append(first[1:], len(time))
    block = np.repeat(np.arange(len(first), dtype=np.int64), last - first)
    test = np.zeros(len(time), np.bool_)
    for k, (start, end) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        begin = end - max(1, (end - start) // 5)
        begin = int(np.searchsorted(time, time[begin], side="left"))
        if begin <= start:
            raise UserError(
                f"{where}: block {k} (rows {start + 1} to {end}) has its last fifth at its first time, "
                f"{texts[start]}, in column '{column}', which leaves no earlier row to train on; give fewer blocks."
            )
        test[begin:end] = True
    return block, test
