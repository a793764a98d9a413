"""The page of the study of pretrained networks, benchmarks/results/pretrained_gap.md, from its runs.

    make pretrained-real                                                  # the runs, and this
    python benchmarks/studies/pretrained_gap.py results/pretrained_real   # this alone

Means over seeds, with 95 % Student t intervals. Whatever is shown of the vision transformer says what its weights are.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pages import Place, interval, percent

from clbench.pretrained.vit_s14 import CAVEAT
from clbench.results import load

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = Place(
    ROOT / "benchmarks" / "results" / "pretrained_gap.md",
    "<!-- tables: written by benchmarks/studies/pretrained_gap.py -->",
    "<!-- end of tables -->",
)
BENCHMARKS = {
    "text_topics": "MiniLM, class-incremental topics of texts",
    "text_sentiment": "MiniLM, domain-incremental sentiment",
    "text_tasks": "MiniLM, task-incremental classification of texts",
    "vit_cifar100": "ViT-S/14, class-incremental CIFAR-100",
}
METRICS = {
    "average_accuracy": "ACC",
    "forgetting.after_learning": "forgetting",
    "gap.depth": "gap: depth",
    "gap.transient": "of it transient",
    "min_acc": "min-ACC",
    "wc_acc": "WC-ACC",
}
"""Columns in percent."""

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """The runs of a strategy's configuration on a benchmark, by seed.

    Attributes:
        name: of the strategy.
        parameters: its hyper-parameters.
    """

    name: str
    parameters: Mapping[str, Any]
    runs: Mapping[int, Record]


def rows(root: Path, benchmark: str) -> list[Row]:
    """The configurations of a benchmark that have a completed run, in the order of their names."""
    groups: dict[str, dict[int, Record]] = {}
    if not (root / benchmark).is_dir():
        return []
    for directory in load.directories([root / benchmark]):
        record = load.read(directory).record.raw
        if record["status"] == "completed":
            groups.setdefault(record["config_hash"], {})[record["config"]["seed"]] = record
    made = []
    for runs in groups.values():
        strategy = dict(next(iter(runs.values()))["config"]["strategy"])
        made.append(Row(strategy.pop("name"), strategy, runs))
    return sorted(made, key=lambda row: (row.name, str(row.parameters)))


def labels(of: Sequence[Row]) -> list[str]:
    """The name of each row; where several have one name, with the parameters that differ among them.

    >>> labels([Row("er", {"memory": 5, "loss": "sum"}, {}), Row("er", {"memory": 9, "loss": "sum"}, {})])
    ['er, memory 5', 'er, memory 9']
    """
    made = []
    for row in of:
        same = [other.parameters for other in of if other.name == row.name]
        differing = [k for k in row.parameters if any(other.get(k) != row.parameters[k] for other in same)]
        made.append(", ".join([row.name, *(f"{k} {row.parameters[k]}" for k in differing)]))
    return made


def metric(record: Record, name: str) -> float:
    """A metric in the benchmark's view; NaN where it is undefined."""
    value = record["metrics"][record["primary_view"]][name]["value"]
    return math.nan if value is None else float(value)


def in_percent(values: Sequence[float]) -> str:
    """Mean and interval of shares."""
    if any(map(math.isnan, values)):
        return "undefined"
    return percent(*interval([100 * value for value in values]))


def table(of: Sequence[Row]) -> Iterator[str]:
    """A line for each row, and the two above them."""
    names = ["", *METRICS.values(), "iterations to trough", "seconds", "of it evaluation", "memory, kB", "seeds"]
    yield f"| {' | '.join(names)} |"
    yield f"|---|{'---:|' * (len(names) - 1)}"
    for row, label in zip(of, labels(of), strict=True):
        runs = list(row.runs.values())
        cells = [in_percent([metric(record, name) for record in runs]) for name in METRICS]
        troughs = [t for record in runs if not math.isnan(t := metric(record, "gap.iterations_to_trough"))]
        wall, evaluation = (math.fsum(r["costs"][k] for r in runs) / len(runs) for k in ("wall_s", "eval_s"))
        held = max(record["memory"]["bytes"] or 0 for record in runs)
        cells += [f"{math.fsum(troughs) / len(troughs):.1f}" if troughs else "", f"{wall:.0f}", f"{evaluation:.0f}"]
        yield f"| `{label}` | {' | '.join(cells)} | {held / 1000:,.0f} | {', '.join(map(str, sorted(row.runs)))} |"


def tables(root: Path) -> str:
    """All tables of the page."""
    parts: list[str] = []
    for benchmark, title in BENCHMARKS.items():
        of = rows(root, benchmark)
        if not of:
            continue
        record = next(iter(of[0].runs.values()))
        experiences, updates = record["stream"]["experiences"], record["costs"]["iterations"]
        parts += [f"### {title}", ""]
        if "vit_s14" in record["config"]["benchmark"]["model"]["factory"]:
            parts += [f"**{CAVEAT}.**", ""]
        parts += [f"`{benchmark}`: {experiences} experiences, {updates} updates.", "", *table(of), ""]
    return "\n".join(parts).rstrip()


def main(arguments: list[str] | None = None) -> None:
    """Writes the page's tables and prints them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder of the runs")
    text = tables(parser.parse_args(arguments).root)
    PAGE.write(text)
    print(text)


if __name__ == "__main__":
    main()
