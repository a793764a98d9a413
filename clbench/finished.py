"""Finished runs on the disk: found below folders, told apart from the others, read with their traces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clbench import results
from clbench.errors import UserError, unknown
from clbench.trace import NAN_SCORES, Phase, Trace


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        directory: where its files are.
        record: its run.json.
        trace: what the evaluator saw.
    """

    directory: Path
    record: dict[str, Any]
    trace: Trace

    @property
    def label(self) -> str:
        """Benchmark (with `*` where it is not the shipped one), strategy, start of the configuration's hash, seed."""
        config, star = self.record["config"], "*" if self.record["modified"] else ""
        name, hash_ = config["strategy"]["name"], self.record["config_hash"][:6]
        return f"{self.record['benchmark']}{star} {name} {hash_} seed {config['seed']}"

    def view(self, name: str | None = None) -> str:
        """A view's name; the primary one where none is given.

        Raises:
            UserError: the trace holds no such view.
        """
        primary = str(self.record["primary_view"])
        if name is None and primary not in self.trace.correct:
            raise UserError(f"{self.directory / 'trace.npz'}: the run's primary view '{primary}' is missing.")
        found = name or primary
        if found not in self.trace.correct:
            raise UserError(f"{self.directory}: {unknown('view', found, self.trace.correct)}")
        return found


def directories(paths: Iterable[Path]) -> list[Path]:
    """The run directories that some paths mean: themselves, or all below them; each once, in the order given.

    Raises:
        UserError: a path that is no folder, or holds no run.
    """
    found: dict[Path, Path] = {}
    problems = []
    for path in paths:
        below = [path] if (path / "run.json").is_file() else list(results.find_runs(path))
        if not path.is_dir():
            problems.append(f"{path}: no such folder." if not path.exists() else f"{path}: not a folder.")
        elif not below:
            problems.append(f"{path}: no run.json there or below.")
        for directory in below:
            found.setdefault(directory.resolve(), directory)
    if problems:
        raise UserError(*problems)
    return list(found.values())


def unfinished(record: dict[str, Any]) -> str | None:
    """Why a run has no result, in a few words; None for a finished one.

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


def read(directory: Path, record: dict[str, Any] | None = None) -> Run:
    """A finished run with its trace.

    Args:
        directory: the run's folder.
        record: its run.json, where read already.

    Raises:
        UserError: run.json or trace.npz is missing, damaged or of another version, or the run is not finished; one
            sentence that names the file.
    """
    record = results.read_run(directory) if record is None else record
    reason = unfinished(record)
    if reason is not None:
        raise UserError(f"{directory}: {reason}; only a finished run has a whole trace.")
    _check_record(directory / "run.json", record)
    try:
        trace = results.read_trace(directory)
    except (RuntimeError, TypeError, IndexError) as error:  # zip features of random bytes, arrays of a strange kind
        raise UserError(f"{directory / 'trace.npz'}: damaged or truncated ({error}).") from None
    wrong = _implausible(trace)
    if wrong is not None:
        raise UserError(f"{directory / 'trace.npz'}: damaged; {wrong}.")
    return Run(directory, record, trace)


def collect(paths: Sequence[Path], most: int) -> tuple[list[Run], list[str]]:
    """The finished runs that some paths mean, and a sentence for each other one below a folder.

    Args:
        paths: run directories, or folders above them.
        most: how many runs there may be.

    Raises:
        UserError: a path without a run, a run that is named itself and not finished, a damaged file, no finished run or
            too many.
    """
    named = {path.resolve() for path in paths}
    records: dict[Path, dict[str, Any]] = {}
    left_out: list[str] = []
    problems: list[str] = []
    for directory in directories(paths):
        try:
            record = results.read_run(directory)
        except UserError as error:
            problems += error.problems
            continue
        reason = unfinished(record)
        if reason is None:
            records[directory] = record
        else:
            (problems if directory.resolve() in named else left_out).append(f"{directory}: {reason}.")
    if len(records) > most:
        where = ", ".join(map(str, paths))
        problems.append(f"{where}: {len(records)} finished runs, allowed are up to {most}; name some of them.")
    if problems or not records:
        raise UserError(*(problems or left_out))
    runs = []
    for directory, record in records.items():
        try:
            runs.append(read(directory, record))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(*problems)
    return runs, left_out


def _check_record(path: Path, record: dict[str, Any]) -> None:
    """Whether what is read of a run.json here is of the kind that it should be."""
    config = record["config"] if isinstance(record["config"], dict) else {}
    strategy = config.get("strategy")
    for key, value, kind in (
        ("benchmark", record["benchmark"], str),
        ("config_hash", record["config_hash"], str),
        ("primary_view", record["primary_view"], str),
        ("metrics", record["metrics"], dict),
        ("config.seed", config.get("seed"), int),
        ("config.strategy.name", strategy.get("name") if isinstance(strategy, dict) else None, str),
    ):
        if not isinstance(value, kind):
            raise UserError(f"{path}: damaged; '{key}' is missing or of the wrong kind.")


def _implausible(trace: Trace) -> str | None:
    """What in a trace of the right shapes cannot be, in a few words; None for a sound one."""
    visits = len(trace.visits)
    if not trace.iteration.size:
        return "it holds no evaluation"
    whole = {
        name: getattr(trace, name)
        for name in ("iteration", "experience", "phase", "origin", "cell_size", "cell_class", "cell_domain")
    }
    whole |= {f"correct.{view}": counts for view, counts in trace.correct.items()}
    for name, array in whole.items():
        if array.dtype.kind != "i":
            return f"array '{name}' is of the kind {array.dtype}, expected integers"
    if trace.loss.dtype.kind != "f":
        return f"array 'loss' is of the kind {trace.loss.dtype}, expected floats"
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
