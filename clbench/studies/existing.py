"""Existing results: the state of each run of a study, and the times of past runs."""

from __future__ import annotations

import collections
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from clbench import registry
from clbench.dataset import identity
from clbench.errors import UserError
from clbench.results import files, provenance
from clbench.results.record import read as read_record
from clbench.run_config import RunConfig
from clbench.runner import user_code
from clbench.runner.user_code import Change, OtherCode
from clbench.schema import canonical
from clbench.streams.definition import StreamConfig

State = Literal["completed", "failed", "outdated", "unfinished", "missing", "damaged"]


@dataclass(frozen=True)
class Existing:
    """State of a run's files.

    Attributes:
        state: "outdated" is a completed run on other data, or one that other code made and that is done again, and a
            failure of other code of the user's.
        place: the run's folder.
        other_code: of a completed run: how its code differs, see `clbench.runner.user_code.change`.
    """

    state: State
    place: Path
    other_code: Change = "none"


class Code:
    """The code of runs today, as a new process would import it; each import path is looked up once.

    Args:
        other_code: see `clbench.runner.run.execute`.
    """

    def __init__(self, other_code: OtherCode | None = None) -> None:
        self._other_code = other_code
        self._digests = cache(self._digest)

    def change(self, run: RunConfig, recorded: dict[str, Any]) -> tuple[Change, bool]:
        """Kind of change since the code of a run's record, and whether the run is to be done again."""
        kind, _ = user_code.change(recorded, *self._digests(user_code.paths_in(run)))
        return kind, user_code.is_repeated(kind, self._other_code)

    @staticmethod
    def _digest(paths: frozenset[str]) -> tuple[dict[str, str | None], str | None]:
        modules = user_code.of_paths(paths, as_imported=False).modules
        return modules, provenance.code_sha256(modules)


def existing(run: RunConfig, out: Path, data_sha256: Callable[[str], str | None], code: Code) -> Existing:
    """State of a run's files.

    Args:
        run: the run.
        out: the results folder.
        data_sha256: SHA-256 of the data of a stream's canonical JSON.
        code: of today.
    """
    completed = is_completed(run)
    place = completed.directory(out)
    unfinished: State = "unfinished" if (place / "checkpoint").exists() else "missing"
    if not (place / "run.json").exists():
        return Existing(unfinished, place)
    try:
        record = read_record(place)
    except UserError:
        return Existing("damaged" if unfinished == "missing" else unfinished, place)
    if record.run_id != completed.run_id:
        return Existing("missing", place)
    kind, again = code.change(completed, record.raw["provenance"])
    if record.status == "completed" and record.stream is not None:
        stream = run.benchmark.stream
        same = record.stream.data_sha256 == data_sha256(canonical(stream.model_dump(mode="json")))
        return Existing("completed" if same and not again else "outdated", place, kind)
    if record.status == "failed":
        return Existing("outdated" if again and kind == "user" else "failed", place)
    return Existing("unfinished", place)


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
        return identity(registry.datasets().outline(config.data, size=config.size, **config.reading), config.normalise)
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
