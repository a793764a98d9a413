"""The leaderboard of a board: sortable, with ties and intervals."""

from __future__ import annotations

from collections import Counter
from typing import Any

from clbench.reports.columns import points
from clbench.reports.html.boards import BoardRuns
from clbench.reports.leaderboard import RANKED_BY

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
    return {"headings": headings, "rows": rows, "notes": board.table.notes, "scale": [f"{end:.0f}" for end in scale]}


def _ends(row: dict[str, Any]) -> tuple[float, float, float] | None:
    """Lower end, mean and upper end of the ranked metric in percent."""
    mean, low, high = (row[f"{RANKED_BY}_{part}"] for part in ("mean", "ci95_lo", "ci95_hi"))
    if mean is None:
        return None
    low, high = (mean if end is None else min(1.0, max(0.0, end)) for end in (low, high))
    return points(RANKED_BY, low), points(RANKED_BY, mean), points(RANKED_BY, high)


def _scale(board: BoardRuns) -> tuple[float, float]:
    """The axis of all intervals of the board, in percent: whole tens."""
    ends = [end for method in board.methods for end in _ends(method.row) or ()]
    low, high = (min(ends), max(ends)) if ends else (0.0, 100.0)
    low, high = 10.0 * (low // 10), -10.0 * (-high // 10)
    return (low, high) if high > low else (max(0.0, high - 10), max(10.0, high))


def _interval(row: dict[str, Any], scale: tuple[float, float]) -> dict[str, float] | None:
    """Places of an interval on the axis, in percent of its length."""
    ends = _ends(row)
    if ends is None:
        return None
    low, mean, high = (round(100 * (end - scale[0]) / (scale[1] - scale[0]), 2) for end in ends)
    return {"low": low, "mean": mean, "high": high}
