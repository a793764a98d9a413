"""The cost of the engine, beside plain PyTorch loops and beside stock Avalanche: all rows, one table.

    python benchmarks/speed/engine.py [--pairs 30] [--threads 1] [--only training,hosted,...] [--out DIR] [--quick]

Every ratio is of neighbouring turns in one process (pairs.py), its median with a 95 % bootstrap interval. The parts:

training      a real run beside a loop by hand of the same method (training.py)
hosted        Avalanche's strategies under our runner, beside stock scripts and a plain loop (hosted.py)
stock         stock Avalanche on a torchvision data set beside our own strategy of the same method (hosted.py)
starting      the command line, in seconds: the smallest of some starts, because a start can only be disturbed
buffer        insertion and sampling with a memory of 100,000 samples beside one of 1,000
long          1,000 experiences: an update at the end of the stream beside one at its start (long_stream.py)
augmentation  batched beside torchvision's transforms, sample by sample (augmentation.py)
checkpoints   what one takes, as a share of the default interval
memory        peak of a run above what stands after the imports, beside what it says that it keeps
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pairs import Ratio, Segment, measure, table, write_json

from clbench.formatting import telling_places

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        part: of this file.
        what: row / base.
        value: the ratio, or seconds where `unit` says so.
        low, high: its 95 % interval; None where there is none.
        sign, bound: the goal.
        unit: "" for a ratio.
        note: how it was measured, or what lies behind it.
    """

    part: str
    what: str
    value: float
    low: float | None
    high: float | None
    sign: str
    bound: float
    unit: str = ""
    note: str = ""

    @property
    def met(self) -> bool:
        return self.value <= self.bound if self.sign == "<=" else self.value >= self.bound


def _ratio(part: str, what: str, r: Ratio, sign: str, bound: float, units: int = 1, note: str = "") -> Row:
    times = f"{1e3 * r.row_s / units:.2f} / {1e3 * r.base_s / units:.2f} ms"
    return Row(part, what, r.median, r.low, r.high, sign, bound, note=f"{times}{note and '; '}{note}")


# ------------------------------------------------------------------------------------------------ parts
def training(rounds: int) -> Iterator[Row]:
    import training as t
    from evaluation import load_data

    data = load_data()
    for method, network, optimizer in t.CASES:
        r = t.compare(method, network, optimizer, data, rounds)
        what = f"{method}, {network}, {optimizer}: clbench / by hand"
        yield _ratio("training", what, r, "<=", t.GOALS[method], t.UPDATES[network])


_SHOTS = 640
"""Images of a class beside torchvision data, 10 updates an experience: a turn of all 94 lasts seconds there."""


def hosted(rounds: int) -> Iterator[Row]:
    import hosted as h
    from evaluation import load_data

    data = load_data()
    for name in ("naive", "replay", "ewc"):
        bench = h.Bench(data, name, "sgd", rounds + 1)
        rows = {"hosted": h.hosted(bench), "tensors": h.stock(bench, "tensors")}
        if name == "naive":
            rows["bare"] = h.bare(bench)
        timings = measure(dict(rows), rounds)
        if name == "naive":
            yield _ratio("hosted", "Naive: hosted / plain loop", timings.ratio("hosted", "bare"), "<=", 1.4)
            limit = timings.ratio("tensors", "bare")
            note = f"the stock script itself takes {limit.median:.2f} ({limit.low:.2f} to {limit.high:.2f}) plain loops"
        what, r = f"{name}: stock on tensors / hosted", timings.ratio("tensors", "hosted")
        yield _ratio("hosted", what, r, ">=", 1.5, note=note if name == "naive" else "")
        bench = h.Bench(data, name, "sgd", rounds + 1, _SHOTS)
        rows = {"hosted": h.hosted(bench), "torchvision": h.stock(bench, "torchvision")}
        r = measure(dict(rows), rounds).ratio("torchvision", "hosted")
        yield _ratio("hosted", f"{name}: stock on torchvision data / hosted", r, ">=", 3.0)


def stock(rounds: int) -> Iterator[Row]:
    import hosted as h
    from evaluation import load_data

    data = load_data()
    for name, ours in (("naive", "naive"), ("replay", "er")):
        bench = h.Bench(data, name, "sgd", rounds + 1, _SHOTS)
        timings = measure({"ours": h.own(bench, ours), "torchvision": h.stock(bench, "torchvision")}, rounds)
        what = f"stock {h.STRATEGIES[name][0]} on torchvision data / clbench {ours}"
        yield _ratio("stock", what, timings.ratio("torchvision", "ours"), ">=", 5.0)


def starting(rounds: int) -> Iterator[Row]:
    command = str(Path(sys.executable).parent / "clbench")
    for arguments in (["--help"], ["list", "streams"], ["validate", "split_mnist-v1.yaml"]):
        given = [str(HERE.parents[1] / "streams" / "benchmarks" / a) if a.endswith(".yaml") else a for a in arguments]
        seconds = []
        for _ in range(min(rounds, 10)):
            start = time.perf_counter()
            subprocess.run([command, *given], check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - start)
        note = f"median {np.median(seconds):.2f} s of {len(seconds)}"
        yield Row("starting", f"clbench {' '.join(arguments)}", min(seconds), None, None, "<=", 0.5, "s", note)


def buffer(rounds: int) -> Iterator[Row]:
    from clbench.rng import Generator
    from clbench.strategies.shared.buffers import Buffer

    def filled(capacity: int) -> Buffer:
        held = Buffer(Generator(0, "buffer"), capacity=capacity)
        for start in range(0, 4 * capacity, 1000):
            index = np.arange(start, start + 1000)
            held.add(index, np.zeros_like(index), np.zeros_like(index))
        return held

    held = {f"{size:,}": filled(size) for size in (1000, 100_000)}
    index = np.arange(128)

    def offer(b: Buffer) -> None:
        b.add(index, np.zeros_like(index), np.zeros_like(index))

    def offers(b: Buffer, copies: int) -> Segment:
        """Two to each copy: as long as that, one in four is kept, whatever the memory's size."""
        fresh = [copy.deepcopy(b) for _ in range(copies)]

        def segment() -> int:
            for _ in range(20):
                each = fresh.pop() if copies > 1 else b
                offer(each)
                offer(each)
            return 40

        return segment

    def draws(b: Buffer) -> Segment:
        def segment() -> int:
            for _ in range(200):
                b.sample(128)
            return 200

        return segment

    rows = {size: offers(b, 20 * (rounds + 1) if size == "1,000" else 1) for size, b in held.items()}
    r = measure(dict(rows), rounds).ratio("100,000", "1,000")
    yield _ratio("buffer", "insertion of 128: memory of 100,000 / of 1,000", r, "<=", 1.1)
    rows = {size: draws(b) for size, b in held.items()}
    r = measure(dict(rows), rounds).ratio("100,000", "1,000")
    yield _ratio("buffer", "sampling of 128: memory of 100,000 / of 1,000", r, "<=", 1.1)


def long(rounds: int) -> Iterator[Row]:
    import long_stream

    for name in long_stream.STREAMS:
        found = _alone(["long_stream.py", "--json", name])
        note = (
            f"{found['late_ms']:.2f} / {found['early_ms']:.2f} ms; memory {found['early_mib']:.0f} MiB early, "
            f"{found['late_mib']:.0f} late"
        )
        value = found["ratio"]
        yield Row("long", f"{name}: late / early", value, found["low"], found["high"], "<=", 1.1, note=note)


def augmentation(rounds: int) -> Iterator[Row]:
    import augmentation as a

    x = a.images()
    for parts, of in a.PARTS.items():
        timings = measure(a.rows(of, x), rounds)
        for row in (a.ON_PIL, a.ON_TENSORS):
            yield _ratio(
                "augmentation", f"{parts}: {row}, one by one / batched", timings.ratio(row, a.BATCHED), ">=", 10.0
            )


def checkpoints(rounds: int) -> Iterator[Row]:
    import training as t

    from clbench.runner import run as runner
    from clbench.runner.checkpoint import Every

    for network, optimizer in (("mlp", "sgd"), ("mlp", "adam"), ("cnn", "adam")):
        run = t.configured("er", network, optimizer)
        changed = run.benchmark.training.model_copy(update={"iterations": 5 * rounds})
        run = run.model_copy(update={"benchmark": run.benchmark.model_copy(update={"training": changed})})
        with tempfile.TemporaryDirectory() as folder:
            costs = runner.execute(run, Path(folder), every=Every(0, 5)).record["costs"]
        each = costs["checkpoint_s"] / costs["checkpoints"]
        note = f"{1e3 * each:.1f} ms each, one a minute"
        what = f"er, {network}, {optimizer}: checkpoints / time of a run"
        yield Row("checkpoints", what, each / Every().seconds, None, None, "<=", 0.01, note=note)


def memory(rounds: int) -> Iterator[Row]:
    for strategy in ("naive", "er"):
        found = _alone(["engine.py", "--memory", strategy])
        keeps = ", ".join(f"{name} {size / 2**20:.0f}" for name, size in found["keeps"].items())
        above, known = (found["peak"] - found["imports"]) / 2**20, sum(found["keeps"].values()) / 2**20
        note = f"{above:.0f} MiB above {found['imports'] / 2**20:.0f}; of {known:.0f} ({keeps})"
        note += f"; {found['code'] / 2**20:.0f} MiB of the peak are pages of libraries read since"
        yield Row("memory", f"{strategy}, MNIST, MLP: peak / known", above / known, None, None, "<=", 1.2, note=note)


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
    f.__name__: f for f in (training, hosted, stock, starting, buffer, long, augmentation, checkpoints, memory)
}


def _alone(command: list[str]) -> Any:
    """The JSON that a script of this folder prints, in a process of its own."""
    arguments = [sys.executable, str(HERE / command[0]), *command[1:]]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def memory_of(strategy: str) -> None:
    """Prints, in bytes: resident after the imports, the peak of a run, and what the run says that it keeps."""
    from evaluation import _resident

    from clbench import registry, resolve
    from clbench.runner import run as runner
    from clbench.runner.components import assemble

    registry.datasets()
    torch.nn.Linear(1, 1)(torch.ones(1, 1)).sum().backward()
    torch.optim.Adam([torch.nn.Parameter(torch.ones(1))]).zero_grad()  # imports what torch puts off until now
    imports, code = _resident(), _pages_of_libraries()
    overrides = [
        "model={name: mlp, hidden: [400, 400]}", "training={iterations: 200, batch_size: 128, "
        "optimizer: {name: adam, lr: 0.001}}", "evaluation.every=10",
    ]  # fmt: skip
    run = resolve.make_run("split_mnist-v1", strategy=strategy, overrides=overrides, threads=1)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    keeps: dict[str, int] = {}

    def noted(*args: Any) -> Any:
        bench = assemble(*args)

        def release() -> None:
            keeps.update(_kept(bench))
            type(bench).release(bench)

        bench.release = release  # type: ignore[method-assign]
        return bench

    vars(runner)["assemble"] = noted
    with tempfile.TemporaryDirectory() as folder:
        runner.execute(run, Path(folder))
        trace = sum(p.stat().st_size for p in Path(folder).rglob("trace.npz"))
    keeps["record"] = 2 * 16 << 10 if trace < 1 << 20 else 2 * trace
    peak = _resident(peak=True)
    print(json.dumps({"imports": imports, "peak": peak, "keeps": keeps, "code": _pages_of_libraries() - code}))


def _kept(bench: Any) -> dict[str, int]:
    """Bytes that the components of a run say that they keep."""
    data, weights = bench.stream.data, sum(p.nbytes for p in bench.strategy.model.parameters())
    slots = bench.strategy.optimizer.state.values()
    return {
        "data": sum(a.nbytes for a in (data.train_x, data.train_y, data.test_x, data.test_y)),
        "model and gradient": 2 * weights,
        "optimiser": sum(t.nbytes for state in slots for t in state.values()),
        "lists of rows": sum(rows.nbytes for v in bench.stream.experiences for _, rows in v.parts),
        **{f"evaluator's {name}": size for name, size in bench.evaluator.held_bytes().items() if size},
    }


def _pages_of_libraries() -> int:
    """Resident bytes that are files' (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile:")) * 1024


# ------------------------------------------------------------------------------------------------ the table
def markdown(machine: dict[str, Any], rows: list[Row]) -> str:
    """The table for readers."""
    gpu = "no GPU" if machine["gpu"] is None else machine["gpu"]
    lines = [
        f"{machine['cpu']}, {machine['cpus']} cores, {machine['threads']} thread; {gpu}; Python {machine['python']}, "
        f"torch {machine['packages']['torch']}, avalanche-lib {machine['packages']['avalanche-lib']}. "
        "Made by `make benchmark`.",
        "",
    ]
    cells = []
    for row in rows:
        share = row.value < 0.02 and not row.unit
        places = telling_places((row.value, row.bound), "share" if share else "iterations")
        value = f"{100 * row.value:.{places}f} %" if share else f"{row.value:.{places}f}{row.unit and ' '}{row.unit}"
        spread = "" if row.low is None or row.high is None else f"{row.low:.2f} to {row.high:.2f}"
        bound = f"{100 * row.bound:g} %" if share else f"{row.bound:g}"
        goal = f"{'≤' if row.sign == '<=' else '≥'} {bound}: {'met' if row.met else '**missed**'}"
        cells.append([row.part, row.what, value, spread, goal, row.note])
    header = ["part", "what", "median", "95 % interval", "goal", "behind it"]
    return "\n".join([*lines, table(header, cells), ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=30, help="rounds of each comparison (30)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts ({','.join(PARTS)})")
    parser.add_argument("--out", type=Path, help="folder of the result files (benchmarks/results; none with --quick)")
    parser.add_argument("--quick", action="store_true", help="2 pairs: shows that it works, and no more")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    os.environ.setdefault("CLBENCH_OFFLINE", "1")
    # Avalanche's warnings of its own deprecated functions put themselves before every filter.
    vars(warnings)["showwarning"] = lambda *_, **__: None
    if given.memory:
        memory_of(given.memory)
        return 0
    chosen = given.only.split(",")
    unknown = sorted(set(chosen) - PARTS.keys())
    if unknown or given.pairs < 1:
        parser.error(f"--only: unknown {', '.join(unknown)}. Allowed: {', '.join(PARTS)}; --pairs: at least 1.")
    from clbench.results import provenance

    rows: list[Row] = []
    took = {}
    for part in chosen:
        start = time.perf_counter()
        for row in PARTS[part](2 if given.quick else given.pairs):
            rows.append(row)
            print(f"{row.part}: {row.what}: {row.value:.4g} {row.unit} ({row.note})", file=sys.stderr, flush=True)
        took[part] = round(time.perf_counter() - start, 1)
    machine = {**provenance.collect("cuda" if torch.cuda.is_available() else "cpu"), "threads": given.threads}
    text = markdown(machine, rows)
    print(text)
    out = given.out or (None if given.quick else HERE.parent / "results")
    if out is not None:
        found = [{**asdict(row), "met": row.met} for row in rows]
        write_json(out / "engine.json", {"machine": machine, "seconds": took, "rows": found})
        (out / "engine.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
