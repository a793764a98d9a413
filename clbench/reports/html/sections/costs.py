"""Cost against accuracy, with the methods that no other one beats in both."""

from __future__ import annotations

from typing import Any

from clbench.reports.columns import points
from clbench.reports.front import non_dominated
from clbench.reports.html.boards import BoardRuns
from clbench.reports.leaderboard import RANKED_BY

COSTS = (
    ("train_s", "training time (s)", 1.0, 2),
    ("eval_s", "evaluation time (s)", 1.0, 2),
    ("wall_s", "whole time of a run (s)", 1.0, 2),
    ("memory_bytes", "memory of the past (KiB)", 1 / 2**10, 2),
    ("peak_rss_bytes", "peak memory of the process (MiB)", 1 / 2**20, 1),
    ("peak_gpu_bytes", "peak memory of the GPU (MiB)", 1 / 2**20, 1),
)
"""Column of the leaderboard, in words with the unit, factor to that unit, decimals."""


def section(board: BoardRuns) -> dict[str, Any] | None:
    """Points by kind of cost; None where no method has both an accuracy and a cost."""
    choices = []
    for key, text, factor, places in COSTS:
        some = []
        for i, method in enumerate(board.methods):
            mean, cost = method.row[f"{RANKED_BY}_mean"], method.row[key]
            if mean is None or cost is None:
                continue
            low, high = (method.row[f"{RANKED_BY}_{end}"] for end in ("ci95_lo", "ci95_hi"))
            some.append(
                {
                    "method": i,
                    "x": round(cost * factor, places),
                    "y": round(points(RANKED_BY, mean), 2),
                    "half": None if low is None else round(points(RANKED_BY, (high - low) / 2), 2),
                    "cost": cost,
                    "worth": mean,
                }
            )
        if not some:
            continue
        front = [some[k] for k in non_dominated([p["cost"] for p in some], [p["worth"] for p in some])]
        drawn = [{name: p[name] for name in ("method", "x", "y", "half")} for p in some]
        choices.append(
            {
                "key": key,
                "text": text,
                "points": drawn,
                "front": [p["method"] for p in front],
                "names": [board.methods[p["method"]].name for p in front],
            }
        )
    if not choices:
        return None
    return {"choices": choices, "data": {"choices": choices, "y": f"{RANKED_BY} (%)"}}
