"""Whether a long stream costs at its end what it costs at its start: time of an update and memory, by experience.

    .venv/bin/python benchmarks/long_stream.py [BENCHMARK [KEY=VALUE ...]]      # scole_mnist-v1: minutes, if idle

Trains `naive` as a run does, evaluations and trace files included.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from clbench import resolve, results, runner
from clbench.recorder import Recorder
from clbench.stream import compile_stream


def resident_mib() -> float:
    """Memory of this process now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main(benchmark: str, overrides: list[str]) -> None:
    torch.set_num_threads(1)
    run = resolve.make_run(benchmark, strategy="naive", overrides=overrides)
    start = time.perf_counter()
    stream = compile_stream(run.benchmark.stream, run.seed)
    print(f"{benchmark}: data and {len(stream.visits)} experiences in {time.perf_counter() - start:.2f} s")
    start = time.perf_counter()
    compile_stream(run.benchmark.stream, run.seed, stream.data)
    print(f"compiling alone {time.perf_counter() - start:.2f} s")
    bench = runner.assemble(run, stream)
    recorder, seconds, memory = Recorder(bench.device), [time.perf_counter()], [resident_mib()]
    with tempfile.TemporaryDirectory() as folder:
        writer = results.TraceWriter(Path(folder))
        watcher = runner.Observation(bench, recorder, lambda: None)

        def on_visit() -> None:
            runner._on_visit(recorder, writer)
            seconds.append(time.perf_counter())
            memory.append(resident_mib())

        runner.train(bench, watcher, on_visit)
    each = np.diff(seconds) / np.array(bench.budgets)
    n = len(each)
    early, late = np.median(each[50:100]), np.median(each[n - 50 :])
    print(f"an update with its share of evaluation, experiences 51 to 100: {1e3 * early:.3f} ms")
    print(f"the same, the last 50 of {n}: {1e3 * late:.3f} ms, ratio {late / early:.3f}")
    most = max(memory[10:])
    print(f"memory after experience 10: {memory[10]:.1f} MiB; most after it {most:.1f}; at the end {memory[-1]:.1f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "scole_mnist-v1", sys.argv[2:])
