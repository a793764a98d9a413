"""Whether a stream of 1,000 experiences costs at its end what it costs at its start: time of an update, and memory.

    .venv/bin/python benchmarks/long_stream.py [NAME ...] [--full BENCHMARK [KEY=VALUE ...]]

Replay (`er`) as a run trains it, evaluations, files and checkpoints included. The cells are the same all along. Times
are the processor's on one thread: the two ends of a stream are seconds apart, and a shared machine changes in between.
`--full` takes a benchmark as it stands, such as scole_mnist-v1 (minutes).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clbench import resolve, runner
from clbench.budget import budgets
from clbench.loop import train
from clbench.stream import compile_stream

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


def measure(benchmark: str, overrides: list[str], strategy: str = "er") -> dict[str, Any]:
    """Median time of an update in experiences 51 to 100 and in the last 50, and the memory after them, in MiB."""
    run = resolve.make_run(benchmark, strategy=strategy, overrides=overrides, threads=torch.get_num_threads())
    stream = compile_stream(run.benchmark.stream, run.seed)
    updates = np.array(budgets(run.benchmark.training, stream))
    seconds, memory = [], []

    def noted(bench: Any, watcher: Any, on_experience: Any, start: Any) -> None:
        def after() -> None:
            on_experience()
            seconds.append(time.process_time())
            memory.append(resident_mib())

        seconds.append(time.process_time())
        train(bench, watcher, after, start)

    vars(runner)["train"] = noted
    try:
        with tempfile.TemporaryDirectory() as folder:
            runner.execute(run, Path(folder))
    finally:
        vars(runner)["train"] = train
    each = np.diff(seconds) / updates
    early, late = each[50:100], each[-50:]
    drawn = np.random.Generator(np.random.PCG64(0)).integers(0, 50, (2, 10_000, 50))
    ratios = np.median(late[drawn[0]], axis=1) / np.median(early[drawn[1]], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return {
        "experiences": len(updates),
        "ratio": float(np.median(late) / np.median(early)),
        "low": float(low),
        "high": float(high),
        "early_ms": 1e3 * float(np.median(early)),
        "late_ms": 1e3 * float(np.median(late)),
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
