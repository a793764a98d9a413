"""The methods of each board, as the leaderboard groups and orders them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from clbench.reports import leaderboard, tables
from clbench.reports.board_layout import Board
from clbench.reports.columns import SHOWN, default_metrics
from clbench.reports.html.curves import Aligned, align
from clbench.reports.html.digest import Digest
from clbench.reports.html.sources import Source
from clbench.reports.rows import groups
from clbench.reports.tabular import plain
from clbench.results.record import Record


@dataclass(frozen=True)
class Method:
    """A row of the leaderboard, with its runs.

    Attributes:
        name: strategy, and the settings in which it differs from others of its name on the board.
        row: cells of the leaderboard by column, None where missing.
        sources: its runs by seed.
    """

    name: str
    row: dict[str, Any]
    sources: tuple[Source, ...]

    @property
    def completed(self) -> list[Source]:
        return [source for source in self.sources if source.record.status == "completed"]

    @property
    def digests(self) -> list[Digest]:
        """Of the completed runs that have a trace; of the others where none is completed."""
        completed = [source.digest for source in self.completed if source.digest is not None]
        return completed or [source.digest for source in self.sources if source.digest is not None]

    @property
    def is_unfinished(self) -> bool:
        """True if its curves are those of runs that are not completed."""
        return bool(self.digests) and not any(source.digest is not None for source in self.completed)

    @cached_property
    def aligned(self) -> Aligned | None:
        """Its runs on one grid; None without a trace."""
        return align(self.digests) if self.digests else None


@dataclass(frozen=True)
class BoardRuns:
    """A board.

    Attributes:
        number: of the board in the report, from 0.
        title: benchmark.
        table: of the leaderboard.
        methods: in the order of the table's rows.
        metrics: names of those in the table.
    """

    number: int
    title: str
    table: Board
    methods: tuple[Method, ...]
    metrics: tuple[str, ...]

    @property
    def records(self) -> list[Record]:
        return [source.record for method in self.methods for source in method.sources]

    @property
    def without_trace(self) -> list[Method]:
        """Methods with completed runs and none of their traces."""
        return [method for method in self.methods if method.completed and not method.digests]


def boards(sources: Sequence[Source], metrics: Sequence[str] = SHOWN) -> list[BoardRuns]:
    """The boards of some runs, in the order of the leaderboard.

    Args:
        sources: the runs.
        metrics: names of those to show; the one of the ranking is shown in any case, and beside the default ones those
            of `columns.FURTHER`.
    """
    of = {id(source.record): source for source in sources}
    records = [source.record for source in sources]
    runs = {row: tuple(of[id(record)] for record in group) for row, group in groups(records)}
    frame = leaderboard.table(records)
    if not len(frame):
        return []
    several = default_metrics(frame) if tuple(metrics) == SHOWN else metrics
    shown = tuple(dict.fromkeys([leaderboard.RANKED_BY, *several]))
    out = []
    grouped = zip(tables.by_board(frame), tables.boards(frame, shown), strict=True)
    for number, ((_, rows), table) in enumerate(grouped):
        names = map(plain, tables.row_names(rows))
        methods = tuple(Method(name, row, runs[row["row_id"]]) for name, row in zip(names, rows, strict=True))
        benchmarks = sorted({f"{row['benchmark']}{'*' if row['modified'] else ''}" for row in rows})
        out.append(BoardRuns(number, plain(", ".join(benchmarks)), table, methods, shown))
    return out
