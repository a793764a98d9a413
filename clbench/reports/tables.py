"""Layout of the leaderboard: CSV for programs, and tables for the terminal, Markdown and LaTeX.

Every table shows the same columns board by board, and explains its marks below.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from clbench.config.benchmark import Numerics
from clbench.labels import distinguished, settings
from clbench.reports import best_rows, columns
from clbench.reports.board_layout import Board, fitted
from clbench.reports.columns import SHOWN, Column, Spread
from clbench.reports.leaderboard import EXCLUSIONS, RANKED_BY
from clbench.reports.rows import Called, matching, renamed
from clbench.reports.tabular import aligned, column_widths, csv_bytes, is_missing, plain

if TYPE_CHECKING:
    from clbench.metrics.field_names import Asked


# ------------------------------------------------------------------------------------------------ CSV
def to_csv(frame: pd.DataFrame) -> bytes:
    """A table as CSV; see `csv_bytes`."""
    return csv_bytes(list(frame.columns), frame.to_numpy(dtype=object).tolist())


# ------------------------------------------------------------------------------------------------ what is shown
@dataclass(frozen=True)
class Choice:
    """Contents of a table, and their form.

    Attributes:
        columns: in their order; the usual ones with some metrics where None.
        spread: behind ±, in columns that are not given.
        rename: texts `ROW=LABEL`; see `rows.renamed`.
        strategies: rows to show; see `rows.matching`. All where empty.
        best: rows that are best in a metric, by id and metric; see `best_rows`. None marks none.
    """

    columns: tuple[Column, ...] | None = None
    spread: Spread = "interval"
    rename: Sequence[str] = ()
    strategies: Sequence[str] = ()
    best: frozenset[tuple[str, str]] | None = None

    def of(self, metrics: Sequence[str | Asked]) -> tuple[Column, ...]:
        """The columns, the usual ones with these metrics."""
        return columns.usual(metrics, self.spread) if self.columns is None else self.columns


USUAL = Choice()


SPREADS: dict[Spread, str] = {
    "interval": "mean over seeds ± half of its 95 % Student t interval",
    "std": "mean over seeds ± standard deviation over seeds (n - 1)",
}
RANKS = (
    f"rank: 1 + the ranked rows whose interval of {RANKED_BY} lies wholly above, before rounding; equal ranks are ties",
    f"rank -: {', '.join(reason.summary for reason in EXCLUSIONS[1:-1])}, or {EXCLUSIONS[-1].summary}",
)
CODES = "n codes: its runs were made by n different codes; with --other-code again, run and grid do them anew"
EQUAL_UPDATES = "as many updates as the other rows; epochs are passes over each experience's own samples"
SCRIPT = "script: trained outside of clbench, which cannot run it again; not ranked"
MODIFIED = "* differs from the shipped benchmark of that id, or none of that id is shipped"


def boards(frame: pd.DataFrame, metrics: Sequence[str | Asked] = SHOWN, choice: Choice = USUAL) -> list[Board]:
    """The boards of a leaderboard, in its order.

    Args:
        frame: of `leaderboard.table`.
        metrics: those to show in the usual columns.
        choice: of columns and rows.

    Raises:
        UserError: a row to rename or to show that is none.
    """
    labels, kept = _selected(frame, choice)
    return [
        _board(*key, of, [labels[row["row_id"]] for row in of], choice.of(metrics), choice.best or frozenset())
        for key, rows in by_board(frame)
        if (of := [row for row in rows if row["row_id"] in kept])
    ]


def row_ids(frame: pd.DataFrame, choice: Choice) -> set[str]:
    """Ids of the rows that a choice shows.

    Raises:
        UserError: see `boards`.
    """
    return _selected(frame, choice)[1]


def by_board(frame: pd.DataFrame) -> list[tuple[tuple[str, str, str], list[dict[str, Any]]]]:
    """The rows of a leaderboard in its order: definition hash, data and view of each board, and its rows by column.

    Missing cells are None.
    """
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in frame.to_numpy(dtype=object).tolist():
        cells: dict[str, Any] = {
            name: None if is_missing(value) else value for name, value in zip(frame.columns, row, strict=True)
        }
        board = (cells["definition_hash"], cells["data_sha256"] or "unknown", cells["view"])
        groups.setdefault(board, []).append(cells)
    return list(groups.items())


def _selected(frame: pd.DataFrame, choice: Choice) -> tuple[dict[str, str], set[str]]:
    """Labels by row id, and the ids of the rows to show."""
    several = [rows for _, rows in by_board(frame)] if len(frame) else []
    rows = [row for of in several for row in of]
    labels = [label for of in several for label in row_names(of)]
    called = [Called(row["row_id"], row["strategy"], label) for row, label in zip(rows, labels, strict=True)]
    new = renamed(choice.rename, called, "--rename")
    named = {i for name in choice.strategies for i in matching(name, called, "--strategies")}
    kept = {row["row_id"] for i, row in enumerate(rows) if i in named or not choice.strategies}
    return {row["row_id"]: new.get(i, labels[i]) for i, row in enumerate(rows)}, kept


def _board(
    definition: str,
    data: str,
    view: str,
    rows: list[dict[str, Any]],
    names: Sequence[str],
    shown: Sequence[Column],
    best: frozenset[tuple[str, str]],
) -> Board:
    benchmarks = ", ".join(sorted({_benchmark(row) for row in rows}))
    title = f"{benchmarks} (definition {definition[:8]}, data {data[:8]}, view {view})"
    cells = [tuple(plain(column.cell(row, name)) for column in shown) for row, name in zip(rows, names, strict=True)]
    marked = frozenset(
        (i, j)
        for i, row in enumerate(rows)
        for j, column in enumerate(shown)
        if column.metric is not None and (row["row_id"], column.metric) in best
    )
    notes = [
        f"failed: {_benchmark(row)} {name}: {row['failure']}"
        for row, name in zip(rows, names, strict=True)
        if row["failure"]
    ]
    more = [row["strategy"] for row in rows if row["access"] in ("past", "stream") and row["epochs"] is not None]
    notes += [f"{', '.join(dict.fromkeys(more))}: {EQUAL_UPDATES}"] if more else []
    notes += _processors(rows, names)
    metrics = [column.metric for column in shown if column.metric is not None]
    undefined = [name for name in metrics if any(row["n"] and row.get(f"{name}_mean") is None for row in rows)]
    notes += columns.left_open(metrics, undefined, rows[0]["eval_every"], rows[0]["eval_dense"])
    return Board(
        plain(title),
        tuple(column.name for column in shown),
        tuple(plain(column.heading) for column in shown),
        tuple(column.words for column in shown),
        cells,
        marked,
        list(map(plain, notes)),
    )


def _processors(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """Processors of rows that ran elsewhere than most of a board: last bits differ, and what training makes of them."""
    places = [row["device"] for row in rows]
    most = max(reversed(list(dict.fromkeys(places))), key=places.count)
    others: dict[str, list[str]] = {}
    for place, name in zip(places, names, strict=True):
        if place != most and place is not None and most is not None:
            others.setdefault(place, []).append(name)
    return [f"on another processor ({place}; the others: {most}): {', '.join(of)}" for place, of in others.items()]


def _benchmark(row: dict[str, Any]) -> str:
    return f"{row['benchmark']}{'*' if row['modified'] else ''}"


def row_names(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A name for each row of a board, with the settings that distinguish it from others of its strategy."""

    def value(text: str) -> Any:
        return json.loads(text) if text[:1] in ("{", "[") else text

    def configuration(row: dict[str, Any]) -> dict[str, Any]:
        def below(prefix: str) -> dict[str, Any]:
            return {key.removeprefix(prefix): of for key, of in row.items() if key.startswith(prefix)}

        pairs = (pair.partition("=") for pair in row["parameters"].split("; ") if pair)
        return {
            "strategy": {key: value(text) for key, _, text in pairs},
            "seeds": below("seeds_"),
            "numerics": {key: row["device_kind" if key == "device" else key] for key in Numerics.model_fields},
            "tuning": below("tuning_") if row["tuning_by"] else None,
        }

    return distinguished((row["strategy"], settings(configuration(row))) for row in rows)


# ------------------------------------------------------------------------------------------------ how it is written
def to_text(
    frame: pd.DataFrame, metrics: Sequence[str | Asked] = SHOWN, choice: Choice = USUAL, width: int | None = None
) -> str:
    """Tables for the terminal, one for each board.

    Args:
        frame: of `leaderboard.table`.
        metrics: those to show in the usual columns.
        choice: of columns and rows.
        width: characters of a line, into which tables are fitted (`fitted`); None for any.
    """
    if not len(frame):
        return "no runs"
    parts = []
    for whole in boards(frame, metrics, choice):
        cells = [
            tuple(f"{MARK}{cell}" if (i, j) in whole.best else cell for j, cell in enumerate(row))
            for i, row in enumerate(whole.rows)
        ]
        board = replace(whole, rows=cells)
        board = board if width is None else fitted(board, width)
        lines = [*board.head, *board.rows]
        lines.insert(len(board.head), tuple("-" * width for width in column_widths(lines)))
        parts.append("\n".join([board.title, *aligned(lines, board.words), *board.notes]))
    return "\n\n".join([*parts, "\n".join(_explanation(frame, metrics, choice, f"{MARK}: "))])


def to_markdown(frame: pd.DataFrame, metrics: Sequence[str | Asked] = SHOWN, choice: Choice = USUAL) -> str:
    """Tables in GitHub's Markdown, one for each board."""
    if not len(frame):
        return "no runs"
    parts = []
    for board in boards(frame, metrics, choice):
        cells = [
            tuple(f"**{_markdown(cell)}**" if (i, j) in board.best else _markdown(cell) for j, cell in enumerate(row))
            for i, row in enumerate(board.rows)
        ]
        table = [f"| {' | '.join(line)} |" for line in [tuple(map(_markdown, board.headings)), *cells]]
        table.insert(1, "|" + "".join("---|" if words else "---:|" for words in board.words))
        notes = [f"* {_markdown(note)}" for note in board.notes]
        parts.append("\n".join([f"**{_markdown(board.title)}**", "", *table, *([""] if notes else []), *notes]))
    notes = _explanation(frame, metrics, choice, "bold: ")
    return "\n\n".join([*parts, "\n".join(f"* {_markdown(line)}" for line in notes)])


def to_latex(frame: pd.DataFrame, metrics: Sequence[str | Asked] = SHOWN, choice: Choice = USUAL) -> str:
    """Tables in LaTeX, one for each board; they need the package booktabs."""
    if not len(frame):
        return "% no runs"
    parts = []
    for board in boards(frame, metrics, choice):
        layout = "".join("l" if words else "r" for words in board.words)
        cells = [
            tuple(f"\\textbf{{{_latex(cell)}}}" if (i, j) in board.best else _latex(cell) for j, cell in enumerate(row))
            for i, row in enumerate(board.rows)
        ]
        head, *body = (_latex_line(line) for line in [tuple(map(_latex, board.headings)), *cells])
        begin, end = (f"\\{word}{{tabular}}" for word in ("begin", "end"))
        table = [f"{begin}{{{layout}}}", "\\toprule", head, "\\midrule", *body, "\\bottomrule", end]
        parts.append("\n".join([f"% {board.title}", *table, *(f"% {note}" for note in board.notes)]))
    notes = ("needs booktabs", *_explanation(frame, metrics, choice, "bold: "))
    return "\n\n".join([*parts, "\n".join(f"% {line}" for line in notes)])


MARK = "»"
"""Before a value that is best, on the terminal."""


def _explanation(frame: pd.DataFrame, metrics: Sequence[str | Asked], choice: Choice, mark: str) -> list[str]:
    shown = choice.of(metrics)
    lines = [SPREADS[choice.spread]] if any(column.metric for column in shown) else []
    lines += RANKS if any(column.name == "rank" for column in shown) else []
    lines += [column.note for column in shown if column.note]
    lines += [f"{mark}{best_rows.RULE}"] if choice.best is not None else []
    codes = [CODES] if any(frame["n_code_sha256"] > 1) else []
    scripts = [SCRIPT] if "made_by" in frame else []
    return [*lines, *codes, *scripts, *([MODIFIED] if any(frame["modified"]) else [])]


# ------------------------------------------------------------------------------------------------ escapes
def _markdown(text: str) -> str:
    """Text escaped for Markdown.

    >>> _markdown("a_b* | <c>")
    'a\\\\_b\\\\* \\\\| \\\\<c>'
    """
    return re.sub(r"([\\`*_\[\]<|~])", r"\\\1", text)


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
    "<": r"\textless{}", ">": r"\textgreater{}", "≤": r"$\leq$", "≥": r"$\geq$", "…": r"\ldots{}",
    "|": r"\textbar{}",
}  # fmt: skip


def _latex(text: str) -> str:
    """Text escaped for LaTeX; a letter beyond Latin-1, which pdfLaTeX may lack, as its code point.

    >>> _latex("a_b 5 % ± {&}"), _latex("é ク")
    ('a\\\\_b 5 \\\\% $\\\\pm$ \\\\{\\\\&\\\\}', 'é [U+30AF]')
    """

    def one(c: str) -> str:
        return _LATEX.get(c) or (f"\\{c}" if c in "_%&#${}" else c if ord(c) < 256 else f"[U+{ord(c):04X}]")

    return "".join(map(one, text))


def _latex_line(cells: Sequence[str]) -> str:
    """A line of a table; what `\\\\` of the line before would take for its argument is kept from it."""
    first = f"{{}}{cells[0]}" if cells[0][:1] in ("[", "*") else cells[0]
    return f"{' & '.join([first, *cells[1:]])} \\\\"
