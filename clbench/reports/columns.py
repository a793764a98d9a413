"""Columns of the leaderboard's tables: what they are called, and how a row's value is written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from clbench.errors import UserError, unknown
from clbench.formatting import decimals, headed, number
from clbench.measures import measure_of
from clbench.metrics import METRICS, metrics_of
from clbench.reports.leaderboard import RANKED_BY, ranked_by
from clbench.reports.rows import marked

if TYPE_CHECKING:
    import pandas as pd

    from clbench.metrics.field_names import Asked

SHOWN = (RANKED_BY, "forgetting.after_learning", "min_acc", "wc_acc")
"""Default metrics of a table of counts; the one of the ranking first."""


FURTHER = ("prequential.accuracy", "prequential.average")
"""Further default metrics, of runs with the record that they are computed from."""


def usual_metrics(view: str, further: Collection[str] = ()) -> tuple[str, ...]:
    """Default metrics of a table of a view; the one of the ranking first, and those of `FURTHER` that were recorded.

    >>> usual_metrics("domain:squared_error")
    ('average', 'forgetting.after_learning', 'worst', 'worst_case')
    """
    usual = SHOWN if measure_of(view) is None else (ranked_by(view), "forgetting.after_learning", "worst", "worst_case")
    return (*usual, *(name for name in FURTHER if name in further and name in metrics_of(view)))


Spread = Literal["interval", "std"]
"""What stands behind ±: half of the 95 % Student t interval, or the standard deviation over seeds."""


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: by which it is chosen.
        heading: above it.
        cell: (row of the leaderboard, label of the row) -> text.
        words: whether it stands to the left.
        metric: name of the metric that it shows, if it does.
        note: what its heading stands for, where that needs a line.
        of_view: the column in a view, None where the view has no such metric; None of a column that is no metric's.
    """

    name: str
    heading: str
    cell: Callable[[dict[str, Any], str], str]
    words: bool = False
    metric: str | None = None
    note: str | None = None
    of_view: Callable[[str], Column | None] | None = None

    def in_view(self, view: str) -> Column | None:
        """The column with the heading of a view; None where the view has not its metric."""
        return self if self.of_view is None else self.of_view(view)


def _seeds(row: dict[str, Any]) -> str:
    failed = f", {row['n_failed']} failed" if row["n_failed"] else ""
    return f"{row['n']}{failed}" + (f", {row['n_unfinished']} unfinished" if row["n_unfinished"] else "")


def _time(row: dict[str, Any], label: str) -> str:
    train, evaluation = row["train_s"], row["eval_s"]
    return "" if train is None or evaluation is None else f"{train + evaluation:.1f}"


def _strategy(row: dict[str, Any], label: str) -> str:
    return marked(label, row["access"], row["tuning_by"], row["n_code_sha256"], row.get("made_by"))


COLUMNS = {
    column.name: column
    for column in (
        Column("rank", "rank", lambda row, _: "-" if row["rank"] is None else str(row["rank"]), words=True),
        Column("strategy", "strategy", _strategy, words=True),
        Column("row", "row", lambda row, _: row["row_id"][:8], words=True),
        Column("seeds", "seeds", lambda row, _: _seeds(row)),
        Column("memory", "memory bytes", lambda row, _: _number(row["memory_bytes"], ",.0f")),
        Column("train", "train s", lambda row, _: _number(row["train_s"], ".1f")),
        Column("eval", "eval s", lambda row, _: _number(row["eval_s"], ".1f")),
        Column("time", "train + eval s", _time),
        Column("updates", "updates", lambda row, _: _number(row["updates"], ",.0f")),
    )
}
"""Columns beside the metrics."""


def of_metric(metric: str | Asked, spread: Spread = "interval", view: str | None = None) -> Column | None:
    """The column of a metric: its mean over seeds, and a spread.

    Args:
        metric: its name; with the heading by which it was asked for.
        spread: behind ±.
        view: whose unit stands above; default: one that has the metric.

    Returns:
        None where the view has no such metric.
    """
    from clbench.metrics.field_names import Asked, view_of

    each = Asked(metric, metric) if isinstance(metric, str) else metric
    view = view_of(each.metric) if view is None else view
    definition = metrics_of(view).get(each.metric)
    if definition is None:
        return None
    return Column(
        each.metric,
        headed(each.heading, definition.unit),
        partial(_score, metric=each.metric, spread=spread),
        metric=each.metric,
        note=each.note_in(view),
        of_view=partial(of_metric, each, spread),
    )


def recorded(frame: pd.DataFrame) -> frozenset[str]:
    """The metrics of `FURTHER` that runs of a leaderboard have."""
    return frozenset(name for name in FURTHER if f"{name}_mean" in frame.columns)


def usual(
    metrics: Sequence[str | Asked] | None, view: str, spread: Spread = "interval", further: Collection[str] = ()
) -> tuple[Column, ...]:
    """The columns of a table with some metrics, those of them that a view has; None for its usual ones."""
    several = (of_metric(metric, spread, view) for metric in (metrics or usual_metrics(view, further)))
    middle = [column for column in several if column is not None]
    first, last = ("rank", "strategy", "row", "seeds"), ("memory", "train", "eval")
    return (*(COLUMNS[name] for name in first), *middle, *(COLUMNS[name] for name in last))


def chosen(names: Sequence[str], spread: Spread = "interval") -> tuple[Column, ...]:
    """The columns of some names, in that order.

    Args:
        names: of `COLUMNS`, of metrics, or names of the field; see `metrics.field_names`.
        spread: behind the ± of metrics.

    Raises:
        UserError: an unknown name.

    >>> [column.heading for column in chosen(["strategy", "ACC", "bwt", "time"])]
    ['strategy', 'ACC %', 'BWT %', 'train + eval s']
    """
    from clbench.metrics.field_names import FIELD_NAMES, NUMBERS, asked

    out, problems = [], []
    for name in names:
        if name.casefold() in COLUMNS:
            out.append(COLUMNS[name.casefold()])
            continue
        try:
            metric = of_metric(asked(name, "--columns"), spread)
        except UserError:
            known = {*COLUMNS, *METRICS, *NUMBERS, *(field.name for field in FIELD_NAMES)}
            problems.append(f"--columns: {unknown('column', name, known)}")
        else:
            assert metric is not None  # of a view that has it
            out.append(metric)
    if problems:
        raise UserError(*problems)
    if not out:
        raise UserError(f"--columns: no name. Allowed: metrics, {', '.join(COLUMNS)}.")
    return tuple(out)


def left_open(metrics: Iterable[str], undefined: Iterable[str], every: int, dense: int, view: str) -> list[str]:
    """Lines on metrics that a schedule of evaluations leaves undefined, or as bounds.

    Args:
        metrics: those shown.
        undefined: those of them without a value.
        every, dense: see `clbench.config.evaluation.Evaluation`.
        view: that has the metrics.

    >>> left_open(["average_accuracy", "wf_10", "min_acc"], ["wf_10"], 10, 0, "class")
    ['undefined: wf_10 needs evaluations up to 9 iterations apart; they are made every 10 iterations', \
'upper bound (≤), as not every iteration is evaluated: min_acc']
    """
    lines = [
        f"undefined: {name} {why}" for name in undefined if (why := metrics_of(view)[name].unreached(every, dense))
    ]
    for bound, sign in SIGNS.items():
        names = [name for name in metrics if bound_sign(name, every, view) == sign and name not in undefined]
        lines += [f"{bound} bound ({sign}), as not every iteration is evaluated: {', '.join(names)}"] * bool(names)
    return lines


SIGNS = {"upper": "≤", "lower": "≥"}
"""Kind of bound -> its mark."""


def bound_sign(metric: str, every: int, view: str) -> str:
    """The mark of a value that is a bound; empty where it is exact."""
    bound = metrics_of(view)[metric].bound
    return "" if bound is None or every == 1 else SIGNS[bound]


def _score(row: dict[str, Any], label: str, metric: str, spread: Spread) -> str:
    mean, std, low, high = (row.get(f"{metric}_{statistic}") for statistic in ("mean", "std", "ci95_lo", "ci95_hi"))
    if mean is None:
        return f"undefined in {row['n'] - row.get(f'{metric}_n', 0)}" if row["n"] else ""
    width = std if spread == "std" else None if low is None else (high - low) / 2
    sign = bound_sign(metric, row["eval_every"], row["view"])
    return f"{sign}{' ' * bool(sign)}{with_half(mean, width, metrics_of(row['view'])[metric].unit)}"


def with_half(mean: float, half: float | None, unit: str) -> str:
    """A mean with what stands behind ±, in the unit in which it is printed, without it.

    >>> with_half(0.8125, 0.01, "accuracy"), with_half(0.0012345, 0.0001, "nats"), with_half(3.0, None, "share")
    ('81.25 ± 1.00', '0.001234 ± 0.000100', '300.00')
    """
    return number(mean, unit) + ("" if half is None else f" ± {number(half, unit, decimals(mean, unit))}")


def heading(metric: str, view: str) -> str:
    """A metric's name with the unit in which it is printed."""
    return headed(metric, metrics_of(view)[metric].unit)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
