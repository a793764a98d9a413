"""The cost of inputs on the disk: an update in units of one with the same inputs in memory, and its memory.

    .venv/bin/python benchmarks/speed/larger.py [--pairs 30] [--threads 1] [--gib 4] [--quick]

MNIST, MLP 400-400, SGD, batches of 128; the files are in the page cache, so that no disk is timed.

map         `npy:FOLDER`
items, n    `lazy:larger:Digits`, a data set of PyTorch whose items are NumPy arrays, with n workers
            (CLBENCH_WORKERS). Of a turn's updates up to 2 n find a batch that was read during another row's turn.

Then, in a process of its own, runs of ER over files with holes, of 1 MiB and of so many GiB: how much the peak of
resident memory of the second lies above the first one's; and how long the first start over the large file took, which
reads everything once, and the next.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import torch
from evaluation import load_data
from pairs import Host, Segment, measure, table
from torch.utils.data import Dataset

from clbench import resolve
from clbench.runner import components
from clbench.streams.compile import compile_stream

UPDATES = 100
"""Of a turn."""
WORKERS = (0, 1, 2)


class Digits(Dataset[Any]):
    """The arrays of the folder LARGER_FOLDER, an item at a time."""

    def __init__(self, train: bool) -> None:
        part = Path(os.environ["LARGER_FOLDER"]) / ("train" if train else "test")
        self._x, self.targets = (np.load(f"{part}_{name}.npy") for name in "xy")

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return self._x[i], int(self.targets[i])


def updates(data: str, workers: int = 0) -> Segment:
    """So many updates a turn of a training over all of a data set."""
    os.environ["CLBENCH_WORKERS"] = str(workers)
    run = resolve.make_run(
        "split_mnist-v1",
        strategy="naive",
        overrides=[
            "id=larger-v1",
            f"stream.data={data}",
            "stream.tasks.count=1",
            "stream.normalise=standard",
            "model={name: mlp, hidden: [400, 400]}",
            "training={iterations: 1000000, batch_size: 128, optimizer: {name: sgd, lr: 0.01}}",
            "evaluation.every=0",
        ],
        threads=torch.get_num_threads(),
        device="cpu",
    )
    bench = components.assemble(run, compile_stream(run.benchmark.stream, run.seed))
    experience = bench.experience(0)
    bench.strategy.begin_experience(experience)
    batches = bench.batches.of(experience, bench.budgets[0])

    def segment() -> int:
        for batch in islice(batches, UPDATES):
            bench.strategy.step(batch)
        return UPDATES

    return segment


def compare(folder: Path, rounds: int) -> list[list[str]]:
    """Every way to have the inputs, in units of memory."""
    source = load_data().source
    arrays: dict[str, Any] = {n: np.asarray(getattr(source, n)) for n in ("train_x", "train_y", "test_x", "test_y")}
    arrays = {n: a[:, 0] if a.ndim == 4 else a for n, a in arrays.items()}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    np.savez(folder / "all.npz", **arrays)
    os.environ["LARGER_FOLDER"] = str(folder)
    rows: dict[str, Segment | Host] = {
        "memory": updates(f"npz:{folder / 'all.npz'}"),
        "map": updates(f"npy:{folder}"),
        **{f"items, {n}": updates("lazy:larger:Digits", n) for n in WORKERS},
    }
    timings = measure(rows, rounds)
    lines = []
    for row in rows:
        r = timings.ratio(row, "memory")
        interval = "" if row == "memory" else f"{r.low:.2f} to {r.high:.2f}"
        lines.append([row, f"{r.median:.2f}", interval, f"{1e3 * r.row_s:.2f}"])
    return lines


LARGE = """
    import resource, sys, time
    from pathlib import Path
    from clbench import resolve
    from clbench.runner import run as runner

    def peak(out, *data):
        start = time.perf_counter()
        runner.execute(resolve.make_run("split_digits-v1", strategy="er", threads=1, overrides=[
            "id=larger-v1", "stream.tasks.count=2", "training.iterations=100", "evaluation.every=0", *data
        ]), Path(sys.argv[3], out))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, time.perf_counter() - start

    small, large = ("stream.data=npy:" + folder for folder in sys.argv[1:3])
    before, _ = peak("0", small)
    (after, first), (_, second) = peak("1", large), peak("2", large)
    print(f"{after - before} MiB; first start and run {first:.1f} s, second {second:.1f} s")
"""


def memory(folder: Path, gib: int) -> str:
    """Peak of resident memory above a small run's, and the time of two starts."""
    for name, n in (("small", 1 << 10), ("large", gib << 20)):  # samples of 1 KiB
        part = folder / name
        part.mkdir()
        np.lib.format.open_memmap(part / "train_x.npy", mode="w+", dtype=np.uint8, shape=(n, 32, 32)).flush()
        held: dict[str, Any] = {
            "train_y": np.arange(n) % 10,
            "test_x": np.ones((10, 32, 32), np.uint8),
            "test_y": np.arange(10),
        }
        for array in held:
            np.save(part / f"{array}.npy", held[array])
    arguments = [str(folder / name) for name in ("small", "large", "out")]
    done = subprocess.run(
        [sys.executable, "-c", dedent(LARGE), *arguments], capture_output=True, text=True, check=True
    )  # fmt: skip
    return done.stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=30, help="rounds (30)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
    parser.add_argument("--gib", type=int, default=4, help="size of the file with holes (4)")
    parser.add_argument("--quick", action="store_true", help="2 rounds and 1 GiB: shows that it works, and no more")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        with tempfile.TemporaryDirectory() as folder:
            lines = compare(Path(folder), 2 if given.quick else given.pairs)
        print(table(["inputs", "in units of memory", "95 % interval", "median ms an update"], lines))
        with tempfile.TemporaryDirectory() as folder:
            gib = 1 if given.quick else given.gib
            print(f"\nResident memory above that of a small file, {gib} GiB mapped: {memory(Path(folder), gib)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
