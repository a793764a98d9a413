"""The cost of several seeds of one configuration that train together, beside one run and beside runs side by side.

    python benchmarks/speed/seeds_together.py [--pairs 20] [--only mlp400,digits] [--seeds 2,5,10] [--out DIR] [--quick]

All loops are written by hand: each seed has its own initial weights and batch order, a batch is gathered from uint8
and normalised, nothing is evaluated. Networks and losses are clbench's; `one` is the quickest of PyTorch's optimisers.

one        one seed, a network and an optimiser of its own
in turn    S of these in one process, an update each in turn
together   S seeds in one update, in the way that is quickest in a trial before (its name is in the table):
           loop      S networks, one backward pass over the sum of their losses, one optimiser step over all parameters
           bmm       a tensor of (S, ...) for each layer, `torch.baddbmm`, grouped convolutions, autograd
           vmap      the same tensors, `torch.vmap` over `functional_call` and `grad`
           by hand   bmm with gradients written out into tensors made once (MLPs only; no autograd, so no feature)
           compiled  bmm's loss under `torch.compile` (only with --compile, a compiler is needed; not for convolutions)
side by side   S runs dealt to two processes of one thread each, as a lab runs them today
halves         S seeds together, half of them in each of these two processes

The result is ratios of the time of one update of all seeds, measured in neighbouring turns (see pairs.py), and how far
gradients and weights are from those of single runs. Time is the thread's own (of two processes the longer), which other
work on the machine lengthens least; rows of two threads have wall time alone.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from evaluation import load_data
from pairs import Segment, Timings, measure, table
from torch import Tensor, nn

from clbench import registry
from clbench.config.networks import Cnn, Mlp
from clbench.results import provenance
from clbench.training import models

NETWORKS: dict[str, tuple[str, Mlp | Cnn]] = {
    "mlp400": ("mnist", Mlp(name="mlp", hidden=[400, 400])),
    "mlp100": ("mnist", Mlp(name="mlp", hidden=[100])),
    "digits": ("digits", Mlp(name="mlp", hidden=[100])),
    "cnn": ("mnist", Cnn(name="cnn", channels=[16, 32], hidden=128)),
}
SIZES = {"mlp400": "784-400-400-10", "mlp100": "784-100-10", "digits": "64-100-10", "cnn": "16 and 32 channels, 128"}
BATCHES = (10, 128)
OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.01}),
    "momentum": (torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}),
    "adam": (torch.optim.Adam, {"lr": 0.001}),
}
SINGLE = ("plain", "fused")
WAYS = ("loop", "bmm", "vmap", "by hand")
TURN_S = 0.01
"""A turn of one run is to last so long; the others do as many updates."""
STEPS = 50
GRADIENTS, WEIGHTS = 1e-5, 1e-4
"""Bounds of the relative distance to a single run, in each tensor: gradients at equal weights, weights after STEPS."""
GOAL = 2.0
CORES = 2


# ------------------------------------------------------------------------------------------------ data
@dataclass(frozen=True)
class Images:
    """Training set in its stored dtype: x uint8 (N, C, H, W), y int64 (N,)."""

    x: Tensor
    y: Tensor
    top: float
    mean: float
    std: float

    def ready(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs float32 (*rows.shape, C, H, W) and targets of some rows."""
        flat = rows.flatten()
        x = (self.x[flat].to(torch.float32) / self.top - self.mean) / self.std
        return x.view(*rows.shape, *x.shape[1:]), self.y[rows]


def images(name: str) -> Images:
    """MNIST (or noise of its shape, see evaluation.py) or the 8x8 digits."""
    source = load_data().source if name == "mnist" else registry.datasets().load(name, None)
    x, y = torch.from_numpy(source.train_x).contiguous(), torch.from_numpy(source.train_y)
    return Images(x, y, source.top, source.mean[0], source.std[0])


@dataclass(frozen=True)
class Case:
    """One configuration."""

    network: str
    batch: int
    optimizer: str

    def build(self, data: Images, seed: int) -> nn.Module:
        """The network of a seed."""
        torch.manual_seed(seed)
        return models.build(NETWORKS[self.network][1], tuple(data.x.shape[1:]), 10)

    def make(self, parameters: Sequence[Tensor], fused: bool) -> torch.optim.Optimizer:
        """The optimiser over some parameters."""
        kind, options = OPTIMIZERS[self.optimizer]
        return kind(parameters, **options, fused=fused)

    def rows(self, n: int, seeds: Sequence[int]) -> Iterator[Tensor]:
        """Batches of all seeds, int64 (S, batch): each seed in an order of its own, full batches only."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        while True:
            order = torch.stack([torch.randperm(n, generator=g) for g in generators])
            for a in range(0, n - self.batch + 1, self.batch):
                yield order[:, a : a + self.batch]


# ------------------------------------------------------------------------------------------------ one run
class Trains(Protocol):
    """Some seeds in training."""

    def update(self) -> None: ...

    def gradients(self) -> list[list[Tensor]]:
        """Of the last update, for each seed and parameter."""

    def weights(self) -> list[list[Tensor]]: ...


class One:
    """One seed."""

    def __init__(self, case: Case, data: Images, seed: int, fused: bool) -> None:
        self.model, self._data, self._rows = case.build(data, seed), data, case.rows(len(data.x), [seed])
        self.optimizer = case.make(list(self.model.parameters()), fused)

    def update(self) -> None:
        x, y = self._data.ready(next(self._rows)[0])
        self.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(self.model(x), y).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def weights(self) -> list[Tensor]:
        return [p.detach() for p in self.model.parameters()]

    def gradients(self) -> list[Tensor]:
        return [p.grad for p in self.model.parameters() if p.grad is not None]


class InTurn:
    """Several seeds, each for itself."""

    def __init__(self, case: Case, data: Images, seeds: Sequence[int], way: str) -> None:
        self.runs = [One(case, data, seed, way == "fused") for seed in seeds]

    def update(self) -> None:
        for run in self.runs:
            run.update()

    def weights(self) -> list[list[Tensor]]:
        return [run.weights() for run in self.runs]

    def gradients(self) -> list[list[Tensor]]:
        return [run.gradients() for run in self.runs]


# ------------------------------------------------------------------------------------------------ together
class Loop:
    """S networks, one backward pass, one optimiser step."""

    def __init__(self, case: Case, data: Images, seeds: Sequence[int]) -> None:
        self._models = [case.build(data, seed) for seed in seeds]
        self._data, self._rows = data, case.rows(len(data.x), seeds)
        self._optimizer = case.make([p for m in self._models for p in m.parameters()], True)

    def update(self) -> None:
        x, y = self._data.ready(next(self._rows))
        self._optimizer.zero_grad(set_to_none=True)
        losses = [F.cross_entropy(m(a), b) for m, a, b in zip(self._models, x.unbind(), y.unbind(), strict=True)]
        torch.autograd.backward(losses)
        self._optimizer.step()

    def weights(self) -> list[list[Tensor]]:
        return [[p.detach() for p in m.parameters()] for m in self._models]

    def gradients(self) -> list[list[Tensor]]:
        return [[p.grad for p in m.parameters() if p.grad is not None] for m in self._models]


class Stacked:
    """One tensor of (S, ...) for each parameter, and one optimiser over these."""

    def __init__(self, case: Case, data: Images, seeds: Sequence[int]) -> None:
        built = [case.build(data, seed) for seed in seeds]
        stacked, _ = torch.func.stack_module_state(built)
        self.template, self.seeds = built[0], len(seeds)
        self.stacked: dict[str, Tensor] = stacked
        self.data, self.rows = data, case.rows(len(data.x), seeds)
        self.optimizer = case.make(list(stacked.values()), True)

    def weights(self) -> list[list[Tensor]]:
        return [[p.detach()[s] for p in self.stacked.values()] for s in range(self.seeds)]

    def gradients(self) -> list[list[Tensor]]:
        return [[p.grad[s] for p in self.stacked.values() if p.grad is not None] for s in range(self.seeds)]


class Bmm(Stacked):
    """Batched products and grouped convolutions."""

    def update(self) -> None:
        x, y = self.batch()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(x, y).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def batch(self) -> tuple[Tensor, Tensor]:
        """Inputs (S, N, C, H, W), or channels of all seeds side by side (N, S C, H, W); targets (S N,)."""
        rows = next(self.rows)
        if isinstance(next(self.template.children()), nn.Conv2d):
            x, y = self.data.ready(rows.T)
            return x.flatten(1, 2), y.T.flatten()
        x, y = self.data.ready(rows)
        return x, y.flatten()

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum over the seeds of their mean cross-entropies."""
        apart = x.dim() == 5  # seeds have a dimension of their own
        for name, layer in self.template.named_children():
            if isinstance(layer, nn.Linear):
                weight, bias = self.stacked[f"{name}.weight"], self.stacked[f"{name}.bias"]
                x = torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))
            elif isinstance(layer, nn.Conv2d):
                weight, bias = self.stacked[f"{name}.weight"].flatten(0, 1), self.stacked[f"{name}.bias"].flatten()
                x = F.conv2d(x, weight, bias, padding=layer.padding, groups=self.seeds)
            elif isinstance(layer, nn.Flatten):
                x = x.flatten(2) if apart else x.reshape(len(x), self.seeds, -1).transpose(0, 1)
            else:
                x = layer(x)
        return F.cross_entropy(x.flatten(0, 1), y, reduction="sum") / x.shape[1]


class Compiled(Bmm):
    """Bmm's loss through a compiler, forwards and backwards."""

    def __init__(self, case: Case, data: Images, seeds: Sequence[int]) -> None:
        super().__init__(case, data, seeds)
        self.loss = torch.compile(self.loss, dynamic=False)  # type: ignore[method-assign]


class Vmap(Stacked):
    """torch.func."""

    def __init__(self, case: Case, data: Images, seeds: Sequence[int]) -> None:
        super().__init__(case, data, seeds)

        def loss(state: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(torch.func.functional_call(self.template, state, (x,)), y)

        self._gradient = torch.vmap(torch.func.grad(loss))

    def update(self) -> None:
        x, y = self.data.ready(next(self.rows))
        gradients = self._gradient({name: p.detach() for name, p in self.stacked.items()}, x, y)
        for name, p in self.stacked.items():
            p.grad = gradients[name]
        self.optimizer.step()


class ByHand(Stacked):
    """Gradients of an MLP written out: no graph, no new tensors for gradients."""

    def __init__(self, case: Case, data: Images, seeds: Sequence[int]) -> None:
        super().__init__(case, data, seeds)
        names = [name for name, layer in self.template.named_children() if isinstance(layer, nn.Linear)]
        for p in self.stacked.values():
            p.grad = torch.zeros_like(p)
        self._layers = [(self.stacked[f"{n}.weight"], self.stacked[f"{n}.bias"]) for n in names]
        self._first, self._column = torch.arange(self.seeds).view(-1, 1), torch.arange(case.batch)

    @torch.no_grad()
    def update(self) -> None:
        x, y = self.data.ready(next(self.rows))
        inputs = [x.flatten(2)]
        for weight, bias in self._layers:
            z = torch.baddbmm(bias.unsqueeze(1), inputs[-1], weight.transpose(1, 2))
            inputs.append(z.relu_() if weight is not self._layers[-1][0] else z)
        d = torch.softmax(inputs.pop(), 2)
        d[self._first, self._column, y] -= 1
        d /= y.shape[1]
        for i in range(len(self._layers) - 1, -1, -1):
            weight, bias = self._layers[i]
            torch.bmm(d.transpose(1, 2), inputs[i], out=weight.grad)
            torch.sum(d, 1, out=bias.grad)
            if i:
                d = torch.ops.aten.threshold_backward(torch.bmm(d, weight), inputs[i], 0)
        self.optimizer.step()


KINDS: dict[str, Callable[[Case, Images, Sequence[int]], Trains]] = {
    "loop": Loop, "bmm": Bmm, "vmap": Vmap, "by hand": ByHand, "compiled": Compiled,
}  # fmt: skip


def trains(case: Case, data: Images, seeds: Sequence[int], way: str) -> Trains:
    """Seeds in turn ("plain", "fused") or together."""
    return InTurn(case, data, seeds, way) if way in SINGLE else KINDS[way](case, data, seeds)


# ------------------------------------------------------------------------------------------------ two processes
def _work(pipe: Any) -> None:
    """Trains what it is told to."""
    torch.set_num_threads(1)
    data: dict[str, Images] = {}
    held: dict[str, Trains] = {}
    while (told := pipe.recv()) is not None:
        if told[0] == "build":
            held = {}
            for name, case, seeds, way in told[1:]:
                source = NETWORKS[case.network][0]
                data.setdefault(source, images(source))
                held[name] = trains(case, data[source], seeds, way)
        elif told[1] in held:
            start = time.thread_time()
            for _ in range(told[2]):
                held[told[1]].update()
            pipe.send(time.thread_time() - start)
            continue
        pipe.send(0.0)


class Workers:
    """Processes of one thread each."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes = []
        for _ in range(CORES):
            near, far = context.Pipe()
            context.Process(target=_work, args=(far,), daemon=True).start()
            self._pipes.append(near)

    def build(self, case: Case, seeds: int, ways: dict[str, str]) -> None:
        """Deals the seeds out, for each name in its way."""
        for w, pipe in enumerate(self._pipes):
            mine = range(w, seeds, CORES)
            pipe.send(("build", *((name, case, mine, way) for name, way in ways.items() if mine)))
        self._wait()

    def run(self, name: str, updates: int) -> float:
        """So many updates of every seed; seconds of the thread that took longer."""
        for pipe in self._pipes:
            pipe.send(("run", name, updates))
        return self._wait()

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send(None)

    def _wait(self) -> float:
        return float(max(pipe.recv() for pipe in self._pipes))


# ------------------------------------------------------------------------------------------------ precision
def precision(case: Case, data: Images, way: str, seeds: int) -> tuple[float, float]:
    """Largest relative distance (2-norm, over seeds and parameters) to single runs in the first STEPS updates.

    Returns:
        of the gradients, where each single run has the weights of its seed before the update; of the weights, where
        single runs are left alone.
    """
    kin, free, led = (trains(case, data, range(seeds), w) for w in (way, "fused", "fused"))
    gradients = weights = 0.0
    for _ in range(STEPS):
        for mine, theirs in zip(led.weights(), kin.weights(), strict=True):
            for a, b in zip(mine, theirs, strict=True):
                a.copy_(b)
        for run in (kin, free, led):
            run.update()
        gradients = max(gradients, _distance(kin.gradients(), led.gradients()))
        weights = max(weights, _distance(kin.weights(), free.weights()))
    return gradients, weights


def _distance(some: list[list[Tensor]], others: list[list[Tensor]]) -> float:
    pairs = [(a, b) for one, two in zip(some, others, strict=True) for a, b in zip(one, two, strict=True)]
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


# ------------------------------------------------------------------------------------------------ one cell of the table
@dataclass(frozen=True)
class Result:
    """One configuration and number of seeds."""

    case: Case
    seeds: int
    single: str
    way: str
    wall: Timings
    own: Timings
    """Of the threads themselves; without the rows of two threads."""
    trial: dict[str, float]
    """Ways in units of one, one thread."""
    precision: tuple[float, float]


def compare(
    case: Case, data: Images, seeds: int, workers: Workers, pairs: int, ways: Sequence[str], trials: int
) -> Result:
    """Times a cell: a trial of all ways on one thread, then the quickest of them."""
    first = case.network == "cnn"
    tried = [w for w in ways if not (first and w in ("by hand", "compiled"))]
    runs = {w: trains(case, data, range(seeds if w not in SINGLE else 1), w) for w in (*SINGLE, *tried)}
    torch.set_num_threads(1)
    runs["plain"].update()
    start = time.perf_counter()
    for _ in range(5):
        runs["plain"].update()
    updates = max(1, round(TURN_S / ((time.perf_counter() - start) / 5)))
    clock = Clock(updates)
    _, trial = clock.measure({w: clock.of(run) for w, run in runs.items()}, trials)
    single = min(SINGLE, key=trial.median_s)
    way = min((w for w in tried if w != "by hand"), key=trial.median_s)

    turn = trains(case, data, range(seeds), single)
    workers.build(case, seeds, {"side by side": single, "halves": way})
    rows = {"one": clock.of(runs[single]), "in turn": clock.of(turn), "together": clock.of(runs[way])}
    rows |= {name: clock.of_workers(workers, name) for name in ("side by side", "halves")}
    rows |= {f"{name}, 2 threads": _threaded(run, updates) for name, run in (("one", runs[single]), (way, runs[way]))}
    wall, own = clock.measure(rows, pairs)
    return Result(
        case, seeds, single, way, wall, own, {w: trial.ratio(w, single).median for w in runs},
        precision(case, data, way, seeds),
    )  # fmt: skip


class Clock:
    """Segments of so many updates that note the time of their own thread beside the wall time of `pairs.measure`."""

    def __init__(self, updates: int) -> None:
        self._updates = updates
        self._noted: dict[Segment, list[float]] = {}

    def of(self, run: Trains) -> Segment:
        """One thread of this process."""

        def train() -> float:
            start = time.thread_time()
            for _ in range(self._updates):
                run.update()
            return time.thread_time() - start

        return self._noting(train)

    def of_workers(self, workers: Workers, name: str) -> Segment:
        """Two processes."""
        return self._noting(lambda: workers.run(name, self._updates))

    def measure(self, rows: dict[str, Segment], rounds: int) -> tuple[Timings, Timings]:
        """Wall time of all rows and own time of those that are noted."""
        for noted in self._noted.values():
            noted.clear()
        wall = measure(dict(rows), rounds)
        own = {name: self._noted[row] for name, row in rows.items() if row in self._noted}
        return wall, Timings({name: np.array(noted[1:]) for name, noted in own.items()})  # the first is not counted

    def _noting(self, train: Callable[[], float]) -> Segment:
        noted: list[float] = []

        def segment() -> int:
            noted.append(train() / self._updates)
            return self._updates

        self._noted[segment] = noted
        return segment


def _threaded(run: Trains, updates: int) -> Segment:
    def segment() -> int:
        torch.set_num_threads(CORES)
        for _ in range(updates):
            run.update()
        torch.set_num_threads(1)
        return updates

    return segment


# ------------------------------------------------------------------------------------------------ writing
def cells(result: Result) -> list[str]:
    """A row of the table."""
    case, own, wall = result.case, result.own, result.wall
    one, turn, lab = (
        own.ratio(*pair) for pair in (("together", "one"), ("in turn", "together"), ("side by side", "halves"))
    )
    two, both = (wall.ratio(*pair) for pair in (
        (f"{result.way}, 2 threads", "one, 2 threads"), ("side by side", f"{result.way}, 2 threads"),
    ))  # fmt: skip
    distance = result.precision
    kept = "yes" if distance[0] <= GRADIENTS and distance[1] <= WEIGHTS else "no"
    return [
        case.network, str(case.batch), case.optimizer, str(result.seeds), result.way,
        *(f"{r.median:.2f} ({r.low:.2f} to {r.high:.2f})" for r in (one, turn, lab)),
        f"{two.median:.2f}", f"{both.median:.2f}",
        f"{1e3 * one.base_s:.2f} / {1e3 * one.row_s:.2f} / {1e3 * lab.base_s:.2f} / {1e3 * lab.row_s:.2f}",
        f"{distance[0]:.0e}, {distance[1]:.0e}: {kept}",
    ]  # fmt: skip


HEADER = (
    "network", "batch", "optimiser", "S", "way", "together / one", "in turn / together", "side by side / halves",
    "2 threads, wall: together / one", "wall: side by side / together on 2 threads",
    "ms: one / together / halves / side by side", "gradients, weights: kept",
)  # fmt: skip


def markdown(results: Sequence[Result], ways: Sequence[str], notes: Sequence[str]) -> str:
    """The page, less its verdict."""
    rows = [cells(r) for r in results]
    tried = [
        [
            r.case.network, str(r.case.batch), r.case.optimizer, str(r.seeds),
            *(f"{r.trial[w]:.2f}" if w in r.trial else "" for w in (*SINGLE, *ways)),
        ]
        for r in results
    ]  # fmt: skip
    goal = [r for r in results if r.seeds == 5 and r.case.batch == 10]
    met = [f"{r.case.network} {r.case.optimizer}" for r in goal if r.own.ratio("together", "one").median <= GOAL]
    lines = [
        *notes, "",
        f"Goal, 5 seeds at batch 10 for at most {GOAL:g} × one seed (one thread): met in {len(met)} of {len(goal)}"
        + (f" ({', '.join(met)})." if met else "."), "",
        table(HEADER, rows), "",
        "All ways in units of one seed, one thread, from the shorter trial that chose among them"
        " (by hand is shown for comparison and never chosen):", "",
        table(["network", "batch", "optimiser", "S", *(f"one, {w}" for w in SINGLE), *ways], tried),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def plan(networks: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[Case, int]]:
    """The cells: five seeds first; momentum and other numbers of seeds at the smaller batch alone."""
    for s in sorted(seeds, key=lambda s: s != 5):
        for batch in BATCHES if s == 5 else BATCHES[:1]:
            for network in networks:
                for optimizer in OPTIMIZERS:
                    if optimizer != "momentum" or (s == 5 and batch == BATCHES[0]):
                        yield Case(network, batch, optimizer), s


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=20, help="rounds of each comparison (20)")
    parser.add_argument("--only", default=",".join(NETWORKS), help=f"networks ({','.join(NETWORKS)})")
    parser.add_argument("--seeds", default="2,5,10", help="numbers of seeds (2,5,10)")
    parser.add_argument("--compile", action="store_true", help="try torch.compile too: some ten seconds more a row")
    parser.add_argument("--out", type=Path, help="folder of the table (benchmarks/results; none with --quick)")
    parser.add_argument("--quick", action="store_true", help="2 pairs, 5 seeds: shows that it works, and no more")
    given = parser.parse_args()
    names = given.only.split(",")
    if unknown := sorted(set(names) - set(NETWORKS)):
        parser.error(f"--only: unknown {', '.join(unknown)}. Allowed: {', '.join(NETWORKS)}.")
    seeds = [5] if given.quick else [int(s) for s in given.seeds.split(",")]
    pairs, trials = (2, 1) if given.quick else (given.pairs, max(3, math.ceil(given.pairs / 5)))
    ways = (*WAYS, "compiled") if given.compile else WAYS
    torch.set_num_threads(1)
    data = {name: images(name) for name in {NETWORKS[n][0] for n in names}}
    workers, results, load = Workers(), [], os.getloadavg()[0]
    try:
        for case, s in plan(names, seeds):
            results.append(compare(case, data[NETWORKS[case.network][0]], s, workers, pairs, ways, trials))
            print(" | ".join(cells(results[-1])), flush=True)
    except KeyboardInterrupt:
        print("interrupted: the table has what was measured", file=sys.stderr)
    finally:
        workers.close()
    known = provenance.collect("cpu")
    notes = [
        "# Several seeds in one pass", "",
        f"{known['cpu']} ({torch.backends.cpu.get_cpu_capability()}), {os.cpu_count()} cores; torch "
        f"{torch.__version__}; {pairs} pairs a row; load {load:.1f} before and {os.getloadavg()[0]:.1f} after,"
        f" of which this script makes 1 to {CORES}.", "",
        f"    python benchmarks/speed/{' '.join([Path(__file__).name, *sys.argv[1:]])}", "",
        "Time of one update of all S seeds, batches gathered from uint8 and normalised, nothing evaluated; medians of"
        " ratios in neighbouring turns, 95 % intervals in brackets. It is the thread's own time on one thread (of two"
        " processes, the longer), and wall time where said, which suffers most from other work. Networks: "
        + "; ".join(f"{n} {SIZES[n]}" for n in names) + ". Side by side: S runs in two processes of one thread each"
        " (of 5, one takes 3); halves: the same two processes, the seeds of each together. Above 1 in these columns and"
        " in `in turn / together`, together is quicker. Kept: gradients within"
        f" {GRADIENTS:g} of a single run's at equal weights, weights within {WEIGHTS:g} in the first {STEPS} updates"
        " (largest relative 2-norm over seeds and parameters).",
    ]  # fmt: skip
    text = markdown(results, ways, notes)
    print(text)
    out = given.out or (None if given.quick else Path(__file__).resolve().parent.parent / "results")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "seeds_together.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
