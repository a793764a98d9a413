"""Work of a worker: one job. A pure function of the job, apart from the files in its folder."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.errors import UserError
from clbench.runner.signals import Interrupted
from clbench.studies.engines.base import FinishedJob, Job
from clbench.tracebacks import described

if TYPE_CHECKING:
    from clbench.runner.attempt import Progress


def run_worker(
    job: Job, progress: Progress | None = None, warn: Callable[[str], None] | None = None, patience_s: float = 0.0
) -> FinishedJob:
    """Executes a run, unless it is completed.

    Args:
        job: the run.
        progress: called at every update.
        warn: called with warnings for the user.
        patience_s: waiting time for another process that is running it; it may be about to die with its machine.

    A run that fails, for whatever reason, leaves a run.json with the reason.
    """
    from clbench.runner import run, run_record

    begin = time.monotonic()
    while True:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # of user-defined strategies
                outcome = run.execute(
                    job.run,
                    job.out,
                    progress=progress,
                    warn=warn,
                    note=job.note,
                    log=job.log,
                    other_code=job.other_code,
                    keep=job.keep,
                )
        except Interrupted as stop:
            return FinishedJob(
                "interrupted", run_record.directory_of(job.run, job.out), str(stop), time.monotonic() - begin
            )
        except Exception as error:  # of the machine too: no space, no memory
            kind, message = type(error).__name__, described(error)
            if isinstance(error, UserError):
                kind, message = "user_error", str(error)
            return FinishedJob("failed", leave_failure(job, kind, message), message, time.monotonic() - begin)
        seconds = time.monotonic() - begin
        if outcome.busy is None:
            failure = outcome.record["failure"]
            return FinishedJob(
                "failed" if failure else "completed", outcome.directory, failure["message"] if failure else "", seconds
            )
        if seconds > patience_s:
            return FinishedJob("busy", outcome.directory, f"{outcome.busy} is already running it", seconds)
        time.sleep(1.0)


def leave_failure(job: Job, kind: str, message: str) -> Path:
    """Writes a run.json with the reason of a failure, if possible. Returns its folder."""
    from clbench.runner import run_record

    try:
        return run_record.write_failure(job.run, job.out, kind, message)
    except Exception:  # the cause of the failure prevents its report too
        return job.run.directory(job.out)
