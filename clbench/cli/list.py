"""`clbench list`: names of streams, strategies, data sets, models and metrics; and the runs below a folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench.cli.arguments import say_left_out
from clbench.cli.catalogue import KINDS, catalogue
from clbench.errors import UserError

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs

RUNS = "runs"


def add(verbs: Verbs) -> None:
    """The verb."""
    listing = verbs.add_parser("list", help="names of streams, strategies, data sets, models, metrics; runs")
    listing.add_argument("kind", type=_kind, choices=(*KINDS, RUNS), metavar="|".join([*KINDS, RUNS]))
    listing.add_argument(
        "directory", nargs="?", type=Path, metavar="DIR", help="of runs: the folder; default ./results"
    )
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(act=_list)


def _kind(text: str) -> str:
    """A kind by one of its other names."""
    return {"benchmarks": "streams", "networks": "models"}.get(text, text)


def _list(options: argparse.Namespace) -> int:
    if options.kind == RUNS:
        return _list_runs(options.directory or Path("results"), options.json)
    if options.directory is not None:
        raise UserError(f"got {options.directory}, a folder; of one, `clbench list runs DIR` lists the runs.")
    entries = catalogue(options.kind)
    if options.json:
        print(json.dumps(entries, indent=1))
        return 0
    if options.kind == "datasets":
        entries = {name: "; ".join(filter(None, [summary, _place(name)])) for name, summary in entries.items()}
    width = max(map(len, entries))
    for name, summary in entries.items():
        print(f"{name.ljust(width)}  {summary}".rstrip())
    return 0


def _place(name: str) -> str:
    """Place of a published data set, or the way to get it; nothing of others."""
    from clbench import registry

    known = registry.datasets().DATASETS.get(name)
    if known is None or known.published is None:
        return ""
    presence = registry.presence(name)
    return f"in {presence.place}" if presence.place else f"not present: {presence.remedy}"


def _list_runs(directory: Path, as_json: bool) -> int:
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder; runs are written there by `clbench run`.")
    from clbench.reports import selection
    from clbench.reports.leaderboard import ranked_by
    from clbench.reports.run_summary import brief_state, printable, result, result_heading
    from clbench.reports.tabular import aligned
    from clbench.results.record import replaced
    from clbench.runner.lock import holder

    superseded: list[Path] = []
    runs, problems = selection.located(directory, superseded)
    say_left_out([*problems, *replaced(superseded)])
    labels = selection.labels(run.record for run in runs)
    states = [brief_state(run.record, holder(run.directory)) for run in runs]
    if as_json:
        entries: list[dict[str, Any]] = [
            {
                "benchmark": run.record.benchmark,
                "modified": run.record.modified,
                "strategy": run.record.config.strategy.name,
                "label": labels[run.record.run_id],
                "seed": run.record.seed,
                "status": state,
                name: score.value if (score := run.record.scores.get(name)) else None,
                "started_utc": run.record.provenance.started_utc,
                "run_id": run.record.run_id,
                "run_dir": str(run.directory),
            }
            for run, state in zip(runs, states, strict=True)
            for name in [ranked_by(run.record.primary_view)]
        ]
        print(json.dumps(entries, indent=1))
        return 0
    if not runs:
        print(f"{directory}: no run there or below")
        return 0
    lines = [
        ("benchmark", "strategy", "seed", "status", result_heading(run.record for run in runs), "started", "folder")
    ]
    for run, state in zip(runs, states, strict=True):
        record = run.record
        name = f"{record.benchmark}{'*' if record.modified else ''}"
        started = (record.provenance.started_utc or "-").replace("T", " ").removesuffix("Z")
        cells = (name, labels[record.run_id], str(record.seed), state, result(record), started, str(run.directory))
        lines.append(cells)
    print("\n".join(printable(line) for line in aligned(lines)))
    return 0
