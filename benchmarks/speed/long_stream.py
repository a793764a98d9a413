"""The cost of a stream of 1,000 experiences at its end beside that at its start: time of an update, and memory.

    .venv/bin/python benchmarks/speed/long_stream.py [NAME ...] [--full BENCHMARK [KEY=VALUE ...]]

Replay (`er`), evaluations and record included, and the same cells all along. A stream's two ends are seconds apart,
and a shared machine changes in between; so a run at its end and another one at its start take turns.
`--full` takes a benchmark as it stands, such as scole_mnist-v1 (minutes).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clbench import resolve, run_config
from clbench.evaluation.recorder import Recorder
from clbench.runner.components import assemble
from clbench.runner.observer import Observation, Position
from clbench.runner.training_loop import train
from clbench.stream import Stream
from clbench.streams.compile import compile_stream

FIXED = ["evaluation.scope=all", "evaluation.views=[class]", "training.epochs=null", "training.iterations=6"]
STREAMS: dict[str, tuple[str, list[str]]] = {
    "random subsets": ("scole_digits-v1", ["stream.schedule.experiences=1000", "evaluation.every=3", *FIXED]),
    "online": ("online_mnist-v1", ["stream.online=60", "evaluation.every=50", *FIXED]),
    "recurrence": (
        "split_digits-v1",
        ["stream.schedule={by: repetition, experiences: 1000, law: zipf}", "evaluation.every=3", *FIXED],
    ),
}
"""Benchmark and overrides of each; some six updates an experience."""


def resident_mib() -> float:
    """Memory of this process now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


class _Pause(Exception):
    """Leaves the loop between two experiences."""


class Run:
    """A run that goes on experience by experience."""

    def __init__(self, run: run_config.RunConfig, stream: Stream) -> None:
        self._bench = assemble(run, stream)
        self._watcher = Observation(self._bench, Recorder(self._bench.device, keep=False), lambda: None)
        self._next = 0

    def go_on(self) -> float:
        """One experience; seconds an update."""

        def pause() -> None:
            raise _Pause

        start, number = time.perf_counter(), self._next
        self._next += 1
        with contextlib.suppress(_Pause):
            train(self._bench, self._watcher, pause, Position(number))
        return (time.perf_counter() - start) / self._bench.budgets[number]


def measure(benchmark: str, overrides: list[str], strategy: str = "er") -> dict[str, Any]:
    """An update in the last 50 experiences in units of one in experiences 51 to 100 of another run, in turns; and the
    memory of the first run, in MiB."""
    run = resolve.make_run(benchmark, strategy=strategy, overrides=overrides, threads=torch.get_num_threads())
    stream = compile_stream(run.benchmark.stream, run.seed)
    late, early, memory = Run(run, stream), Run(run, stream), []
    for _ in range(len(stream.experiences) - 50):
        late.go_on()
        memory.append(resident_mib())
    for _ in range(50):
        early.go_on()
    pairs = np.array(
        [(early.go_on(), late.go_on()) if i % 2 else (late.go_on(), early.go_on())[::-1] for i in range(50)]
    )
    ratios = pairs[:, 1] / pairs[:, 0]
    drawn = np.random.Generator(np.random.PCG64(0)).integers(0, 50, (10_000, 50))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5])
    return {
        "experiences": len(stream.experiences),
        "ratio": float(np.median(ratios)),
        "low": float(low),
        "high": float(high),
        "early_ms": 1e3 * float(np.median(pairs[:, 0])),
        "late_ms": 1e3 * float(np.median(pairs[:, 1])),
        "early_mib": float(np.median(memory[50:100])),
        "late_mib": float(np.median(memory[-50:])),
        "most_mib": float(max(memory[50:])),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(STREAMS))
    parser.add_argument("--full", nargs="+", metavar="BENCHMARK", help="a benchmark, and overrides of it")
    parser.add_argument("--json", action="store_true", help="one JSON object a stream")
    given = parser.parse_args()
    torch.set_num_threads(1)
    chosen = {given.full[0]: (given.full[0], given.full[1:])} if given.full else STREAMS
    for name in given.names or chosen:
        found = measure(*chosen[name])
        if given.json:
            print(json.dumps(found))
            continue
        print(
            f"{name}: {found['experiences']} experiences; an update with its share of evaluation, late / early: "
            f"{found['ratio']:.3f} ({found['low']:.3f} to {found['high']:.3f}), "
            f"{found['late_ms']:.3f} / {found['early_ms']:.3f} ms; memory {found['early_mib']:.1f} MiB early, "
            f"{found['late_mib']:.1f} late, {found['most_mib']:.1f} at most"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
