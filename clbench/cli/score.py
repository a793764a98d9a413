"""`clbench score`: every metric of a run, from its trace."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.cli.arguments import say_left_out
from clbench.errors import UserError

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """The verb."""
    score = verbs.add_parser("score", help="every metric of a run, from its trace")
    score.add_argument("run", type=Path, metavar="RUN_DIR", help="a run's folder")
    score.add_argument("--view", metavar="VIEW", help="default: the run's primary view")
    score.add_argument(
        "--metric", action="append", metavar="NAME",
        help="only this metric: a name, or an import path of yours; may be repeated",
    )  # fmt: skip
    score.add_argument("--gap", action="store_true", help="also the stability gap of earlier tasks at each boundary")
    score.add_argument("--dialects", action="store_true", help="also the values of other libraries")
    score.add_argument("--csv", type=Path, metavar="FILE", help="also write the printed values, unrounded")
    score.set_defaults(act=_score)


def _score(options: argparse.Namespace) -> int:
    from clbench.metrics.chosen import chosen
    from clbench.reports.score import dialects, gaps, metrics, to_csv, to_text
    from clbench.results import files, load
    from clbench.results.record import replaced
    from clbench.tracebacks import described

    folders = load.directories([options.run])
    if len(folders) > 1:
        raise UserError(f"{options.run}: {len(folders)} runs below it; name one of them, such as {folders[0]}.")
    run = load.read(folders[0], partial=True)
    view = run.view(options.view)
    try:
        tables = [metrics(run, view, None if options.metric is None else chosen(options.metric, "--metric", view))]
    except UserError:
        raise
    except Exception as error:  # a user's function may do anything
        if options.metric is None:
            raise
        raise UserError(f"--metric: {described(error)}.") from error
    if options.gap:
        tables.append(gaps(run, view))
    if options.dialects:
        tables.append(dialects(run, view))
    if options.csv is not None:
        files.write_bytes(options.csv, to_csv(tables, view))
    print(f"{run.label}, view {view}")
    if run.unfinished is not None:
        ended = len(run.scored().visits)
        print(f"{run.unfinished}: update {run.at:,}; values of the first {ended} of {run.planned} experiences")
    print()
    say_left_out(replaced(list(folders[0].glob(f"{files.SUPERSEDED}/*/"))))
    print("\n\n".join(map(to_text, tables)))
    return 0
