"""A board of the leaderboard as text, and how it fits a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from clbench.reports.columns import COLUMNS
from clbench.reports.tabular import column_widths


@dataclass(frozen=True)
class Board:
    """Table of one board.

    Attributes:
        title: benchmark, and what its rows have in common.
        columns: names of them.
        headings: above the columns; with line breaks where they are broken.
        words: for each column, whether it stands to the left.
        rows: cells, in the order of the headings.
        best: row and column of cells that are marked.
        notes: failed runs, each with its reason, and what the schedule of evaluations leaves open.
    """

    title: str
    columns: tuple[str, ...]
    headings: tuple[str, ...]
    words: tuple[bool, ...]
    rows: list[tuple[str, ...]]
    best: frozenset[tuple[int, int]]
    notes: list[str]

    @property
    def head(self) -> list[tuple[str, ...]]:
        """The headings in lines, at the bottom of as many as the longest needs."""
        lines = [[part.rstrip() for part in heading.split("\n")] for heading in self.headings]
        tall = max(map(len, lines))
        return list(zip(*([""] * (tall - len(of)) + of for of in lines), strict=True))


_LESS_NEEDED = ("eval", "train", "updates", "time", "memory")
_WHOLE_LABEL, _SHORTEST_LABEL = 24, 8


def fitted(board: Board, width: int) -> Board:
    """A board no wider than a terminal where that is possible.

    Headings are broken into lines first; then costs are left out, labels are shortened, row ids and the last metrics
    are left out. A note names what is missing.

    Args:
        board: whole.
        width: characters of a line.
    """
    if _width(board) > width:
        board = replace(board, headings=tuple(map(_broken, board.headings, zip(*board.rows, strict=True))))
    dropped: list[str] = []
    label = max([_WHOLE_LABEL, *(len(row[j]) for row in board.rows for j in _at(board, "strategy"))])
    metrics = [name for name in board.columns if name not in COLUMNS]
    steps: list[str | int] = [*_LESS_NEEDED, _WHOLE_LABEL, "row", *reversed(metrics[1:]), _SHORTEST_LABEL]
    for step in steps:
        too_wide = _width(board) - width
        if too_wide <= 0:
            break
        if isinstance(step, int):
            longest = max((len(row[j]) for row in board.rows for j in _at(board, "strategy")), default=0)
            label = max(step, longest - too_wide)
            board = _shortened(board, label)
        elif step in board.columns:
            dropped.append(board.headings[board.columns.index(step)].replace("\n", ""))
            board = _without(board, step)
    if not dropped:
        return board
    note = f"too wide for this terminal: {', '.join(dropped)}; --csv, --markdown and pipes have all columns"
    return replace(board, notes=[*board.notes, note])


def _width(board: Board) -> int:
    widths = column_widths([*board.head, *board.rows])
    return sum(widths) + 2 * (len(widths) - 1)


def _broken(heading: str, cells: Sequence[str]) -> str:
    """A heading in lines about as wide as its column, broken behind dots, underscores and blanks.

    >>> _broken("forgetting.after_learning %", ["12.04 ± 3.86"])
    'forgetting.\\nafter_\\nlearning %'
    """
    pieces = re.findall(r"[^._ ]*[._ ]?", heading)[:-1]
    room = max(len(text.rstrip()) for text in [*pieces, *cells])
    lines = [""]
    for piece in pieces:
        if lines[-1] and len((lines[-1] + piece).rstrip()) > room:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


def _at(board: Board, name: str) -> list[int]:
    return [j for j, column in enumerate(board.columns) if column == name]


def _without(board: Board, name: str) -> Board:
    kept = [j for j, column in enumerate(board.columns) if column != name]

    def pick(cells: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(cells[j] for j in kept)

    return replace(
        board,
        columns=pick(board.columns),
        headings=pick(board.headings),
        words=pick(board.words),
        rows=[pick(row) for row in board.rows],
    )


def _shortened(board: Board, most: int) -> Board:
    """Labels of at most so many characters, cut in their middle; longer where two would look alike."""
    place = next(iter(_at(board, "strategy")), None)
    if place is None:
        return board
    labels = [row[place] for row in board.rows]
    while len({_cut(label, most) for label in labels}) < len(set(labels)):
        most += 1
    rows = [(*row[:place], _cut(row[place], most), *row[place + 1 :]) for row in board.rows]
    return replace(board, rows=rows)


def _cut(text: str, most: int) -> str:
    """A text with dots in its middle where it is longer.

    >>> _cut("er (memory 200)", 9), _cut("er", 9)
    ('er (…200)', 'er')
    """
    if len(text) <= most:
        return text
    behind = (most - 1) // 2
    return f"{text[: most - 1 - behind]}…{text[len(text) - behind :]}"
