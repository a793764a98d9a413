"""Shared parts of the studies: their lines of values in a CSV file, numbers with intervals, tables in their pages."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clbench.reports import statistics

Line = dict[str, str]


def read(path: Path) -> list[Line]:
    """The lines of a file of values; none where there is no file."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, columns: Sequence[str], lines: Iterable[Line]) -> None:
    """All or nothing."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    temporary.replace(path)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % Student t interval; infinite for one value.

    >>> mean, half = interval([1.0, 2.0, 3.0])
    >>> round(mean, 2), round(half, 2)
    (2.0, 2.48)
    """
    n, mean = len(values), math.fsum(values) / len(values)
    if n < 2:
        return mean, math.inf
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    return mean, statistics.t_quantile(n) * deviation / math.sqrt(n)


def percent(mean: float, half: float, sign: str = "") -> str:
    """Of a mean and half its interval.

    >>> percent(81.567, 1.234), percent(-0.5, math.inf, "+")
    ('81.57 ± 1.23', '-0.50')
    """
    return f"{mean:{sign}.2f}" if half == math.inf else f"{mean:{sign}.2f} ± {half:.2f}"


@dataclass(frozen=True)
class Place:
    """Between two marks of a page, where a table is written.

    Attributes:
        page: the file.
        begin: the mark before it.
        end: the mark behind it.
    """

    page: Path
    begin: str
    end: str

    def write(self, text: str) -> None:
        """In place of what was there."""
        before, _, rest = self.page.read_text().partition(self.begin)
        _, _, after = rest.partition(self.end)
        assert after, f"{self.page} lacks its marks"
        self.page.write_text(f"{before}{self.begin}\n{text}\n{self.end}{after}")
