"""`clbench leaderboard` and `compare`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.errors import UserError, unknown

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs
    from clbench.records import Record


def add(verbs: Verbs) -> None:
    """The verbs."""
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

    versus = verbs.add_parser("compare", help="two strategies on the same streams, paired by seed")
    which = "a run's folder, or one above; benchmark:strategy; or how the id of a leaderboard's row begins"
    versus.add_argument("a", metavar="A", help=which)
    versus.add_argument("b", metavar="B", help="the same of the other")
    versus.add_argument("--in", dest="within", type=Path, default=Path("results"), metavar="DIR", help="where rows are")
    versus.add_argument("--metric", action="append", metavar="NAME", help="a metric to print; may be repeated")
    versus.add_argument("--csv", type=Path, metavar="FILE", help="also write what is printed, unrounded")
    versus.set_defaults(act=_compare)


def _collected(directories: list[Path]) -> list[Record]:
    """The records under some folders; what is left out is said."""
    for directory in directories:
        if not directory.is_dir():
            raise UserError(f"{directory}: no such folder; runs are written there by `clbench run`.")
    from clbench import records

    collected, problems = records.collect(*directories)
    _say_left_out(problems)
    return collected


def _say_left_out(problems: list[str]) -> None:
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)


def _metrics(names: list[str] | None) -> list[str] | None:
    if names is None:
        return None
    from clbench.metrics import METRICS

    problems = [f"--metric: {unknown('metric', name, METRICS)}" for name in names if name not in METRICS]
    if problems:
        raise UserError(*problems)
    return list(dict.fromkeys(names))


def _leaderboard(options: argparse.Namespace) -> int:
    metrics = _metrics(options.metric)
    records = _collected(options.directories)
    if options.benchmark is not None:
        known = {record.benchmark for record in records}
        if options.benchmark not in known:
            raise UserError(f"--benchmark: {unknown('benchmark', options.benchmark, known)}")
        records = [record for record in records if record.benchmark == options.benchmark]
    from clbench import board_text, leaderboard, results

    frame = leaderboard.table(records)
    if options.csv is not None:
        results.write_bytes(options.csv, board_text.to_csv(frame))
    if options.runs is not None:
        results.write_bytes(options.runs, board_text.to_csv(leaderboard.runs(records)))
    form = board_text.to_text
    if options.markdown:
        form = board_text.to_markdown
    if options.latex:
        form = board_text.to_latex
    print(form(frame, metrics) if metrics else form(frame))
    return 0


def _compare(options: argparse.Namespace) -> int:
    metrics = _metrics(options.metric)
    from clbench import comparison, results
    from clbench.board_text import SHOWN

    sides, problems = comparison.chosen([options.a, options.b], options.within)
    _say_left_out(problems)
    pairs, alone = comparison.pairs(*sides)
    found = [finding for pair in pairs for finding in comparison.findings(pair, metrics or SHOWN)]
    if options.csv is not None:
        results.write_bytes(options.csv, comparison.to_csv(found))
    print("\n".join([*alone, comparison.to_text(found)]))
    return 0
