"""`clbench leaderboard`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.errors import UserError

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """The verb."""
    board = verbs.add_parser("leaderboard", help="the table of all runs under a folder")
    board.add_argument("directory", nargs="?", type=Path, default=Path("results"), metavar="DIR")
    board.add_argument("--csv", type=Path, metavar="FILE", help="also write the full table")
    board.set_defaults(act=_leaderboard)


def _leaderboard(options: argparse.Namespace) -> int:
    if not options.directory.is_dir():
        raise UserError(f"{options.directory}: no such folder; runs are written there by `clbench run`.")
    from clbench import leaderboard, results

    records, problems = leaderboard.collect(options.directory)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    frame = leaderboard.table(records)
    if options.csv is not None:
        results.write_bytes(options.csv, leaderboard.to_csv(frame))
    print(leaderboard.to_text(frame))
    return 0
