"""What a process elsewhere needs to find modules, files and data as this one does."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def thread_variables(threads: int) -> dict[str, str]:
    """The environment in which libraries that look there when they are loaded find their threads."""
    return {name: str(threads) for name in _THREADS}


@dataclass(frozen=True)
class Surroundings:
    """Of a process.

    Attributes:
        folder: it works in; relative paths of a configuration start there.
        path: where Python imports from, that folder as it is named.
        environment: the variables of the suite.
    """

    folder: str
    path: tuple[str, ...]
    environment: dict[str, str]

    @classmethod
    def here(cls) -> Surroundings:
        """Of this process."""
        folder = os.getcwd()
        path = tuple(os.path.abspath(entry) for entry in sys.path)
        return cls(folder, path, {k: v for k, v in os.environ.items() if k.startswith("CLBENCH_")})

    def enter(self) -> None:
        """Makes them those of this process; what it alone imports from comes last."""
        with contextlib.suppress(OSError):  # another machine need not have the folder
            os.chdir(self.folder)
        sys.path[:] = [*self.path, *(entry for entry in sys.path if entry not in self.path)]
        os.environ.update(self.environment)
