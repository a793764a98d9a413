"""Runs on the disk, read with their traces; unfinished ones up to the last evaluation that is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clbench.errors import UserError, unknown
from clbench.measures import MEASURES
from clbench.results import files, trace_files
from clbench.results.record import Header, check_header, replaced, scan
from clbench.trace import NAN_SCORES, Phase, Trace


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        directory: the run's folder.
        record: its run.json.
        trace: the record of its evaluations; of an unfinished run those that are written, of the experiences begun.
        unfinished: reason why it is not finished, in a few words; None where it is.
        planned: experiences of an unfinished run's stream, before their cut into sub-experiences; 0 of a finished run.
    """

    directory: Path
    record: Header
    trace: Trace
    unfinished: str | None = None
    planned: int = 0

    @property
    def at(self) -> int:
        """Updates done before the last evaluation."""
        return int(self.trace.iteration[-1])

    def scored(self) -> Trace:
        """The part of the trace that has metrics: the whole, or the experiences that an unfinished run has ended.

        Raises:
            UserError: none has ended.
        """
        if self.unfinished is None:
            return self.trace
        ended = self.trace.ended()
        if ended is None:
            raise UserError(f"{self.directory}: {self.unfinished}; no experience has ended yet.")
        return ended

    @property
    def label(self) -> str:
        """The run in a few words; see `Header.label`."""
        return self.record.label

    def view(self, name: str | None = None) -> str:
        """A view's name; default: the primary one.

        Raises:
            UserError: the trace holds no such view.
        """
        primary = self.record.primary_view
        if name is None and primary not in self.trace.views:
            raise UserError(f"{self.directory / 'trace.npz'}: the run's primary view '{primary}' is missing.")
        view = name or primary
        if view not in self.trace.views:
            raise UserError(f"{self.directory}: {unknown('view', view, self.trace.views)}")
        return view


def directories(paths: Iterable[Path], superseded: list[Path] | None = None) -> list[Path]:
    """The run directories at or below some paths; each once, in the order of the paths.

    Args:
        paths: run directories, or folders above them.
        superseded: see `files.find_runs`.

    Raises:
        UserError: a path that is no folder, or holds no run.
    """
    folders: dict[Path, Path] = {}
    problems = []
    for path in paths:
        below = [path] if (path / "run.json").is_file() else list(files.find_runs(path, superseded))
        if not path.is_dir():
            problems.append(f"{path}: no such folder." if not path.exists() else f"{path}: not a folder.")
        elif not below:
            problems.append(f"{path}: no run.json there or below.")
        for directory in below:
            folders.setdefault(directory.resolve(), directory)
    if problems:
        raise UserError(*problems)
    return list(folders.values())


def unfinished(record: dict[str, Any]) -> str | None:
    """Reason why a run has no result, in a few words; None for a finished one.

    >>> unfinished({"status": "failed", "failure": {"message": "the loss became NaN at iteration 3"}})
    'failed (the loss became NaN at iteration 3)'
    >>> unfinished({"status": "running", "failure": None})
    'unfinished'
    """
    if record["status"] == "completed":
        return None
    if record["status"] == "failed":
        failure = record["failure"]
        return f"failed ({failure['message']})" if isinstance(failure, dict) and "message" in failure else "failed"
    return "unfinished"


def read(directory: Path, raw: dict[str, Any] | None = None, *, partial: bool = False, bits: bool = True) -> Run:
    """A run with its trace.

    Args:
        directory: the run's folder.
        raw: contents of its run.json, if read already.
        partial: whether an unfinished run is read too, as far as it is written.
        bits: whether the correctness of single samples is read of a finished one, most of a long trace.

    Raises:
        UserError: run.json or the trace is missing, damaged or of another version, or the run is not finished, or has
            no evaluation yet; one sentence that names the file.
    """
    raw = files.read_run(directory) if raw is None else raw
    reason = unfinished(raw)
    if reason is None:
        record = check_header(directory / "run.json", raw)
        if record.metrics is None:
            raise UserError(f"{directory / 'run.json'}: damaged; 'metrics' is missing or of the wrong kind.")
        return Run(directory, record, _trace(directory / "trace.npz", directory, bits))
    if not partial:
        raise UserError(f"{directory}: {reason}; only a finished run has a complete trace.")
    try:
        trace = _trace(directory / "trace", directory)
    except UserError:
        again = files.read_run(directory)
        if unfinished(again) is None:  # it has ended in the meantime
            return read(directory, again, bits=bits)
        raise
    planned = len(trace.by_origin().visits)
    return Run(directory, check_header(directory / "run.json", raw), trace.begun(), reason, planned)


def _trace(path: Path, directory: Path, bits: bool = True) -> Trace:
    """The trace in a file, or in the folder of an unfinished run's chunks."""
    try:
        if path.suffix:
            trace = trace_files.read_trace(directory, bits=bits)
        else:
            trace = trace_files.read_unfinished_trace(directory)
    except (RuntimeError, TypeError, IndexError) as error:  # zip features of random bytes, arrays of a strange kind
        raise UserError(f"{path}: damaged or truncated ({error}).") from None
    wrong = _implausible(trace)
    if wrong is not None:
        raise UserError(f"{path}: damaged; {wrong}.")
    return trace


def choose(paths: Sequence[Path], most: int, *, partial: bool = False) -> tuple[dict[Path, dict[str, Any]], list[str]]:
    """The finished runs at or below some paths, with their run.json, and a sentence for each other one below a folder.

    No trace is read; see `read`.

    Args:
        paths: run directories, or folders above them.
        most: largest number of runs.
        partial: whether unfinished runs count too, as far as they are written.

    Raises:
        UserError: a path without a run, a damaged run.json, no run that counts, or too many; a run named directly that
            is not finished, or has no evaluation yet.
    """
    named = {path.resolve() for path in paths}
    left_out: list[str] = []
    problems: list[str] = []
    raws: dict[Path, dict[str, Any]] = {}
    superseded: list[Path] = []
    for directory, raw in scan(directories(paths, superseded), files.read_run, problems):
        reason = unfinished(raw)
        if reason is not None and partial and not trace_files.has_begun(directory):
            reason += ", without an evaluation"
        elif partial:
            reason = None
        if reason is None:
            raws[directory] = raw
        else:
            (problems if directory.resolve() in named else left_out).append(f"{directory}: {reason}.")
    if len(raws) > most:
        where = ", ".join(map(str, paths))
        kind = "runs" if partial else "finished runs"
        problems.append(f"{where}: {len(raws)} {kind}, allowed are up to {most}; name some of them.")
    left_out += replaced(superseded)
    if problems or not raws:
        raise UserError(*(problems or left_out))
    return raws, left_out


def read_all(paths: Sequence[Path], most: int, *, partial: bool = False) -> tuple[list[Run], list[str]]:
    """The runs of `choose`, read with their traces, and a sentence for each other one below a folder.

    Args:
        paths, most, partial: see `choose`.

    Raises:
        UserError: as in `choose`, or a damaged trace.
    """
    problems: list[str] = []
    raws, left_out = choose(paths, most, partial=partial)
    runs = [run for _, run in scan(raws, lambda path: read(path, raws[path], partial=partial), problems)]
    if problems:
        raise UserError(*problems)
    return runs, left_out


def _implausible(trace: Trace) -> str | None:
    """Implausible values in a trace of the right shapes, in a few words; None for a sound one."""
    visits = len(trace.visits)
    if not trace.iteration.size:
        return "it holds no evaluation"
    whole = {
        name: getattr(trace, name)
        for name in (
            "iteration", "experience", "phase", "origin", "cell_size", "cell_class", "cell_domain", "cell_target",
        )
    }  # fmt: skip
    whole |= {f"correct.{view}": counts for view, counts in trace.correct.items()}
    for name, array in whole.items():
        if array.dtype.kind != "i":
            return f"array '{name}' is of the kind {array.dtype}, expected integers"
    if trace.loss.dtype.kind != "f":
        return f"array 'loss' is of the kind {trace.loss.dtype}, expected floats"
    for view, sums in trace.sums.items():
        if sums.dtype != np.float64:
            return f"array 'sums.{view}' is of the kind {sums.dtype}, expected float64"
        if view.partition(":")[2] not in MEASURES:
            return f"array 'sums.{view}' is of no known measure"
        if (sums < 0).any():
            return f"array 'sums.{view}' holds a sum below 0"
    for view, outputs in trace.predicted.items():
        if outputs.dtype not in (np.uint8, np.uint16):
            return f"array 'predicted.{view}' is of the kind {outputs.dtype}, expected uint8 or uint16"
    for name in ("visits", "task_cells"):
        if getattr(trace, name).dtype != np.bool_:
            return f"array '{name}' is of the kind {getattr(trace, name).dtype}, expected bool"
    if trace.experience.min() < 0 or trace.experience.max() >= visits or (np.diff(trace.experience) < 0).any():
        return f"array 'experience' is not ascending from 0 to {visits - 1}"
    if trace.iteration.min() < 0 or (np.diff(trace.iteration) < 0).any():
        return "array 'iteration' is not ascending from 0"
    if not set(np.unique(trace.phase).tolist()) <= set(Phase):
        return "array 'phase' holds an unknown phase"
    for view, counts in trace.correct.items():
        if (counts < NAN_SCORES).any() or (counts > trace.cell_size).any():
            return f"array 'correct.{view}' holds a count beyond the cell's size"
    return None
