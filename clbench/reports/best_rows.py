"""Rows that are best in a metric: the one with the best mean, and those that no difference from it is shown for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from clbench.metrics import Metric, metrics_of
from clbench.reports import statistics
from clbench.reports.rows import Row, groups
from clbench.results.record import Record

RULE = (
    "the best mean among the continual learners shown, and those whose difference from it, paired by seed, has a 95 % "
    "Student t interval with 0 in it; none where no row differs from the best"
)


def best(
    records: Iterable[Record], metrics: Sequence[str], shown: Iterable[str] | None = None
) -> frozenset[tuple[str, str]]:
    """The best rows of each board, as (row id, metric).

    A row counts if it is a continual learner with two finished seeds or more, in all of which the metric is defined.
    One that has fewer than two seeds in common with the best cannot be compared with it, and is not among the best.

    Args:
        records: runs of any boards.
        metrics: names.
        shown: ids of the rows to choose from; None for all.
    """
    chosen = None if shown is None else set(shown)
    boards: dict[tuple[str, str], list[Row]] = {}
    for id_, group in groups(records):
        row = Row(id_, tuple(group))
        if chosen is None or id_ in chosen:
            boards.setdefault((row.definition, row.data), []).append(row)
    return frozenset((id_, metric) for rows in boards.values() for metric in metrics for id_ in _best(rows, metric))


def _best(rows: Sequence[Row], metric: str) -> list[str]:
    """Ids of the best rows of a board; none where no row differs from the best, or the board has no such metric."""
    definition = metrics_of(rows[0].view).get(metric)
    if definition is None:
        return []
    values = {row.id: seeds for row in rows if len(seeds := _values(row, definition)) > 1}
    if len(values) < 2:
        return []
    sign = 1.0 if definition.better == "higher" else -1.0
    means = {id_: sign * (statistics.summary(list(seeds.values()))["mean"] or 0.0) for id_, seeds in values.items()}
    first = max(sorted(means), key=means.__getitem__)
    equal, differs = [first], False
    for id_, seeds in values.items():
        difference = statistics.difference(values[first], seeds)
        if id_ != first and difference.interval is not None:
            differs |= difference.shown
            equal += [] if difference.shown else [id_]
    return equal if differs else []


def _values(row: Row, metric: Metric) -> dict[int, float]:
    """Values by seed as comparisons take them; empty where the row does not count."""
    done = [record for record in row.records if record.status == "completed"]
    if any(record.access in ("past", "stream") for record in row.records):
        return {}
    values = {}
    for record in done:
        score = record.scores.get(metric.name)
        if score is None or score.value is None or record.seed in values:
            return {}
        values[record.seed] = metric.compared(score.value)
    return values
