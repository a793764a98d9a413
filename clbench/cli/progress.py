"""Progress of many runs on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clbench.formatting import duration

if TYPE_CHECKING:
    from clbench.studies.engines.base import FinishedJob


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
        from tqdm import tqdm

        self._labels, self._begun = labels, time.monotonic()
        known = [s for s in seconds if s is not None]
        usual = sum(known) / len(known) if known else 1.0
        self._work = [usual if s is None else max(s, 1e-3) for s in seconds]
        self._shares = [0.0] * len(labels)
        self._ended = self._failed = 0
        self._bar = tqdm(
            total=len(labels), unit="run", file=sys.stderr, dynamic_ncols=True, leave=False,
            disable=not sys.stderr.isatty(), bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
        )  # fmt: skip

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
