"""The leaderboard of a board: sortable, with ties and intervals."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from clbench.formatting import printed_unit, scaled
from clbench.measures import measure_of
from clbench.metrics import metrics_of
from clbench.reports.html.boards import BoardRuns
from clbench.reports.leaderboard import ranked_by

_NUMBERS = ("memory_bytes", "train_s", "eval_s")
"""Columns of the leaderboard behind the last columns of its table."""


def section(board: BoardRuns) -> dict[str, Any]:
    """Headings, rows with the values that they are sorted by, intervals of the ranked metric, and notes."""
    headings = [
        {"text": text, "metric": None, "number": not word or text in ("rank", "seeds")}
        for text, word in zip(board.table.headings, board.table.words, strict=True)
    ]
    first = board.table.columns.index("seeds") + 1
    for i, metric in enumerate(board.metrics):
        headings[first + i]["metric"] = metric
    shared = Counter(method.row["rank"] for method in board.methods if method.row["rank"] is not None)
    scale = _scale(board)
    rows = []
    for number, (method, cells) in enumerate(zip(board.methods, board.table.rows, strict=True)):
        row = method.row
        keys = [
            row["rank"],
            method.name,
            row["row_id"],
            row["n"],
            *(row.get(f"{metric}_mean") for metric in board.metrics),
            *(row[name] for name in _NUMBERS),
        ]
        rows.append(
            {
                "number": number,
                "cells": [{"text": text, "key": key} for text, key in zip(cells, keys, strict=True)],
                "tie": shared[row["rank"]] > 1,
                "unranked": row["unranked"],
                "interval": _interval(row, scale),
            }
        )
    unit = metrics_of(board.view)[ranked_by(board.view)].unit
    ends = [f"{scale[0]:.4g}", f"{scale[1]:.4g} {printed_unit(unit)}"]
    return {"headings": headings, "rows": rows, "notes": board.table.notes, "scale": ends}


def _ends(row: dict[str, Any]) -> tuple[float, float, float] | None:
    """Lower end, mean and upper end of the ranked metric, in percent or in the unit of a measure."""
    ranked = ranked_by(row["view"])
    mean, low, high = (row[f"{ranked}_{part}"] for part in ("mean", "ci95_lo", "ci95_hi"))
    if mean is None:
        return None
    metric = metrics_of(row["view"])[ranked]
    least, most = metric.range
    low, high = (mean if end is None else min(most, max(least, end)) for end in (low, high))
    places = 2 if measure_of(row["view"]) is None else 12
    return scaled(low, metric.unit, places), scaled(mean, metric.unit, places), scaled(high, metric.unit, places)


def _scale(board: BoardRuns) -> tuple[float, float]:
    """The axis of all intervals of the board: whole tens of percent, or tenths of a power of ten of a measure."""
    ends = [end for method in board.methods for end in _ends(method.row) or ()]
    low, high = (min(ends), max(ends)) if ends else (0.0, 100.0)
    if board.measure is not None:
        step = 10.0 ** math.floor(math.log10(high - low or high or 1.0))
        return step * (low // step), step * (-(-high // step) or 1.0)
    low, high = 10.0 * (low // 10), -10.0 * (-high // 10)
    return (low, high) if high > low else (max(0.0, high - 10), max(10.0, high))


def _interval(row: dict[str, Any], scale: tuple[float, float]) -> dict[str, float] | None:
    """Places of an interval on the axis, in percent of its length."""
    ends = _ends(row)
    if ends is None:
        return None
    low, mean, high = (round(100 * (end - scale[0]) / (scale[1] - scale[0]), 2) for end in ends)
    return {"low": low, "mean": mean, "high": high}
