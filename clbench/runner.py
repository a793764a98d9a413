"""One run: a strategy is trained on a stream while the evaluator watches, and everything is written down.

A run that was stopped, however it was, goes on from its last checkpoint and ends in the same bytes.
"""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from numpy.typing import NDArray

from clbench import metrics, provenance, resolve, results
from clbench.chance import fenced
from clbench.checkpoint import Checkpoints, Due, Every
from clbench.errors import RunFailed, Unsaveable, UserError
from clbench.estimate import estimate
from clbench.interrupt import Interrupted, Wish
from clbench.lock import Busy, Lock
from clbench.loggers import Loggers, check
from clbench.loop import train
from clbench.memory import give_back
from clbench.numerics import numerics
from clbench.observation import Observation, Position
from clbench.profile import Profile
from clbench.recorder import Recorder
from clbench.strategy import Memory, SelfDrivenLearner
from clbench.stream import Stream
from clbench.trace import Trace
from clbench.workbench import Workbench, assemble, completed, imported
from streams.compile import compile_stream


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        directory: its files.
        record: its run.json; of a run that another process is at, the record that this one would have begun with.
        skipped: whether it existed already.
        busy: who is at it; None where nobody else is.
    """

    directory: Path
    record: dict[str, Any]
    skipped: bool = False
    busy: str | None = None


class Progress(Protocol):
    """Somebody who wants to know how far a run is."""

    def start(self, total: int, done: int) -> None:
        """Training begins, or goes on after `done` updates; `total` are planned."""

    def update(self, done: int) -> None:
        """So many updates are done."""

    def close(self) -> None:
        """Training has ended, well or not."""


class _Nobody:
    def start(self, total: int, done: int) -> None: ...

    def update(self, done: int) -> None: ...

    def close(self) -> None: ...


def execute(
    run: resolve.RunConfig,
    out: Path,
    *,
    force: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
    warn: Callable[[str], None] | None = None,
    every: Every | None = None,
    profile: Profile | None = None,
    note: dict[str, Any] | None = None,
    log: Sequence[str] = (),
) -> Outcome:
    """Runs a configuration and writes its files.

    A finished run of the same id is recognised and not repeated; an unfinished one goes on from its last checkpoint;
    one that another process is at is left to it.

    Args:
        run: the resolved configuration.
        out: the results folder.
        force: begin anew, whatever there is.
        progress: is told of every update; None for silence.
        say: prints a line for the user; None for silence, and then no time is spent on the estimate.
        warn: prints a line that is to be read by those too who want silence; `say` where not given.
        every: how often a checkpoint is made; once a minute where not given.
        profile: is told where the time of training goes.
        note: what is written into the provenance beside what is found here.
        log: names of loggers, see `clbench.loggers`; a run that was finished without them is logged from its trace.

    Raises:
        UserError: data cannot be had, something cannot be written, or something in the configuration shows to be wrong
            only here.
        Interrupted: the user stopped it; the message says how it goes on.

    A run that fails is no exception: its record has the status "failed" and says why.
    """
    log, cuda, warn = check(log), run.numerics.device == "cuda", warn or say or _silence
    with numerics(run.numerics), fenced(cuda), contextlib.ExitStack() as held:
        started = time.perf_counter()
        found = imported(run.strategy)
        run = completed(run, found)
        directory = results.run_directory(out, run)
        loggers = Loggers(log, directory, warn, cuda)
        record = _new_record(run)
        record["provenance"] |= note or {}
        read_only = None
        try:
            held.enter_context(Lock(directory))
        except Busy as busy:
            return Outcome(directory, record, busy=str(busy))
        except OSError as error:  # a finished run can be read all the same
            read_only = UserError(f"{directory}: cannot be written to: {error.strerror}.")
        try:
            stream = compile_stream(run.benchmark.stream, run.stream_seed)
            checkpoints = Checkpoints(directory)
            if not force and (known := _finished(directory, run, stream, checkpoints, warn)) is not None:
                if read_only is None:  # what is left where it was killed just after its end
                    checkpoints.remove()
                    results.TraceWriter(directory).clear()
                    loggers.catch_up(known)
                return Outcome(directory, known, skipped=True)
            if read_only is not None:
                raise read_only
            record["stream"] = _describe(stream)
            record["provenance"]["data"] = stream.data.origin
            made_by = {
                "run_id": run.run_id,
                "data": stream.instance_hash,
                "code": provenance.code_sha256(found),
                "packages": provenance.packages(),
            }
            record["provenance"]["code_sha256"] = made_by["code"]
            writer = results.TraceWriter(directory)
            if force:
                checkpoints.remove()
            saved = _saved(checkpoints, writer, made_by, warn)
            if say is not None and saved is None:
                with fenced(cuda):
                    _say_estimate(run, stream, say)
            bench = assemble(run, stream)
        except UserError:
            raise
        except Exception as error:
            if read_only is not None:
                raise read_only from None
            _fail(record, error, 0)
            if record["stream"] is None and not force and _is_completed(directory, run):
                return Outcome(directory, record)  # a result is not lost because its data cannot be had today
            (directory / "trace.npz").unlink(missing_ok=True)  # what a checkpoint needs stays
            results.write_json(directory / "run.json", record)
            return Outcome(directory, record)
        record["access"] = bench.strategy.access
        record["parameters"] = sum(p.numel() for p in bench.strategy.model.parameters())
        attempt = _Attempt(
            bench, checkpoints, writer, made_by, progress or _Nobody(), say or _silence, warn, every or Every(), loggers
        )
        return attempt.run(record, saved, started, profile)


def _silence(text: str) -> None: ...


def directory_of(run: resolve.RunConfig, out: Path) -> Path:
    """Where the files of a run are, that of a strategy of the user's own too, whose defaults only its module knows."""
    with contextlib.suppress(UserError), fenced(run.numerics.device == "cuda"):
        run = completed(run, imported(run.strategy))
    return results.run_directory(out, run)


def write_failure(run: resolve.RunConfig, out: Path, kind: str, message: str) -> Path:
    """Leaves a run.json that says why there is no result, unless there is one; its folder.

    Of a run that could not even begin, or whose process was lost. What it can go on from stays.
    """
    directory = directory_of(run, out)
    with contextlib.suppress(UserError, Busy, OSError), Lock(directory):
        if not _is_completed(directory, run):
            record = _new_record(run)
            record["status"] = "failed"
            record["failure"] = {"kind": kind, "message": message, "iteration": 0}
            results.write_json(directory / "run.json", record)
    return directory


def _finished(
    directory: Path, run: resolve.RunConfig, stream: Stream, checkpoints: Checkpoints, say: Callable[[str], None]
) -> dict[str, Any] | None:
    """The record of a finished run of the same id on the same data, or None."""
    if not (directory / "run.json").exists():
        return None
    try:
        record = results.read_run(directory)
    except UserError as error:
        if checkpoints:  # an unfinished run writes it anew
            say(str(error))
            return None
        raise UserError(*(f"{p} Repeat the run with --force, or remove the file." for p in error.problems)) from None
    same = record["run_id"] == run.run_id and (record["stream"] or {}).get("instance_hash") == stream.instance_hash
    return record if same and record["status"] == "completed" else None


def _is_completed(directory: Path, run: resolve.RunConfig) -> bool:
    try:
        record = results.read_run(directory)
    except UserError:
        return False
    return bool(record["run_id"] == run.run_id and record["status"] == "completed")


def _saved(
    checkpoints: Checkpoints, writer: results.TraceWriter, made_by: dict[str, Any], say: Callable[[str], None]
) -> dict[str, Any] | None:
    """The newest checkpoint that can be gone on from, with the trace up to it; None to begin anew."""
    for updates, state in checkpoints.read():
        if isinstance(state, str):
            say(f"checkpoint at update {updates:,} cannot be used: {state}")
            continue
        if state["made_by"] != made_by:
            changed = ", ".join(sorted(k for k in made_by if state["made_by"].get(k) != made_by[k]))
            say(f"checkpoint at update {updates:,} cannot be used: made by other {changed}")
            continue
        try:
            writer.go_on(state["chunks"])
        except UserError as error:
            say(f"checkpoint at update {updates:,} cannot be used: {error}")
            continue
        return state
    return None


def _new_record(run: resolve.RunConfig) -> dict[str, Any]:
    return {
        "schema_version": results.SCHEMA,
        "run_id": run.run_id,
        "status": "running",
        "failure": None,
        "benchmark": run.benchmark.id,
        "modified": run.modified,
        "config": run.model_dump(mode="json"),
        "definition_hash": run.definition_hash,
        "config_hash": run.config_hash,
        "stream": None,
        "metrics": None,
        "primary_view": run.benchmark.stream.setting,
        "weights_sha256": None,
        "memory": None,
        "access": None,
        "parameters": None,
        "costs": None,
        "provenance": {
            **provenance.collect(run.numerics.device),
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "started_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    }


def _describe(stream: Stream) -> dict[str, Any]:
    return {
        "definition_hash": stream.definition_hash,
        "instance_hash": stream.instance_hash,
        "data_sha256": stream.data.sha256,
        "experiences": len(stream.visits),
        "tasks": len(stream.tasks),
        "classes": len({c for task in stream.tasks for c in task.classes}),
        "samples": sum(v.samples for v in stream.visits),
    }


def _say_estimate(run: resolve.RunConfig, stream: Stream, say: Callable[[str], None]) -> None:
    probe = assemble(run, stream)
    try:
        say(estimate(probe))
    except Exception as error:  # the run meets it too, and records it
        say(f"no estimate: {type(error).__name__}: {error}")


@dataclass
class _Costs:
    """Seconds spent so far, those of earlier attempts among them."""

    wall_s: float = 0.0
    setup_s: float = 0.0
    checkpoint_s: float = 0.0
    checkpoints: int = 0
    log_s: float = 0.0
    resumed_at: list[int] = field(default_factory=list)


class _Attempt:
    """Trains a run from its start or from a checkpoint, to its end or to where it is stopped."""

    def __init__(
        self,
        bench: Workbench,
        checkpoints: Checkpoints,
        writer: results.TraceWriter,
        made_by: dict[str, Any],
        progress: Progress,
        say: Callable[[str], None],
        warn: Callable[[str], None],
        every: Every,
        loggers: Loggers,
    ) -> None:
        self._bench, self._checkpoints, self._writer, self._made_by = bench, checkpoints, writer, made_by
        self._progress, self._say, self._warn, self._loggers = progress, say, warn, loggers
        self._recorder = Recorder(bench.device, keep=False)
        self._observation = Observation(bench, self._recorder, self._on_iteration, self._on_full)
        self._wish = Wish()
        self._within = not isinstance(bench.strategy, SelfDrivenLearner)
        """Whether a checkpoint can be made within an experience."""
        self._unsaveable = ""
        self._saved_at = 0
        self._every = every
        self._costs = _Costs()
        self._begin = time.perf_counter()

    def run(
        self, record: dict[str, Any], saved: dict[str, Any] | None, started: float, profile: Profile | None
    ) -> Outcome:
        """Trains and writes; `record` is filled in."""
        bench, directory = self._bench, self._writer.directory
        start = Position()
        results.sweep(directory)
        if saved is None:
            self._writer.start()
            self._checkpoints.remove()
        results.write_json(directory / "run.json", record)
        if saved is not None:
            try:
                start = self._restore(saved)
            except Exception as error:  # of the strategy's own
                _fail(record, error, 0)
                results.write_json(directory / "run.json", record)
                return Outcome(directory, record)
        self._due = Due(self._every, self._observation.iterations)
        if bench.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self._loggers.begin(record, sum(bench.budgets), goes_on=saved is not None)
        if self._loggers:
            for chunk in self._writer.read():
                self._loggers.add(self._trace([chunk]))
        self._costs.setup_s += time.perf_counter() - started
        self._begin = time.perf_counter()
        self._progress.start(sum(bench.budgets), self._observation.iterations)
        try:
            with self._wish, contextlib.nullcontext() if profile is None else profile.of(bench, self._observation):
                train(bench, self._observation, self._on_experience, start)
                self._finish(record)
        except Exception as error:
            _fail(record, error, self._observation.iterations)
            if isinstance(error, UserError):
                raise
        except KeyboardInterrupt as error:
            message = str(error) or self._goes_on()
            record["status"], at = "interrupted", self._observation.iterations
            record["failure"] = {"kind": "interrupted", "message": message, "iteration": at}
            raise Interrupted(message) from None
        finally:
            self._progress.close()
            if record["status"] != "completed":
                self._recorder.strict = False
                with contextlib.suppress(UserError):  # what was seen last, for whoever looks into it
                    self._on_full()
            record["costs"] = self._report()
            results.write_json(directory / "run.json", record)
            self._loggers.end(record)
        if record["status"] == "completed":
            self._writer.clear()
            self._checkpoints.remove()
        if self._wish.to_stop is not None:
            failed = record["status"] == "failed"
            ended = f"had failed: {record['failure']['message']}" if failed else "is finished and written"
            raise Interrupted(f"interrupted, but the run {ended}.")
        return Outcome(directory, record)

    def _finish(self, record: dict[str, Any]) -> None:
        bench = self._bench
        self._on_full()
        trace = self._trace(self._writer.read())
        record["metrics"] = metrics.compute(trace)
        record["weights_sha256"] = provenance.weights_sha256(bench.strategy.model)
        memory: Memory = bench.strategy.memory()
        record["memory"] = {"samples": memory.samples, "bytes": memory.bytes}
        record["report"] = bench.strategy.report()
        record["trace_sha256"] = self._writer.finish(trace)
        record["status"] = "completed"  # chunks and checkpoints go when that is on the disk

    def _trace(self, chunks: Iterable[dict[str, NDArray[Any]]]) -> Trace:
        """The record that some chunks hold."""
        bench, evaluation = self._bench, self._bench.run.benchmark.evaluation
        visits, origins = bench.stream.visit_matrix(), bench.stream.origins()
        cells, every, dense = bench.evaluator.cells, evaluation.every, evaluation.dense
        return self._recorder.trace(cells, visits, origins, every, dense, chunks)

    # ---------------------------------------------------------------------------------------- stops and checkpoints
    def _on_iteration(self) -> None:
        done = self._observation.iterations
        self._progress.update(done)
        if self._wish.to_stop is not None:
            if self._within and self._saved_at != done:
                self._save()
            raise Interrupted(self._goes_on())
        if self._within and self._due(done):
            self._save()

    def _on_experience(self) -> None:
        give_back()
        if self._due(self._observation.iterations):
            self._save()

    def _on_full(self) -> None:
        """A chunk is written; a later checkpoint names it."""
        self._log(self._append())

    def _append(self) -> dict[str, NDArray[Any]]:
        chunk = self._recorder.chunk()
        self._writer.append(chunk)
        return chunk

    def _log(self, chunk: dict[str, NDArray[Any]]) -> None:
        if self._loggers:
            begin = time.perf_counter()
            self._loggers.add(self._trace([chunk]))
            self._costs.log_s += time.perf_counter() - begin

    def _save(self) -> None:
        """Makes a checkpoint, unless the strategy's state cannot be saved, or is that of a run about to fail: which of
        its mistakes is met first must not depend on checkpoints."""
        if self._unsaveable:
            return
        if self._recorder.nan_scores() is not None:
            self._due.made(self._observation.iterations, 0.0)
            return
        begin, at = time.perf_counter(), self._observation.position
        chunk = None
        try:
            state = self._bench.state_dict()
            chunk = self._append()
            state |= {
                "made_by": self._made_by,
                "position": [at.experience, at.done],
                "observation": self._observation.state_dict(),
                "updates": self._recorder.updates,
                "chunks": list(self._writer.chunks),
                "costs": {**vars(self._costs), "wall_s": self._wall_s(), "checkpoints": self._costs.checkpoints + 1},
            }
            self._checkpoints.write(self._observation.iterations, state)
        except Unsaveable as error:
            self._unsaveable = str(error)
            self._warn(f"no checkpoints: {error}; stopped, the run begins anew")
            if chunk is not None:  # the recorder no longer has it
                self._log(chunk)
            return
        self._saved_at = self._observation.iterations
        took = time.perf_counter() - begin
        self._costs.checkpoint_s += took
        self._costs.checkpoints += 1
        self._due.made(self._saved_at, took)
        self._log(chunk)

    def _restore(self, saved: dict[str, Any]) -> Position:
        """Brings the bench to the state of a checkpoint."""
        experience, done = saved["position"]
        self._bench.load_state_dict(saved, experience, within=bool(done))
        position = Position(experience, done)
        self._observation.load_state_dict(saved["observation"], position)
        self._recorder.updates = saved["updates"]
        self._saved_at = self._observation.iterations
        self._costs = _Costs(**saved["costs"])
        self._costs.resumed_at = [*self._costs.resumed_at, self._saved_at]
        self._say(f"goes on after update {self._saved_at:,} of {sum(self._bench.budgets):,}")
        return position

    def _goes_on(self) -> str:
        if not self._saved_at:
            return "interrupted; the same command starts the run again."
        return f"interrupted; the same command goes on after update {self._saved_at:,}."

    # ---------------------------------------------------------------------------------------- costs
    def _wall_s(self) -> float:
        return self._costs.wall_s + time.perf_counter() - self._begin

    def _report(self) -> dict[str, Any]:
        costs, seen, wall_s = self._costs, self._observation, self._wall_s()
        return {
            "wall_s": round(costs.setup_s + wall_s, 3),
            "setup_s": round(costs.setup_s, 3),
            "eval_s": round(seen.eval_s, 3),
            "checkpoint_s": round(costs.checkpoint_s, 3),
            "log_s": round(costs.log_s, 3),
            "train_s": round(wall_s - seen.eval_s - costs.checkpoint_s - costs.log_s, 3),
            "checkpoints": costs.checkpoints,
            "resumed_at": costs.resumed_at,
            "iterations": seen.iterations,
            "evaluations": seen.evaluations,
            "evaluation_precision": self._bench.evaluator.report(),
            "peak_rss_bytes": provenance.peak_rss_bytes(),
            "peak_gpu_bytes": torch.cuda.max_memory_allocated() if self._bench.device.type == "cuda" else None,
        }


def _fail(record: dict[str, Any], error: BaseException, iterations: int) -> None:
    """Writes into a record why a run ended: one sentence, and a traceback where nobody foresaw it."""
    kind, message, iteration = type(error).__name__, f"{type(error).__name__}: {error}", iterations
    if isinstance(error, RunFailed):
        kind, message, iteration = error.kind, error.message, iterations if error.iteration is None else error.iteration
    elif isinstance(error, UserError):
        kind, message = "user_error", str(error)
    record["status"] = "failed"
    record["failure"] = {"kind": kind, "message": message, "iteration": iteration}
    if kind == type(error).__name__:
        record["failure"]["traceback"] = "".join(traceback.format_exception(error))
