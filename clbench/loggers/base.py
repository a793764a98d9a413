"""Loggers, off by default: TensorBoard and Weights & Biases.

They receive the chunks of the recorder on the host, at every checkpoint (once a minute) and at the end. A resumed run
is logged again from its kept chunks, so that nothing is missing or doubled, whatever was lost or was written past the
checkpoint. A logger has no effect on a run: it is not part of its identity, its draws from global generators are
fenced, and if it fails the run continues without it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from clbench.errors import UserError, unknown
from clbench.loggers.points import Curves, Point
from clbench.results import trace_files
from clbench.rng import fenced
from clbench.trace import Trace

_COMPLETE = ".clbench-complete"
"""Marker file in a logger's folder: the whole run is logged."""


def check(names: Sequence[str]) -> list[str]:
    """The requested loggers, each once.

    Raises:
        UserError: one is unknown, or its package is not installed.
    """
    problems = []
    for name in dict.fromkeys(names):
        if name not in LOGGERS:
            problems.append(f"log: {unknown('logger', name, LOGGERS)}")
        elif (spec := importlib.util.find_spec(name)) is None or spec.origin is None:  # None: a folder of that name
            problems.append(
                f"log: {name}: the package is not installed. `pip install 'clbench[loggers]'` installs all loggers."
            )
    if problems:
        raise UserError(*problems)
    return list(dict.fromkeys(names))


class Logger(Protocol):
    """Destination of points."""

    def add(self, points: Iterable[Point]) -> None:
        """Logs the next points of the run, visible at once."""

    def end(self, record: dict[str, Any]) -> None:
        """Called at the end of a run, successful or not, with its run.json."""

    def close(self) -> None:
        """Closes the logger, perhaps after its failure."""


LOGGERS = {
    "tensorboard": "clbench.loggers.tensorboard:TensorBoard",
    "wandb": "clbench.loggers.wandb:WeightsAndBiases",
}
"""Classes by the name of the package, which is also that of the logger's folder in the run's. Arguments: that folder,
the run's run.json, and whether an earlier attempt is resumed."""


class Loggers:
    """The loggers of one run; none of them can break it.

    Args:
        names: result of `check`.
        directory: the run's folder.
        warn: prints a line for the user.
        cuda: whether the run draws from the generator of the CUDA device.
    """

    def __init__(self, names: Sequence[str], directory: Path, warn: Callable[[str], None], cuda: bool) -> None:
        self._names, self._directory, self._warn, self._cuda = names, directory, warn, cuda
        self._open: dict[str, tuple[Logger, Curves]] = {}

    def __bool__(self) -> bool:
        return bool(self._open)

    def begin(self, record: dict[str, Any], updates: int, *, resumed: bool) -> None:
        """Called when the run starts or resumes; then `add` is called with everything from its start.

        Args:
            record: its run.json.
            updates: of the whole run, as planned.
            resumed: whether an earlier attempt is continued.
        """
        for name in self._names:
            with self._fenced(name):
                module, _, made_by = LOGGERS[name].partition(":")
                make: Callable[..., Logger] = getattr(importlib.import_module(module), made_by)
                self._open[name] = make(self._directory / name, record, resumed), Curves(updates)

    def add(self, piece: Trace) -> None:
        """Logs the next piece of the trace."""
        for name, (logger, curves) in list(self._open.items()):
            with self._fenced(name):
                logger.add(curves.points(piece))

    def end(self, record: dict[str, Any]) -> None:
        """Called at the end of the run, successful or not, when its files are written."""
        for name, (logger, _) in list(self._open.items()):
            with self._fenced(name):
                logger.end(record)
                logger.close()
                if record["status"] == "completed":
                    (self._directory / name / _COMPLETE).touch()
        self._open.clear()

    def catch_up(self, record: dict[str, Any]) -> None:
        """Logs a run that was finished earlier, from its trace, to loggers that are incomplete."""
        self._names = [n for n in self._names if not (self._directory / n / _COMPLETE).exists()]
        if not self._names:
            return
        try:
            trace = trace_files.read_trace(self._directory)
        except UserError as error:
            self._warn(f"{', '.join(self._names)}: {error}")
            return
        self.begin(record, len(trace.loss), resumed=False)
        self.add(trace)
        self.end(record)

    @contextlib.contextmanager
    def _fenced(self, name: str) -> Iterator[None]:
        """Fences global generators, and drops a logger that fails."""
        try:
            with fenced(self._cuda):
                yield
        except Exception as error:
            reason = (str(error).strip() or "no reason given").splitlines()[0]
            self._warn(f"{name} broke ({type(error).__name__}: {reason}); the run continues without it")
            broken = self._open.pop(name, None)
            if broken is not None:
                with contextlib.suppress(Exception), fenced(self._cuda):
                    broken[0].close()
