"""`clbench score`: every metric of a finished run, from its trace."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.errors import UserError

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """The verb."""
    score = verbs.add_parser("score", help="every metric of a finished run, from its trace")
    score.add_argument("run", type=Path, metavar="RUN_DIR", help="a run's folder")
    score.add_argument("--view", metavar="VIEW", help="default: the run's primary view")
    score.add_argument("--gap", action="store_true", help="also the gap of each earlier task after each switch")
    score.add_argument("--dialects", action="store_true", help="also what other libraries would print")
    score.add_argument("--csv", type=Path, metavar="FILE", help="also write what is printed, unrounded")
    score.set_defaults(act=_score)


def _score(options: argparse.Namespace) -> int:
    from clbench.reports import score as scores
    from clbench.results import files, load

    found = load.directories([options.run])
    if len(found) > 1:
        raise UserError(f"{options.run}: {len(found)} runs below it; name one of them, such as {found[0]}.")
    run = load.read(found[0])
    view = run.view(options.view)
    tables = [scores.metrics(run, view)]
    if options.gap:
        tables.append(scores.gaps(run, view))
    if options.dialects:
        tables.append(scores.dialects(run, view))
    if options.csv is not None:
        files.write_bytes(options.csv, scores.to_csv(tables, view))
    print(f"{run.label}, view {view}\n")
    print("\n\n".join(map(scores.to_text, tables)))
    return 0
