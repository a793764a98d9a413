"""The scores of a run: every metric, the anatomy of its stability gaps, and the values of other libraries.

A table has two forms: rounded and aligned for the terminal, unrounded for a CSV file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clbench.formatting import quantity
from clbench.metrics import METRICS, Metric, compute
from clbench.reports.tabular import aligned, csv_bytes
from clbench.results.load import Run
from clbench.trace import Trace

NOT_RECOVERED = "not within the experience"


@dataclass(frozen=True)
class Table:
    """Rows of one kind.

    Attributes:
        name: short word for the kind.
        columns: names in files.
        headings: of the columns on the terminal.
        rows: values for files: numbers unrounded, accuracies in [0, 1], None where undefined.
        shown: the same as text, in the order of `headings`.
    """

    name: str
    columns: tuple[str, ...]
    headings: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]
    shown: Sequence[tuple[str, ...]]


def metrics(run: Run, view: str, definitions: Sequence[Metric] | None = None) -> Table:
    """Metrics of a run; see `of_trace`."""
    return of_trace(run.scored(), view, definitions)


def of_trace(trace: Trace, view: str, definitions: Sequence[Metric] | None = None) -> Table:
    """Metrics: value, sampling error, better direction, and what the schedule of evaluations leaves open.

    Args:
        trace: of a run.
        view: of the trace.
        definitions: of the metrics; default: all of `METRICS` whose record the trace has.
    """
    rows, shown = [], []
    by_name = METRICS if definitions is None else {metric.name: metric for metric in definitions}
    for name, entry in compute(trace, definitions, [view])[view].items():
        metric = by_name[name]
        value, se, resolution = entry["value"], entry.get("se"), entry.get("resolution")
        rows.append((name, value, metric.unit, se, resolution, metric.better))
        shown.append(
            (
                name,
                quantity(value, metric.unit),
                "" if se is None else f"± {quantity(se, metric.unit)}",
                metric.direction,
                _left_open(metric, value, resolution, trace, view),
            )
        )
    columns = ("name", "value", "unit", "se", "resolution", "better")
    return Table("metric", columns, ("metric", "value", "sampling error", "", ""), rows, shown)


def _left_open(metric: Metric, value: float | None, resolution: int | None, trace: Trace, view: str) -> str:
    """The bound or the reason that a schedule of evaluations leaves of a value."""
    if not metric.is_recorded(trace, view):
        return f"needs watch.{metric.record}, which was off"
    if value is None:
        return metric.unreached(trace.every, trace.dense) or ""
    if resolution is None or resolution == 1:
        return ""
    return f"{metric.bound} bound: evaluations are up to {resolution} iterations apart"


def gaps(run: Run, view: str) -> Table:
    """The anatomy of every gap: one line for each task boundary and each task visited earlier."""
    from clbench.metrics.gap import anatomy

    rows, shown = [], []
    levels = (0.90, 0.95, 1.00)
    for gap in anatomy(run.scored(), view):
        recovery = [gap.recovery[level] for level in levels]
        rows.append(
            (
                gap.experience, gap.task, gap.trained_again, gap.before, gap.depth, gap.iterations_to_trough,
                *(math.inf if value is None else value for value in recovery), gap.area, gap.transient, gap.permanent,
            )
        )  # fmt: skip
        back = [NOT_RECOVERED if value is None else quantity(value, "iterations", 1) for value in recovery]
        shown.append(
            (
                str(gap.experience),
                f"{gap.task}{' (trained again)' if gap.trained_again else ''}",
                quantity(gap.before, "accuracy"),
                quantity(gap.depth, "accuracy"),
                quantity(gap.iterations_to_trough, "iterations", 0),
                *back,
                quantity(gap.area, "accuracy x iterations"),
                quantity(gap.transient, "accuracy"),
                quantity(gap.permanent, "accuracy"),
            )
        )
    columns = (
        "experience", "task", "trained_again", "before", "depth", "iterations_to_trough",
        "recovery_90", "recovery_95", "recovery_100", "area", "transient", "permanent",
    )  # fmt: skip
    headings = (
        "experience", "task", "before", "depth", "trough after",
        "back at 90 % after", "back at 95 % after", "back at 100 % after", "area", "transient", "permanent",
    )  # fmt: skip
    return Table("gap", columns, headings, rows, shown)


def dialects(run: Run, view: str) -> Table:
    """Values of other libraries for the same accuracies, with their rule and our name for it."""
    from clbench.metrics import dialects as libraries

    rows, shown = [], []
    for d in libraries.dialects(run.scored(), view):
        rows.append((d.library, d.quantity, d.name, d.value, d.rule, d.ours))
        shown.append((d.library, d.name, quantity(d.value, "accuracy"), d.ours or "none", d.rule))
    columns = ("library", "quantity", "name", "value", "rule", "ours")
    return Table("dialect", columns, ("library", "its name", "value", "our name", "rule"), rows, shown)


def to_text(table: Table) -> str:
    """A table for the terminal."""
    if not table.rows:
        return f"no {table.name}"
    return "\n".join(aligned([table.headings, *table.shown]))


def to_csv(tables: Sequence[Table], view: str) -> bytes:
    """Tables as one CSV file; column `table` tells their rows apart, a cell is empty where it is undefined.

    Numbers are unrounded, accuracies in [0, 1]; an iteration count is infinite where a level was not reached again
    within the experience. A cell that a spreadsheet would execute starts with an apostrophe.
    """
    columns = list(dict.fromkeys(column for table in tables for column in table.columns))
    rows = []
    for table in tables:
        for row in table.rows:
            cells = dict(zip(table.columns, row, strict=True))
            rows.append([table.name, view, *(cells.get(column) for column in columns)])
    return csv_bytes(["table", "view", *columns], rows)
