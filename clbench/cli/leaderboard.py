"""`clbench leaderboard`: the table of all runs under some folders."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.cli.arguments import metrics_asked, say_left_out
from clbench.cli.stream_argument import named
from clbench.errors import UserError, unknown

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs
    from clbench.results.record import Record


def add(verbs: Verbs) -> None:
    """The verb."""
    board = verbs.add_parser("leaderboard", help="the table of all runs under some folders")
    board.add_argument("directories", nargs="*", type=Path, default=[Path("results")], metavar="DIR")
    board.add_argument("--benchmark", metavar="ID", help="only runs of this benchmark")
    board.add_argument("--metric", action="append", metavar="NAME", help="a metric to print; may be repeated")
    board.add_argument("--csv", type=Path, metavar="FILE", help="also write the whole table, a row for each strategy")
    board.add_argument("--runs", type=Path, metavar="FILE", help="also write a row for each run and metric")
    board.add_argument(
        "--columns",
        metavar="NAME,NAME",
        help="columns in their order: rank, strategy, row, seeds, memory, train, eval, time, updates, metrics, or "
        "names of the field like ACC and BWT",
    )
    board.add_argument("--strategies", default="", metavar="ROW,ROW", help="only these rows; ranks are among all")
    board.add_argument(
        "--rename", action="append", default=[], metavar="ROW=TEXT", help="a name, like er='Ours'; may be repeated"
    )
    board.add_argument("--best", action="store_true", help="mark the best rows, where there is a difference")
    spread = board.add_mutually_exclusive_group()
    spread.add_argument("--std", action="store_true", help="mean ± standard deviation over seeds")
    spread.add_argument("--interval", action="store_true", help="mean ± half of its 95 %% interval; the default")
    form = board.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    form.add_argument("--latex", action="store_true", help="print LaTeX (booktabs)")
    board.set_defaults(act=_leaderboard)


def _collected(directories: list[Path]) -> list[Record]:
    """The records under some folders; excluded files are reported."""
    for directory in directories:
        if not directory.is_dir():
            raise UserError(f"{directory}: no such folder; runs are written there by `clbench run`.")
    from clbench.results.record import collect

    collected, problems = collect(*directories)
    say_left_out(problems)
    return collected


def _leaderboard(options: argparse.Namespace) -> int:
    metrics = metrics_asked(options.metric, "--metric")
    if metrics is not None and options.columns is not None:
        raise UserError("--metric and --columns: one of them; --columns names metrics too.")
    records = _collected(options.directories)
    if options.benchmark is not None:
        known = {record.benchmark for record in records}
        wanted = options.benchmark if options.benchmark in known else named(options.benchmark)
        if wanted not in known:
            raise UserError(f"--benchmark: {unknown('benchmark', wanted, known)}")
        records = [record for record in records if record.benchmark == wanted]
    from clbench.reports import best_rows, columns, leaderboard, tables
    from clbench.reports.rows import listed
    from clbench.results import files

    spread: columns.Spread = "std" if options.std else "interval"
    chosen = None if options.columns is None else columns.chosen(listed(options.columns), spread)
    choice = tables.Choice(chosen, spread, options.rename, listed(options.strategies))
    frame = leaderboard.table(records)
    shown_metrics = metrics or columns.default_metrics(frame)
    shown = tables.row_ids(frame, choice)
    if options.best:
        of = [column.metric for column in choice.of(shown_metrics) if column.metric is not None]
        choice = dataclasses.replace(choice, best=best_rows.best(records, of, shown))
    if options.csv is not None:
        files.write_bytes(options.csv, tables.to_csv(frame))
    if options.runs is not None:
        files.write_bytes(options.runs, tables.to_csv(leaderboard.runs(records)))
    if options.markdown:
        print(tables.to_markdown(frame, shown_metrics, choice))
    elif options.latex:
        print(tables.to_latex(frame, shown_metrics, choice))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(tables.to_text(frame, shown_metrics, choice, width))
    return 0
