"""Runs on SLURM, through submitit: arrays of jobs, each of some runs.

A job that is about to be pre-empted or to reach its time limit receives a signal (SIGUSR2); its run is saved at the
next update, the job is requeued, and resumes. One that SLURM ends with SIGTERM saves its run too, and then waits for
its end: returning, it would count as complete, and not be requeued. One that dies is resubmitted, each of its runs
separately, so that the cause is isolated.

Jobs and results are pickles in a new folder of OUT/.submitit. Only files of this process and its jobs are read there;
the files of runs are never pickles. The folder is kept where a job died, for its logs. A dead job is detected by sacct,
which needs a cluster with accounting. Progress of a run is not reported, and its warnings arrive at the end of its job.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from clbench.config.engines import SlurmSettings
from clbench.errors import UserError
from clbench.studies.engines.base import FinishedJob, Job, Listener, need
from clbench.studies.engines.environment import Surroundings, thread_variables
from clbench.studies.engines.local import cores, ignore_terminal

_ARRAY = 1000
"""Jobs of one array; SLURM's default MaxArraySize is 1,001."""
_TIMEOUTS = 1000
"""Requeues of a job that reached its time limit: a run may need many."""
_PATIENCE_S = 120.0
"""Waiting time of a lost run for the lock of its lost process."""
_POLL_S = {"slurm": 5.0, "local": 0.2}
_Ended = tuple[Any, str, str, float, list[str]]
"""Result of one run of a job: the values of a `FinishedJob`, the folder within the output folder, and warnings."""


class OnSlurm:
    """See `Engine`. Closed, it cancels its jobs; those on SLURM save their runs and end after it has gone."""

    def __init__(self, settings: SlurmSettings, threads: int, cuda: bool) -> None:
        if not hasattr(signal, "SIGUSR2"):
            raise UserError("engine 'slurm': SLURM is not available on this system. Allowed here: local, ray.")
        self._submitit = need("submitit", "slurm")
        logging.getLogger("submitit").setLevel(logging.CRITICAL)  # the terminal is the grid's
        self._settings, self._threads = settings, threads
        self._gpus = (1 if settings.gpus is None else settings.gpus) if cuda else 0
        self._slurm = settings.cluster == "slurm"
        if self._slurm and (absent := [c for c in ("sbatch", "srun", "scancel") if shutil.which(c) is None]):
            raise UserError(
                f"engine 'slurm': no command {', '.join(absent)} here; it needs a login node of the cluster."
            )

    def run(self, jobs: Sequence[Job], listener: Listener) -> Iterator[tuple[int, FinishedJob]]:
        """See `Engine`."""
        if not jobs:
            return
        each, retries = self._settings.runs_per_job, self._settings.retries
        at_once = _ARRAY if self._slurm else max(1, cores() // self._threads)
        shared = [replace(job, out=job.out.absolute()) for job in jobs]
        waiting = deque((list(range(len(jobs))[i : i + each]), 0) for i in range(0, len(jobs), each))
        under_way: list[tuple[Any, list[int], int]] = []
        # A new one: the ids of submitit's local jobs are those of processes, and are reused.
        folder = shared[0].out / ".submitit" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        executor, lost = self._executor(folder, -(-len(waiting) // _ARRAY)), False
        try:
            while waiting or under_way:
                if room := min(len(waiting), at_once if self._slurm else at_once - len(under_way)):
                    parts = [waiting.popleft() for _ in range(room)]
                    under_way += self._submitted(executor, parts, shared)
                ended = [entry for entry in under_way if entry[0].done()]
                if not ended:
                    time.sleep(_POLL_S[self._settings.cluster])
                for entry in ended:
                    under_way.remove(entry)
                    submitted, numbers, losses = entry
                    reason, results = self._result(submitted)
                    for number, (status, within, message, seconds, warnings) in zip(numbers, results, strict=False):
                        for text in warnings:
                            listener.warn(number, text)
                        yield number, FinishedJob(status, jobs[number].out / within, message, seconds)
                    lost |= bool(reason)
                    for number in numbers[len(results) :]:
                        if not reason:
                            yield number, _cancelled_job(jobs[number], "its job was cancelled")
                        elif losses < retries:
                            listener.warn(number, f"{reason}; it is resubmitted")
                            waiting.append(([number], losses + 1))
                        else:
                            yield number, _lost_job(jobs[number], f"{reason}, {losses + 1} times")
        finally:
            self._cancel([entry[0] for entry in under_way])
            if not lost and not (self._slurm and under_way):  # else its logs or pickles are needed
                shutil.rmtree(folder, ignore_errors=True)
                with contextlib.suppress(OSError):
                    folder.parent.rmdir()

    def _executor(self, folder: Path, arrays: int) -> Any:
        settings, cluster = self._settings, self._settings.cluster
        # The environment of a job need not be that of its submission, and submitit imports NumPy before us.
        variables = [f"{name}={value}" for name, value in thread_variables(self._threads).items()]
        python = shlex.join(["env", *variables, sys.executable])
        options = {f"{cluster}_python": python, f"{cluster}_max_num_timeout": _TIMEOUTS}
        executor = self._submitit.AutoExecutor(folder, cluster=cluster, **options)
        executor.update_parameters(
            name="clbench",
            timeout_min=settings.minutes,
            mem_gb=None if {"mem-per-cpu", "mem-per-gpu"} & set(settings.options) else settings.memory_gb,
            cpus_per_task=self._threads,
            gpus_per_node=self._gpus or None,
            slurm_partition=settings.partition,
            slurm_array_parallelism=max(1, settings.parallel // arrays),
            slurm_signal_delay_s=min(90, 15 * settings.minutes),
            slurm_additional_parameters={"requeue": True, **settings.options},
        )
        return executor

    def _submitted(
        self, executor: Any, parts: list[tuple[list[int], int]], jobs: list[Job]
    ) -> list[tuple[Any, list[int], int]]:
        """An array of jobs, each with the numbers of its runs and the number of their losses.

        Raises:
            UserError: SLURM refuses it.
        """
        surroundings = Surroundings.current()
        calls = [_Part([jobs[n] for n in numbers], surroundings, losses > 0) for numbers, losses in parts]
        try:
            with _unheard(), contextlib.redirect_stderr(io.StringIO()):
                submitted = executor.submit_array(calls)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"engine 'slurm': the jobs cannot be submitted: {_last_line(error)}") from None
        return [(job, *part) for job, part in zip(submitted, parts, strict=True)]

    def _result(self, job: Any) -> tuple[str, list[_Ended]]:
        """Reason why a job has no result, and results of its runs; neither for a cancelled job."""
        if not self._slurm and not job.paths.result_pickle.exists():  # on a shared folder it may come late
            return f"its job {job.job_id} ended without a result ({job.paths.stderr})", []
        if self._slurm and not job.paths.result_pickle.exists() and job.state.startswith("CANCELLED"):
            return "", []
        error = job.exception()
        if error is None:
            return "", job.result()
        if job.paths.result_pickle.exists():
            return f"its job {job.job_id} failed: {_traceback_end(error)} ({job.paths.stderr})", []
        return f"its job {job.job_id} ended as {job.state} without a result ({job.paths.stderr})", []

    def _cancel(self, jobs: list[Any]) -> None:
        if self._slurm and jobs:
            subprocess.run(["scancel", *sorted({job.job_id.partition("_")[0] for job in jobs})], check=False)
            return
        for job in jobs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(job.job_id), signal.SIGTERM)  # submitit's cancel allows a run one second
        while not all([job.done() for job in jobs]):
            time.sleep(_POLL_S["local"])


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Shields processes that are started inside from a Ctrl-C at the terminal; it is passed on to them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _cancelled_job(job: Job, reason: str) -> FinishedJob:
    from clbench.runner import run_record

    return FinishedJob("interrupted", run_record.directory_of(job.run, job.out), reason)


def _lost_job(job: Job, reason: str) -> FinishedJob:
    from clbench.studies.engines.worker import leave_failure

    return FinishedJob("failed", leave_failure(job, "process_lost", reason), reason)


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def _traceback_end(error: Exception) -> str:
    """The last line of the traceback that submitit puts between two lines of dashes."""
    inside = str(error).split("-" * 22)
    return _last_line(RuntimeError(inside[1] if len(inside) > 2 else str(error)))


# ------------------------------------------------------------------------------------------------ in a job
class _Part:
    """Work of one job: runs, one after the other."""

    def __init__(self, jobs: list[Job], surroundings: Surroundings, again: bool) -> None:
        self._jobs, self._surroundings, self._again = jobs, surroundings, again

    def __call__(self) -> list[_Ended]:
        stop = _Stop()
        self._surroundings.enter()

        from clbench.studies.engines.worker import run_worker

        ended: list[_Ended] = []
        again = self._again or "SLURM_RESTART_COUNT" in os.environ
        for job in self._jobs:
            warnings: list[str] = []
            done = run_worker(job, stop, warnings.append, _PATIENCE_S if again else 0.0)
            if done.status != "interrupted":
                within = str(done.directory.relative_to(job.out))
                ended.append((done.status, within, done.message, done.seconds, warnings))
            if done.status == "interrupted" or (stop.wanted and len(ended) < len(self._jobs)):
                stop.act()
                break
        return ended

    def checkpoint(self) -> Any:
        """The job for submitit to requeue: all of it, as completed runs are not repeated."""
        return need("submitit", "slurm").helpers.DelayedSubmission(_Part(self._jobs, self._surroundings, True))


class _Stop:
    """Graceful stop on signals of SLURM and submitit, at the next update of the run, and its effect.

    A progress too: while a run is trained, SIGTERM is `clbench.runner.signals`'s, to which others are passed on.
    """

    def __init__(self) -> None:
        self.wanted = self._passed_on = self._queue_again = False
        self._on_slurm = os.environ.get("SUBMITIT_EXECUTOR") == "slurm"
        self._preempts = signal.Signals["SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")]
        if not self._on_slurm:
            ignore_terminal()
        signal.signal(signal.SIGTERM, self._note)
        self._queue: Any = signal.signal(self._preempts, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.wanted = True
        self._queue_again |= number == self._preempts

    def start(self, total: int, done: int) -> None: ...

    def update(self, done: int) -> None:
        if self.wanted and not self._passed_on:
            self._passed_on = True
            signal.raise_signal(signal.SIGTERM)

    def close(self) -> None: ...

    def act(self) -> None:
        """Queues the job again where it is pre-empted; waits for the end where SLURM has announced it."""
        while self._on_slurm and not self._queue_again:
            time.sleep(1.0)
        if self._queue_again:
            self._queue(self._preempts, None)  # submitit's handler: calls `checkpoint`, and exits
