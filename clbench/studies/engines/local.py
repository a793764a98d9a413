"""Runs in processes of this machine. Each process imports once and executes one run after the other."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from clbench.config.engines import LocalSettings
from clbench.errors import UserError
from clbench.studies.engines.base import FinishedJob, Job, Listener
from clbench.studies.engines.environment import thread_variables

_REPORT_EVERY_S = 1.0
"""Interval between two progress reports of a worker."""
_STOP = "stop"
"""Message to a worker to save and leave its run, where the system has no signals for other processes."""
_HAS_SIGNALS = os.name == "posix"
"""True if a process can be asked to end. Windows can only end it at once."""
_ATTEMPTS = 2
"""Attempts at a run whose process dies; the second resumes from the first one's checkpoint."""


class Local:
    """See `Engine`."""

    def __init__(self, settings: LocalSettings, threads: int, cuda: bool) -> None:
        if cuda:
            import torch

            if not torch.cuda.is_available():
                raise UserError("numerics.device: got 'cuda', but torch sees no CUDA device here.")
        self._threads, self._cuda = threads, cuda
        self.processes = settings.processes or max(1, cores() // threads)

    def run(self, jobs: Sequence[Job], listener: Listener) -> Iterator[tuple[int, FinishedJob]]:
        """See `Engine`."""
        waiting = deque((number, 1) for number in range(len(jobs)))
        workers: list[_Worker] = []
        try:
            for place in range(min(self.processes, len(jobs))):
                workers.append(self._start(place))
            while waiting or any(w.job is not None for w in workers):
                for worker in workers:
                    if worker.job is None and waiting:
                        worker.give(waiting.popleft(), jobs)
                for worker in _ready([w for w in workers if w.job is not None]):
                    assert worker.job is not None
                    number, attempt = worker.job
                    try:
                        what, *values = worker.pipe.recv()
                    except (EOFError, OSError):  # it died
                        workers.remove(worker)
                        reason = worker.epitaph()
                        if attempt < _ATTEMPTS:
                            listener.warn(number, f"{reason}; it resumes in another")
                            waiting.appendleft((number, attempt + 1))
                        if waiting:
                            workers.append(self._start(worker.place))
                        if attempt >= _ATTEMPTS:
                            yield number, _lost_job(jobs[number], f"{reason}, {_ATTEMPTS} times")
                        continue
                    if what == "done":
                        worker.job = None
                        yield number, values[0]
                    elif what == "at":
                        listener.at(number, values[0])
                    else:
                        listener.warn(number, values[0])
        finally:
            _stop(workers)

    def _start(self, place: int) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), name=f"clbench worker {place}")
        with _environment(thread_variables(self._threads) | self._device(place)):
            process.start()
        theirs.close()
        return _Worker(place, process, ours)

    def _device(self, place: int) -> dict[str, str]:
        """GPU of a worker, in turn."""
        if not self._cuda:
            return {}
        gpus = _gpus()
        return {"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} if gpus else {}


def _gpus() -> list[str]:
    """Ids of the GPUs that this process may use: numbers, or UUIDs where the environment names them so."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed:
        return listed.split(",")
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Sets variables in the environment of processes that are started inside."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@dataclass
class _Worker:
    place: int
    process: Any
    pipe: Any  # a Connection, and on Windows a PipeConnection
    job: tuple[int, int] | None = None
    """Number of the current job, and the attempt."""

    def give(self, job: tuple[int, int], jobs: Sequence[Job]) -> None:
        self.job = job
        with contextlib.suppress(OSError):  # it died idle: its pipe says so when it is read
            self.pipe.send(jobs[job[0]])

    def stop(self) -> None:
        """Asks the worker to save and leave its run."""
        if _HAS_SIGNALS:
            self.process.terminate()
            return
        with contextlib.suppress(OSError):  # it died
            self.pipe.send(_STOP)

    def epitaph(self) -> str:
        self.process.join()
        code = self.process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        return f"its process {how}"


def _ready(workers: list[_Worker]) -> list[_Worker]:
    ready = wait([w.pipe for w in workers])
    return [w for w in workers if w.pipe in ready]


def _lost_job(job: Job, reason: str) -> FinishedJob:
    from clbench.studies.engines.worker import leave_failure

    return FinishedJob("failed", leave_failure(job, "process_lost", reason), reason)


def _stop(workers: list[_Worker]) -> None:
    """Ends idle workers; busy ones save their run first. A second Ctrl-C ends all at once."""
    try:
        for worker in workers:
            if worker.job is None:
                with contextlib.suppress(OSError):
                    worker.pipe.send(None)
            else:
                worker.stop()
        for worker in workers:
            with contextlib.suppress(EOFError, OSError):
                while worker.job is not None:
                    if worker.pipe.recv()[0] == "done":
                        worker.job = None
                worker.pipe.send(None)
            worker.process.join()
    except BaseException:
        for worker in workers:
            worker.process.kill()
        raise


# ------------------------------------------------------------------------------------------------ in a worker
def _serve(pipe: Connection) -> None:
    """Executes jobs until it receives None, or the pipe is closed."""
    from clbench.studies.engines.worker import run_worker

    ignore_terminal()
    with contextlib.suppress(EOFError, OSError):
        while (job := pipe.recv()) is not None:
            if job == _STOP:  # its run ended by itself in between
                continue
            teller = _Teller(pipe)
            done = run_worker(job, teller, teller.warn)
            pipe.send(("done", done))


def ignore_terminal() -> None:
    """Leaves a Ctrl-C at the terminal to the process that started this one, which passes it on."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    else:  # Windows has no groups of a terminal; a run receives it all the same, and is saved and left
        signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Teller:
    """Reports progress to the parent; if that is gone or asks for it, the run is saved and left."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._total, self._reported_at = pipe, 1, 0.0
        self._leaves = False

    def start(self, total: int, done: int) -> None:
        self._total = max(1, total)

    def update(self, done: int) -> None:
        now = time.monotonic()
        if now - self._reported_at >= _REPORT_EVERY_S:
            self._reported_at = now
            self._send("at", done / self._total)
            if self._is_asked_to_stop():
                self._leave()

    def close(self) -> None: ...

    def warn(self, text: str) -> None:
        self._send("warn", text)

    def _send(self, *message: Any) -> None:
        try:
            self._pipe.send(message)
        except OSError:
            self._leave()

    def _is_asked_to_stop(self) -> bool:
        try:
            return self._pipe.poll()  # nothing but `_STOP` is sent during a run
        except OSError:
            return True

    def _leave(self) -> None:
        if not self._leaves:
            self._leaves = True
            signal.raise_signal(signal.SIGTERM)  # a request the first time, see `clbench.runner.signals`
