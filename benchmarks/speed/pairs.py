"""Interleaved timing: rows take turns in one process, and ratios within a round are the result.

Single timings vary by a factor of two on a shared machine; two neighbours in time vary together. The order is turned
round after every round (A B, B A, A B, ...), so that a steady drift and a warm cache favour nobody.
"""

from __future__ import annotations

import gc
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Segment = Callable[[], int]
"""Does a piece of work and returns how many units it made; its wall time is divided by them."""

Host = Callable[[Callable[[], bool]], None]
"""Work that cannot be called piece by piece because it has a loop of its own. It calls the function that it is given
before each of its units, and leaves its loop when that returns False."""

_RESAMPLES = 10_000


@dataclass(frozen=True)
class Ratio:
    """Cost of a row in units of another's.

    Attributes:
        row, base: their names.
        pairs: rounds measured.
        median: of the ratios within a round.
        low, high: 95 % bootstrap interval of that median (percentile, 10,000 resamples of the rounds).
        total: ratio of the summed times; unlike the median it sees what happens in few rounds.
        row_s, base_s: median seconds a unit.
    """

    row: str
    base: str
    pairs: int
    median: float
    low: float
    high: float
    total: float
    row_s: float
    base_s: float


@dataclass(frozen=True)
class Timings:
    """Seconds a unit of each row in each round, (R,)."""

    seconds: dict[str, NDArray[np.float64]]

    def median_s(self, row: str) -> float:
        return float(np.median(self.seconds[row]))

    def ratio(self, row: str, base: str) -> Ratio:
        """Cost of `row` in units of `base`."""
        a, b = self.seconds[row], self.seconds[base]
        ratios = a / b
        drawn = np.random.Generator(np.random.PCG64(0)).integers(0, len(ratios), (_RESAMPLES, len(ratios)))
        low, high = np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5])
        return Ratio(
            row=row,
            base=base,
            pairs=len(ratios),
            median=float(np.median(ratios)),
            low=float(low),
            high=float(high),
            total=float(a.sum() / b.sum()),
            row_s=self.median_s(row),
            base_s=self.median_s(base),
        )


def measure(
    rows: Mapping[str, Segment | Host],
    rounds: int,
    *,
    hosted: str | None = None,
    check: Callable[[], None] | None = None,
    check_every: int = 6,
) -> Timings:
    """Times rows in turns, after one round that is not counted.

    Args:
        rows: name -> segment; the hosted one's is a `Host`.
        rounds: >= 1.
        hosted: the row that has a loop of its own; its turn lasts from one of its calls to the next.
        check: called between rounds, untimed.
        check_every: rounds between two checks; one is made at the end in any case.
    """
    names = list(rows)
    turns = deque((r, row) for r in range(-1, rounds) for row in (names if r % 2 else names[::-1]))
    seconds = {row: np.full(rounds, np.nan) for row in names}
    running: tuple[int, float] | None = None  # round and start of the hosted row's turn

    def record(number: int, row: str, elapsed: float) -> None:
        if number >= 0:
            seconds[row][number] = elapsed

    def advance() -> bool:
        nonlocal running
        now = time.perf_counter()
        if running is not None:
            assert hosted is not None
            record(running[0], hosted, now - running[1])
            running = None
        while turns:
            number, row = turns.popleft()
            first = len(turns) % len(names) == len(names) - 1
            if check is not None and first and number > 0 and number % check_every == 0:
                check()
            gc.collect()
            if row == hosted:
                running = number, time.perf_counter()
                return True
            segment: Any = rows[row]
            start = time.perf_counter()
            units = segment()
            record(number, row, (time.perf_counter() - start) / units)
        if check is not None:
            check()
        return False

    with _collector_paused():
        if hosted is None:
            advance()
        else:
            host: Any = rows[hosted]
            host(advance)
    assert not turns, "the host left its loop before the last turn"
    return Timings(seconds)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Garbage is collected between turns, not within; what exists already is not looked through each time."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


# ------------------------------------------------------------------------------------------------ writing
def write_json(path: Path, document: dict[str, Any]) -> None:
    """Indented JSON; NaN is an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"|{'|'.join(cells)}|" if cells[0] == "---" else f"| {' | '.join(cells)} |" for cells in lines)
