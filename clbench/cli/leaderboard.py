"""`clbench leaderboard`: the table of all runs under some folders."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.cli.arguments import metrics_named, say_left_out
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
    metrics = metrics_named(options.metric)
    records = _collected(options.directories)
    if options.benchmark is not None:
        known = {record.benchmark for record in records}
        wanted = options.benchmark if options.benchmark in known else named(options.benchmark)
        if wanted not in known:
            raise UserError(f"--benchmark: {unknown('benchmark', wanted, known)}")
        records = [record for record in records if record.benchmark == wanted]
    from clbench.reports import leaderboard, tables
    from clbench.results import files

    frame = leaderboard.table(records)
    if options.csv is not None:
        files.write_bytes(options.csv, tables.to_csv(frame))
    if options.runs is not None:
        files.write_bytes(options.runs, tables.to_csv(leaderboard.runs(records)))
    form = tables.to_text
    if options.markdown:
        form = tables.to_markdown
    if options.latex:
        form = tables.to_latex
    print(form(frame, metrics) if metrics else form(frame))
    return 0
