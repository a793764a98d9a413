"""Environment of a remote process: modules, files and data as in this one."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def thread_variables(threads: int) -> dict[str, str]:
    """Environment variables for the threads of libraries, which read them when they are loaded."""
    return {name: str(threads) for name in _THREADS}


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
