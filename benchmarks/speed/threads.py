"""Two threads beside one, for updates of MLPs of growing size, as libraries wait by default and passively.

Each way has a process of its own; they take turns update by update block, so that whatever else the machine does meets
all of them. `--busy N` adds N processes that do nothing but count. Ratios are of the time of one thread, in one run:
below 1 two threads are faster. OpenMP's threads wait for each other at the end of every operation: where another
process has a core, one that spins waits for a thread that does not run.

    .venv/bin/python benchmarks/speed/threads.py --busy 2
    .venv/bin/python benchmarks/speed/threads.py --busy 2 --estimates    # of runs, beside what they took
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from statistics import median

from pairs import table

WAYS: dict[str, tuple[int, dict[str, str]]] = {
    "1 thread": (1, {}),
    "2 threads": (2, {}),
    "2, OMP_WAIT_POLICY=PASSIVE": (2, {"OMP_WAIT_POLICY": "PASSIVE"}),
    "2, GOMP_SPINCOUNT=0": (2, {"GOMP_SPINCOUNT": "0"}),
    "2, KMP_BLOCKTIME=0": (2, {"KMP_BLOCKTIME": "0"}),
}
"""Name -> threads, and variables of the process."""

SIZES = {"64-100-10": [64, 100, 10], "784-100-100-10": [784, 100, 100, 10], "784-400-400-10": [784, 400, 400, 10],
         "784-1000-1000-10": [784, 1000, 1000, 10], "784-2000-2000-10": [784, 2000, 2000, 10]}  # fmt: skip

CHILD = """
import sys, time, torch
threads, batch, *sizes = map(int, sys.argv[1:])
torch.set_num_threads(threads)
pairs = list(zip(sizes, sizes[1:]))
model = torch.nn.Sequential(*(m for a, b in pairs for m in (torch.nn.Linear(a, b), torch.nn.ReLU())))
optimizer, loss = torch.optim.SGD(model.parameters(), 0.01), torch.nn.CrossEntropyLoss()
x, y = torch.randn(batch, sizes[0]), torch.randint(sizes[-1], (batch,))
for line in sys.stdin:
    start = time.perf_counter()
    for _ in range(int(line)):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    print(time.perf_counter() - start, flush=True)
"""


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Processes that count as long as the block lasts."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measure(sizes: list[int], batch: int, rounds: int, updates: int) -> dict[str, list[float]]:
    """Seconds of each block of updates, by way; one block of each way a round."""
    ours = [name for names in WAYS.values() for name in names[1]]
    clean = {k: v for k, v in os.environ.items() if k not in (*ours, "OMP_NUM_THREADS")}
    with contextlib.ExitStack() as held:
        children = {}
        for way, (threads, variables) in WAYS.items():
            command = [sys.executable, "-c", CHILD, *map(str, (threads, batch, *sizes))]
            child = held.enter_context(
                subprocess.Popen(
                    command, env=clean | variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            held.callback(child.kill)
            children[way] = child
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(rounds + 1):
            for way, child in children.items():
                assert child.stdin is not None
                assert child.stdout is not None
                print(updates, file=child.stdin, flush=True)
                taken = float(child.stdout.readline())
                if number:  # the first warms up
                    seconds[way].append(taken)
    return seconds


def estimates(rounds: int) -> Iterator[list[str]]:
    """Seconds that `clbench run` announced for a small run, those it took, and their ratio; a new seed each round."""
    for seed in range(rounds):
        with tempfile.TemporaryDirectory() as out:
            command = [
                sys.executable,
                "-m",
                "clbench",
                "run",
                "split_digits-v1",
                "--strategy",
                "er",
                "--seed",
                str(seed),
            ]
            done = subprocess.run([*command, "--out", out], capture_output=True, text=True, check=True)
        said = re.search(r"about ([\d.]+) s:", done.stderr)
        took = re.search(r"training ([\d.]+) s, evaluation ([\d.]+) s;", done.stdout)
        if said and took:
            announced, taken = float(said[1]), sum(map(float, took.groups()))
            yield [str(seed), f"{announced:.1f}", f"{taken:.1f}", f"{announced / taken:.2f}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="processes that keep cores busy (0)")
    parser.add_argument("--batch", type=int, default=32, help="samples of an update (32)")
    parser.add_argument("--rounds", type=int, default=9, help="blocks of each way (9)")
    parser.add_argument("--updates", type=int, default=20, help="of a block (20)")
    parser.add_argument("--estimates", action="store_true", help="of runs, instead of threads")
    given = parser.parse_args()
    beside = f"{given.busy} busy processes beside it, {os.cpu_count()} cores"
    lines = []
    with busy(given.busy):
        if given.estimates:
            header = ["seed", "said, s", "took, s", "ratio"]
            print(f"{beside}\n\n{table(header, list(estimates(given.rounds)))}")
            return 0
        for name, sizes in SIZES.items():
            seconds = measure(sizes, given.batch, given.rounds, given.updates)
            one = median(seconds["1 thread"])
            ratios = [f"{median(seconds[way]) / one:.2f}" for way in WAYS if way != "1 thread"]
            weights = given.batch * sum(a * b for a, b in pairwise(sizes))
            lines.append([name, f"{weights:,}", f"{1e3 * one / given.updates:.2f}", *ratios])
    header = ["MLP", "batch x weights", "1 thread, ms", *(way for way in WAYS if way != "1 thread")]
    print(f"{beside}; ratios to 1 thread\n")
    print(table(header, lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
