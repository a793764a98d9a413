"""The report of runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from clbench.api.runs import Source, runs_of
from clbench.api.tables import metric_names
from clbench.errors import UserError


def report(
    *runs: Source | Iterable[Source],
    out: str | os.PathLike[str] = "report.html",
    metrics: Sequence[str] | None = None,
    title: str | None = None,
) -> Path:
    """Writes one HTML file of runs, as `clbench report` does: it opens without a server or a network. Returns its path.

    Args:
        runs: runs, or folders with runs at or below them, unfinished and failed ones too; default: "results".
        out: the file.
        metrics: names of those in its tables; default: those that the leaderboard shows.
        title: of the page; default: names of the folders, or the number of runs.

    Raises:
        UserError: no run, an unknown metric, or a file that cannot be written.
    """
    from clbench.reports.html import page
    from clbench.reports.html.sources import Reader
    from clbench.results import files

    named = [Path(source) for source in runs or ("results",) if isinstance(source, (str, os.PathLike))]
    single = [run for source in runs if not isinstance(source, (str, os.PathLike)) for run in runs_of(source)]
    sources, excluded = Reader().read([*named, *(run.directory for run in single)])
    if not sources:
        raise UserError(*(excluded or ["report(): got no run."]))
    words = [path.resolve().name for path in named]
    words += [f"{len(single)} {'run' if len(single) == 1 else 'runs'}"] if single else []
    shown = metric_names(metrics, "report()", {source.record.primary_view for source in sources})
    files.write_bytes(Path(out), page.build(page.Contents(title or ", ".join(words), sources, excluded, shown)))
    return Path(out)
