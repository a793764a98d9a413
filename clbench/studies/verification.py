"""Whether a row of a leaderboard comes out again: some of its runs are done anew, and compared.

*Bit for bit* means equal weights and traces. Metrics are functions of the trace; those of equal traces have to agree
to `summation.ROUNDING`, which is what another version's order of summation may change and no sample can. Another
processor or another version of torch gives other last bits to the weights, and training carries them on; then a new run
is one more draw, and it is asked whether the mean of the new runs lies in the 95 % prediction interval that the row's
own seeds give for it.
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
from clbench.reports import leaderboard
from clbench.reports.statistics import t_quantile
from clbench.reports.tables import SHOWN
from clbench.resolve import resolve
from clbench.results import record as records
from clbench.results.record import Record
from clbench.results.rescore import same
from clbench.run_config import RunConfig
from clbench.summation import mean, squared_deviations

Verdict = Literal["reproduced bit for bit", "within its interval", "not reproduced"]


def row(runs: Sequence[Record], wanted: str, where: str) -> list[Record]:
    """The completed runs of a row, seed by seed.

    Args:
        runs: where it is looked for.
        wanted: the row's id or its first digits.
        where: for messages.

    Raises:
        UserError: there is no such row, there are several, or none of its runs is completed.
    """
    rows: dict[str, list[Record]] = {}
    for record in runs:
        rows.setdefault(leaderboard.row_id(record), []).append(record)
    found = [key for key in rows if key.startswith(wanted)]
    if not found:
        raise UserError(
            f"{where}: no row '{wanted}'. Allowed: the row_id of a leaderboard of these runs, or its start."
        )
    if len(found) > 1:
        raise UserError(f"{where}: '{wanted}' is the start of {len(found)} rows: {', '.join(sorted(found)[:5])}.")
    done = [record for record in rows[found[0]] if record.status == "completed"]
    if not done:
        raise UserError(f"{where}: row {found[0]} has no completed run.")
    seeds = [record.seed for record in done]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"{where}: row {found[0]} has several runs of one seed: {sorted(seeds)}.")
    return sorted(done, key=lambda record: record.seed)


def configuration(record: Record) -> RunConfig:
    """What a run was of.

    Raises:
        UserError: its configuration is not that of its id, hashes and names, or not one of this version.
    """
    name = f"{record.benchmark} seed {record.seed}"
    try:
        run = RunConfig.model_validate(record.raw["config"])
        run_id = run.run_id  # for which hyper-parameters are validated too
    except ValueError as error:
        first = str(error).splitlines()[1] if len(str(error).splitlines()) > 1 else str(error)
        raise UserError(f"{name}: its configuration is none of this version: {first}.") from None
    benchmark = run.benchmark
    said = {
        "run_id": run_id,
        "definition_hash": run.definition_hash,
        "config_hash": run.config_hash,
        "benchmark": benchmark.id,
        "primary_view": benchmark.stream.setting,
    }
    for key, value in said.items():
        if getattr(record, key) != value:
            raise UserError(f"{name}: its {key} is not that of its configuration: one of the two was changed.")
    if registry.benchmark_path(benchmark.id) is not None:
        shipped = run.model_copy(update={"benchmark": resolve(benchmark.id, need_strategy=False)[0]})
        if run.definition_hash != shipped.definition_hash and not record.modified:
            raise UserError(f"{name}: says that its benchmark is the shipped one, which it is not.")
    return run


@dataclass(frozen=True)
class Metric:
    """A metric of the row and of the runs that were done anew.

    Attributes:
        name: as in files.
        row: mean over all seeds of the row.
        claimed: mean over those that were done anew, as the row has them.
        found: the same, now.
        interval: in which `found` is to lie; None for a row of one seed.
    """

    name: str
    row: float
    claimed: float
    found: float
    interval: tuple[float, float] | None

    @property
    def within(self) -> bool:
        """Whether the new mean lies in the interval."""
        return self.interval is not None and self.interval[0] <= self.found <= self.interval[1]


@dataclass(frozen=True)
class Verification:
    """What came out.

    Attributes:
        verdict: by the metric that rows are ranked by, the first of `board_text.SHOWN`.
        metrics: those of `board_text.SHOWN` that are defined.
        different: for each seed that is not equal bit for bit, what differs, or why it failed; see `_differences`.
        surroundings: what is other here than where the row was made.
    """

    verdict: Verdict
    metrics: tuple[Metric, ...]
    different: dict[int, tuple[str, ...]]
    surroundings: tuple[str, ...]


def compare(old: Sequence[Record], new: Sequence[Record]) -> Verification:
    """What new runs say of a row.

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
    metrics = tuple(m for name in SHOWN if done and (m := _metric(name, claimed, again)) is not None)
    verdict: Verdict = "not reproduced"
    if not different:
        verdict = "reproduced bit for bit"
    elif done and all(map(_may_differ, different.values())) and metrics[:1] and metrics[0].name == SHOWN[0]:
        verdict = "within its interval" if metrics[0].within else verdict
    return Verification(verdict, metrics, different, _surroundings(old[0].raw, new[0].raw) if different else ())


_EXACT = ("stream", "memory", "access", "parameters")
"""What no processor and no version of a library changes."""


def _differences(old: dict[str, Any], new: dict[str, Any]) -> tuple[str, ...]:
    """What differs of two runs of one id: of `_EXACT`, "metrics", "weights" and "trace"; or that it failed, and why."""
    if new["status"] != "completed":
        return "status", new["failure"]["message"]
    differ = {name: not _claimed(old[name], new[name]) for name in (*_EXACT, "metrics")}
    differ["weights"] = old["weights_sha256"] != new["weights_sha256"]
    differ["trace"] = old.get("trace_sha256") not in (None, new["trace_sha256"])
    return tuple(name for name, other in differ.items() if other)


def _may_differ(names: tuple[str, ...]) -> bool:
    """Whether another processor or another torch explains it: other metrics only with another training."""
    return not {*_EXACT} & {*names} and bool({"weights", "trace"} & {*names})


def _claimed(old: Any, new: Any) -> bool:
    """Whether all that was said is so, numbers to `ROUNDING`; a later version may say more, such as another metric."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(key in new and _claimed(value, new[key]) for key, value in old.items())
    return same(old, new)


def _value(record: Record, name: str) -> float | None:
    return record.scores[name].value if name in record.scores else None


def _metric(name: str, old: dict[int, Record], new: dict[int, Record]) -> Metric | None:
    values, found = [_value(r, name) for r in old.values()], [_value(r, name) for r in new.values()]
    claimed = [_value(old[seed], name) for seed in new]
    known = [v for v in values if v is not None]
    fresh, told = [v for v in found if v is not None], [v for v in claimed if v is not None]
    if len(known) < len(values) or len(fresh) < len(found):
        return None
    n, k = len(known), len(fresh)
    of_row = mean(known)
    interval = None
    if n >= 2:
        deviation = math.sqrt(squared_deviations(known, of_row) / (n - 1))
        half = t_quantile(n) * deviation * math.sqrt(1 / n + 1 / k)
        interval = (of_row - half, of_row + half)
    return Metric(name, of_row, mean(told), mean(fresh), interval)


def _surroundings(old: dict[str, Any], new: dict[str, Any]) -> tuple[str, ...]:
    """What a difference may come from."""
    there, here = old["provenance"], new["provenance"]
    found = [
        f"{name} {here['packages'].get(name)} here, {version} there"
        for name, version in sorted(there["packages"].items())
        if version != here["packages"].get(name)
    ]
    for key in ("clbench", "python", "cpu", "gpu", "code_sha256"):
        if there.get(key) != here.get(key):
            found.append(f"{key} {_short(here.get(key))} here, {_short(there.get(key))} there")
    return tuple(found)


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text


def run_again(runs: Sequence[Record], seeds: int, out: Path, engine: Any, listener: Any) -> list[Record]:
    """Does the first seeds of a row anew.

    Args:
        runs: the row's completed runs.
        seeds: how many of them.
        out: the results folder; what is there already of them counts.
        engine, listener: see `clbench.studies.engines.base`.

    Returns:
        their records; a run may have failed where it is trained.

    Raises:
        UserError: a run could not begin, is at work elsewhere, or was stopped.
    """
    from clbench.studies.engines.base import Job

    jobs = [Job(configuration(record), out) for record in runs[:seeds]]
    listener.begin([f"{j.run.benchmark.id} {j.run.strategy.name} seed {j.run.seed}" for j in jobs], [None] * len(jobs))
    again = []
    with contextlib.closing(engine.run(jobs, listener)) as running:
        try:
            for number, done in running:
                listener.done(number, done)
                record = records.read(done.directory) if (done.directory / "run.json").exists() else None
                failed = done.status == "failed" and record is not None and _failed_in_training(record)
                if record is None or not (done.status == "completed" or failed):
                    raise UserError(f"{jobs[number].run.benchmark.id} seed {jobs[number].run.seed}: {done.message}")
                again.append(record)
        finally:
            listener.end()
    return again


def _failed_in_training(record: Record) -> bool:
    """Whether a run began and failed; else it could not even begin."""
    return bool(record.raw["failure"]["kind"] != "user_error")
