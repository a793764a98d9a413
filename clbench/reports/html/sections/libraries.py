"""Numbers that other libraries would have printed for the same runs: one column for each rule, with all who use it."""

from __future__ import annotations

from typing import Any

from clbench.formatting import quantity
from clbench.metrics.dialects import ONLY_ONCE
from clbench.reports import statistics
from clbench.reports.html.boards import BoardRuns, Method

QUANTITIES = ("accuracy", "forgetting", "backward transfer")


def section(board: BoardRuns) -> dict[str, Any] | None:
    """A table for each quantity; None of a measure, and where no completed run has a trace."""
    methods = [method for method in board.methods if method.digests and not method.is_unfinished]
    if not methods or board.measure is not None:
        return None
    first = methods[0].digests[0].libraries
    if all(dialect.value is None and dialect.rule == ONLY_ONCE for dialect in first):
        return {"reason": ONLY_ONCE, "tables": []}
    tables = []
    for quantity_ in QUANTITIES:
        rules: dict[str, list[int]] = {}
        for k, dialect in enumerate(first):
            if dialect.quantity == quantity_:
                rules.setdefault(dialect.rule, []).append(k)
        columns = [
            {
                "rule": rule,
                "users": [f"{first[k].library}: {first[k].name}" for k in which],
                "metric": next((first[k].ours for k in which if first[k].ours), None),
            }
            for rule, which in rules.items()
        ]
        rows = [
            {"name": method.name, "cells": [_cell(method, which[0]) for which in rules.values()]} for method in methods
        ]
        tables.append({"quantity": quantity_, "columns": columns, "rows": rows})
    return {"reason": None, "tables": tables}


def _cell(method: Method, number: int) -> dict[str, Any]:
    """The mean over seeds of one rule."""
    mean = statistics.summary([digest.libraries[number].value for digest in method.digests])["mean"]
    return {"text": quantity(mean, "accuracy"), "key": mean}
