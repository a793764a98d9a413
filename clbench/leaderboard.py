"""The leaderboard: a pure function of run files. One row for each benchmark definition and strategy configuration.

Missing is empty, never 0. A failed or unfinished run is counted and its reason shown; it takes no part in a mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from clbench import results
from clbench.errors import UserError
from clbench.metrics import METRICS

_COSTS = ("train_s", "eval_s", "wall_s", "peak_rss_bytes")


def collect(root: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """All run records under a folder, each run once, and a sentence for each file that is left out."""
    records: list[dict[str, Any]] = []
    problems: list[str] = []
    seen: dict[tuple[str, str | None], Path] = {}
    for directory in results.find_runs(root):
        try:
            record = results.read_run(directory)
        except UserError as error:
            problems += error.problems
            continue
        copy = (record["run_id"], (record["stream"] or {}).get("instance_hash"))
        if copy in seen:
            problems.append(f"{directory / 'run.json'}: the same run as {seen[copy] / 'run.json'}.")
            continue
        seen[copy] = directory
        records.append(record)
    return records, problems


def table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """The leaderboard of some run records.

    The same records in another order give the same table. Intervals are 95 % Student t intervals of the mean over
    seeds, empty below two seeds.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for record in records:
        config = record["config"]
        data = (record["stream"] or {}).get("data_sha256", "")
        key = (record["benchmark"], record["definition_hash"], data, config["strategy"]["name"], record["config_hash"])
        groups.setdefault(key, []).append(record)
    rows = [_row(sorted(group, key=lambda r: r["config"]["seed"])) for _, group in sorted(groups.items())]
    frame = pd.DataFrame(rows)
    if len(frame):
        order = ["benchmark", "definition_hash", "average_accuracy_mean", "strategy", "config_hash"]
        frame = frame.sort_values(order, ascending=[True, True, False, True, True], kind="stable", ignore_index=True)
    return frame


def _row(group: list[dict[str, Any]]) -> dict[str, Any]:
    first = group[0]
    done = [r for r in group if r["status"] == "completed"]
    failed = [r for r in group if r["status"] == "failed"]
    strategy = first["config"]["strategy"]
    row: dict[str, Any] = {
        "benchmark": first["benchmark"] + ("*" if first["modified"] else ""),
        "definition_hash": first["definition_hash"],
        "setting": first["primary_view"],
        "strategy": strategy["name"],
        "parameters": "; ".join(f"{k}={v}" for k, v in strategy.items() if k != "name" and v is not None),
        "config_hash": first["config_hash"],
        "access": next((r["access"] for r in group if r["access"]), None),
        "status": "completed" if len(done) == len(group) else "failed" if failed else "unfinished",
        "seeds": " ".join(str(r["config"]["seed"]) for r in done),
        "n": len(done),
        "n_failed": len(failed),
        "n_unfinished": len(group) - len(done) - len(failed),
        "failure": "; ".join(f"seed {r['config']['seed']}: {r['failure']['message']}" for r in failed),
        "instance_hashes": " ".join(r["stream"]["instance_hash"] for r in done),
        "data_sha256": (first["stream"] or {}).get("data_sha256"),
    }
    for name in METRICS:
        values = [r["metrics"][r["primary_view"]].get(name, {}).get("value") for r in done]
        for statistic, value in summary(values).items():
            row[f"{name}_{statistic}"] = value
    for part in ("samples", "bytes"):
        held = [r["memory"][part] for r in done]
        row[f"memory_{part}"] = max(held) if held and None not in held else None
    for cost in _COSTS:
        spent = [r["costs"][cost] for r in done if r["costs"]]
        row[cost] = sum(spent) / len(spent) if spent else None
    row["model_parameters"] = first["parameters"]
    provenance = first["provenance"]
    row["clbench"] = provenance["clbench"]
    git = provenance["git"] or {}
    row["git"] = (git.get("commit") or "") + ("+" if git.get("dirty") else "")
    row["torch"] = provenance["packages"]["torch"]
    row["device"] = provenance["gpu"] or provenance["cpu"]
    row["threads"] = first["config"]["numerics"]["threads"]
    return row


def summary(values: list[float | None]) -> dict[str, float | None]:
    """Mean, standard deviation (n - 1) and 95 % interval; None where one value is missing or seeds are too few.

    >>> summary([0.1, 0.3])["mean"], summary([0.5])["std"]
    (0.2, None)
    """
    known = [v for v in values if v is not None]
    if not known or len(known) < len(values):
        return dict.fromkeys(("mean", "std", "ci95_lo", "ci95_hi"))
    n, mean = len(known), math.fsum(known) / len(known)
    if n < 2:
        return {"mean": mean, "std": None, "ci95_lo": None, "ci95_hi": None}
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in known) / (n - 1))
    half = float(stats.t.ppf(0.975, n - 1)) * std / math.sqrt(n)
    return {"mean": mean, "std": std, "ci95_lo": mean - half, "ci95_hi": mean + half}


def to_csv(frame: pd.DataFrame) -> bytes:
    """CSV; a cell that a spreadsheet would execute starts with an apostrophe."""

    def harmless(cell: Any) -> Any:
        return "'" + cell if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell

    text: str = frame.map(harmless).to_csv(index=False, lineterminator="\n")
    return text.encode()


def to_text(frame: pd.DataFrame) -> str:
    """A table for the terminal; accuracies in percent, mean ± standard deviation over seeds."""
    if not len(frame):
        return "no runs"

    def percent(name: str) -> list[str]:
        shown = []
        for mean, std in zip(frame[f"{name}_mean"], frame[f"{name}_std"], strict=True):
            shown.append("" if pd.isna(mean) else f"{100 * mean:.1f}" + ("" if pd.isna(std) else f" ± {100 * std:.1f}"))
        return shown

    def plain(column: str, form: str) -> list[str]:
        return ["" if pd.isna(v) else format(v, form) for v in frame[column]]

    labels = []
    for strategy, access, group in zip(frame["strategy"], frame["access"], frame["config_hash"], strict=True):
        labels.append(f"{strategy}{' (not continual)' if access in ('past', 'stream') else ''} {group[:6]}")
    columns = {
        "benchmark": list(frame["benchmark"]),
        "strategy, config": labels,
        "seeds": [
            f"{n}" if s == "completed" else f"{n} ({s})" for n, s in zip(frame["n"], frame["status"], strict=True)
        ],
        "ACC %": percent("average_accuracy"),
        "forgetting.after_learning %": percent("forgetting.after_learning"),
        "min-ACC %": percent("min_acc"),
        "WC-ACC %": percent("wc_acc"),
        "memory bytes": plain("memory_bytes", ",.0f"),
        "train s": plain("train_s", ".1f"),
        "eval s": plain("eval_s", ".1f"),
    }
    widths = [max(len(h), *map(len, cells)) for h, cells in columns.items()]
    lines = ["  ".join(h.ljust(w) for h, w in zip(columns, widths, strict=True)).rstrip()]
    lines.append("  ".join("-" * w for w in widths))
    for i in range(len(frame)):
        cells = [c[i] for c in columns.values()]
        words = [c.ljust(w) if k < 2 else c.rjust(w) for k, (c, w) in enumerate(zip(cells, widths, strict=True))]
        lines.append("  ".join(words).rstrip())
    for row in frame.to_dict("records"):
        if row["failure"]:
            lines.append(f"failed: {row['benchmark']} {row['strategy']}: {row['failure']}")
    if any(b.endswith("*") for b in frame["benchmark"]):
        lines.append("* differs from the shipped benchmark of that id, or none of that id is shipped")
    return "\n".join(lines)
