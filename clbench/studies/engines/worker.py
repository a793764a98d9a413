"""What a worker does: one job. A pure function of the job, as far as the files in its folder go."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.errors import UserError
from clbench.runner.signals import Interrupted
from clbench.studies.engines.base import Done, Job

if TYPE_CHECKING:
    from clbench.runner.attempt import Progress


def perform(
    job: Job, progress: Progress | None = None, warn: Callable[[str], None] | None = None, patience_s: float = 0.0
) -> Done:
    """Does a run, unless it is done.

    Args:
        job: the run.
        progress: is told of every update.
        warn: is told what the user is to read.
        patience_s: how long to wait for another process that is at the run; it may be one that is about to die with its
            machine.

    A run that fails, for whatever reason, leaves a run.json that says why.
    """
    from clbench.runner import run, run_record

    begin = time.monotonic()
    while True:
        try:
            with contextlib.redirect_stdout(sys.stderr):  # of strategies of the user's own
                outcome = run.execute(job.run, job.out, progress=progress, warn=warn, note=job.note, log=job.log)
        except Interrupted as stop:
            return Done("interrupted", run_record.directory_of(job.run, job.out), str(stop), time.monotonic() - begin)
        except Exception as error:  # of the machine too: no space, no memory
            kind, said = type(error).__name__, f"{type(error).__name__}: {error}"
            if isinstance(error, UserError):
                kind, said = "user_error", str(error)
            return Done("failed", leave_failure(job, kind, said), said, time.monotonic() - begin)
        seconds = time.monotonic() - begin
        if outcome.busy is None:
            failure = outcome.record["failure"]
            return Done(
                "failed" if failure else "completed", outcome.directory, failure["message"] if failure else "", seconds
            )
        if seconds > patience_s:
            return Done("busy", outcome.directory, f"{outcome.busy} is at it", seconds)
        time.sleep(1.0)


def leave_failure(job: Job, kind: str, message: str) -> Path:
    """Leaves a run.json that says why there is no result, as far as that can be written; its folder."""
    from clbench.runner import run_record

    try:
        return run_record.write_failure(job.run, job.out, kind, message)
    except Exception:  # what kept the run from beginning keeps this from being told
        return job.run.directory(job.out)
