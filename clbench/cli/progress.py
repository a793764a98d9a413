"""Progress on a terminal: of one run, and of many."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from clbench.formatting import duration, quantity
from clbench.measures import Measure, measure_of

if TYPE_CHECKING:
    from clbench.studies.engines.base import FinishedJob


def bar(shown: bool | None = None, **settings: Any) -> Any:
    """A bar of tqdm on standard error; by default disabled where that is no terminal.

    A terminal may not know its size (of `script`, of a container); tqdm 4.70 draws nothing where it has 0 rows.
    """
    from tqdm import tqdm

    terminal = sys.stderr.isatty()
    disable = not (terminal if shown is None else shown)
    size: dict[str, Any] = {"dynamic_ncols": True}
    if terminal and not disable and 0 in os.get_terminal_size(sys.stderr.fileno()):
        columns, rows = shutil.get_terminal_size()
        size = {"ncols": columns, "nrows": rows}
    return tqdm(file=sys.stderr, disable=disable, leave=False, **size, **settings)


_READ_S = 0.5
"""Accuracy and loss are read that often: a GPU has to wait for it."""


class OneRun:
    """A bar of updates with an ETA, accuracy or the mean of a measure, and loss.

    Args:
        label: before the bar.
        shown: default: on a terminal.
    """

    def __init__(self, label: str, shown: bool | None = None) -> None:
        self._label, self._shown = label, shown
        self._bar: Any = None
        self._measure: Measure | None = None
        self._latest: Callable[[], tuple[float | None, float | None]] = lambda: (None, None)
        self._next_s = 0.0

    def watch(self, latest: Callable[[], tuple[float | None, float | None]], view: str) -> None:
        self._latest, self._measure = latest, measure_of(view)

    def start(self, total: int, done: int) -> None:
        self._bar = bar(self._shown, total=total, initial=done, desc=self._label, unit="it")

    def update(self, done: int) -> None:
        if not self._bar.disable and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _READ_S
            mean, loss = self._latest()
            name, unit = (
                ("accuracy", "accuracy") if self._measure is None else (self._measure.title, self._measure.unit)
            )
            words = [] if mean is None else [f"{name} so far {quantity(mean, unit, 1)}"]
            words += [] if loss is None else [f"loss {loss:.3g}"]
            self._bar.set_postfix_str(", ".join(words), refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class Silent:
    """Warnings alone."""

    def begin(self, labels: Sequence[str], seconds: Sequence[float | None]) -> None:
        self._labels = labels

    def at(self, job: int, share: float) -> None: ...

    def warn(self, job: int, text: str) -> None:
        print(f"{self._labels[job]}: {text}", file=sys.stderr, flush=True)

    def done(self, job: int, done: FinishedJob) -> None: ...

    def end(self) -> None: ...


class Shown(Silent):
    """A bar on a terminal, a line for each run elsewhere; with the remaining time."""

    def begin(self, labels: Sequence[str], seconds: Sequence[float | None]) -> None:
        self._labels, self._begun = labels, time.monotonic()
        known = [s for s in seconds if s is not None]
        usual = sum(known) / len(known) if known else 1.0
        self._work = [usual if s is None else max(s, 1e-3) for s in seconds]
        self._shares = [0.0] * len(labels)
        self._ended = self._failed = 0
        form = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
        self._bar = bar(total=len(labels), unit="run", bar_format=form)

    def _time_left(self) -> str:
        done = sum(w * share for w, share in zip(self._work, self._shares, strict=True))
        total = sum(self._work)
        passed = time.monotonic() - self._begun
        return f"about {duration(passed * (total - done) / done)} left" if done > total / 50 and passed > 1 else ""

    def _refresh(self) -> None:
        failed = f", {self._failed} failed" if self._failed else ""
        self._bar.set_postfix_str(f"{self._time_left()}{failed}")

    def at(self, job: int, share: float) -> None:
        self._shares[job] = share
        self._refresh()

    def warn(self, job: int, text: str) -> None:
        self._bar.write(f"{self._labels[job]}: {text}", file=sys.stderr)

    def done(self, job: int, done: FinishedJob) -> None:
        self._shares[job] = 1.0
        self._ended += 1
        self._failed += done.status == "failed"
        if self._bar.disable:
            how = done.status if done.status == "completed" else f"{done.status}: {done.message}"
            left = self._time_left() if self._ended < len(self._labels) else ""
            line = f"[{self._ended}/{len(self._labels)}] {self._labels[job]}: {how} ({duration(done.seconds)})"
            print(f"{line}{f'; {left}' if left else ''}", file=sys.stderr, flush=True)
        else:
            self._bar.update(1)
            self._refresh()
            if done.status == "failed":
                self.warn(job, f"failed: {done.message}")

    def end(self) -> None:
        self._bar.close()
