"""`clbench compare`: two rows, paired by seed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from clbench import registry
from clbench.cli.arguments import metrics_asked, metrics_in, say_left_out

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """The verb."""
    versus = verbs.add_parser("compare", help="two strategies on the same streams, paired by seed")
    which = "a run's folder, or one above; benchmark:strategy; or a prefix of the row_id in a leaderboard"
    versus.add_argument("a", metavar="A", help=which)
    versus.add_argument("b", metavar="B", help="the same of the other")
    versus.add_argument(
        "--in", dest="within", type=Path, default=Path("results"), metavar="DIR", help="folder of the rows"
    )
    versus.add_argument("--metric", action="append", metavar="NAME", help="a metric to print; may be repeated")
    versus.add_argument("--csv", type=Path, metavar="FILE", help="also write the printed values, unrounded")
    versus.set_defaults(act=_compare)


def _canonical(text: str) -> str:
    """`benchmark:strategy` with the names of the tables, where they stand for some there."""
    benchmark, colon, strategy = text.partition(":")
    if not colon or Path(text).exists():
        return text
    return f"{registry.benchmark_id(benchmark) or benchmark}:{registry.strategy_name(strategy)}"


def _compare(options: argparse.Namespace) -> int:
    asked = metrics_asked(options.metric, "--metric")
    from clbench.reports import comparison
    from clbench.results import files

    sides, problems = comparison.select([_canonical(options.a), _canonical(options.b)], options.within)
    say_left_out(problems)
    pairs, alone = comparison.pairs(*sides)
    metrics = metrics_in(asked, (pair.view for pair in pairs))
    findings = [finding for pair in pairs for finding in comparison.findings(pair, metrics)]
    if options.csv is not None:
        files.write_bytes(options.csv, comparison.to_csv(findings))
    print("\n".join([*alone, comparison.to_text(findings)]))
    return 0
