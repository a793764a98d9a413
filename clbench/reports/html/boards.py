"""The methods of each board, as the leaderboard groups and orders them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from clbench.measures import Measure, measure_of
from clbench.metrics import metrics_of
from clbench.reports import leaderboard, tables
from clbench.reports.board_layout import Board
from clbench.reports.columns import recorded, usual_metrics
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
        view: of all of its rows.
    """

    number: int
    title: str
    table: Board
    methods: tuple[Method, ...]
    metrics: tuple[str, ...]
    view: str

    @property
    def measure(self) -> Measure | None:
        """What its curves are means of; None of correct predictions."""
        return measure_of(self.view)

    @property
    def records(self) -> list[Record]:
        return [source.record for method in self.methods for source in method.sources]

    @property
    def without_trace(self) -> list[Method]:
        """Methods with completed runs and none of their traces."""
        return [method for method in self.methods if method.completed and not method.digests]


def boards(sources: Sequence[Source], metrics: Sequence[str] | None = None) -> list[BoardRuns]:
    """The boards of some runs, in the order of the leaderboard.

    Args:
        sources: the runs.
        metrics: names of those to show, on the boards that have them; the one of the ranking is shown in any case.
            Default: the usual ones of each board.
    """
    of = {id(source.record): source for source in sources}
    records = [source.record for source in sources]
    runs = {row: tuple(of[id(record)] for record in group) for row, group in groups(records)}
    frame = leaderboard.table(records)
    if not len(frame):
        return []
    shown, layouts = dict[str, tuple[str, ...]](), dict[tuple[str, str, str], Board]()
    for view in dict.fromkeys(frame["view"]):
        known, part = metrics_of(view), frame[frame["view"] == view]
        names = [name for name in metrics if name in known] if metrics else usual_metrics(view, recorded(frame))
        shown[view] = tuple(dict.fromkeys([leaderboard.ranked_by(view), *names]))
        keys = [key for key, _ in tables.by_board(part)]
        layouts |= zip(keys, tables.boards(part, shown[view]), strict=True)
    out = []
    for number, (key, rows) in enumerate(tables.by_board(frame)):
        labels = map(plain, tables.row_names(rows))
        methods = tuple(Method(label, row, runs[row["row_id"]]) for label, row in zip(labels, rows, strict=True))
        benchmarks = sorted({f"{row['benchmark']}{'*' if row['modified'] else ''}" for row in rows})
        title, view = plain(", ".join(benchmarks)), key[2]
        out.append(BoardRuns(number, title, layouts[key], methods, shown[view], view))
    return out
