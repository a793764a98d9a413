"""Verification of a row of a leaderboard: some of its runs are repeated, and compared.

*Bit for bit* means equal weights and traces. Metrics are functions of the trace; those of equal traces have to agree
to `summation.ROUNDING`, the effect of another version's order of summation, smaller than that of any sample. Another
processor or another version of torch changes the last bits of the weights, and training amplifies them; then a new run
is one more draw, and the test is whether the mean of the new runs lies in the 95 % prediction interval of the row's
seeds.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from clbench import registry
from clbench.errors import UserError
from clbench.metrics import metrics_of
from clbench.reports import leaderboard
from clbench.reports.columns import usual_metrics
from clbench.reports.statistics import t_quantile
from clbench.resolve import resolve
from clbench.results.record import Record
from clbench.results.record import read as read_record
from clbench.results.rescore import same
from clbench.run_config import RunConfig
from clbench.runner.user_code import differing
from clbench.summation import mean, squared_deviations

Verdict = Literal["reproduced bit for bit", "within its interval", "not reproduced"]


def row(runs: Sequence[Record], wanted: str, where: str) -> list[Record]:
    """The completed runs of a row, seed by seed.

    Args:
        runs: records to search.
        wanted: the row's id or its first digits.
        where: for messages.

    Raises:
        UserError: there is no such row, there are several, or none of its runs is completed.
    """
    rows: dict[str, list[Record]] = {}
    for record in runs:
        rows.setdefault(leaderboard.row_id(record), []).append(record)
    matches = [key for key in rows if key.startswith(wanted)]
    if not matches:
        raise UserError(
            f"{where}: no row '{wanted}'. Allowed: the row_id of a leaderboard of these runs, or its start."
        )
    if len(matches) > 1:
        raise UserError(f"{where}: '{wanted}' is the start of {len(matches)} rows: {', '.join(sorted(matches)[:5])}.")
    done = [record for record in rows[matches[0]] if record.status == "completed"]
    if not done:
        raise UserError(f"{where}: row {matches[0]} has no completed run.")
    seeds = [record.seed for record in done]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"{where}: row {matches[0]} has several runs of one seed: {sorted(seeds)}.")
    return sorted(done, key=lambda record: record.seed)


def configuration(record: Record) -> RunConfig:
    """Configuration of a run.

    Raises:
        UserError: it is the result of a script; or its configuration is not that of its id, hashes and names, or not
            one of this version.
    """
    name = f"{record.benchmark} seed {record.seed}"
    if record.made_by == "script":
        raise UserError(f"{name}: the result of a script, which clbench cannot run again; run the script itself again.")
    try:
        run = RunConfig.model_validate(record.raw["config"])
        run_id = run.run_id  # for which hyper-parameters are validated too
    except ValueError as error:
        first = str(error).splitlines()[1] if len(str(error).splitlines()) > 1 else str(error)
        raise UserError(f"{name}: its configuration is none of this version: {first}.") from None
    benchmark = run.benchmark
    computed = {
        "run_id": run_id,
        "definition_hash": run.definition_hash,
        "config_hash": run.config_hash,
        "benchmark": benchmark.id,
        "primary_view": benchmark.stream.setting,
    }
    for key, value in computed.items():
        recorded = str(getattr(record, key)).partition(":")[0]  # a primary view may have its measure after it
        if recorded != value:
            raise UserError(f"{name}: its {key} is not that of its configuration: one of the two was changed.")
    if registry.benchmark_path(benchmark.id) is not None:
        shipped = run.model_copy(update={"benchmark": resolve(benchmark.id, need_strategy=False)[0]})
        if run.definition_hash != shipped.definition_hash and not record.modified:
            raise UserError(f"{name}: says that its benchmark is the shipped one, which it is not.")
    return run


@dataclass(frozen=True)
class Metric:
    """A metric of the row and of the repeated runs.

    Attributes:
        name: as in files.
        row: mean over all seeds of the row.
        claimed: mean over the repeated seeds, as recorded in the row.
        repeated: the same, of the new runs.
        interval: for `repeated`; None for a row of one seed.
    """

    name: str
    row: float
    claimed: float
    repeated: float
    interval: tuple[float, float] | None

    @property
    def within(self) -> bool:
        """True if the new mean lies in the interval."""
        return self.interval is not None and self.interval[0] <= self.repeated <= self.interval[1]


@dataclass(frozen=True)
class Verification:
    """Result of a verification.

    Attributes:
        verdict: by the metric of the ranking.
        metrics: the defined ones of `usual_metrics`.
        different: for each seed that is not equal bit for bit, the differences, or the failure; see `_differences`.
        surroundings: differences of this environment from that of the row.
        processors: this one and that of the row, where they are two; "" where they are one or unknown.
    """

    verdict: Verdict
    metrics: tuple[Metric, ...]
    different: dict[int, tuple[str, ...]]
    surroundings: tuple[str, ...]
    processors: str = ""


RULES: dict[Verdict, str] = {
    "reproduced bit for bit": "weights and traces are equal, and metrics to 1e-12",
    "within its interval": "not equal, but the mean of {metric} lies in the 95 % prediction interval of its seeds",
    "not reproduced": "neither equal nor within its interval, or another stream, memory or metric of the same trace",
}
"""Verdicts in words; the metric of the ranking in braces."""


def compare(old: Sequence[Record], new: Sequence[Record]) -> Verification:
    """Compares new runs with a row.

    Args:
        old: the completed runs of the row.
        new: runs of some of its seeds.
    """
    claimed = {record.seed: record for record in old}
    again = {record.seed: record for record in new}
    different = {
        seed: names for seed, record in sorted(again.items()) if (names := _differences(claimed[seed].raw, record.raw))
    }
    done = all(record.status == "completed" for record in new)
    names = usual_metrics(old[0].primary_view)
    metrics = tuple(m for name in names if done and (m := _metric(name, claimed, again)) is not None)
    verdict: Verdict = "not reproduced"
    if not different:
        verdict = "reproduced bit for bit"
    elif done and all(map(_may_differ, different.values())) and metrics[:1] and metrics[0].name == names[0]:
        verdict = "within its interval" if metrics[0].within else verdict
    surroundings = _surroundings(old[0].raw, new[0].raw) if different else ()
    return Verification(verdict, metrics, different, surroundings, _processors(old, new))


def _processors(old: Sequence[Record], new: Sequence[Record]) -> str:
    now, before = (sorted({r.provenance.gpu or r.provenance.cpu or "" for r in some}) for some in (new, old))
    if now == before or "" in (*now, *before):
        return ""
    return f"on another processor: {', '.join(now)} here, {', '.join(before)} there"


_EXACT = ("stream", "memory", "access", "parameters")
"""Keys that are independent of the processor and of versions of libraries."""


def _differences(old: dict[str, Any], new: dict[str, Any]) -> tuple[str, ...]:
    """Differences of two runs of one id, among `_EXACT`, "metrics", "weights" and "trace"; or the failure."""
    if new["status"] != "completed":
        return "status", new["failure"]["message"]
    differ = {name: not _claimed(old[name], new[name]) for name in _EXACT}
    differ["metrics"] = not _claimed(_reached(old), new["metrics"])
    differ["weights"] = old["weights_sha256"] != new["weights_sha256"]
    differ["trace"] = old.get("trace_sha256") not in (None, new["trace_sha256"])
    return tuple(name for name, other in differ.items() if other)


def _may_differ(names: tuple[str, ...]) -> bool:
    """True if another processor or another torch explains it: other metrics only with other weights or traces."""
    return not {*_EXACT} & {*names} and bool({"weights", "trace"} & {*names})


def _claimed(old: Any, new: Any) -> bool:
    """True if all old values hold, numbers to `ROUNDING`; a later version may add some, such as another metric."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(key in new and _claimed(value, new[key]) for key, value in old.items())
    return same(old, new)


def _reached(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Metrics of a run.json that its evaluations reach; an older version wrote numbers for others too."""
    evaluation = record["config"]["benchmark"]["evaluation"]

    def reached(view: str, name: str, score: dict[str, Any]) -> bool:
        metric = metrics_of(view).get(name)
        return metric is None or not metric.unreached(evaluation["every"], evaluation["dense"], score.get("resolution"))

    return {
        view: {n: s for n, s in scores.items() if reached(view, n, s)} for view, scores in record["metrics"].items()
    }


def _value(record: Record, name: str) -> float | None:
    return record.scores[name].value if name in record.scores else None


def _metric(name: str, old: dict[int, Record], new: dict[int, Record]) -> Metric | None:
    values, repeated = [_value(r, name) for r in old.values()], [_value(r, name) for r in new.values()]
    claimed = [_value(old[seed], name) for seed in new]
    known = [v for v in values if v is not None]
    fresh, recorded = [v for v in repeated if v is not None], [v for v in claimed if v is not None]
    if len(known) < len(values) or len(fresh) < len(repeated):
        return None
    n, k = len(known), len(fresh)
    of_row = mean(known)
    interval = None
    if n >= 2:
        deviation = math.sqrt(squared_deviations(known, of_row) / (n - 1))
        half = t_quantile(n) * deviation * math.sqrt(1 / n + 1 / k)
        interval = (of_row - half, of_row + half)
    return Metric(name, of_row, mean(recorded), mean(fresh), interval)


def _surroundings(old: dict[str, Any], new: dict[str, Any]) -> tuple[str, ...]:
    """Differences of the environment, as possible causes."""
    recorded, current = old["provenance"], new["provenance"]
    changes = [
        f"{name} {current['packages'].get(name)} here, {version} there"
        for name, version in sorted(recorded["packages"].items())
        if version != current["packages"].get(name)
    ]
    for key in ("clbench", "python", "cpu", "gpu", "code_sha256"):
        if recorded.get(key) != current.get(key):
            changes.append(f"{key} {_short(current.get(key))} here, {_short(recorded.get(key))} there")
    modules = [side.get("user_code") for side in (recorded, current)]
    if None not in modules and (differ := differing(*modules)):
        changes.append(f"modules of the user: {differ}")
    return tuple(changes)


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text


def run_again(runs: Sequence[Record], seeds: int, out: Path, engine: Any, listener: Any) -> list[Record]:
    """Repeats the first seeds of a row.

    Args:
        runs: the row's completed runs.
        seeds: number of seeds.
        out: the results folder; existing runs there count, if the code of today made them.
        engine, listener: see `clbench.studies.engines.base`.

    Returns:
        their records; a run may have failed where it is trained.

    Raises:
        UserError: a run could not start, is running elsewhere, or was stopped.
    """
    from clbench.studies.engines.base import Job

    jobs = [Job(configuration(record), out, other_code="again") for record in runs[:seeds]]
    listener.begin([f"{j.run.benchmark.id} {j.run.strategy.name} seed {j.run.seed}" for j in jobs], [None] * len(jobs))
    again = []
    with contextlib.closing(engine.run(jobs, listener)) as running:
        try:
            for number, done in running:
                listener.done(number, done)
                record = read_record(done.directory) if (done.directory / "run.json").exists() else None
                failed = done.status == "failed" and record is not None and _failed_in_training(record)
                if record is None or not (done.status == "completed" or failed):
                    raise UserError(f"{jobs[number].run.benchmark.id} seed {jobs[number].run.seed}: {done.message}")
                again.append(record)
        finally:
            listener.end()
    return again


def _failed_in_training(record: Record) -> bool:
    """True if a run started and failed; else it could not even start."""
    return bool(record.raw["failure"]["kind"] != "user_error")
