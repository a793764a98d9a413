"""Interface of engines, which execute many runs: in processes of this machine, on Ray, on SLURM.

An engine receives jobs and returns the outcome of each. It knows nothing of streams and strategies, and the results of
a run are in its folder: a run executed twice, by whichever engine, is harmless.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from clbench.errors import UserError
from clbench.run_config import RunConfig

ENGINES = {
    "local": "clbench.studies.engines.local:Local",
    "ray": "clbench.studies.engines.ray:OnRay",
    "slurm": "clbench.studies.engines.slurm:OnSlurm",
}


@dataclass(frozen=True)
class Job:
    """One run to execute.

    Attributes:
        run: its resolved configuration.
        out: the results folder.
        note: additions to its provenance.
        log: loggers, see `clbench.loggers.base`.
        other_code, keep: see `clbench.runner.run.execute`.
    """

    run: RunConfig
    out: Path
    note: dict[str, Any] = field(default_factory=dict)
    log: tuple[str, ...] = ()
    other_code: Literal["keep", "again"] | None = None
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class FinishedJob:
    """Outcome of a job.

    Attributes:
        status: `busy` where another process was running it, which continues.
        directory: the run's folder.
        message: reason of the failure, or of the interruption; empty for a completed one.
        seconds: elapsed, files and data included.
    """

    status: Literal["completed", "failed", "busy", "interrupted"]
    directory: Path
    message: str = ""
    seconds: float = 0.0


class Listener(Protocol):
    """Progress callbacks during jobs, for engines that report progress."""

    def at(self, job: int, share: float) -> None:
        """Called with the share of a job's completed updates, 0 to 1."""

    def warn(self, job: int, text: str) -> None:
        """Called with a warning for the user."""


class Engine(Protocol):
    """Executes jobs.

    Args:
        settings: of the engine.
        threads: CPU threads of a run.
        cuda: whether runs are on a GPU.

    Raises:
        UserError: a requirement is not installed, or cannot be reached.
    """

    def __init__(self, settings: Any, threads: int, cuda: bool) -> None: ...

    def run(self, jobs: Sequence[Job], listener: Listener) -> Iterator[tuple[int, FinishedJob]]:
        """Jobs by their numbers, as they end. Closed or interrupted, it stops running ones at their next update, waits
        until they have written their checkpoints, and leaves no process behind."""


def engine(settings: Any, threads: int, cuda: bool) -> Engine:
    """The engine of some settings."""
    module, _, attribute = ENGINES[settings.name].partition(":")
    factory: Callable[[Any, int, bool], Engine] = getattr(importlib.import_module(module), attribute)
    return factory(settings, threads, cuda)


def need(package: str, engine_name: str) -> Any:
    """An optional package.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        extra = f"pip install 'clbench[{engine_name}]'"
        raise UserError(
            f"engine '{engine_name}': the package {package} cannot be imported ({error}); {extra}."
        ) from None
