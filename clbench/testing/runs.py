"""Folders of runs around given traces, to try readers, tables and reports on without training."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from clbench.metrics import compute
from clbench.results import files, trace_files
from clbench.results.provenance import describe_stream
from clbench.run_config import RunConfig
from clbench.runner.run_record import new_record
from clbench.schema import canonical
from clbench.streams.compile import compile_stream
from clbench.streams.definition import StreamConfig
from clbench.trace import Trace

_COSTS = {
    "train_s": 1.0,
    "eval_s": 1.0,
    "wall_s": 2.0,
    "iterations": 0,
    "evaluations": 0,
    "peak_rss_bytes": 2**20,
    "peak_gpu_bytes": None,
}


def write_run(
    out: Path,
    run: RunConfig,
    trace: Trace | None,
    *,
    costs: Mapping[str, Any] | None = None,
    memory_bytes: int = 0,
    access: str = "experience",
    failure: str | None = None,
    **changes: Any,
) -> Path:
    """Writes the folder of a run whose evaluations were those of a trace; returns it.

    The record is that of the runner: configuration, hashes, the run's stream and the metrics of the trace are real,
    costs and memory those handed over.

    Args:
        out: results folder.
        run: configuration.
        trace: in the primary view of the run; None for a run that is not completed.
        costs: keys of `costs` in run.json that differ from 1 s of training, 1 s of evaluation and 1 MiB.
        memory_bytes: of the past.
        access: to data of other experiences.
        failure: reason of a run that failed.
        changes: further keys of run.json.
    """
    record = new_record(run)
    record["provenance"] |= {"code_sha256": "0" * 64, "user_code": {}, "study": None, "data": run.benchmark.id}
    if failure is not None:
        record |= {"status": "failed", "failure": {"kind": "test", "message": failure, "iteration": 0}}
    directory = run.directory(out)
    if trace is not None:
        spent = {"iterations": len(trace.loss), "evaluations": len(trace.iteration), **(costs or {})}
        record |= {
            "status": "completed",
            "stream": _described(canonical(run.benchmark.stream.model_dump(mode="json")), run.stream_seed),
            "metrics": compute(trace),
            "memory": {"samples": 0, "bytes": memory_bytes},
            "access": access,
            "parameters": 1000,
            "costs": {**_COSTS, **spent},
            "trace_sha256": trace_files.TraceWriter(directory).finish(trace),
        }
    files.write_json(directory / "run.json", record | changes)
    return directory


@lru_cache(maxsize=64)
def _described(stream: str, seed: int) -> dict[str, Any]:
    """Hashes and sizes of a stream, by its canonical JSON."""
    return describe_stream(compile_stream(StreamConfig.model_validate_json(stream), seed))
