"""Paired differences between the methods of a board, with intervals."""

from __future__ import annotations

import itertools
from typing import Any

from clbench.errors import UserError
from clbench.formatting import printed_unit, scaled
from clbench.metrics import metrics_of
from clbench.reports import comparison
from clbench.reports.comparison import Finding
from clbench.reports.html.boards import BoardRuns
from clbench.reports.rows import Row
from clbench.reports.tabular import plain

ALL_PAIRS = 16
"""Most methods of which every pair is compared; of more, each is compared with the first alone."""


def section(board: BoardRuns) -> dict[str, Any] | None:
    """Findings for each pair and metric; None with fewer than two methods that have completed runs."""
    compared = [(i, method) for i, method in enumerate(board.methods) if method.completed]
    if len(compared) < 2:
        return None
    every = len(compared) <= ALL_PAIRS
    rows = {i: Row(method.row["row_id"], tuple(s.record for s in method.sources)) for i, method in compared}
    pairs = []
    for i, j in itertools.combinations(rows, 2):
        if not every and i != compared[0][0]:
            continue
        pair: dict[str, Any] = {"a": i, "b": j}
        try:
            [matched], _ = comparison.pairs([rows[i]], [rows[j]])
        except UserError as error:
            pair["reason"] = plain(str(error))
        else:
            pair["metrics"] = [_finding(finding) for finding in comparison.findings(matched, board.metrics)]
            pair["notes"] = [plain(note) for note in matched.notes]
        pairs.append(pair)
    metrics = [
        {"name": comparison.compared(metric), "unit": printed_unit(metric.unit), "metric": metric.name}
        for metric in (metrics_of(board.view)[name] for name in board.metrics)
    ]
    references = [i for i, _ in compared] if every else [compared[0][0]]
    return {
        "metrics": metrics,
        "references": [{"method": i, "name": board.methods[i].name} for i in references],
        "every": every,
        "data": {"pairs": pairs, "units": [metric["unit"] for metric in metrics], "methods": list(rows)},
    }


def _finding(finding: Finding) -> dict[str, Any]:
    """Values in the units of tables, rounded to the decimals that tell them apart."""
    unit, places, d = finding.definition.unit, comparison.telling(finding), finding.difference

    def printed(value: float) -> float:
        return round(scaled(value, unit, places), places)

    verdict = {"A better": 1, "B better": -1}.get(finding.verdict, 0)
    return {
        "n": len(finding.a),
        "places": places,
        "mean": None if d.mean is None else printed(d.mean),
        "interval": None if d.interval is None else [printed(end) for end in d.interval],
        "improvement": finding.improvement,
        "better": finding.better,
        "worse": finding.worse,
        "needed": comparison.needed(finding),
        "verdict": verdict,
        "why": "" if verdict else finding.verdict,
    }
