"""Environment of a remote process: modules, files and data as in this one."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which a user says how OpenMP's threads wait for each other."""


def thread_variables(threads: int) -> dict[str, str]:
    """Environment variables for the threads of libraries, which read them when they are loaded."""
    return {name: str(threads) for name in _THREADS} | waiting()


def waiting() -> dict[str, str]:
    """Variables with which OpenMP's threads sleep where they wait for each other; none where the user set one.

    By default they spin, each on its core. Where another process has that core, all wait for a thread that does not
    run. It changes no result. The OpenMP of torch's wheels (libgomp) reads them as it is loaded.
    """
    return {} if any(name in os.environ for name in _WAITING) else {_WAITING[0]: "PASSIVE"}


@dataclass(frozen=True)
class Surroundings:
    """Environment of a process.

    Attributes:
        folder: working directory; relative paths of a configuration start there.
        path: `sys.path`, as absolute paths.
        environment: the variables of the suite.
    """

    folder: str
    path: tuple[str, ...]
    environment: dict[str, str]

    @classmethod
    def current(cls) -> Surroundings:
        """The environment of this process."""
        folder = os.getcwd()
        path = tuple(os.path.abspath(entry) for entry in sys.path)
        return cls(folder, path, {k: v for k, v in os.environ.items() if k.startswith("CLBENCH_")})

    def enter(self) -> None:
        """Applies it to this process; further entries of its `sys.path` come last."""
        with contextlib.suppress(OSError):  # another machine need not have the folder
            os.chdir(self.folder)
        sys.path[:] = [*self.path, *(entry for entry in sys.path if entry not in self.path)]
        os.environ.update(self.environment)
