"""One attempt at a run: training, evaluation, checkpoints, and its end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from numpy.typing import NDArray

from clbench import metrics, registry
from clbench.errors import Unsaveable, UserError
from clbench.evaluation.recorder import Recorder
from clbench.loggers.base import Loggers
from clbench.malloc import give_back
from clbench.results import files, provenance, trace_files
from clbench.runner import kept_weights, user_code
from clbench.runner.build_strategy import imported
from clbench.runner.checkpoint import Checkpoints, Due, Every
from clbench.runner.components import Components
from clbench.runner.observer import Observation, Position
from clbench.runner.profiler import Profile
from clbench.runner.run_record import record_failure
from clbench.runner.signals import Interrupted, StopRequest
from clbench.runner.state_check import LEFT_OUT, StateCheck
from clbench.runner.training_loop import train
from clbench.runner.user_code import Change
from clbench.strategy import Memory, SelfDrivenLearner, is_strategy
from clbench.trace import Trace
from clbench.training.weights import state_sha256
from clbench.weak import weakly


@dataclass(frozen=True)
class Outcome:
    """Result of a run.

    Attributes:
        directory: the run's folder.
        record: its run.json; if another process is running it, the initial record of this one.
        skipped: whether it existed already.
        other_code: of a run that existed already: how its code differs, see `clbench.runner.user_code.change`.
        difference: the same, in a few words.
        busy: the process that is already running it; None if there is none.
    """

    directory: Path
    record: dict[str, Any]
    skipped: bool = False
    other_code: Change = "none"
    difference: str = ""
    busy: str | None = None


class Progress(Protocol):
    """Progress callback."""

    def start(self, total: int, done: int) -> None:
        """Training begins, or resumes after `done` updates, of `total`."""

    def update(self, done: int) -> None:
        """Called with the number of completed updates."""

    def close(self) -> None:
        """Training has ended, successfully or not."""


@runtime_checkable
class ShownProgress(Progress, Protocol):
    """Shows accuracy or the mean of a measure, and loss too."""

    def watch(self, latest: Callable[[], tuple[float | None, float | None]], view: str) -> None:
        """Takes a function that returns the mean in a view, and the loss; see `Observation`. Called before `start`."""


class NoProgress:
    def start(self, total: int, done: int) -> None: ...

    def update(self, done: int) -> None: ...

    def close(self) -> None: ...


_CHUNK_S, _CHUNK_SHARE = 10.0, 0.05
"""Seconds, or share of the time so far, after which what was recorded is written: 100 files in ten hours."""


@dataclass
class _Costs:
    """Seconds so far, earlier attempts included."""

    wall_s: float = 0.0
    setup_s: float = 0.0
    checkpoint_s: float = 0.0
    checkpoints: int = 0
    log_s: float = 0.0
    resumed_at: list[int] = field(default_factory=list)


class Attempt:
    """Trains a run from its start or from a checkpoint, to its end or until it is stopped."""

    def __init__(
        self,
        bench: Components,
        checkpoints: Checkpoints,
        writer: trace_files.TraceWriter,
        made_by: dict[str, Any],
        progress: Progress,
        say: Callable[[str], None],
        warn: Callable[[str], None],
        every: Every,
        loggers: Loggers,
        keep: Sequence[str],
    ) -> None:
        self._bench, self._checkpoints, self._writer, self._made_by = bench, checkpoints, writer, made_by
        self._progress, self._say, self._warn, self._loggers, self._keep = progress, say, warn, loggers, keep
        self._recorder = Recorder(bench.device, keep=False)
        self._observation = Observation(bench, self._recorder, weakly(self._on_iteration), weakly(self._on_full))
        self._wish = StopRequest()
        self._within = not isinstance(bench.strategy, SelfDrivenLearner)
        """Checkpoints are possible within an experience."""
        self._unsaveable = ""
        target = imported(bench.run.strategy)
        checked = is_strategy(target) and not registry.built_in(bench.run.strategy.name)
        cuda = bench.device.type == "cuda"
        self._check = StateCheck(bench.strategy, bench.remake, cuda) if checked else None
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
        files.sweep(directory)
        if saved is None:
            self._writer.start()
            self._checkpoints.remove()
            kept_weights.remove(directory)
        files.write_json(directory / "run.json", record)
        if saved is not None:
            try:
                start = self._restore(saved)
            except Exception as error:  # of the strategy
                record_failure(record, error, 0)
                files.write_json(directory / "run.json", record)
                return Outcome(directory, record)
        self._due = Due(self._every, self._observation.iterations)
        if bench.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self._loggers.begin(record, sum(bench.budgets), resumed=saved is not None)
        if self._loggers:
            for chunk in self._writer.read():
                self._loggers.add(self._trace([chunk]))
        self._costs.setup_s += time.perf_counter() - started
        self._begin = time.perf_counter()
        self._next_chunk_s = time.monotonic() + _CHUNK_S
        if isinstance(self._progress, ShownProgress):
            self._progress.watch(self._observation.latest, self._observation.view)
        self._progress.start(sum(bench.budgets), self._observation.iterations)
        try:
            with self._wish, contextlib.nullcontext() if profile is None else profile.of(bench, self._observation):
                self._writer.describe(self._trace([self._recorder.chunk()]))
                train(bench, self._observation, self._on_experience, start)
                self._finish(record)
        except Exception as error:
            record_failure(record, error, self._observation.iterations)
            if isinstance(error, UserError):
                raise
        except KeyboardInterrupt as error:
            message = str(error) or self._stop_message()
            record["status"], at = "interrupted", self._observation.iterations
            record["failure"] = {"kind": "interrupted", "message": message, "iteration": at}
            raise Interrupted(message) from None
        finally:
            self._progress.close()
            if record["status"] != "completed":
                self._recorder.strict = False
                with contextlib.suppress(UserError):  # the last evaluations, for diagnosis
                    self._on_full()
            record["costs"] = self._report()
            files.write_json(directory / "run.json", record)
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
        record["weights_sha256"] = state_sha256(bench.strategy.model.state_dict())
        memory: Memory = bench.strategy.memory()
        record["memory"] = {"samples": memory.samples, "bytes": memory.bytes}
        record["report"] = bench.strategy.report()
        self._check_code(record["provenance"])
        if "weights" in self._keep:
            kept_weights.write(self._writer.directory, bench.strategy, self._warn)
        record["trace_sha256"] = self._writer.finish(trace)
        record["status"] = "completed"  # chunks and checkpoints are removed once that is on the disk

    def _check_code(self, recorded: dict[str, Any]) -> None:
        """Records as unknown the code of modules that were imported during training and edited before that."""
        modules = user_code.of(self._bench.run).modules
        if edited := user_code.differing(modules, {name: d for name, d in recorded["user_code"].items() if d}):
            self._warn(f"code edited during the run ({edited}); the result counts as one of unknown code")
            names = {name for name, digest in modules.items() if digest != recorded["user_code"].get(name)}
            recorded["user_code"] = {**recorded["user_code"], **dict.fromkeys(sorted(names))}
            recorded["code_sha256"] = None

    def _trace(self, chunks: Iterable[dict[str, NDArray[Any]]]) -> Trace:
        """The trace of some chunks."""
        bench, evaluation = self._bench, self._bench.run.benchmark.evaluation
        visits, origins = bench.stream.visit_matrix(), bench.stream.origins()
        cells, every, dense = bench.evaluator.cells, evaluation.every, evaluation.dense
        delay = None if bench.prequential is None else bench.prequential.delay
        return self._recorder.trace(cells, visits, origins, every, dense, chunks, delay)

    # ---------------------------------------------------------------------------------------- stops and checkpoints
    def _on_iteration(self) -> None:
        done = self._observation.iterations
        self._progress.update(done)
        if self._wish.to_stop is not None:
            if self._within and self._saved_at != done:
                self._save()
            raise Interrupted(self._stop_message())
        if self._within and self._due(done):
            self._save()
        if time.monotonic() >= self._next_chunk_s:
            self._write_chunk()

    def _write_chunk(self) -> None:
        """Writes what was recorded, for readers of the unfinished run; a mistake waits, as in `_save`."""
        begin = time.perf_counter()
        if self._recorder.nan_scores() is None:
            self._on_full()
        self._next_chunk_s = time.monotonic() + max(_CHUNK_S, _CHUNK_SHARE * self._wall_s())
        self._costs.checkpoint_s += time.perf_counter() - begin

    def _on_experience(self) -> None:
        give_back()
        if self._due(self._observation.iterations):
            self._save()

    def _on_full(self) -> None:
        """Writes a chunk; a later checkpoint refers to it."""
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
        """Writes a checkpoint, unless the strategy's state cannot be saved, or the run is about to fail: its first
        mistake must not depend on checkpoints."""
        if self._unsaveable:
            return
        if self._recorder.nan_scores() is not None:
            self._due.made(self._observation.iterations, 0.0)
            return
        begin, at = time.perf_counter(), self._observation.position
        chunk = None
        try:
            state = self._bench.state_dict()
            fault = None if self._check is None else self._check.fault(state["strategy"])
            if fault is not None:
                self._give_up(fault)
                return
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
            self._warn(f"no checkpoints: {error}; if stopped, the run restarts")
            if chunk is not None:  # the recorder no longer has it
                self._log(chunk)
            return
        self._saved_at = self._observation.iterations
        took = time.perf_counter() - begin
        self._costs.checkpoint_s += took
        self._costs.checkpoints += 1
        self._due.made(self._saved_at, took)
        self._log(chunk)

    def _give_up(self, fault: str) -> None:
        """Leaves a note in place of a checkpoint, by which the run restarts: it would resume to other numbers."""
        self._unsaveable, self._saved_at = fault, 0
        self._checkpoints.write(self._observation.iterations, {"made_by": self._made_by, "fault": fault})
        remedy = " (save and load it, or name it in 'transient' if it is rebuilt where it is needed)"
        remedy = remedy if fault.endswith(LEFT_OUT) else ""
        self._warn(f"no checkpoints: {fault}; if stopped, the run restarts{remedy}")

    def _restore(self, saved: dict[str, Any]) -> Position:
        """Restores the state of a checkpoint."""
        experience, done = saved["position"]
        self._bench.load_state_dict(saved, experience, within=bool(done))
        position = Position(experience, done)
        self._observation.load_state_dict(saved["observation"], position)
        self._recorder.updates = saved["updates"]
        self._saved_at = self._observation.iterations
        self._costs = _Costs(**saved["costs"])
        self._costs.resumed_at = [*self._costs.resumed_at, self._saved_at]
        self._say(f"resumes after update {self._saved_at:,} of {sum(self._bench.budgets):,}")
        return position

    def _stop_message(self) -> str:
        if not self._saved_at:
            return "interrupted; the same command restarts the run."
        return f"interrupted; the same command resumes after update {self._saved_at:,}."

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
