"""Execution of a study: existing runs are not repeated, failed runs are rows with a reason, interrupted runs resume.

Hyper-parameters are selected first, by trials in OUT/trials that are excluded from the leaderboard; then the reported
runs follow, seed by seed, so that an interrupted study has equally many of each strategy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from clbench import registry
from clbench.errors import UserError, shown
from clbench.results import files, record
from clbench.results.record import Record
from clbench.run_config import RunConfig
from clbench.runner.signals import Interrupted
from clbench.runner.user_code import Change, OtherCode
from clbench.schema import canonical, definition
from clbench.studies.engines.base import Engine, FinishedJob, Job, Listener
from clbench.studies.existing import (
    Code,
    Existing,
    State,
    existing,
    failure_reason,
    is_completed,
    past_times,
    sha256_of_data,
)
from clbench.studies.search import Search, search
from clbench.studies.study import Planned, Study, tuning_record
from clbench.summation import mean

TRIALS = files.TRIALS


class Display(Listener, Protocol):
    """Progress display of a study."""

    def begin(self, labels: Sequence[str], seconds: Sequence[float | None]) -> None:
        """Called when jobs begin: their labels, and the expected seconds of each by earlier runs."""

    def done(self, job: int, done: FinishedJob) -> None:
        """Called when a job ended."""

    def end(self) -> None:
        """Called after the last job."""


@dataclass
class Row:
    """All seeds of one combination of a strategy on a stream.

    Attributes:
        runs: seed by seed.
        states: of each run.
        seconds: expected time of a run by earlier ones like it; None where there are none.
    """

    runs: list[Planned]
    states: list[State]
    seconds: float | None


@dataclass
class Survey:
    """Existing and missing runs of a study.

    Attributes:
        trials, rows: in order, each once; of a search by Optuna the trials up to the first missing one.
        later: number of runs of trials that are unknown yet.
        to_choose: number of rows that trials are still to select.
        kept: of each completed run, how its code differs, see `clbench.runner.user_code.change`.
    """

    trials: list[Row]
    rows: list[Row]
    later: int = 0
    to_choose: int = 0
    kept: list[Change] = field(default_factory=list)


@dataclass
class Summary:
    """Outcome of a study's runs.

    Attributes:
        existed: completed before.
        completed, failed, unfinished: now; failed ones with their reasons, earlier failures included.
        chosen: of each tuned strategy on each stream, a sentence.
        kept: see `Survey.kept`.
        without_weights: number of runs whose weights were to be kept, and that were completed before without.
    """

    existed: int = 0
    completed: int = 0
    failed: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)
    without_weights: int = 0
    kept: list[Change] = field(default_factory=list)

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
        study: the study.
        out: the results folder.
        retry: whether failed runs are repeated.
        other_code, keep: see `clbench.runner.run.execute`; nothing is kept of trials.

    Raises:
        UserError: every mistake in its runs.
    """

    def __init__(
        self,
        study: Study,
        out: Path,
        retry: bool = False,
        other_code: OtherCode | None = None,
        keep: Sequence[str] = (),
    ) -> None:
        self.study, self.out, self._keep = study, out, tuple(keep)
        self._other_code = other_code
        self.to_do: tuple[State, ...] = ("missing", "unfinished", "outdated", *(("failed",) if retry else ()))
        """States of the runs to execute."""
        self._notes = dict[str, dict[str, Any]]()
        """Notes for the provenance of runs, by configuration hash."""
        self._forget()
        self._finals, self._searched = self._plan()

    def _forget(self) -> None:
        """Clears the caches of data, code and earlier runs: they may change while a grid is kept, in a notebook."""
        self._code = Code(self._other_code)
        self._data_sha256, self._past_times = cache(sha256_of_data), cache(past_times)

    def _plan(self) -> tuple[list[list[Planned]], list[tuple[int, int]]]:
        """Rows with known hyper-parameters, and the streams and strategies to tune."""
        rows, searched, problems = list[list[Planned]](), list[tuple[int, int]](), list[str]()
        runs = list[RunConfig]()

        def checked(plan: Callable[..., list[Planned]], *arguments: Any) -> list[Planned]:
            try:
                row = plan(*arguments)
            except UserError as error:
                problems.extend(error.problems)
                return []
            runs.append(row[0].run)
            return row

        for i in range(len(self.study.config.streams)):
            for j in range(len(self.study.strategies)):
                if self.study.is_tuned(j):
                    searched.append((i, j))
                    for trial in search(self.study, i, j).some():
                        tried = checked(self.study.trials, i, j, *trial)
                        reported = checked(self.study.runs, i, j, *trial)
                        if tried and reported:
                            problems += self._tuned_on_itself(i, tried[0].run, reported[0].run)
                else:
                    rows += [checked(self.study.runs, i, j, *each) for each in self.study.combinations(j)]
        if problems:
            raise UserError(*dict.fromkeys(problems))
        self._check_data(runs)
        return _distinct(rows), searched

    def _tuned_on_itself(self, i: int, trial: RunConfig, reported: RunConfig) -> list[str]:
        settings = self.study.config.tuning
        assert settings is not None
        one, other = (definition(run.benchmark.stream) for run in (trial, reported))
        if settings.by != "stream" or one != other:
            return []
        return [f"{self.study.source}: tuning.stream: is streams[{i}] itself; tuning on its test samples is by: test."]

    def _check_data(self, runs: Iterable[RunConfig]) -> None:
        problems = []
        for run in {canonical([r.benchmark.stream.data, r.benchmark.stream.labels]): r for r in runs}.values():
            stream = run.benchmark.stream
            try:
                registry.datasets().require(stream.data, **stream.reading)
            except UserError as error:
                problems += [f"{run.benchmark.id}: stream.data: {p}" for p in error.problems]
        if problems:
            raise UserError(*problems)

    # --------------------------------------------------------------------------------------- existing runs
    def survey(self) -> Survey:
        """Existing and missing runs, with the selections that need no further run."""
        self._forget()
        survey = Survey([], [])
        rows, listed = list(self._finals), set[str]()
        for s in self._searches():
            settled = True
            while settled and (asked := s.ask()):
                for trial in asked:
                    row = self._row(self.study.trials(s.stream, s.strategy, *trial), self.out / TRIALS, survey)
                    settled = settled and not set(row.states) & {*self.to_do, "damaged"}
                    if settled:
                        s.tell(trial, [self._record(p, self.out / TRIALS) for p in row.runs], row.runs[0].run)
                    if row.runs[0].run.run_id not in listed:
                        listed.add(row.runs[0].run.run_id)
                        survey.trials.append(row)
            survey.later += s.later * len(row.runs)
            if not settled:
                survey.to_choose += 1
            elif best := self._chosen(s):
                rows.append(best)
        survey.rows = [self._row(row, self.out, survey) for row in _distinct(rows)]
        return survey

    def _row(self, runs: list[Planned], out: Path, survey: Survey) -> Row:
        each = [self._existing(p.run, out) for p in runs]
        survey.kept += [e.other_code for e in each if e.state == "completed"]
        return Row(runs, [e.state for e in each], self._seconds(runs[0].run, out))

    def _existing(self, run: RunConfig, out: Path) -> Existing:
        return existing(run, out, self._data_sha256, self._code)

    def _record(self, planned: Planned, out: Path) -> Record:
        """The record of a trial.

        Raises:
            UserError: it is not finished: another process is running it, or it was stopped; or its file is unreadable.
        """
        before = self._existing(planned.run, out)
        status, place = before.state, before.place
        if status in ("completed", "failed"):
            return record.read(place)
        reason = failure_reason(place) if status == "damaged" else "is not finished; the same command resumes it."
        raise UserError(f"the trial {planned.label} {reason}")

    def _seconds(self, run: RunConfig, out: Path) -> float | None:
        """Mean time of finished runs of the strategy on the benchmark; else of any strategy."""
        times = self._past_times(out / run.benchmark.id)
        for key in ((run.definition_hash, run.strategy.name), (run.definition_hash,)):
            if times.get(key):
                return mean(times[key])
        return None

    # --------------------------------------------------------------------------------------- execution
    def run(self, engine: Engine, display: Display) -> Summary:
        """Executes the missing runs.

        Raises:
            Interrupted: stopped; the message reports the progress.
        """
        self._forget()
        summary = Summary()
        chosen = self._choose(engine, display, summary)
        rows = [*self._finals, *chosen]
        planned = [row[k] for k in range(len(self.study.seeds)) for row in rows]
        self._do(planned, self.out, engine, display, summary)
        return summary

    def _do(self, planned: list[Planned], out: Path, engine: Engine, display: Display, summary: Summary) -> None:
        """Executes the missing ones among some runs."""
        todo = dict[Path, Planned]()  # two entries of a study may stand for one trial
        for each in planned:
            before = self._existing(each.run, out)
            if before.state == "completed":
                summary.existed += 1
                summary.kept.append(before.other_code)
                wanted = "weights" in self._keep and out == self.out
                summary.without_weights += wanted and not (before.place / files.WEIGHTS).exists()
            elif before.state in self.to_do:
                todo.setdefault(before.place, each)
            else:
                summary.failed.append(f"{each.label}: {failure_reason(before.place)}")
        if not todo:
            return
        jobs, labels = list[Job](), [each.label for each in todo.values()]
        for each in todo.values():
            note = {"study": self.study.config.id, **self._notes.get(each.run.config_hash, {})}
            keep = self._keep if out == self.out else ()
            jobs.append(Job(each.run, out, note, tuple(self.study.config.log), self._other_code, keep))
        display.begin(labels, [self._seconds(job.run, out) for job in jobs])
        ended = 0
        with contextlib.closing(engine.run(jobs, display)) as running:  # type: ignore[type-var]
            try:
                for number, done in running:
                    display.done(number, done)
                    ended += 1
                    if done.status == "completed":
                        summary.completed += 1
                    elif done.status == "failed":
                        summary.failed.append(f"{labels[number]}: {done.message}")
                    else:
                        summary.unfinished.append(f"{labels[number]}: {done.message}")
            except KeyboardInterrupt:
                left = f"{summary.existed + summary.completed} of {len(planned)} runs are done"
                raise Interrupted(f"interrupted; {left}, and the same command resumes.") from None
            finally:
                display.end()
        assert ended == len(jobs), "an engine lost a job"

    # --------------------------------------------------------------------------------------- selection
    def _searches(self) -> list[Search]:
        return [search(self.study, i, j) for i, j in self._searched]

    def _choose(self, engine: Engine, display: Display, summary: Summary) -> list[list[Planned]]:
        """The rows selected by trials. An unfinished trial selects nothing, and the other searches continue."""
        out, searches, rows = self.out / TRIALS, self._searches(), list[list[Planned]]()
        while asked := [(s, trial) for s in searches for trial in s.ask()]:
            trials = [self.study.trials(s.stream, s.strategy, *trial) for s, trial in asked]
            self._do([p for row in trials for p in row], out, engine, display, Summary())
            for (s, trial), row in zip(asked, trials, strict=True):
                if s in searches:
                    try:
                        s.tell(trial, [self._record(p, out) for p in row], row[0].run)
                    except UserError as error:
                        summary.unfinished.append(f"{s.label}: nothing is selected: {error}")
                        searches.remove(s)
        for s in searches:
            if (chosen := self._chosen(s)) is None:
                summary.failed.append(f"{s.label}: all trials failed: {s.reason()}")
                continue
            rows.append(chosen)
            values = ", ".join(f"{key}={shown(value)}" for key, value in chosen[0].combination.items())
            summary.chosen.append(
                f"{s.label}: {values} of {s.tried} tried"
                f"{f' ({s.failed} runs failed)' if s.failed else ''}, {s.updates:,} updates"
            )
        return _distinct(rows)

    def _chosen(self, s: Search) -> list[Planned] | None:
        """The row selected by a finished search; None if all trials failed."""
        best, settings = s.best(), self.study.config.tuning
        if best is None:
            return None
        assert settings is not None
        assert s.trial is not None
        how = tuning_record(settings, s.trial, s.tried, s.failed, s.updates)
        row = [
            replace(p, run=p.run.model_copy(update={"tuning": how}))
            for p in self.study.runs(s.stream, s.strategy, *best)
        ]
        self._notes[row[0].run.config_hash] = {"tuning": {"wall_s": round(s.wall_s, 3), "chosen": best[1]}}
        return row


def _distinct(rows: Iterable[list[Planned]]) -> list[list[Planned]]:
    """Rows, of equal ones the first."""
    return list({is_completed(row[0].run).run_id: row for row in reversed(list(rows))}.values())[::-1]
