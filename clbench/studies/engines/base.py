"""Ways to do many runs: in processes of this machine, on Ray, on SLURM.

An engine is given jobs and says of each how it ended. It knows nothing of streams and strategies, and what a run leaves
is in its folder: a run done twice, by whichever engine, is harmless.
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
    """One run that is to be done.

    Attributes:
        run: its resolved configuration.
        out: the results folder.
        note: what is written into its provenance beside what it finds itself.
        log: loggers, see `clbench.loggers.base`.
    """

    run: RunConfig
    out: Path
    note: dict[str, Any] = field(default_factory=dict)
    log: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """How a job ended.

    Attributes:
        status: `busy` where another process was at the run, which was left to it.
        directory: the run's folder.
        message: why it failed, was left, or how it goes on; empty for a completed one.
        seconds: it took, files and data among them.
    """

    status: Literal["completed", "failed", "busy", "interrupted"]
    directory: Path
    message: str = ""
    seconds: float = 0.0


class Listener(Protocol):
    """Who is told while jobs are done, by engines that know."""

    def at(self, job: int, share: float) -> None:
        """A job has done a share of its updates, 0 to 1."""

    def warn(self, job: int, text: str) -> None:
        """Something to be read by the user."""


class Engine(Protocol):
    """Does jobs.

    Args:
        settings: the engine's own.
        threads: CPU threads of a run.
        cuda: whether runs are on a GPU.

    Raises:
        UserError: what it needs is not installed, or cannot be reached.
    """

    def __init__(self, settings: Any, threads: int, cuda: bool) -> None: ...

    def run(self, jobs: Sequence[Job], listener: Listener) -> Iterator[tuple[int, Done]]:
        """Jobs by their numbers, as they end. Closed or interrupted, it stops those under way at their next update,
        waits until they have written their checkpoints, and leaves no process behind."""


def engine(settings: Any, threads: int, cuda: bool) -> Engine:
    """The engine that some settings name."""
    module, _, attribute = ENGINES[settings.name].partition(":")
    made: Callable[[Any, int, bool], Engine] = getattr(importlib.import_module(module), attribute)
    return made(settings, threads, cuda)


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
