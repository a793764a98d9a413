"""Loggers people use, off by default: TensorBoard and Weights & Biases.

They are given what the recorder has brought to the host anyway: whole chunks, at every checkpoint (once a minute) and
at the end. A run that goes on is plotted anew from its kept chunks, so that nothing is missing and nothing is there
twice, whatever was lost or was written past the checkpoint. A logger changes nothing: it is not part of a run's
identity, what it draws from global generators is fenced, and where it breaks the run goes on without it.
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
"""A file in a logger's folder that says that the whole run is there."""


def check(names: Sequence[str]) -> list[str]:
    """The loggers asked for, each once.

    Raises:
        UserError: one is unknown, or its package is not installed.
    """
    problems = []
    for name in dict.fromkeys(names):
        if name not in _LOGGERS:
            problems.append(f"log: {unknown('logger', name, _LOGGERS)}")
        elif (found := importlib.util.find_spec(name)) is None or found.origin is None:  # None: a folder of that name
            problems.append(
                f"log: {name}: the package is not installed. `pip install 'clbench[loggers]'` installs all loggers."
            )
    if problems:
        raise UserError(*problems)
    return list(dict.fromkeys(names))


class Logger(Protocol):
    """Where points go."""

    def add(self, points: Iterable[Point]) -> None:
        """The next points of the run, to be seen by the user from now on."""

    def end(self, record: dict[str, Any]) -> None:
        """The run has ended, well or not; its run.json."""

    def close(self) -> None:
        """Nothing more comes, perhaps because the logger broke."""


_LOGGERS = {
    "tensorboard": "clbench.loggers.tensorboard:TensorBoard",
    "wandb": "clbench.loggers.wandb:WeightsAndBiases",
}
"""By the name of the package, which is also that of its folder in the run's: made of that folder, the run's run.json,
and whether an earlier attempt is continued."""


class Loggers:
    """The loggers of one run; none of them can break it.

    Args:
        names: as `check` gives them.
        directory: the run's folder.
        warn: prints a line for the user.
        cuda: whether the run draws from the generator of the CUDA device.
    """

    def __init__(self, names: Sequence[str], directory: Path, warn: Callable[[str], None], cuda: bool) -> None:
        self._names, self._directory, self._warn, self._cuda = names, directory, warn, cuda
        self._open: dict[str, tuple[Logger, Curves]] = {}

    def __bool__(self) -> bool:
        return bool(self._open)

    def begin(self, record: dict[str, Any], updates: int, *, goes_on: bool) -> None:
        """The run begins, or goes on; then `add` is called with everything from its start again.

        Args:
            record: its run.json.
            updates: of the whole run, as planned.
            goes_on: whether it is continued.
        """
        for name in self._names:
            with self._apart(name):
                module, _, made_by = _LOGGERS[name].partition(":")
                make: Callable[..., Logger] = getattr(importlib.import_module(module), made_by)
                self._open[name] = make(self._directory / name, record, goes_on), Curves(updates)

    def add(self, piece: Trace) -> None:
        """The next piece of the trace."""
        for name, (logger, curves) in list(self._open.items()):
            with self._apart(name):
                logger.add(curves.points(piece))

    def end(self, record: dict[str, Any]) -> None:
        """The run has ended, well or not, and its files are written."""
        for name, (logger, _) in list(self._open.items()):
            with self._apart(name):
                logger.end(record)
                logger.close()
                if record["status"] == "completed":
                    (self._directory / name / _COMPLETE).touch()
        self._open.clear()

    def catch_up(self, record: dict[str, Any]) -> None:
        """Logs a run that was finished earlier, from its trace, where a logger has not all of it."""
        self._names = [n for n in self._names if not (self._directory / n / _COMPLETE).exists()]
        if not self._names:
            return
        try:
            trace = trace_files.read_trace(self._directory)
        except UserError as error:
            self._warn(f"{', '.join(self._names)}: {error}")
            return
        self.begin(record, len(trace.loss), goes_on=False)
        self.add(trace)
        self.end(record)

    @contextlib.contextmanager
    def _apart(self, name: str) -> Iterator[None]:
        """What is done inside moves no global generator; a logger that breaks is given up."""
        try:
            with fenced(self._cuda):
                yield
        except Exception as error:
            reason = (str(error).strip() or "no reason given").splitlines()[0]
            self._warn(f"{name} broke ({type(error).__name__}: {reason}); the run goes on without it")
            broken = self._open.pop(name, None)
            if broken is not None:
                with contextlib.suppress(Exception), fenced(self._cuda):
                    broken[0].close()
