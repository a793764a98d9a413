"""`clbench rescore`: recomputed metrics of finished runs."""

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
    rescore = verbs.add_parser("rescore", help="metrics of finished runs recomputed, and the differences")
    rescore.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help="a run's folder, or one above")
    rescore.add_argument("--write", action="store_true", help="write the new metrics to each run.json")
    rescore.set_defaults(act=_rescore)


def _rescore(options: argparse.Namespace) -> int:
    from clbench.results import load
    from clbench.results.rescore import rescore

    problems: list[str] = []
    folders = load.directories(options.runs)
    without = [] if len(folders) == 1 else [directory for directory in folders if _without_trace(directory)]
    if without:
        summary = f"{len(without)} of {len(folders)} runs have no trace.npz, such as {without[0]}"
        print(f"skipped: {summary}", file=sys.stderr)
    for directory in folders:
        if directory in without:
            continue
        try:
            lines = rescore(directory, write=options.write)
        except UserError as error:
            problems += error.problems
        else:
            print("\n".join(lines), flush=True)
    if problems:
        raise UserError(*problems)
    return 0


def _without_trace(directory: Path) -> bool:
    """True for a completed run whose run.json alone was kept."""
    from clbench.results import files, load

    if (directory / "trace.npz").exists():
        return False
    try:
        return load.unfinished(files.read_run(directory)) is None
    except UserError:
        return False
