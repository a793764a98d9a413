"""A study done: what exists is not done again, what fails is a row with its reason, what is interrupted goes on.

Hyper-parameters are chosen first, by trials that lie in OUT/trials and stand on no board; then come the runs that are
reported, seed by seed, so that a study that is stopped has as many of each strategy.
"""

from __future__ import annotations

import collections
import contextlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, Protocol

from clbench import registry, results
from clbench.config import StreamConfig
from clbench.engines import Done, Engine, Job, Listener
from clbench.errors import UserError, shown
from clbench.resolve import RunConfig
from clbench.schema import canonical
from clbench.search import search
from clbench.study import Planned, Study, tuned

State = Literal["completed", "failed", "unfinished", "missing"]
TRIALS = results.TRIALS


class Display(Listener, Protocol):
    """Who is told how far a study is."""

    def begin(self, labels: Sequence[str], seconds: Sequence[float | None]) -> None:
        """Jobs begin: what each is called, and what it took when something like it was done before."""

    def done(self, job: int, done: Done) -> None:
        """One ended."""

    def end(self) -> None:
        """No more of them."""


@dataclass
class Row:
    """One combination of a strategy on a stream, of which all seeds are to be done.

    Attributes:
        runs: seed by seed.
        states: what there is of each.
        seconds: what one of them takes, by what is known of others like it; None where nothing is.
    """

    runs: list[Planned]
    states: list[State]
    seconds: float | None


@dataclass
class Summary:
    """What became of a study's runs.

    Attributes:
        existed: completed before.
        completed, failed, unfinished: now; failed ones with their reasons, those that failed before too.
        chosen: of each tuned strategy on each stream, a sentence.
    """

    existed: int = 0
    completed: int = 0
    failed: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For the user."""
        counted = [f"{self.completed} done", f"{self.existed} existed"]
        counted += [f"{len(self.failed)} failed"] * bool(self.failed)
        counted += [f"{len(self.unfinished)} unfinished"] * bool(self.unfinished)
        total = self.completed + self.existed + len(self.failed) + len(self.unfinished)
        ended = [f"failed: {text}" for text in self.failed] + [f"unfinished: {text}" for text in self.unfinished]
        return [*self.chosen, *ended, f"{total} runs: {', '.join(counted)}"]


class Grid:
    """A study and the folder of its results.

    Args:
        study: what is to be done.
        out: the results folder.
        retry: whether runs that failed are done again.

    Raises:
        UserError: every mistake in its runs.
    """

    def __init__(self, study: Study, out: Path, retry: bool = False) -> None:
        self.study, self.out, self._retry = study, out, retry
        self._notes = dict[str, dict[str, Any]]()
        """By configuration hash, what is noted in the provenance of its runs."""
        past_times.cache_clear()  # of an earlier grid of this process
        self._finals, self._searched = self._plan()

    def _plan(self) -> tuple[list[list[Planned]], list[tuple[int, int]]]:
        """Rows whose hyper-parameters are known, and the streams and strategies where they are to be chosen."""
        rows, searched, problems = list[list[Planned]](), list[tuple[int, int]](), list[str]()
        known = set[str]()
        for i in range(len(self.study.config.streams)):
            for j in range(len(self.study.strategies)):
                if self.study.tuned(j):
                    searched.append((i, j))
                    for given, combination in search(self.study, i, j).some():
                        for made in (self.study.trials, self.study.runs):
                            _, found = _checked(partial(made, i, j, given, combination))
                            problems += found
                    continue
                for given, combination in self.study.combinations(j):
                    row, found = _checked(partial(self.study.runs, i, j, given, combination))
                    problems += found
                    if row and row[0].run.run_id not in known:
                        known.add(row[0].run.run_id)
                        rows.append(row)
        if problems:
            raise UserError(*dict.fromkeys(problems))
        self._check_data([row[0].run for row in rows])
        return rows, searched

    def _check_data(self, runs: Iterable[RunConfig]) -> None:
        problems = []
        for run in {canonical(r.benchmark.stream.data): r for r in runs}.values():
            try:
                registry.datasets().require(run.benchmark.stream.data, run.benchmark.stream.synthetic)
            except UserError as error:
                problems += [f"{run.benchmark.id}: stream.data: {p}" for p in error.problems]
        if problems:
            raise UserError(*problems)

    # ---------------------------------------------------------------------------------------- what there is
    def rows(self) -> list[Row]:
        """What is to be done, and how much of it there is; without the rows that trials will choose."""
        return [self._row(row, self.out) for row in self._finals]

    def trial_rows(self) -> list[Row]:
        """What a search through grids tries; of a search by Optuna only the first trial is known."""
        made = []
        for i, j in self._searched:
            for given, combination in search(self.study, i, j).ask():
                made.append(self._row(self.study.trials(i, j, given, combination), self.out / TRIALS))
        return made

    def to_choose(self) -> int:
        """Rows that trials will choose."""
        return len(self._searched)

    def _row(self, runs: list[Planned], out: Path) -> Row:
        states = [state(p.run, out) for p in runs]
        return Row(runs, [s for s, _ in states], self._seconds(runs[0].run, out))

    def _seconds(self, run: RunConfig, out: Path) -> float | None:
        """Mean time of finished runs of the strategy on the benchmark; else of any strategy."""
        times = past_times(out / run.benchmark.id)
        for key in ((run.definition_hash, run.strategy.name), (run.definition_hash,)):
            if times.get(key):
                return math.fsum(times[key]) / len(times[key])
        return None

    # ---------------------------------------------------------------------------------------- doing it
    def run(self, engine: Engine, display: Display) -> Summary:
        """Does what is missing.

        Raises:
            KeyboardInterrupt: stopped; the message says how far it is.
        """
        summary = Summary()
        chosen = self._choose(engine, display, summary)
        rows = [*self._finals, *chosen]
        planned = [row[k] for k in range(len(self.study.seeds)) for row in rows]
        self._do(planned, self.out, engine, display, summary)
        return summary

    def _do(
        self, planned: list[Planned], out: Path, engine: Engine, display: Display, summary: Summary | None
    ) -> list[Path]:
        """Runs that are not there yet; the folders of all."""
        places, todo = list[Path](), list[tuple[int, Planned]]()
        summary = summary or Summary()
        for n, each in enumerate(planned):
            found, place = state(each.run, out)
            places.append(place)
            if found == "completed":
                summary.existed += 1
            elif found == "failed" and not self._retry:
                record = results.read_run(place)
                summary.failed.append(f"{each.label}: {record['failure']['message']}")
            else:
                todo.append((n, each))
        if not todo:
            return places
        notes = {
            id(each): {"study": self.study.config.id, **self._notes.get(each.run.config_hash, {})} for _, each in todo
        }
        jobs = [Job(each.run, out, notes[id(each)], tuple(self.study.config.log)) for _, each in todo]
        seconds = [self._seconds(each.run, out) for _, each in todo]
        display.begin([each.label for _, each in todo], seconds)
        ended = 0
        with contextlib.closing(engine.run(jobs, display)) as running:  # type: ignore[type-var]
            try:
                for number, done in running:
                    display.done(number, done)
                    ended += 1
                    places[todo[number][0]] = done.directory
                    label = todo[number][1].label
                    if done.status == "completed":
                        summary.completed += 1
                    elif done.status == "failed":
                        summary.failed.append(f"{label}: {done.message}")
                    else:
                        summary.unfinished.append(f"{label}: {done.message}")
            except KeyboardInterrupt:
                left = f"{summary.existed + summary.completed} of {len(planned)} runs are done"
                raise KeyboardInterrupt(f"interrupted; {left}, and the same command goes on.") from None
            finally:
                display.end()
        assert ended == len(jobs), "an engine lost a job"
        return places

    # ---------------------------------------------------------------------------------------- choosing
    def _choose(self, engine: Engine, display: Display, summary: Summary) -> list[list[Planned]]:
        """The rows that trials choose."""
        searches = [search(self.study, i, j) for i, j in self._searched]
        while True:
            asked = [(s, given, combination) for s in searches for given, combination in s.ask()]
            if not asked:
                break
            trials = [self.study.trials(s.stream, s.strategy, given, c) for s, given, c in asked]
            planned = [p for row in trials for p in row]
            ended = iter(zip(planned, self._do(planned, self.out / TRIALS, engine, display, None), strict=True))
            for (s, _, combination), row in zip(asked, trials, strict=True):
                s.tell(combination, [_record(*next(ended)) for _ in row], row[0].run)
        rows = list[list[Planned]]()
        for s in searches:
            best = s.best()
            if best is None:
                summary.failed.append(f"{s.label}: no trial ended well: {s.reason()}")
                continue
            given, combination = best
            config = self.study.config.tuning
            assert config is not None
            assert s.trial is not None
            how = tuned(config, s.trial, len(s.told), s.failed, s.updates)
            row = [
                Planned(p.run.model_copy(update={"tuning": how}), p.stream, p.strategy, p.combination)
                for p in self.study.runs(s.stream, s.strategy, given, combination)
            ]
            self._notes[row[0].run.config_hash] = {"tuning": {"wall_s": round(s.wall_s, 3), "chosen": combination}}
            summary.chosen.append(
                f"{s.label}: {', '.join(f'{k}={shown(v)}' for k, v in combination.items())} of {len(s.told)} tried"
                f"{f' ({s.failed} runs failed)' if s.failed else ''}, {s.updates:,} updates"
            )
            rows.append(row)
        return rows


def _checked(made: Callable[[], list[Planned]]) -> tuple[list[Planned], tuple[str, ...]]:
    """Runs, or what is wrong with them."""
    try:
        return made(), ()
    except UserError as error:
        return [], error.problems


def _record(planned: Planned, place: Path) -> dict[str, Any]:
    """Of a trial.

    Raises:
        UserError: it is not finished: another process is at it, or it was stopped; nothing can be chosen yet.
    """
    if (place / "run.json").exists():
        record = results.read_run(place)
        if record["status"] in ("completed", "failed"):
            return record
    raise UserError(f"{place}: the trial {planned.label} is not finished; the same command goes on.")


# ------------------------------------------------------------------------------------------------ what exists
def state(run: RunConfig, out: Path) -> tuple[State, Path]:
    """What there is of a run, and where; a result that was made of other data counts as missing."""
    found = _completed(run)
    place = results.run_directory(out, found)
    if not (place / "run.json").exists():
        return ("unfinished" if (place / "checkpoint").exists() else "missing"), place
    try:
        record = results.read_run(place)
    except UserError:
        return "unfinished", place
    if record["run_id"] != found.run_id:
        return "missing", place
    if record["status"] == "completed":
        stream = run.benchmark.stream
        same = (record["stream"] or {}).get("data_sha256") == _data_sha256(canonical(stream.model_dump(mode="json")))
        return ("completed" if same else "missing"), place
    return ("failed" if record["status"] == "failed" else "unfinished"), place


def _completed(run: RunConfig) -> RunConfig:
    """The run with the defaults of a strategy of the user's own, which only its module knows."""
    if all(part in registry.strategies() for part in run.strategy.name.split("+")):
        return run
    from clbench.workbench import completed, imported

    with contextlib.suppress(UserError):  # the run will say so
        return completed(run, imported(run.strategy))
    return run


@cache
def _data_sha256(stream: str) -> str | None:
    config = StreamConfig.model_validate(json.loads(stream))
    try:
        return str(registry.datasets().outline(config.data, config.synthetic, config.size).sha256)
    except UserError:
        return None


@cache
def past_times(folder: Path) -> dict[tuple[str, ...], list[float]]:
    """Seconds of the finished runs of a benchmark: by its definition, and by that and the strategy."""
    times = collections.defaultdict[tuple[str, ...], list[float]](list)
    for place in results.find_runs(folder):
        with contextlib.suppress(UserError, KeyError, TypeError):
            record = results.read_run(place)
            if record["status"] == "completed":
                wall = float(record["costs"]["wall_s"])
                times[record["definition_hash"],].append(wall)
                times[record["definition_hash"], record["config"]["strategy"]["name"]].append(wall)
    return dict(times)
