"""The cost of `clbench grid` beside copies of `clbench run` started by hand.

    .venv/bin/python benchmarks/speed/grids.py [--pairs 5] [--quick]

efficiency   a study of one strategy with so many seeds, in as many processes as there are cores, against that many
             copies of `clbench run`, each with its share of the seeds; whole processes, imports and boards included
overhead     the same with runs of a few updates in one process, against one copy of `clbench run`: what is more, by
             run

Both take turns, with the order turned round after each. Written to results/grids.json.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pairs import Ratio, Timings, write_json

from clbench.studies.engines.local import cores

RESULTS = Path(__file__).resolve().parent.parent / "results" / "grids.json"
CLBENCH = [sys.executable, "-m", "clbench"]
BENCHMARK = "split_digits-v1"


def study(folder: Path, seeds: int, updates: int) -> Path:
    """The file of a study of replay."""
    path = folder / "study.yaml"
    path.write_text(
        f"id: timing\nstreams: [{BENCHMARK}]\nstrategies: [er]\nseeds: {seeds}\nbudget: {{iterations: {updates}}}\n"
    )
    return path


def by_grid(seeds: int, updates: int, processes: int) -> float:
    """Seconds."""
    with tempfile.TemporaryDirectory() as folder:
        out = ["--out", folder, "--quiet", "--processes", str(processes)]
        return _timed([[*CLBENCH, "grid", str(study(Path(folder), seeds, updates)), *out]])


def by_hand(seeds: int, updates: int, processes: int) -> float:
    """Seconds."""
    with tempfile.TemporaryDirectory() as folder:
        shares = [range(k, seeds, processes) for k in range(processes)]
        told = ["--strategy", "er", "--threads", "1", "--device", "cpu", "--quiet", "--out", folder]
        told += ["-o", f"training.iterations={updates}"]
        return _timed([[*CLBENCH, "run", BENCHMARK, *told, *(f"--seed={n}" for n in share)] for share in shares])


def _timed(commands: Sequence[Sequence[str]]) -> float:
    begin = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [subprocess.Popen(c, stdout=subprocess.DEVNULL, env=environment) for c in commands]
    assert not any(process.wait() for process in running)
    return time.perf_counter() - begin


def pairs(rounds: int, seeds: int, updates: int, processes: int) -> Timings:
    """Seconds of both, in turns."""
    ways = {"grid": by_grid, "hand": by_hand}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for n in range(rounds):
        for name in list(ways) if n % 2 else list(ways)[::-1]:
            found[name].append(ways[name](seeds, updates, processes))
    return Timings({name: np.array(values) for name, values in found.items()})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one pair of few runs; nothing is written")
    options = parser.parse_args()
    rounds, many = (1, 4) if options.quick else (options.pairs, 24)
    before = os.getloadavg()[0]
    whole = pairs(rounds, many, 30 if options.quick else 400, cores())
    efficiency: Ratio = whole.ratio("hand", "grid")
    print(
        f"efficiency with {cores()} processes, {many} runs: {efficiency.median:.3f} "
        f"({efficiency.low:.3f} to {efficiency.high:.3f}); "
        f"{efficiency.base_s:.1f} s by grid, {efficiency.row_s:.1f} s by hand"
    )
    few = pairs(rounds, many, 2, 1)
    overheads = (few.seconds["grid"] - few.seconds["hand"]) / many
    print(f"overhead, one process, {many} runs of 10 updates: {1000 * float(np.median(overheads)):.0f} ms a run")
    if not options.quick:
        write_json(
            RESULTS,
            {
                "cores": cores(),
                "runs": many,
                "pairs": rounds,
                "efficiency": {"median": efficiency.median, "ci95": [efficiency.low, efficiency.high]},
                "seconds": {name: values.tolist() for name, values in whole.seconds.items()},
                "overhead_s": {"median": float(np.median(overheads)), "all": overheads.tolist()},
                "load": [before, os.getloadavg()[0]],
            },
        )


if __name__ == "__main__":
    main()
