"""Cost against accuracy, with the methods that no other one beats in both."""

from __future__ import annotations

from typing import Any

from clbench.formatting import decimals, printed_unit, scaled
from clbench.metrics import metrics_of
from clbench.reports.front import non_dominated
from clbench.reports.html.boards import BoardRuns
from clbench.reports.leaderboard import ranked_by

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
    ranked = ranked_by(board.view)
    metric = metrics_of(board.view)[ranked]
    for key, text, factor, places in COSTS:
        some = []
        for i, method in enumerate(board.methods):
            mean, cost = method.row[f"{ranked}_mean"], method.row[key]
            if mean is None or cost is None:
                continue
            low, high = (method.row[f"{ranked}_{end}"] for end in ("ci95_lo", "ci95_hi"))
            digits = decimals(mean, metric.unit)
            some.append(
                {
                    "method": i,
                    "x": round(cost * factor, places),
                    "y": round(scaled(mean, metric.unit, digits), digits),
                    "half": None if low is None else round(scaled((high - low) / 2, metric.unit, digits), digits),
                    "cost": cost,
                    "worth": metric.worth(mean),
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
    unit = printed_unit(metric.unit)
    data = {"choices": choices, "y": f"{ranked} ({unit})"}
    return {"choices": choices, "data": data if board.measure is None else data | {"unit": unit}}
