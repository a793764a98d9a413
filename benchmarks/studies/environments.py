"""The power-law study as a table: environments with one budget, compared seed by seed.

    make power-law SEEDS="0 1 2 3 4"                         # the runs, minutes on two cores
    make power-law-table                                     # this table, as Markdown

Differences to the power-law environment are paired by seed (one seed has the same permutations, initial weights and
batch order in each), with 95 % Student t intervals.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from pages import interval, percent

from clbench.errors import UserError
from clbench.results import load

ENVIRONMENTS = ("power_law", "exponential", "uniform", "no_rehearsal")
COLUMNS = {
    "average_accuracy": "ACC",
    "min_acc": "min-ACC",
    "forgetting.after_learning": "forgetting (after learning)",
    "forward_facilitation.90": "forward facilitation (90 %)",
}


def table(root: Path, data: str) -> str:
    """Markdown of one data set's environments; the seeds that all of them have.

    Raises:
        UserError: a run is missing or damaged.
    """
    found: dict[str, dict[int, dict[str, float]]] = {}
    for environment in ENVIRONMENTS:
        for directory in load.directories([root / f"{environment}_{data}-v1" / "naive"]):
            record = load.read(directory).record.raw
            metrics = record["metrics"][record["primary_view"]]
            values = {name: np.nan if metrics[name]["value"] is None else metrics[name]["value"] for name in COLUMNS}
            found.setdefault(environment, {})[record["config"]["seed"]] = values
    seeds = sorted(set.intersection(*(set(runs) for runs in found.values())))
    lines = [
        f"| {data}, seeds {', '.join(map(str, seeds))} | {' | '.join(COLUMNS.values())} | ACC minus power law's |",
        f"|---|{'---|' * len(COLUMNS)}---|",
    ]
    for environment in ENVIRONMENTS:
        cells = []
        for name in COLUMNS:
            each = np.array([found[environment][s][name] for s in seeds])
            scale, digits = (1, 1) if name.startswith("forward_facilitation") else (100, 2)
            mean, half = interval((scale * each).tolist())
            known = f"{mean:.{digits}f} ± {half:.{digits}f}"
            cells.append("undefined in some" if np.isnan(each).any() else known)
        less = [found[environment][s]["average_accuracy"] - found["power_law"][s]["average_accuracy"] for s in seeds]
        paired = ""
        if environment != "power_law":
            paired = percent(*interval([100 * one for one in less]), "+")
        lines.append(f"| {environment} | {' | '.join(cells)} | {paired} |")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        print(table(Path(sys.argv[1]), sys.argv[2]))
    except UserError as error:
        sys.exit(str(error))
