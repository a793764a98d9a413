"""Runs in this process, one after the other: for classes that no other process could import, such as a notebook's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from clbench.studies.engines.base import FinishedJob, Job, Listener
from clbench.studies.engines.worker import run_worker


class InProcess:
    """See `Engine`; it has no settings. A run that ends the process ends the study too."""

    def run(self, jobs: Sequence[Job], listener: Listener) -> Iterator[tuple[int, FinishedJob]]:
        """See `Engine.run`.

        Raises:
            KeyboardInterrupt: a run was stopped; its checkpoint is written.
        """
        for number, job in enumerate(jobs):
            done = run_worker(job, _Progress(number, listener), partial(listener.warn, number))
            if done.status == "interrupted":
                raise KeyboardInterrupt
            yield number, done


class _Progress:
    """Progress of a run as shares, at most a hundred."""

    def __init__(self, number: int, listener: Listener) -> None:
        self._number, self._listener, self._total, self._percent = number, listener, 1, 0

    def start(self, total: int, done: int) -> None:
        self._total = max(1, total)

    def update(self, done: int) -> None:
        percent = 100 * done // self._total
        if percent > self._percent:
            self._percent = percent
            self._listener.at(self._number, percent / 100)

    def close(self) -> None: ...
