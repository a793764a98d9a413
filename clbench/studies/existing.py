"""Existing results: the state of each run of a study, and the times of past runs."""

from __future__ import annotations

import collections
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from clbench import registry
from clbench.dataset import identity
from clbench.errors import UserError
from clbench.results import files
from clbench.results.record import read as read_record
from clbench.run_config import RunConfig
from clbench.schema import canonical
from clbench.streams.definition import StreamConfig

State = Literal["completed", "failed", "unfinished", "missing", "damaged"]


def state(run: RunConfig, out: Path, data_sha256: Callable[[str], str | None]) -> tuple[State, Path]:
    """State and folder of a run; a result on other data counts as missing.

    Args:
        run: the run.
        out: the results folder.
        data_sha256: SHA-256 of the data of a stream's canonical JSON.
    """
    completed = is_completed(run)
    place = completed.directory(out)
    unfinished: State = "unfinished" if (place / "checkpoint").exists() else "missing"
    if not (place / "run.json").exists():
        return unfinished, place
    try:
        record = read_record(place)
    except UserError:
        return ("damaged" if unfinished == "missing" else unfinished), place
    if record.run_id != completed.run_id:
        return "missing", place
    if record.status == "completed" and record.stream is not None:
        stream = run.benchmark.stream
        same = record.stream.data_sha256 == data_sha256(canonical(stream.model_dump(mode="json")))
        return ("completed" if same else "missing"), place
    return ("failed" if record.status == "failed" else "unfinished"), place


def failure_reason(place: Path) -> str:
    """Reason for the failure of an earlier run."""
    try:
        record = read_record(place)
    except UserError as error:
        return f"{error} Remove the file, and the run is done again."
    assert record.failure is not None  # of a failed run
    return record.failure.message


def is_completed(run: RunConfig) -> RunConfig:
    """The run with the defaults of a user-defined strategy, which only its module knows."""
    if all(part in registry.strategies() for part in run.strategy.name.split("+")):
        return run
    from clbench.runner.build_strategy import completed, imported

    with contextlib.suppress(UserError):  # the run reports it
        return completed(run, imported(run.strategy))
    return run


def sha256_of_data(stream: str) -> str | None:
    """See `clbench.dataset.identity`; None where the data are unavailable.

    Args:
        stream: canonical JSON of its definition.
    """
    config = StreamConfig.model_validate(json.loads(stream))
    try:
        return identity(registry.datasets().outline(config.data, config.synthetic, config.size), config.normalise)
    except UserError:
        return None


def past_times(folder: Path) -> dict[tuple[str, ...], list[float]]:
    """Seconds of the finished runs of a benchmark: by its definition, and by that and the strategy."""
    times = collections.defaultdict[tuple[str, ...], list[float]](list)
    for place in files.find_runs(folder):
        with contextlib.suppress(UserError, KeyError, TypeError, ValueError):
            record = files.read_run(place)
            if record["status"] == "completed":
                wall = float(record["costs"]["wall_s"])
                times[record["definition_hash"],].append(wall)
                times[record["definition_hash"], record["config"]["strategy"]["name"]].append(wall)
    return dict(times)
