"""Peak memory of a process that does run after run, and of streams with many domains.

    .venv/bin/python benchmarks/speed/memory.py [--runs 20] [--only runs,permutations] [--strategies naive] [--quick]

runs          a worker of `clbench grid` does so many runs of Rotated-MNIST, one seed after the other: 20 rotations of
              10,000 test images each, MLP 100-100, evaluated around experiences; the peak of each run, in a worker for
              a strategy of ours and in one for a hosted strategy of Avalanche
permutations  Permuted-MNIST with 10 and with 100 permutations, a process each: the peak until the second experience
              ends, which has evaluations of all test images in it

Peaks are resident bytes of a process from /proc (Linux), set back before each run. Written to results/memory.json and
results/memory.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pairs import table, write_json

from clbench import resolve
from clbench.config.engines import LocalSettings
from clbench.results import provenance
from clbench.run_config import RunConfig
from clbench.studies.engines.base import Job
from clbench.studies.engines.local import Local

RESULTS = Path(__file__).resolve().parent.parent / "results"
STRATEGIES = ("naive", "avalanche.training.supervised:Replay")
PERMUTATIONS = (10, 100)


@dataclass(frozen=True)
class Row:
    """Two peaks.

    Attributes:
        part: of this file.
        name: of the row.
        bytes: all peaks in their order, bytes; the ratio is that of the last and the first.
        bound: of the ratio.
    """

    part: str
    name: str
    bytes: list[int]
    bound: float

    @property
    def ratio(self) -> float:
        return self.bytes[-1] / self.bytes[0]


def configured(benchmark: str, strategy: str, tasks: str, iterations: int, seed: int = 0) -> RunConfig:
    """A run with an MLP 100-100 and few updates, evaluated around experiences."""
    overrides = [
        f"stream.tasks={tasks}", "model={name: mlp, hidden: [100, 100]}", "evaluation={every: 0}",
        f"training={{epochs: null, iterations: {iterations}, batch_size: 128, optimizer: {{name: sgd, lr: 0.01}}}}",
    ]  # fmt: skip
    return resolve.make_run(benchmark, strategy=strategy, seed=seed, overrides=overrides, threads=1)


class Listener:
    """Of an engine: warnings alone."""

    def at(self, job: int, share: float) -> None: ...

    def warn(self, job: int, text: str) -> None:
        print(f"run {job}: {text}", file=sys.stderr, flush=True)


def runs(options: argparse.Namespace) -> Iterator[Row]:
    """Successive runs in a worker."""
    tasks = f"{{by: rotations, degrees: [{', '.join(str(9 * n) for n in range(20))}]}}"
    count = 2 if options.quick else options.runs
    for strategy in options.strategies.split(","):
        with tempfile.TemporaryDirectory() as folder:
            seeds = (configured("rotated_mnist-v1", strategy, tasks, options.iterations, seed) for seed in range(count))
            jobs = [Job(run, Path(folder)) for run in seeds]
            peaks = list[int]()
            for _, done in Local(LocalSettings(name="local", processes=1), 1, False).run(jobs, Listener()):
                assert done.status == "completed", done.message
                (worker,) = multiprocessing.active_children()  # idle until the next job
                peaks.append(taken_peak(worker.pid))
                print(f"{strategy}, run {len(peaks)}: {mib(peaks[-1])} MiB", file=sys.stderr, flush=True)
        yield Row("runs", f"{strategy}: run {count} / run 1 of a worker", peaks, 1.05)


def permutations(options: argparse.Namespace) -> Iterator[Row]:
    """Streams of few and of many permutations."""
    peaks = list[int]()
    for permuted in PERMUTATIONS:
        command = [sys.executable, __file__, "--permutations", str(permuted), "--iterations", str(options.iterations)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        peaks.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"{permuted} permutations: {mib(peaks[-1])} MiB", file=sys.stderr, flush=True)
    yield Row("permutations", f"{PERMUTATIONS[-1]} permutations / {PERMUTATIONS[0]}", peaks, 1.3)


PARTS = {f.__name__: f for f in (runs, permutations)}


class UntilUpdate:
    """Progress that stops a run after an update, as Ctrl-C does."""

    def __init__(self, last: int) -> None:
        self._last = last

    def start(self, total: int, done: int) -> None: ...

    def update(self, done: int) -> None:
        if done == self._last:
            raise KeyboardInterrupt

    def close(self) -> None: ...


def peak_of_permutations(count: int, iterations: int) -> int:
    """The peak of this process until the third experience begins, bytes."""
    from clbench.runner.run import execute

    tasks = f"{{by: permutations, count: {count}, first: permuted}}"
    run = configured("permuted_mnist-v1", "naive", tasks, iterations)
    taken_peak(os.getpid())
    with tempfile.TemporaryDirectory() as folder:
        try:
            execute(run, Path(folder), progress=UntilUpdate(2 * iterations + 1))
        except KeyboardInterrupt:
            return taken_peak(os.getpid())
    raise AssertionError("the run was not stopped")


def taken_peak(process: int | None) -> int:
    """Largest resident size of a process since the last call, bytes; it begins anew."""
    folder = Path("/proc") / str(process)
    lines = (folder / "status").read_text().splitlines()
    (folder / "clear_refs").write_text("5")
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def mib(size: int) -> str:
    return f"{size / 2**20:,.0f}"


def markdown(machine: dict[str, Any], rows: list[Row]) -> str:
    """The table for readers."""
    cells = []
    for row in rows:
        verdict = "met" if row.ratio <= row.bound else "**missed**"
        sizes = [mib(row.bytes[0]), mib(row.bytes[-1]), mib(max(row.bytes))]
        cells.append([row.name, *sizes, f"{row.ratio:.2f}", f"≤ {row.bound:g}: {verdict}"])
    header = ["peak memory", "first, MiB", "last, MiB", "largest, MiB", "ratio", "goal"]
    software = f"Python {machine['python']}, torch {machine['packages']['torch']}"
    return f"{machine['cpu']}; {software}. Made by `make benchmark-memory`.\n\n{table(header, cells)}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="of a worker (20)")
    parser.add_argument("--iterations", type=int, default=5, help="updates an experience (5)")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts ({','.join(PARTS)})")
    strategies = ",".join(STRATEGIES)
    parser.add_argument("--strategies", default=strategies, help=f"of the first part ({strategies})")
    parser.add_argument("--quick", action="store_true", help="two runs of the first part; nothing is written")
    parser.add_argument("--permutations", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("CLBENCH_OFFLINE", "1")
    if options.permutations:
        print(peak_of_permutations(options.permutations, options.iterations))
        return 0
    chosen = ["runs"] if options.quick else options.only.split(",")
    if unknown := sorted(set(chosen) - PARTS.keys()):
        parser.error(f"--only: unknown {', '.join(unknown)}. Allowed: {', '.join(PARTS)}.")
    rows = [row for part in chosen for row in PARTS[part](options)]
    machine = provenance.collect("cpu")
    text = markdown(machine, rows)
    print(text)
    if not options.quick:
        document = {"machine": machine, "rows": [{**asdict(row), "ratio": row.ratio} for row in rows]}
        write_json(RESULTS / "memory.json", document)
        (RESULTS / "memory.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
