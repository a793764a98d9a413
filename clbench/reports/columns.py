"""Columns of the leaderboard's tables: what they are called, and how a row's value is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from clbench.errors import UserError, unknown
from clbench.formatting import printed_unit, scaled
from clbench.metrics import METRICS
from clbench.reports.leaderboard import RANKED_BY
from clbench.reports.rows import marked

if TYPE_CHECKING:
    import pandas as pd

    from clbench.metrics.field_names import Asked

SHOWN = (RANKED_BY, "forgetting.after_learning", "min_acc", "wc_acc")
"""Default metrics of a table; the one of the ranking first."""

FURTHER = ("prequential.accuracy",)
"""Further default metrics, of runs with the record that they are computed from."""

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
    """

    name: str
    heading: str
    cell: Callable[[dict[str, Any], str], str]
    words: bool = False
    metric: str | None = None
    note: str | None = None


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


def of_metric(metric: str, title: str | None = None, note: str | None = None, spread: Spread = "interval") -> Column:
    """The column of a metric: its mean over seeds, and a spread.

    Args:
        metric: its name.
        title: above it, with the unit behind; default: the metric's name.
        note: what the title stands for.
        spread: behind ±.
    """
    above = f"{title or metric} {printed_unit(METRICS[metric].unit)}"
    return Column(metric, above, partial(_score, metric=metric, spread=spread), metric=metric, note=note)


def default_metrics(frame: pd.DataFrame) -> tuple[str, ...]:
    """Default metrics of a table: `SHOWN`, and those of `FURTHER` that its runs have.

    Args:
        frame: the leaderboard.
    """
    return (*SHOWN, *(name for name in FURTHER if f"{name}_mean" in frame.columns))


def usual(metrics: Sequence[str | Asked] = SHOWN, spread: Spread = "interval") -> tuple[Column, ...]:
    """The columns of a table with some metrics."""
    middle = [_metric(metric, spread) for metric in metrics]
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
    from clbench.metrics.field_names import FIELD_NAMES, asked

    out, problems = [], []
    for name in names:
        if name.casefold() in COLUMNS:
            out.append(COLUMNS[name.casefold()])
            continue
        try:
            out.append(_metric(asked(name, "--columns"), spread))
        except UserError:
            known = {*COLUMNS, *METRICS, *(field.name for field in FIELD_NAMES)}
            problems.append(f"--columns: {unknown('column', name, known)}")
    if problems:
        raise UserError(*problems)
    if not out:
        raise UserError(f"--columns: no name. Allowed: metrics, {', '.join(COLUMNS)}.")
    return tuple(out)


def _metric(metric: str | Asked, spread: Spread) -> Column:
    if isinstance(metric, str):
        return of_metric(metric, spread=spread)
    return of_metric(metric.metric, metric.heading, metric.note, spread)


def left_open(metrics: Iterable[str], undefined: Iterable[str], every: int, dense: int) -> list[str]:
    """Lines on metrics that a schedule of evaluations leaves undefined, or as bounds.

    Args:
        metrics: those shown.
        undefined: those of them without a value.
        every, dense: see `clbench.config.evaluation.Evaluation`.

    >>> left_open(["average_accuracy", "wf_10", "min_acc"], ["wf_10"], 10, 0)
    ['undefined: wf_10 needs evaluations up to 9 iterations apart; they are made every 10 iterations', \
'upper bound (≤), as not every iteration is evaluated: min_acc']
    """
    lines = [f"undefined: {name} {why}" for name in undefined if (why := METRICS[name].unreached(every, dense))]
    for bound, sign in SIGNS.items():
        names = [name for name in metrics if bound_sign(name, every) == sign and name not in undefined]
        lines += [f"{bound} bound ({sign}), as not every iteration is evaluated: {', '.join(names)}"] * bool(names)
    return lines


SIGNS = {"upper": "≤", "lower": "≥"}
"""Kind of bound -> its mark."""


def bound_sign(metric: str, every: int) -> str:
    """The mark of a value that is a bound; empty where it is exact."""
    bound = METRICS[metric].bound
    return "" if bound is None or every == 1 else SIGNS[bound]


def _score(row: dict[str, Any], label: str, metric: str, spread: Spread) -> str:
    name = metric
    mean, std, low, high = (row.get(f"{name}_{statistic}") for statistic in ("mean", "std", "ci95_lo", "ci95_hi"))
    if mean is None:
        return f"undefined in {row['n'] - row.get(f'{name}_n', 0)}" if row["n"] else ""
    width = std if spread == "std" else None if low is None else (high - low) / 2
    half = "" if width is None else f" ± {points(name, width):.2f}"
    sign = bound_sign(name, row["eval_every"])
    return f"{sign}{' ' * bool(sign)}{points(name, mean):.2f}{half}"


def heading(metric: str) -> str:
    """A metric's name with the unit of `points`."""
    return f"{metric} {printed_unit(METRICS[metric].unit)}"


def points(metric: str, value: float) -> float:
    """A value in the units of tables: accuracies and shares in percent; never -0.00."""
    return scaled(value, METRICS[metric].unit)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
