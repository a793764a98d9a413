"""One run: a strategy is trained on a stream, evaluated during training, and recorded.

An interrupted run, whatever the cause, resumes from its last checkpoint and ends in the same bytes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from clbench import run_config
from clbench.dataset import identity
from clbench.errors import UserError
from clbench.loggers.base import Loggers, check
from clbench.measures import primary_view
from clbench.results import files, provenance, trace_files
from clbench.rng import fenced
from clbench.runner import user_code
from clbench.runner.attempt import Attempt, NoProgress, Outcome, Progress
from clbench.runner.build_strategy import completed, imported
from clbench.runner.checkpoint import Checkpoints, Every
from clbench.runner.components import Components, assemble, last_begun
from clbench.runner.estimate import estimate, unscaled
from clbench.runner.lock import Busy, Lock
from clbench.runner.numerics import numerics
from clbench.runner.profiler import Profile
from clbench.runner.run_record import is_completed, new_record, record_failure
from clbench.runner.single_samples import refuse_single_samples
from clbench.runner.user_code import OtherCode
from clbench.runner.watching import not_watched
from clbench.stream import Stream
from clbench.streams.compile import compile_stream
from clbench.training import models, recipe, weights


def execute(
    run: run_config.RunConfig,
    out: Path,
    *,
    force: bool = False,
    other_code: OtherCode | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
    warn: Callable[[str], None] | None = None,
    every: Every | None = None,
    profile: Profile | None = None,
    note: dict[str, Any] | None = None,
    log: Sequence[str] = (),
    keep: Sequence[str] = (),
) -> Outcome:
    """Runs a configuration and writes its files.

    A finished run of the same id is recognised and not repeated, unless its data or the user's code in it have changed;
    an unfinished one resumes from its last checkpoint; one that another process is running is left to it. Results are
    never overwritten: those of a finished run that is done again are moved to `superseded/<n>` in its folder.

    Args:
        run: the resolved configuration.
        out: the results folder.
        force: restart, whatever exists.
        other_code: "keep" a finished run whatever code made it, or do it "again" where any of its code has changed,
            clbench's included; by default again where the user's code has, see `clbench.runner.user_code`.
        progress: called at every update; None for silence.
        say: prints a line for the user; None for silence, without an estimate.
        warn: prints a warning, also in silence; default: `say`.
        every: interval of checkpoints; default: a minute.
        profile: measures the time of training.
        note: additions to the provenance.
        log: names of loggers, see `clbench.loggers`; a run that was finished without them is logged from its trace.
        keep: "weights" for the files of `clbench.runner.kept_weights`.

    Raises:
        UserError: data are unavailable, a file cannot be written, or the configuration has a mistake that shows only
            here.
        Interrupted: the user stopped it; the message says how it resumes.

    A failed run raises nothing: its record has the status "failed" and the reason.
    """
    log, cuda, warn = check(log), run.numerics.device == "cuda", warn or say or _silence
    with numerics(run.numerics), fenced(cuda), contextlib.ExitStack() as held:
        started, finished = time.perf_counter(), None
        target = imported(run.strategy)
        run = completed(run, target)
        directory = run.directory(out)
        loggers = Loggers(log, directory, warn, cuda)
        record = new_record(run)
        record["provenance"] |= note or {}
        read_only, checkpoints = None, Checkpoints(directory)
        try:
            held.enter_context(Lock(directory))
        except Busy as busy:
            return Outcome(directory, record, busy=str(busy))
        except OSError as error:  # a finished run can be read all the same
            read_only = UserError(f"{directory}: cannot be written to: {error.strerror}.")
        try:
            stream = compile_stream(run.benchmark.stream, run.stream_seed)
            with contextlib.suppress(UserError):  # raised again when it is built
                models.import_parts(run.benchmark.model)
                if run.benchmark.model.weights is not None and say is not None:
                    _say_wrapping(run.benchmark.model.weights, say)
                recipe.import_parts(run.benchmark.training)
            code = user_code.of(run)
            code_sha256 = provenance.code_sha256(code.modules)
            if code.stale:
                warn(f"{', '.join(code.stale)}: edited since imported; this process continues with what it imported")
            if read_only is None:
                files.finish_superseding(directory)
            finished = _finished(directory, force, checkpoints, warn)
            kept = directory / files.SUPERSEDED
            if finished is not None and force and say is not None:
                say(f"the earlier result is kept in {kept}")
            if finished is not None and not force:
                kind, difference = user_code.change(finished["provenance"], code.modules, code_sha256)
                again = user_code.is_repeated(kind, other_code)
                why = _not_the_same(finished, run, stream) or (f"with other code ({difference})" if again else "")
                if not why:
                    if read_only is None:  # leftovers, if it was killed just after its end
                        checkpoints.remove()
                        trace_files.TraceWriter(directory).clear()
                        loggers.catch_up(finished)
                    return Outcome(directory, finished, skipped=True, other_code=kind, difference=difference)
                warn(f"finished earlier {why}; it is done again, the earlier result is kept in {kept}")
            if read_only is not None:
                raise read_only
            record["stream"] = provenance.describe_stream(stream)
            numbers = stream.data.train_target is not None
            record["primary_view"] = primary_view(stream.setting, run.watch.measures, numbers)
            record["provenance"]["data"] = stream.data.origin
            made_by = {
                "run_id": run.run_id,
                "data": stream.instance_hash,
                "code": code_sha256,
                "user_code": code.modules,
                "packages": provenance.packages(),
            }
            record["provenance"] |= {"code_sha256": code_sha256, "user_code": code.modules}
            writer = trace_files.TraceWriter(directory)
            if force:
                checkpoints.remove()
            saved = _saved(checkpoints, writer, made_by, warn)
            begun = 0 if saved is None else last_begun(saved["position"][0], bool(saved["position"][1]))
            bench = assemble(run, stream, experience=begun)
            held.callback(bench.release)
            if reason := not_watched(run, bench.strategy):
                warn(reason)
            if saved is None:
                refuse_single_samples(bench)
                if say is not None:
                    with fenced(cuda):
                        _say_estimate(bench, say)
        except UserError:
            raise
        except Exception as error:
            if read_only is not None:
                raise read_only from None
            record_failure(record, error, 0)
            if record["stream"] is None and not force and is_completed(directory, run):
                return Outcome(directory, record)  # a result is kept though its data are unavailable now
            if _finished(directory, True, checkpoints, warn) is not None:
                files.supersede(directory)
            for name in ("trace.npz", files.PREDICTIONS):  # files of a checkpoint stay
                (directory / name).unlink(missing_ok=True)
            files.write_json(directory / "run.json", record)
            return Outcome(directory, record)
        if finished is not None:
            files.supersede(directory)
        record["access"] = bench.strategy.access
        record["parameters"] = sum(p.numel() for p in bench.strategy.model.parameters())
        return Attempt(
            bench,
            checkpoints,
            writer,
            made_by,
            progress or NoProgress(),
            say or _silence,
            warn,
            every or Every(),
            loggers,
            keep,
        ).run(record, saved, started, profile)


def _silence(text: str) -> None: ...


def _say_wrapping(path: str, say: Callable[[str], None]) -> None:
    """Says what was taken off the state dictionary of a file of weights; a file that is none fails later."""
    with contextlib.suppress(OSError):
        if wrapping := weights.wrapping(path):
            say(f"{path}: {wrapping}")


def _finished(
    directory: Path, force: bool, checkpoints: Checkpoints, say: Callable[[str], None]
) -> dict[str, Any] | None:
    """The record of a finished run, or None; with `force` an empty one where it is damaged."""
    if not (directory / "run.json").exists():
        return None
    try:
        record = files.read_run(directory)
    except UserError as error:
        if force:
            return {}
        if checkpoints:  # an unfinished run rewrites it
            say(str(error))
            return None
        raise UserError(*(f"{p} Repeat the run with --force, or remove the file." for p in error.problems)) from None
    return record if record["status"] == "completed" else None


def _not_the_same(record: dict[str, Any], run: run_config.RunConfig, stream: Stream) -> str:
    """Difference between the result of a folder and that of a run, in a few words; empty where it does not."""
    if record["run_id"] != run.run_id:
        return "with another configuration"
    before = record["stream"] or {}
    if before.get("instance_hash") == stream.instance_hash:
        return ""
    data_sha256 = identity(stream.data, stream.normalise)
    if before.get("data_sha256") == data_sha256:
        return f"on another instance of the stream ({str(before.get('instance_hash'))[:16]}...)"
    return f"on other data (SHA-256 {str(before.get('data_sha256'))[:16]}..., now {data_sha256[:16]}...)"


def _saved(
    checkpoints: Checkpoints, writer: trace_files.TraceWriter, made_by: dict[str, Any], say: Callable[[str], None]
) -> dict[str, Any] | None:
    """The newest usable checkpoint, with the trace up to it; None to restart."""
    for updates, state in checkpoints.read():
        if isinstance(state, str):
            say(f"checkpoint at update {updates:,} cannot be used: {state}")
            continue
        if state["made_by"] != made_by or made_by["code"] is None:
            say(f"checkpoint at update {updates:,} cannot be used: made by other {_changed(state['made_by'], made_by)}")
            continue
        if "fault" in state:
            say(f"checkpoint at update {updates:,} cannot be used: {state['fault']}; the run restarts")
            return None
        try:
            writer.resume(state["chunks"])
        except UserError as error:
            say(f"checkpoint at update {updates:,} cannot be used: {error}")
            continue
        return state
    return None


def _changed(before: dict[str, Any], made_by: dict[str, Any]) -> str:
    """Code, data and packages of a checkpoint that are others now, in a few words."""
    words = [key for key in ("data", "packages", "run_id") if before.get(key) != made_by[key]]
    if made_by["code"] is None or before.get("code") != made_by["code"]:
        known = "user_code" in before
        modules = user_code.differing(before["user_code"], made_by["user_code"]) if known else ""
        words.insert(0, f"code ({modules or 'clbench changed'})" if known else "code")
    return ", ".join(words)


def _say_estimate(bench: Components, say: Callable[[str], None]) -> None:
    """Estimates by a second strategy, with batches and an evaluator of its own."""
    if hint := unscaled(bench.stream):
        say(hint)
    try:
        probe = assemble(bench.run, bench.stream, beside=bench)
        try:
            say(estimate(probe))
        finally:
            probe.release()
    except Exception as error:  # the run meets it too, and records it
        say(f"no estimate: {type(error).__name__}: {error}")
