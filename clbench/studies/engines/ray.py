"""Runs on Ray: on this machine, or on a cluster whose nodes share the output folder.

A run is a task. Ray reuses the processes of finished tasks, so each imports once. Ray's retries are off: a run that is
lost with its process or its node is restarted from here, with a warning, and resumes from its last checkpoint. Progress
of a run is not reported, and its warnings arrive at its end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clbench.config.engines import RaySettings
from clbench.errors import UserError, shown
from clbench.studies.engines.base import FinishedJob, Job, Listener, need
from clbench.studies.engines.environment import Surroundings, thread_variables
from clbench.studies.engines.local import cores

_IN_FLIGHT = 1000
"""Tasks submitted to Ray at a time: enough to scale a cluster, few enough to cost nothing."""
_PATIENCE_S = 120.0
"""Waiting time of a lost run for the lock of its lost process."""
_CONNECT_S = 10.0
"""Timeout of a connection to an address."""
_STORE_BYTES = 80 * 2**20
"""Size of the object store of a local cluster: about the minimum of Ray; results are a few hundred bytes."""
_NO_MASK = "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"
"""Ray's variable to leave the visible GPUs of a process unchanged; see `_take_gpu`."""


def _check_interpreter() -> None:
    """Refuse an interpreter that Ray's workers cannot start with.

    Ray 2.60 starts them by a shell command in which the interpreter's path is not quoted; at a blank they fail, and the
    runs wait for workers without end.

    Raises:
        UserError: the path has a blank.
    """
    if any(character.isspace() for character in sys.executable):
        raise UserError(
            f"engine 'ray': Python is in '{sys.executable}', and Ray cannot start workers from a path with a blank. "
            "Use an environment in a folder without one, or the engine 'local'."
        )


class OnRay:
    """See `Engine`."""

    def __init__(self, settings: RaySettings, threads: int, cuda: bool) -> None:
        self._ray = need("ray", "ray")
        _check_interpreter()
        self._settings, self._threads = settings, threads
        self._gpus = (1.0 if settings.gpus is None else settings.gpus) if cuda else 0.0

    def run(self, jobs: Sequence[Job], listener: Listener) -> Iterator[tuple[int, FinishedJob]]:
        """See `Engine`."""
        if not jobs:
            return
        ray = self._ray
        shared = [replace(job, out=job.out.absolute()) for job in jobs]
        waiting = deque((number, 0) for number in range(len(jobs)))
        under_way: dict[Any, tuple[int, int]] = {}
        with self._connected(), _marked({job.out for job in shared}) as mark:
            task = self._task(mark)
            try:
                while waiting or under_way:
                    while waiting and len(under_way) < _IN_FLIGHT:
                        number, losses = waiting.popleft()
                        under_way[task.remote(shared[number], losses > 0)] = number, losses
                    for ended in ray.wait(list(under_way))[0]:
                        number, losses = under_way.pop(ended)
                        try:
                            done, warnings = ray.get(ended)
                        except (ImportError, UserError) as error:  # of the worker, not of the run
                            raise _node_error(error) from None
                        except ray.exceptions.RayError as error:
                            if losses < self._settings.retries:
                                listener.warn(number, f"{_reason(error)}; it resumes in another process")
                                waiting.appendleft((number, losses + 1))
                            else:
                                yield number, _lost_job(jobs[number], f"{_reason(error)}, {losses + 1} times")
                            continue
                        for text in warnings:
                            listener.warn(number, text)
                        within = done.directory.relative_to(shared[number].out)
                        yield number, replace(done, directory=jobs[number].out / within)
            finally:
                for each in under_way:
                    ray.cancel(each)  # a SIGINT there: a request, see `clbench.runner.signals`
                if under_way:
                    ray.wait(list(under_way), num_returns=len(under_way))

    def _task(self, mark: str) -> Any:
        """The function that Ray calls on a node."""
        surroundings = Surroundings.current()

        def task(job: Job, lost_before: bool) -> tuple[FinishedJob, list[str]]:
            return _run_worker(job, lost_before, surroundings, mark)

        return self._ray.remote(
            num_cpus=self._threads,
            num_gpus=self._gpus,
            max_retries=0,
            max_calls=0,  # by default a process on a GPU does one task, and the next imports again
            runtime_env={"env_vars": thread_variables(self._threads) | {_NO_MASK: "1"}},
        )(task)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        """A cluster: one that this process is connected to already, that of the address, or a local one.

        Raises:
            UserError: there is none at the address, or no node is large enough for a run.
        """
        ray, address = self._ray, self._settings.address
        if ray.is_initialized():
            self._require_room()
            yield
            return
        if address is not None:
            _require_listener(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        with contextlib.ExitStack() as held:
            put_back = held.enter_context(_handler())
            options = {} if address else self._start_options(held)
            held.callback(ray.shutdown)  # of a cluster that is not ours: leaves it
            try:
                with _undisturbed() if options else contextlib.nullcontext():
                    ray.init(address=address or "local", **quiet, **options)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                where = "cannot be started here" if address is None else f"no cluster at address '{address}'"
                raise UserError(f"engine 'ray': {where}: {_first_line(error)}") from None
            put_back()
            self._require_room()
            yield

    def _start_options(self, held: contextlib.ExitStack) -> dict[str, Any]:
        """Options of a local cluster; its files are removed with it."""
        # A socket's path has at most 107 characters, and the user's folder for temporary files may have a long path.
        folder = tempfile.mkdtemp(prefix="clbench-ray-", dir="/tmp" if os.name == "posix" else None)
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        return {
            "num_cpus": max(cores(), self._threads),
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
            "_temp_dir": folder,
        }

    def _require_room(self) -> None:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(n.get("CPU", 0) >= self._threads and n.get("GPU", 0) >= self._gpus for n in nodes):
            gpus = f" and {self._gpus:g} GPUs" if self._gpus else ""
            sizes = ", ".join(f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in nodes)
            raise UserError(f"engine 'ray': no node has {self._threads} CPUs{gpus}, as a run needs. Found: {sizes}.")


def _require_listener(address: str) -> None:
    """Checks that an address answers: Ray would try for many minutes, with output."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "")
        if not address:
            return  # Ray looks for one on this machine, and says at once where there is none
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and host and port.isdigit() and int(port) < 2**16):
        raise UserError(f"engine 'ray': address: got {shown(address)}. Allowed: host:port, ray://host:port, auto.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise UserError(f"engine 'ray': no cluster at address '{address}': {error.strerror or error}.") from None


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Defers a Ctrl-C to the end: a half-started cluster could not be stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _handler() -> Iterator[Callable[[], None]]:
    """A function that restores the handler of SIGTERM that Ray replaces; it is restored at the end too."""
    before = signal.getsignal(signal.SIGTERM)

    def put_back() -> None:
        if before not in (None, signal.SIG_DFL):  # else Ray's, which exits, and so stops the runs
            signal.signal(signal.SIGTERM, before)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    try:
        yield put_back
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextlib.contextmanager
def _marked(folders: set[Path]) -> Iterator[str]:
    """Name of a marker file in folders while the context lasts; a node that does not see it does not share them."""
    name = f".ray-{uuid.uuid4().hex}"
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        yield name
    finally:
        for folder in folders:
            (folder / name).unlink(missing_ok=True)


def _node_error(error: Exception) -> UserError:
    if isinstance(error, UserError):
        return UserError(*error.problems)
    return UserError(f"engine 'ray': a node cannot import what a run needs: {error}; it needs the same packages.")


def _reason(error: Exception) -> str:
    return f"its process was lost: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _lost_job(job: Job, reason: str) -> FinishedJob:
    from clbench.studies.engines.worker import leave_failure

    return FinishedJob("failed", leave_failure(job, "process_lost", reason), reason)


# ------------------------------------------------------------------------------------------------ in a worker
def _run_worker(job: Job, lost_before: bool, surroundings: Surroundings, mark: str) -> tuple[FinishedJob, list[str]]:
    """Executes a run. Returns its warnings too.

    Raises:
        UserError: the output folder is not that of the submitting process.
    """
    ray = need("ray", "ray")
    surroundings.enter()
    if not (job.out / mark).exists():
        node = ray.util.get_node_ip_address()
        raise UserError(
            f"engine 'ray': node {node} does not see {job.out}; results need a folder that all nodes share."
        )
    gpus = ray.get_gpu_ids()
    if gpus:
        _take_gpu(str(gpus[0]))

    from clbench.studies.engines.worker import run_worker

    warnings: list[str] = []
    return run_worker(job, None, warnings.append, _PATIENCE_S if lost_before else 0.0), warnings


def _take_gpu(gpu: str) -> None:
    """Makes a GPU the current one. Ray would mask the others, which a process heeds only at its first use of one."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    torch.cuda.set_device(visible.split(",").index(gpu) if visible else int(gpu))
