"""`clbench verify`: repetition of a row of a leaderboard."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench.cli import status
from clbench.cli.arguments import integer
from clbench.errors import UserError
from clbench.formatting import UNITS, decimals, quantity, scaled, telling_places

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs
    from clbench.results.record import Record


def add(verbs: Verbs) -> None:
    """The verb."""
    verify = verbs.add_parser("verify", help="repeat runs of a row, and report whether they agree")
    verify.add_argument("row", metavar="ROW", help="row_id in the leaderboard, or its first digits")
    verify.add_argument("--in", dest="directory", type=Path, default=Path("results"), metavar="DIR",
                        help="folder of the row's run.json files; default ./results")  # fmt: skip
    verify.add_argument("--seeds", type=integer(1), default=1, metavar="K", help="the first K of its seeds; default 1")
    verify.add_argument("--out", type=Path, metavar="DIR", help="keep the new runs there; default: they are not kept")
    verify.add_argument("--quiet", action="store_true", help="no progress")
    verify.set_defaults(act=_verify)


def _verify(options: argparse.Namespace) -> int:
    if not options.directory.is_dir():
        raise UserError(f"{options.directory}: no such folder.")
    from clbench.labels import Labels
    from clbench.reports import leaderboard
    from clbench.results.record import collect
    from clbench.studies import verification

    collected, problems = collect(options.directory)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    runs = verification.row(collected, options.row, str(options.directory))
    if options.seeds > len(runs):
        raise UserError(f"--seeds: got {options.seeds}. Allowed: 1 to {len(runs)}, the completed runs of the row.")
    if options.out is not None and _overlap(options.out.resolve(), options.directory.resolve()):
        raise UserError(f"--out {options.out}: holds the row itself, whose runs would not be repeated.")
    for record in runs:
        verification.configuration(record)
    numerics = verification.configuration(runs[0]).numerics
    from clbench.cli.progress import Shown, Silent
    from clbench.config.engines import LocalSettings
    from clbench.studies.engines.base import engine

    local = engine(LocalSettings(name="local"), numerics.threads, numerics.device == "cuda")
    with contextlib.ExitStack() as held:
        out = options.out or Path(held.enter_context(tempfile.TemporaryDirectory(prefix="clbench-verify-")))
        again = verification.run_again(runs, options.seeds, out, local, Silent() if options.quiet else Shown())
    result = verification.compare(runs, again)
    board = [record for record in collected if record.definition_hash == runs[0].definition_hash]
    name = Labels((r.config.strategy.name, r.settings) for r in board)(runs[0].config.strategy.name, runs[0].settings)
    print("\n".join(_lines(leaderboard.row_id(runs[0]), name, runs, again, result)))
    return status.FAILED if result.verdict == "not reproduced" else status.DONE


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _lines(row: str, name: str, old: list[Record], new: list[Record], verification: Any) -> list[str]:
    from clbench.metrics import metrics_of
    from clbench.reports.leaderboard import ranked_by

    view = old[0].primary_view
    again, seeds = (", ".join(str(n) for n in sorted(r.seed for r in some)) for some in (new, old))
    lines = [f"{row}: {old[0].benchmark} {name}, seeds {again} of {seeds}"]
    for m in verification.metrics:
        unit = metrics_of(view)[m.name].unit
        ends = (m.repeated, m.claimed, *(m.interval or ()))
        places = telling_places(ends, unit, 2 if unit in UNITS else decimals(m.claimed, unit))
        repeated, claimed = (quantity(value, unit, places) for value in (m.repeated, m.claimed))
        interval = ""
        if m.interval is not None:
            low, high = (f"{scaled(bound, unit, places):.{places}f}" for bound in m.interval)
            interval = f", to lie from {low} to {high}: {'yes' if m.within else 'no'}"
        lines.append(f"  {m.name}: {repeated} (the row: {claimed}{interval})")
    lines += [f"  seed {seed}: other {', '.join(names)}" for seed, names in verification.different.items()]
    lines += [f"  {line}" for line in verification.surroundings]
    from clbench.studies.verification import RULES

    rule = RULES[verification.verdict].format(metric=ranked_by(view))
    where = f" ({verification.processors})" if verification.processors else ""
    return [*lines, f"{verification.verdict}{where}: {rule}"]
