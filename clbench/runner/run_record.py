"""The record of a run, run.json, as the runner writes it."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from clbench import run_config
from clbench.errors import RunFailed, UserError
from clbench.results import files, provenance
from clbench.rng import fenced
from clbench.runner.build_strategy import completed, imported
from clbench.runner.lock import Busy, Lock
from clbench.tracebacks import described


def directory_of(run: run_config.RunConfig, out: Path) -> Path:
    """Directory of a run, including runs of user-defined strategies, whose defaults only their module knows."""
    with contextlib.suppress(UserError), fenced(run.numerics.device == "cuda"):
        run = completed(run, imported(run.strategy))
    return run.directory(out)


def write_failure(run: run_config.RunConfig, out: Path, kind: str, message: str) -> Path:
    """Writes a run.json with the reason of a failure, unless there is a result. Returns its folder.

    For a run that could not start, or whose process was lost. Its checkpoints stay.
    """
    directory = directory_of(run, out)
    with contextlib.suppress(UserError, Busy, OSError), Lock(directory):
        if not is_completed(directory, run):
            record = new_record(run)
            record["status"] = "failed"
            record["failure"] = {"kind": kind, "message": message, "iteration": 0}
            files.write_json(directory / "run.json", record)
    return directory


def is_completed(directory: Path, run: run_config.RunConfig) -> bool:
    """True if a folder has the result of a run."""
    try:
        record = files.read_run(directory)
    except UserError:
        return False
    return bool(record["run_id"] == run.run_id and record["status"] == "completed")


def new_record(run: run_config.RunConfig) -> dict[str, Any]:
    return {
        "schema_version": files.SCHEMA,
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


def record_failure(record: dict[str, Any], error: BaseException, iterations: int) -> None:
    """Writes the reason of a failure into a record: one sentence, and a traceback of an unexpected error."""
    kind, message, iteration = type(error).__name__, described(error), iterations
    if isinstance(error, RunFailed):
        kind, message, iteration = error.kind, error.message, iterations if error.iteration is None else error.iteration
    elif isinstance(error, UserError):
        kind, message = "user_error", str(error)
    elif str(error).startswith("Expected more than 1 value per channel"):  # of torch's batch normalisation
        message += ": a batch of one sample, perhaps of replayed ones, has no variance for batch normalisation"
    record["status"] = "failed"
    record["failure"] = {"kind": kind, "message": message, "iteration": iteration}
    if kind == type(error).__name__:
        record["failure"]["traceback"] = "".join(traceback.format_exception(error))
