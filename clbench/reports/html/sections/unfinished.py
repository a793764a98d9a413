"""Runs without a result: failed ones with their reasons, unfinished ones by name; and files that were left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clbench.reports.html.boards import BoardRuns
from clbench.reports.html.sources import NO_TRACE
from clbench.reports.tabular import plain
from clbench.results.load import unfinished


def section(boards: Sequence[BoardRuns], excluded: Sequence[str]) -> dict[str, Any] | None:
    """Rows for failed and unfinished runs and for damaged traces, sentences for files; None where there are none."""
    failed, waiting, unreadable = [], [], []
    for board in boards:
        for method in board.methods:
            for source in method.sources:
                record = source.record
                run: dict[str, Any] = {
                    "benchmark": board.title,
                    "method": method.name,
                    "seed": record.seed,
                    "place": plain(source.directory.as_posix()),
                }
                run["updates"] = None if source.digest is None else int(source.digest.iteration[-1])
                if record.status == "failed":
                    reason = record.failure.message if record.failure else ""
                    failed.append({**run, "reason": plain(reason)})
                elif record.status != "completed":
                    waiting.append({**run, "reason": plain(unfinished(record.raw) or "")})
                elif source.without not in (None, NO_TRACE):
                    unreadable.append({**run, "reason": plain(str(source.without))})
    if not (failed or waiting or unreadable or excluded):
        return None
    return {
        "failed": failed,
        "unfinished": waiting,
        "unreadable": unreadable,
        "excluded": [plain(sentence) for sentence in excluded],
    }
