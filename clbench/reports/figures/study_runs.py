"""Runs of a study by board and method, for figures: only runs of one benchmark definition and data stand together.

A *method* is a row of a leaderboard; it has one colour, pattern and marker on all boards of a figure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from clbench.errors import UserError
from clbench.formatting import ranges
from clbench.labels import distinguished
from clbench.reports.rows import Called, Row, groups, placed, renamed
from clbench.reports.tabular import plain
from clbench.results.record import Record

_T = TypeVar("_T")

MOST_BOARDS = 12
"""Largest number of boards of a figure."""

_MOST_NAMED = 4


@dataclass(frozen=True)
class Member(Generic[_T]):
    """A run of a figure.

    Attributes:
        directory: the run's folder.
        record: its run.json.
        data: what is drawn of its trace.
        unfinished: reason why the run has no result, with the updates done; None for a finished one.
    """

    directory: Path
    record: Record
    data: _T
    unfinished: str | None = None


@dataclass(frozen=True)
class Method(Generic[_T]):
    """The runs of a row.

    Attributes:
        row: that of the leaderboard.
        label: its name in this figure.
        number: of its colour, pattern and marker.
        finished: by seed.
        unfinished: by seed.
    """

    row: Row
    label: str
    number: int
    finished: tuple[Member[_T], ...]
    unfinished: tuple[Member[_T], ...] = ()

    @property
    def continual(self) -> bool:
        """False for a method that sees earlier or later data again."""
        return not any(record.access in ("past", "stream") for record in self.row.records)


@dataclass(frozen=True)
class Board(Generic[_T]):
    """The methods of one benchmark definition and data."""

    methods: tuple[Method[_T], ...]

    @property
    def name(self) -> str:
        """The benchmark, with a star where it is not the shipped one."""
        record = self.methods[0].row.records[0]
        return plain(f"{record.benchmark}{'*' if record.modified else ''}")

    @property
    def view(self) -> str:
        """The primary view."""
        return self.methods[0].row.view

    @property
    def seeds(self) -> str:
        """Finished seeds of its methods in words.

        The number where all methods have as many, else a range.
        """
        counts = sorted({len(method.finished) for method in self.methods})
        if counts == [0]:
            return "no finished seed"
        if len(counts) == 1:
            return f"{counts[0]} {'seed' if counts[0] == 1 else 'seeds'}"
        return f"{counts[0]} to {counts[-1]} seeds"


def once(members: Iterable[Member[_T]]) -> tuple[list[Member[_T]], list[str]]:
    """Each run once, a finished copy before an unfinished one, and a sentence for each other copy."""
    kept: dict[tuple[str, str | None], Member[_T]] = {}
    left_out = []
    for member in members:
        record = member.record
        run = (record.run_id, record.stream.instance_hash if record.stream else None)
        other = kept.get(run)
        if other is None or (other.unfinished and not member.unfinished):
            kept[run] = member
        if other is not None:
            out, stays = (other, member) if kept[run] is member else (member, other)
            left_out.append(f"{out.directory}: the same run as {stays.directory}.")
    return list(kept.values()), left_out


def boards(members: Sequence[Member[_T]], *, rename: Sequence[str] = (), order: Sequence[str] = ()) -> list[Board[_T]]:
    """The boards of some runs, each run once.

    Args:
        members: the runs.
        rename: texts `ROW=LABEL`; see `rows.renamed`.
        order: rows that come first; see `rows.placed`.

    Raises:
        UserError: more boards than a figure holds, a name of no row, or a row in which a seed occurs twice.
    """
    of = {id(member.record): member for member in members}
    rows = [Row(id_, tuple(group)) for id_, group in groups(member.record for member in members)]
    rows.sort(key=lambda row: (row.benchmark, row.definition, row.data, row.id))
    names = _names(rows)
    called = [Called(row.id, row.strategy, name) for row, name in zip(rows, names, strict=True)]
    labels = renamed(rename, called, "--label")
    names = [plain(labels.get(i, name)) for i, name in enumerate(names)]
    by_name = sorted(range(len(rows)), key=lambda i: _natural(called[i].label))
    ordered = [by_name[i] for i in placed(order, [called[i] for i in by_name], "--order")]
    number = {name: n for n, name in enumerate(dict.fromkeys(names[i] for i in ordered))}
    methods_of: dict[tuple[str, str, str], list[Method[_T]]] = {}
    for i in ordered:
        mine = [of[id(record)] for record in rows[i].records]
        finished = tuple(member for member in mine if member.unfinished is None)
        seeds = [member.record.seed for member in finished]
        if len(set(seeds)) < len(seeds):
            twice = next(seed for seed in seeds if seeds.count(seed) > 1)
            raise UserError(f"{rows[i].label}: seed {twice} occurs with several instances of the stream.")
        method = Method(
            rows[i], names[i], number[names[i]], finished, tuple(m for m in mine if m.unfinished is not None)
        )
        methods_of.setdefault((rows[i].benchmark, rows[i].definition, rows[i].data), []).append(method)
    if len(methods_of) > MOST_BOARDS:
        raise UserError(
            f"{len(methods_of)} benchmarks, allowed are up to {MOST_BOARDS} in a figure; name some of their folders."
        )
    return [Board(tuple(methods)) for _, methods in sorted(methods_of.items())]


def _names(rows: Sequence[Row]) -> list[str]:
    """A name for each row that tells it from the others of its board; by the row's id where nothing else does."""
    boards: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        boards.setdefault((row.definition, row.data), []).append(i)
    out = [""] * len(rows)
    for indices in boards.values():
        names = distinguished((rows[i].strategy, rows[i].records[0].settings) for i in indices)
        for i, name in zip(indices, names, strict=True):
            out[i] = name if names.count(name) == 1 else f"{name}, row {rows[i].id[:8]}"
    return out


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """A key that orders numbers in texts by size.

    >>> sorted(["er (memory 200)", "er (memory 50)", "ema"], key=_natural)
    ['ema', 'er (memory 50)', 'er (memory 200)']
    """
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.findall(r"[0-9]+|[^0-9]+", text)]


# ------------------------------------------------------------------------------------------------ sentences of captions
def warnings_of(boards: Sequence[Board[_T]]) -> list[str]:
    """Sentences about rows that a table marks: what is not continual, tuned on its test stream, or of several codes."""
    methods = [method for board in boards for method in board.methods]
    marks = {
        "Not continual": [m for m in methods if not m.continual],
        "Tuned on its own test stream": [m for m in methods if m.row.tuned_by == "test"],
        "Runs of several codes": [m for m in methods if m.row.codes > 1],
    }
    star = ["* Not the shipped benchmark of that id."] if any(board.name.endswith("*") for board in boards) else []
    return [*star, *(f"{mark}: {_some([m.label for m in of])}." for mark, of in marks.items() if of)]


def unfinished_of(boards: Sequence[Board[_T]]) -> list[str]:
    """A sentence that names the unfinished runs, or nothing."""
    names = [
        f"{method.label}, seed {member.record.seed}: {plain(member.unfinished or '')}"
        for board in boards
        for method in board.methods
        for member in method.unfinished
    ]
    return [f"Unfinished: {_some(names, '; ')}."] if names else []


def seeds_of(boards: Sequence[Board[_T]]) -> list[str]:
    """A sentence on the methods of boards in which not all have the same seeds, or nothing."""
    parts = []
    for board in boards:
        seeds = [tuple(m.record.seed for m in method.finished) for method in board.methods]
        if len(set(seeds)) > 1:
            parts += [f"{m.label} {ranges(sorted(of)) or 'none'}" for m, of in zip(board.methods, seeds, strict=True)]
    return [f"Finished seeds: {_some(parts, '; ', 8)}."] if parts else []


def _some(names: Sequence[str], between: str = ", ", most: int = _MOST_NAMED) -> str:
    """Names, each once, the last ones as a number where there are many."""
    names = list(dict.fromkeys(names))
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return between.join([*names[:most], *more])
