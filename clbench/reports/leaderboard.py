"""The leaderboard: pure functions of run files. `runs` is long and aggregates nothing; `table` has one row for each
benchmark definition, data and strategy configuration of the same records.

A *board* is the rows of one definition hash, data and view; only these are compared. Missing is empty, never 0. A
failed or unfinished run is counted and its reason shown; it is excluded from means.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from clbench.measures import measure_of
from clbench.metrics import metrics_of
from clbench.reports import statistics
from clbench.reports.rows import codes, groups, view_of
from clbench.reports.rows import row_id as row_id
from clbench.results.record import Record
from clbench.rng import ROLES
from clbench.streams.definition import data_name

SCHEMA = 1
"""Version of the columns of both files."""

LEAST_SEEDS = 5
"""Completed seeds that a row needs to be ranked."""

RANKED_BY = "average_accuracy"
"""The metric of the ranking of counts, in the primary view; higher is better."""


def ranked_by(view: str) -> str:
    """The metric of the ranking in a view.

    >>> ranked_by("class"), ranked_by("domain:squared_error")
    ('average_accuracy', 'average')
    """
    return RANKED_BY if measure_of(view) is None else "average"


WEIGHTS = ("weights", "tensors_sha256", "weights_sha256")
"""Keys of a network about its initial weights: the file, and what identifies them; old records have the last alone."""


# ------------------------------------------------------------------------------------------------ one row a run
def runs(records: Iterable[Record]) -> pd.DataFrame:
    """One row for each run, view and metric; of a run without a result one row that says why.

    Every metric of a run.json is there, also one that this program does not know. Numbers are unrounded, accuracies in
    [0, 1]; `metric` is the name of the definition (`clbench show NAME` says its formula).
    """
    rows = []
    for row, group in groups(records):
        for record in group:
            identity = {
                "schema_version": SCHEMA,
                "row_id": row,
                "run_id": record.run_id,
                "benchmark": record.benchmark,
                "modified": record.modified,
                "definition_hash": record.definition_hash,
                "data_sha256": record.stream.data_sha256 if record.stream else None,
                "instance_hash": record.stream.instance_hash if record.stream else None,
                "strategy": record.config.strategy.name,
                "parameters": _pairs(record.config.strategy.parameters),
                "config_hash": record.config_hash,
                "seed": record.seed,
                "access": record.access,
                "tuning_by": record.tuned_by,
                "status": record.status,
                "failure": record.failure.message if record.failure else None,
            }
            entries = [(v, n, s) for v, scores in sorted(record.views.items()) for n, s in sorted(scores.items())]
            for view, name, score in entries:
                metric = metrics_of(view).get(name)
                rows.append(
                    identity
                    | {
                        "view": view,
                        "primary": view == record.primary_view,
                        "metric": name,
                        "value": score.value,
                        "se": score.se,
                        "resolution": score.resolution,
                        "unit": metric.unit if metric else None,
                        "better": metric.better if metric else None,
                    }
                )
            if not entries:
                beside = ("view", "primary", "metric", "value", "se", "resolution", "unit", "better")
                rows.append(identity | dict.fromkeys(beside))
    return pd.DataFrame(rows, dtype=object)


# ------------------------------------------------------------------------------------------------ one row a strategy
def table(records: Iterable[Record]) -> pd.DataFrame:
    """The leaderboard of some run records: board by board, ranked rows first, then by mean.

    The same records in another order give the same table. A row's rank is 1 + the number of ranked rows of its board
    whose 95 % interval of `average_accuracy` lies wholly above its own (of measures for which lower is better, that of
    `average` wholly below): rows that share a rank are ties. Overlap is not transitive, so a row may share its rank
    with one that is above another of that rank; a difference of two rows is for `clbench compare`, which pairs by seed.
    `unranked` says why a row has no rank. There are columns for the metrics of every kind of view among the rows;
    metrics of a further record, such as the prequential one, have columns where a run has it.
    """
    grouped = groups(records)
    tuning = sorted({"by", *(key for _, group in grouped for r in group for key in r.tuning)})
    several = [r for _, group in grouped for r in group]
    scored = {name for r in several for name in r.scores}
    views = dict.fromkeys(view_of(group) for _, group in grouped)
    of_views = [metric for view in views for metric in metrics_of(view).values()]
    names = list(dict.fromkeys(m.name for m in of_views if m.record is None or m.name in scored))
    rows = [_row(row, group, tuning, names) for row, group in grouped]
    boards: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        boards.setdefault((row["definition_hash"], row["data_sha256"] or "", row["view"]), []).append(row)
    for board in boards.values():
        ranked = [row for row in board if row["unranked"] is None]
        for row in ranked:
            best = _ends(row)[1]
            row["rank"] = 1 + sum(_ends(other)[0] > best for other in ranked)

    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        mean = row[f"{ranked_by(row['view'])}_mean"]
        worth = (mean is None, -_worth(row, mean) if mean is not None else 0.0)
        return row["rank"] is None, row["rank"] or 0, *worth, row["strategy"], row["config_hash"], row["row_id"]

    ordered = sorted(boards.items(), key=lambda item: (min(row["benchmark"] for row in item[1]), item[0]))
    out = [row for _, board in ordered for row in sorted(board, key=place)]
    if all(row["made_by"] == "clbench" for row in out):  # a column for those who have runs of scripts
        out = [{key: value for key, value in row.items() if key != "made_by"} for row in out]
    return pd.DataFrame(out, dtype=object)


def _worth(row: dict[str, Any], value: float) -> float:
    """A value of the metric of the ranking where higher is better."""
    return metrics_of(row["view"])[ranked_by(row["view"])].worth(value)


def _ends(row: dict[str, Any]) -> tuple[float, float]:
    """The worse and the better end of the interval of the ranking, as `_worth`."""
    low, high = sorted(_worth(row, row[f"{ranked_by(row['view'])}_{end}"]) for end in ("ci95_lo", "ci95_hi"))
    return low, high


def _row(row: str, group: list[Record], tuning: list[str], metrics: list[str]) -> dict[str, Any]:
    first, config = group[0], group[0].config
    done = [r for r in group if r.status == "completed"]
    failed = [r for r in group if r.status == "failed"]
    streams = [r.stream for r in group if r.stream is not None]
    bench = config.benchmark
    training, evaluation, protocol = bench.training, bench.evaluation, bench.protocol
    updates, batch = _average([r.costs.iterations for r in done if r.costs]), training.batch_size
    out: dict[str, Any] = {
        "schema_version": SCHEMA,
        "row_id": row,
        "rank": None,
        "unranked": None,
        "suite_version": _agreed([r.provenance.clbench for r in group]),
        # What ran.
        "benchmark": _agreed([r.benchmark for r in group]),
        "modified": any(r.modified for r in group),
        "definition_hash": first.definition_hash,
        "view": view_of(group),
        "setting": bench.stream.setting,
        "data": None if bench.stream.data is None else data_name(bench.stream.data),
        "data_sha256": _agreed([s.data_sha256 for s in streams]),
        "data_origin": _agreed([r.provenance.data for r in group]),
        "stream_definition_hash": _agreed([s.definition_hash for s in streams]),
        "instance_hashes": " ".join(r.stream.instance_hash for r in done if r.stream),
        "experiences": _agreed([s.experiences for s in streams]),
        "tasks": _agreed([s.tasks for s in streams]),
        "classes": _agreed([s.classes for s in streams]),
        "stream_samples": _average([s.samples for s in streams]),
        "task_in_training": protocol.task_in_training,
        "task_at_test": bench.task_at_test,
        "boundaries": protocol.boundaries,
        # Who ran.
        "strategy": config.strategy.name,
        "made_by": first.made_by,
        "parameters": _pairs(config.strategy.parameters),
        "config_hash": first.config_hash,
        "access": next((r.access for r in group if r.access), None),
        "model": bench.model.name,
        "model_settings": _pairs(bench.model.parameters, leave=WEIGHTS),
        "model_parameters": _agreed([r.parameters for r in group]),
        "pretrained_sha256": _text(next((sha for key in WEIGHTS[1:] if (sha := bench.model.parameters.get(key))), None))
        or None,
        "optimizer": training.optimizer.name,
        "optimizer_settings": _pairs(training.optimizer.parameters),
        # Budget.
        "epochs": training.epochs,
        "iterations": training.iterations,
        "budget": training.budget,
        "batch_size": training.batch_size,
        "updates": updates,
        "samples_seen_at_most": None if updates is None or batch is None else updates * batch,
        "memory_samples": _most([r.memory.samples for r in done if r.memory]),
        "memory_bytes": _most([r.memory.bytes for r in done if r.memory]),
        # Seeds.
        "study": _agreed([r.provenance.study for r in group]),
        "status": "completed" if len(done) == len(group) else "failed" if failed else "unfinished",
        "n": len(done),
        "n_failed": len(failed),
        "n_unfinished": len(group) - len(done) - len(failed),
        "seeds": " ".join(str(r.seed) for r in done),
        "failure": "; ".join(f"seed {r.seed}: {r.failure.message}" for r in failed if r.failure),
        **{f"seeds_{axis}": getattr(config.seeds, axis) for axis in ROLES},
        # Evaluation.
        "eval_every": evaluation.every,
        "eval_dense": evaluation.dense,
        "eval_subset": evaluation.subset,
        "eval_scope": evaluation.scope,
    }
    for key in tuning:
        out[f"tuning_{key}"] = _agreed([r.tuning.get(key) for r in group])
    for name in metrics:
        values = [r.scores[name].value if name in r.scores else None for r in done]
        out |= {f"{name}_{statistic}": value for statistic, value in statistics.summary(values).items()}
        out[f"{name}_iqm"] = statistics.interquartile_mean(values)
    for cost in ("train_s", "eval_s", "wall_s", "evaluations", "peak_rss_bytes", "peak_gpu_bytes"):
        out[cost] = _average([getattr(r.costs, cost) for r in done if r.costs])
    started = sorted(r.provenance.started_utc for r in group if r.provenance.started_utc)
    git = [r.provenance.git for r in group if r.provenance.git is not None]
    out |= {
        "git": _agreed([(g.commit or "") + ("+" if g.dirty else "") for g in git]),
        "code_sha256": _agreed(sorted({r.provenance.code_sha256 for r in done if r.provenance.code_sha256})),
        "n_code_sha256": codes(done),
        "python": _agreed([r.provenance.python for r in group]),
        "torch": _agreed([r.provenance.packages.get("torch") for r in group]),
        "numpy": _agreed([r.provenance.packages.get("numpy") for r in group]),
        "device": _agreed([r.provenance.gpu or r.provenance.cpu for r in group]),
        **config.numerics.model_dump(exclude={"device"}),
        "device_kind": config.numerics.device,
        "started_first": started[0] if started else None,
        "started_last": started[-1] if started else None,
    }
    out["unranked"] = _unranked(out)
    return out


@dataclass(frozen=True)
class Exclusion:
    """A reason not to rank a row.

    Attributes:
        summary: for the note below a table; the metric of the ranking in braces.
        applies: whether it holds for a row.
        detail: of such a row, for its cell `unranked`; the keys of the row in braces.
    """

    summary: str
    applies: Callable[[dict[str, Any]], bool]
    detail: str


EXCLUSIONS = (
    Exclusion(
        "a result of a script",
        lambda row: row["made_by"] == "script",
        "of a script, which clbench cannot run again",
    ),
    Exclusion(
        "not a continual learner",
        lambda row: row["access"] in ("past", "stream"),
        "not a continual learner (access {access})",
    ),
    Exclusion("a failed seed", lambda row: row["n_failed"] > 0, "{n_failed} failed"),
    Exclusion(f"fewer than {LEAST_SEEDS} seeds", lambda row: row["n"] < LEAST_SEEDS, f"{{n}} of {LEAST_SEEDS} seeds"),
    Exclusion(
        "a seed with several instances of the stream",
        lambda row: len(set(row["seeds"].split())) < row["n"],
        "a seed occurs with several instances",
    ),
    Exclusion("runs of several codes", lambda row: row["n_code_sha256"] > 1, "runs of {n_code_sha256} codes"),
    Exclusion(
        "{metric} undefined",
        lambda row: row[f"{ranked_by(row['view'])}_mean"] is None,
        "{metric} is undefined",
    ),
)
"""Reasons to exclude a row from the ranking: the first that applies. Scripts have a line of their own below tables."""


def _unranked(row: dict[str, Any]) -> str | None:
    """The reason why a row has no rank; None for a ranked one."""
    metric = ranked_by(row["view"])
    return next((reason.detail.format(**row, metric=metric) for reason in EXCLUSIONS if reason.applies(row)), None)


# ------------------------------------------------------------------------------------------------ cells
def _agreed(values: Iterable[Any]) -> Any:
    """The common value of all that have one; several different values in one text; None for none.

    >>> _agreed([None, 3, 3]), _agreed([10, 2, None]), _agreed([])
    (3, '10; 2', None)
    """
    texts = {_text(value): value for value in values if value is not None}
    if len(texts) > 1:
        return "; ".join(sorted(texts))
    value = next(iter(texts.values()), None)
    return value if isinstance(value, (str, int, float)) else _text(value) or None


def _average(values: list[Any]) -> float | None:
    """The mean; a common number is returned unchanged. None where one is unknown."""
    alike = len(set(values)) == 1
    return values[0] if alike else statistics.summary(values)["mean"]


def _most(values: list[int | None]) -> int | None:
    """The largest; None where one is unknown."""
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None


def _pairs(parameters: dict[str, Any], leave: Sequence[str] = ()) -> str:
    pairs = {k: v for k, v in sorted(parameters.items()) if v is not None and k not in leave}
    return "; ".join(f"{key}={_text(value)}" for key, value in pairs.items())


def _text(value: Any) -> str:
    """A JSON value as text of a cell.

    >>> _text("a"), _text([1, None]), _text(True), _text(None)
    ('a', '[1, null]', 'true', '')
    """
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, sort_keys=True)
