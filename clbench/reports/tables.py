"""Layout of the leaderboard: CSV for programs, and tables for the terminal, Markdown and LaTeX.

Every table shows the same columns board by board, and explains its marks below.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from clbench.config.benchmark import Numerics
from clbench.formatting import UNITS, scaled
from clbench.labels import distinguished, settings
from clbench.metrics import METRICS
from clbench.reports.leaderboard import EXCLUSIONS, RANKED_BY
from clbench.reports.tabular import aligned, column_widths, csv_bytes, is_missing

SHOWN = (RANKED_BY, "forgetting.after_learning", "min_acc", "wc_acc")
"""Default metrics of a table; the one of the ranking first."""


# ------------------------------------------------------------------------------------------------ CSV
def to_csv(frame: pd.DataFrame) -> bytes:
    """A table as CSV; see `csv_bytes`."""
    return csv_bytes(list(frame.columns), frame.to_numpy(dtype=object).tolist())


# ------------------------------------------------------------------------------------------------ what is shown
@dataclass(frozen=True)
class Board:
    """Table of one board.

    Attributes:
        title: benchmark, and what its rows have in common.
        headings: above the columns.
        rows: cells, in the order of the headings; the first `WORDS` are words, the others numbers.
        notes: failed runs, each with its reason, and what the schedule of evaluations leaves open.
    """

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: list[str]


WORDS = 3

EXPLANATION = (
    "mean over seeds ± half of its 95 % Student t interval",
    f"rank: 1 + the ranked rows whose interval of {RANKED_BY} lies wholly above, before rounding; equal ranks are ties",
    f"rank -: {', '.join(reason.summary for reason in EXCLUSIONS[:-1])}, or {EXCLUSIONS[-1].summary}",
)
CODES = "n codes: its runs were made by n different codes; with --other-code again, run and grid do them anew"
EQUAL_UPDATES = "as many updates as the other rows; epochs are passes over each experience's own samples"
MODIFIED = "* differs from the shipped benchmark of that id, or none of that id is shipped"


def boards(frame: pd.DataFrame, metrics: Sequence[str] = SHOWN) -> list[Board]:
    """The boards of a leaderboard, in its order.

    Args:
        frame: of `leaderboard.table`.
        metrics: names of those to show.
    """
    return [_board(*key, rows, metrics) for key, rows in by_board(frame)]


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


def _board(definition: str, data: str, view: str, rows: list[dict[str, Any]], metrics: Sequence[str]) -> Board:
    benchmarks = ", ".join(sorted({_benchmark(row) for row in rows}))
    title = f"{benchmarks} (definition {definition[:8]}, data {data[:8]}, view {view})"
    headings = ("rank", "strategy", "row", "seeds", *map(heading, metrics), "memory bytes", "train s", "eval s")
    names = row_names(rows)
    shown = [
        (
            "-" if row["rank"] is None else str(row["rank"]),
            marked(name, row["access"], row["tuning_by"], row["n_code_sha256"]),
            row["row_id"][:8],
            _seeds(row),
            *(_score(row, name) for name in metrics),
            _number(row["memory_bytes"], ",.0f"),
            _number(row["train_s"], ".1f"),
            _number(row["eval_s"], ".1f"),
        )
        for row, name in zip(rows, names, strict=True)
    ]
    notes = [
        f"failed: {_benchmark(row)} {name}: {row['failure']}"
        for row, name in zip(rows, names, strict=True)
        if row["failure"]
    ]
    more = [row["strategy"] for row in rows if row["access"] in ("past", "stream") and row["epochs"] is not None]
    notes += [f"{', '.join(dict.fromkeys(more))}: {EQUAL_UPDATES}"] if more else []
    notes += _processors(rows, names)
    undefined = [name for name in metrics if any(row["n"] and row[f"{name}_mean"] is None for row in rows)]
    notes += left_open(metrics, undefined, rows[0]["eval_every"], rows[0]["eval_dense"])
    return Board(plain(title), headings, [tuple(map(plain, cells)) for cells in shown], list(map(plain, notes)))


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


def marked(name: str, access: str | None, tuned_by: str | None, codes: int) -> str:
    """A name with its warnings.

    >>> marked("joint", "stream", None, 1), marked("er", "experience", "test", 2)
    ('joint (not continual)', 'er (tuned on its own test stream, 2 codes)')
    """
    marks = ["not continual"] if access in ("past", "stream") else []
    marks += ["tuned on its own test stream"] if tuned_by == "test" else []
    marks += [f"{codes} codes"] if codes > 1 else []
    return f"{name} ({', '.join(marks)})" if marks else name


def _seeds(row: dict[str, Any]) -> str:
    failed = f", {row['n_failed']} failed" if row["n_failed"] else ""
    return f"{row['n']}{failed}" + (f", {row['n_unfinished']} unfinished" if row["n_unfinished"] else "")


def left_open(metrics: Iterable[str], undefined: Iterable[str], every: int, dense: int) -> list[str]:
    """Lines on metrics that a schedule of evaluations leaves undefined, or as bounds.

    Args:
        metrics: those shown.
        undefined: those of them without a value.
        every, dense: see `clbench.config.evaluation.Evaluation`.

    >>> left_open(["average_accuracy", "wf_10", "min_acc"], ["wf_10"], 10, 0)
    ['undefined: wf_10 needs evaluations up to 9 iterations apart; they are made every 10 iterations', \
'upper bound (≤), as not every iteration is evaluated: min_acc']
    """
    lines = [f"undefined: {name} {why}" for name in undefined if (why := METRICS[name].unreached(every, dense))]
    for bound, sign in SIGNS.items():
        names = [name for name in metrics if bound_sign(name, every) == sign and name not in undefined]
        lines += [f"{bound} bound ({sign}), as not every iteration is evaluated: {', '.join(names)}"] * bool(names)
    return lines


SIGNS = {"upper": "≤", "lower": "≥"}
"""Kind of bound -> its mark."""


def bound_sign(metric: str, every: int) -> str:
    """The mark of a value that is a bound; empty where it is exact."""
    bound = METRICS[metric].bound
    return "" if bound is None or every == 1 else SIGNS[bound]


def _score(row: dict[str, Any], name: str) -> str:
    mean, low, high = (row[f"{name}_{statistic}"] for statistic in ("mean", "ci95_lo", "ci95_hi"))
    if mean is None:
        return f"undefined in {row['n'] - row[f'{name}_n']}" if row["n"] else ""
    half = "" if low is None else f" ± {points(name, (high - low) / 2):.2f}"
    sign = bound_sign(name, row["eval_every"])
    return f"{sign}{' ' * bool(sign)}{points(name, mean):.2f}{half}"


def heading(metric: str) -> str:
    """A metric's name with the unit of `points`."""
    return f"{metric} {UNITS[METRICS[metric].unit]}"


def points(metric: str, value: float) -> float:
    """A value in the units of tables: accuracies and shares in percent; never -0.00."""
    return scaled(value, METRICS[metric].unit)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def plain(text: str) -> str:
    """Text in one line without control characters.

    >>> plain("a\\nb \\x1b[31m é")
    'a\\\\nb \\\\x1b[31m é'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


# ------------------------------------------------------------------------------------------------ how it is written
def to_text(frame: pd.DataFrame, metrics: Sequence[str] = SHOWN) -> str:
    """Tables for the terminal, one for each board."""
    if not len(frame):
        return "no runs"
    parts = []
    for board in boards(frame, metrics):
        lines = [board.headings, *board.rows]
        lines.insert(1, tuple("-" * width for width in column_widths(lines)))
        parts.append("\n".join([board.title, *aligned(lines, WORDS), *board.notes]))
    return "\n\n".join([*parts, "\n".join(_explanation(frame))])


def to_markdown(frame: pd.DataFrame, metrics: Sequence[str] = SHOWN) -> str:
    """Tables in GitHub's Markdown, one for each board."""
    if not len(frame):
        return "no runs"
    parts = []
    for board in boards(frame, metrics):
        lines = [board.headings, *board.rows]
        table = [f"| {' | '.join(map(_markdown, line))} |" for line in lines]
        table.insert(1, "|" + "---|" * WORDS + "---:|" * (len(board.headings) - WORDS))
        notes = [f"* {_markdown(note)}" for note in board.notes]
        parts.append("\n".join([f"**{_markdown(board.title)}**", "", *table, *([""] if notes else []), *notes]))
    return "\n\n".join([*parts, "\n".join(f"* {_markdown(line)}" for line in _explanation(frame))])


def to_latex(frame: pd.DataFrame, metrics: Sequence[str] = SHOWN) -> str:
    """Tables in LaTeX, one for each board; they need the package booktabs."""
    if not len(frame):
        return "% no runs"
    parts = []
    for board in boards(frame, metrics):
        columns = "l" * WORDS + "r" * (len(board.headings) - WORDS)
        head, *body = (f"{' & '.join(map(_latex, line))} \\\\" for line in [board.headings, *board.rows])
        begin, end = (f"\\{word}{{tabular}}" for word in ("begin", "end"))
        table = [f"{begin}{{{columns}}}", "\\toprule", head, "\\midrule", *body, "\\bottomrule", end]
        parts.append("\n".join([f"% {board.title}", *table, *(f"% {note}" for note in board.notes)]))
    return "\n\n".join([*parts, "\n".join(f"% {line}" for line in ("needs booktabs", *_explanation(frame)))])


def _explanation(frame: pd.DataFrame) -> list[str]:
    codes = [CODES] if any(frame["n_code_sha256"] > 1) else []
    return [*EXPLANATION, *codes, *([MODIFIED] if any(frame["modified"]) else [])]


def _markdown(text: str) -> str:
    """Text escaped for Markdown.

    >>> _markdown("a_b* | <c>")
    'a\\\\_b\\\\* \\\\| \\\\<c>'
    """
    return re.sub(r"([\\`*_\[\]<|~])", r"\\\1", text)


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
    "<": r"\textless{}", ">": r"\textgreater{}", "≤": r"$\leq$", "≥": r"$\geq$",
}  # fmt: skip


def _latex(text: str) -> str:
    """Text escaped for LaTeX.

    >>> _latex("a_b 5 % ± {&}")
    'a\\\\_b 5 \\\\% $\\\\pm$ \\\\{\\\\&\\\\}'
    """
    return "".join(_LATEX.get(c, f"\\{c}" if c in "_%&#${}" else c) for c in text)
