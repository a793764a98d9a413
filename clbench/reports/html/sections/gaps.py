"""The anatomy of the stability gap: its quantities for each method, and the mean curve after a task boundary."""

from __future__ import annotations

from typing import Any

import numpy as np

from clbench.formatting import decimals, number
from clbench.metrics import metrics_of
from clbench.reports.columns import bound_sign, heading
from clbench.reports.html.boards import BoardRuns, Method
from clbench.reports.html.curves import Band, after_boundaries
from clbench.reports.html.embedding import curve, scale_of, words_of

METRICS = (
    "gap.depth", "gap.iterations_to_trough", "gap.recovery_90", "gap.recovered_90", "gap.area", "gap.transient",
    "gap.permanent", "gap.regained", "gap.recovery_90_of_drop", "gap.recovered_90_of_drop",
)  # fmt: skip
AGAIN = ("gap.depth.trained_again", "gap.area.trained_again")
"""Shown where a stream trains on earlier tasks again."""


def section(board: BoardRuns, columns: int) -> dict[str, Any] | None:
    """A table from the runs' metrics, and curves where there are traces; None where no gap is known."""
    metrics = [name for name in _known(board) if any(method.row[f"{name}_n"] for method in board.methods)]
    if not metrics:
        return None
    rows = []
    deepest = max((method.row["gap.depth_mean"] or 0.0 for method in board.methods), default=0.0)
    for method in board.methods:
        if not method.completed:
            continue
        cells = [_cell(method, name) for name in metrics]
        rows.append({"name": method.name, "cells": cells, "bar": _bar(method, deepest)})
    curves = _curves(board, columns)
    return {
        "headings": [{"text": heading(name, board.view).removeprefix("gap."), "metric": name} for name in metrics],
        "rows": rows,
        "data": {"curves": curves, **words_of(board.measure, "change")} if curves else None,
    }


def _known(board: BoardRuns) -> list[str]:
    """The metrics of the view."""
    return [name for name in (*METRICS, *AGAIN) if name in metrics_of(board.view)]


def _cell(method: Method, name: str) -> dict[str, Any]:
    row = method.row
    mean, low, high, n = (row[f"{name}_{part}"] for part in ("mean", "ci95_lo", "ci95_hi", "n"))
    if mean is None:
        return {"text": f"undefined in {row['n'] - n} of {row['n']}", "half": "", "key": None}
    unit = metrics_of(row["view"])[name].unit
    half = "" if low is None else f"± {number((high - low) / 2, unit, decimals(mean, unit))}"
    sign = bound_sign(name, row["eval_every"], row["view"])
    return {"text": f"{sign} {number(mean, unit)}".strip(), "half": half, "key": mean}


def _bar(method: Method, deepest: float) -> dict[str, float] | None:
    """Shares of a bar: of the loss that comes back within the experience, and of the one that stays."""
    transient, permanent = (method.row[f"gap.{name}_mean"] for name in ("transient", "permanent"))
    if transient is None or permanent is None or deepest <= 0:
        return None
    return {"transient": round(100 * transient / deepest, 2), "permanent": round(100 * permanent / deepest, 2)}


def _curves(board: BoardRuns, columns: int) -> list[dict[str, Any]]:
    """Of each method with traces, its curve after a boundary over seeds."""
    out = []
    for i, method in enumerate(board.methods):
        curves = [after for digest in method.digests if (after := after_boundaries(digest)) is not None]
        if not curves:
            continue
        end = min(int(x[-1]) for x, _ in curves)
        grid = np.unique(np.concatenate([x for x, _ in curves]))
        grid = grid[grid <= end]
        band = Band.over(grid, np.stack([np.interp(grid, x, y) for x, y in curves])).thinned(columns, end)
        out.append(curve(i, band, scale_of([band], board.measure)))
    return out
