"""The cost of evaluation after every update, beside a plain PyTorch loop and beside stock Avalanche.

    python benchmarks/speed/evaluation.py [--pairs 30] [--threads N] [--only mlp,cnn] [--out DIR] [--quick]

Every row trains the same network by the same optimiser on batches of 128 and is evaluated after every update on all
10,000 test images:

bare                   plain PyTorch: batches and test tensors ready in memory; per evaluation a forward pass in
                       inference mode, in the fastest of chunks of 250, 500, 1,000 or all, compared with the labels;
                       nothing is recorded
clbench float32, auto  a run of `split_mnist-v1` (joint, so that all five tasks are seen and learnt): the runner's own
                       parts, with counts of every cell, two views and a bit of every test sample recorded
avalanche, tensors     Avalanche's Naive with `peval_mode="iteration"`, no loggers, on ready tensors; the test stream is
                       the five experiences that clbench's tasks are
avalanche, torchvision the same on a torchvision data set that makes every image ready (ToTensor, Normalize)

All rows start from the weights after the same 133 updates, because reduced precision depends on how sure a model is:
before the first updates most samples are near a tie and are repeated.

The result is ratios of the wall time of an update with its evaluation, measured in neighbouring turns of one process
(see pairs.py). Whether all rows count the same is checked on the way; the exit status is 1 where they do not.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pairs import Host, Ratio, Segment, Timings, measure, table, write_json
from torch import Tensor, nn

from clbench import registry, resolve
from clbench.errors import UserError
from clbench.evaluation.evaluation import Evaluation
from clbench.evaluation.recorder import Recorder
from clbench.evaluation.reduced_precision import fast_here
from clbench.formatting import telling_places
from clbench.results import provenance, trace_files
from clbench.runner.components import assemble
from clbench.runner.numerics import numerics
from clbench.runner.observer import Observation
from clbench.streams.compile import compile_stream
from clbench.trace import Phase

NETWORKS = {"mlp": "{name: mlp, hidden: [400, 400]}", "cnn": "{name: cnn, channels: [16, 32], hidden: 128}"}
UPDATES = {"mlp": 3, "cnn": 1}
"""Updates of a turn; one turn is to last some tenths of a second."""
BATCH = 128
CHUNKS = (250, 500, 1000, 10_000)
AVALANCHE_CHUNK = 512
ROWS = ("bare", "clbench float32", "clbench auto", "avalanche tensors", "avalanche torchvision")
TORCHVISION_ROUNDS = 10
"""A turn takes seconds there, and its ratios are far from their goals' margins."""
GOALS: dict[tuple[str, str], tuple[str, float]] = {
    ("clbench float32", "bare"): ("<=", 1.10),
    ("clbench auto", "bare"): ("<=", 0.5),
    ("avalanche tensors", "clbench float32"): (">=", 3.5),
    ("avalanche tensors", "clbench auto"): (">=", 20.0),
    ("avalanche torchvision", "clbench float32"): (">=", 20.0),
    ("avalanche torchvision", "clbench auto"): (">=", 80.0),
}
TIE = 1e-5
"""Relative margin below which float32 cannot tell two scores apart: its unit roundoff is 6e-8, a score here is a sum
of some thousand products over three layers, and another order of adding moves it by some ten roundings."""


# ------------------------------------------------------------------------------------------------ data
@dataclass(frozen=True)
class Data:
    """The training and test data of every row; tensors are made where a row asks for them.

    Attributes:
        source: the data set as clbench has it, uint8.
        name: what the table calls it.
    """

    source: Any
    name: str

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Rows of the test set by class, as the evaluator orders them."""
        return np.argsort(self.source.test_y, kind="stable")

    @cached_property
    def test_x(self) -> Tensor:
        """Model inputs, float32 (10000, 1, 28, 28), by class."""
        return normalised(self.source.test_x[self.order], self.source)

    @cached_property
    def test_y(self) -> Tensor:
        """int64 (10000,), ascending."""
        return torch.from_numpy(self.source.test_y[self.order])

    @cached_property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """Some training batches, ready."""
        x, y = self.source.train_x[: 8 * BATCH], torch.from_numpy(self.source.train_y[: 8 * BATCH])
        return list(zip(torch.split(normalised(x, self.source), BATCH), torch.split(y, BATCH), strict=True))


def normalised(x: NDArray[np.uint8], source: Any) -> Tensor:
    """Stored images after ToTensor and Normalize, float32, laid out as PyTorch lays out a new tensor.

    NumPy may give the one channel any stride, by which PyTorch chooses between layouts of everything behind it: with
    stride 1 it takes channels last, where pooling is five times faster.
    """
    made = (torch.from_numpy(x).to(torch.float32) / source.top - source.mean[0]) / source.std[0]
    return torch.empty(x.shape).copy_(made)


def load_data() -> Data:
    """MNIST from the data root; where it is not there, templates under noise of the same shapes."""
    os.environ.setdefault("CLBENCH_OFFLINE", "1")
    try:
        return Data(registry.datasets().load("mnist", None), "MNIST")
    except UserError:
        return Data(_made_up(), "random images (MNIST is not in the data root)")


def _made_up() -> Any:
    draw = np.random.Generator(np.random.PCG64(0))
    templates = draw.integers(0, 256, (10, 1, 28, 28), dtype=np.uint8)

    def part(n: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        y = np.arange(n) % 10
        noise = draw.integers(0, 256, (n, 1, 28, 28), dtype=np.uint8)
        return templates[y] // 4 + noise // 4 * 3, y

    (train_x, train_y), (test_x, test_y) = part(60_000), part(10_000)
    return registry.datasets().DataSet(
        name="random", train_x=train_x, train_y=train_y, test_x=test_x, test_y=test_y, classes=10, top=255.0,
        mean=(float(train_x.mean() / 255),), std=(float(train_x.std() / 255),), sha256="random", origin="generated",
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ plain PyTorch
class Bare:
    """Plain PyTorch: trains on ready batches and counts correct predictions."""

    def __init__(self, model: nn.Module, data: Data, chunk: int) -> None:
        self._model, self._data, self._chunk = model, data, chunk
        self._optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        self._batches = itertools.cycle(data.batches)

    def segment(self, updates: int) -> int:
        """So many updates, each with its evaluation."""
        for x, y in itertools.islice(self._batches, updates):
            self._optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(self._model(x), y).backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self.evaluate(self._chunk)
        return updates

    def evaluate(self, chunk: int) -> int:
        """Correct predictions, in chunks of so many samples."""
        self._model.eval()
        right = torch.zeros((), dtype=torch.int64)
        with torch.inference_mode():
            for a in range(0, len(self._data.test_x), chunk):
                x, y = self._data.test_x[a : a + chunk], self._data.test_y[a : a + chunk]
                right += (self._model(x).argmax(1) == y).sum()
        self._model.train()
        return int(right)


@dataclass
class Comparison:
    """Comparison of one row's counts with plain PyTorch's on the same weights.

    Attributes:
        evaluations: compared.
        equal: those that agree in every sample (Avalanche's: in the total).
        ties: samples told differently whose two best scores float32 cannot tell apart.
        wrong: other samples told differently; a fault.
    """

    evaluations: int = 0
    equal: int = 0
    ties: int = 0
    wrong: int = 0

    def add(self, model: nn.Module, data: Data, chunk: int, right: NDArray[np.bool_] | int) -> None:
        """One evaluation: which samples were right, or how many."""
        model = copy.deepcopy(model).eval()
        with torch.inference_mode():
            scores = torch.cat([model(x) for x in torch.split(data.test_x, chunk)])
            ours = (scores.argmax(1) == data.test_y).numpy()
            self.evaluations += 1
            if np.array_equal(ours, right) if isinstance(right, np.ndarray) else int(ours.sum()) == right:
                self.equal += 1
                return
            exact = model.double()(data.test_x.double()).topk(2, 1).values
            tied = ((exact[:, 0] - exact[:, 1]) / exact.abs().max() < TIE).numpy()
        if isinstance(right, np.ndarray):
            self.ties += int((tied & (ours != right)).sum())
            self.wrong += int((~tied & (ours != right)).sum())
        else:
            apart = abs(int(ours.sum()) - right)
            self.ties += min(apart, int(tied.sum()))
            self.wrong += max(0, apart - int(tied.sum()))


# ------------------------------------------------------------------------------------------------ clbench
class _Recorder(Recorder):
    """The recorder, and the last evaluation it was given."""

    last: Evaluation

    def add(self, found: Evaluation, iteration: int, experience: int, phase: Phase) -> None:
        super().add(found, iteration, experience, phase)
        self.last = found


class Watched:
    """A run of clbench, a few updates at a time: what `clbench.runner.run.train` does with the runner's own parts."""

    def __init__(self, network: str, precision: str, data: Data) -> None:
        self._data = data
        self.run = resolve.make_run(
            "split_mnist-v1",
            strategy="joint",
            overrides=[
                f"model={network}",
                f"watch.precision={precision}",
                "stream.normalise=standard",
                "stream.tasks.order=natural",
            ],
            threads=torch.get_num_threads(),
            device="cpu",
        )
        with numerics(self.run.numerics):
            self.bench = assemble(self.run, compile_stream(self.run.benchmark.stream, 0, data.source))
            self.recorder = _Recorder(self.bench.device)
            self._watcher = Observation(self.bench, self.recorder, on_iteration=lambda: None)
            experience = self.bench.experience(0)
            self._watcher.enter(0)
            self.bench.strategy.begin_experience(experience)
            self._watcher.before_first_update()
            self._batches = self.bench.batches.of(experience, sys.maxsize)

    def warm(self) -> None:
        """To the middle of a run: 100 updates, then evaluations until audits come at their usual rate."""
        with numerics(self.run.numerics):
            for batch in itertools.islice(self._batches, 100):
                self.bench.strategy.step(batch)
        self.segment(33)

    def segment(self, updates: int) -> int:
        """So many updates, each with its evaluation."""
        with numerics(self.run.numerics):
            for batch in itertools.islice(self._batches, updates):
                self._watcher.after_iteration(self.bench.strategy.step(batch))
        return updates

    def check(self, into: Comparison, chunk: int) -> None:
        """Compares the last evaluation, sample by sample, and its counts with its bits."""
        found = self.recorder.last
        right = np.unpackbits(found.bits["class"].numpy(), count=len(self._data.test_y)).astype(bool)
        counts = np.bincount(self._data.test_y.numpy()[right], minlength=10)
        assert counts.tolist() == found.counts["class"].tolist(), "counts and bits of one evaluation disagree"
        into.add(self.bench.strategy.model, self._data, chunk, right)

    def record_s(self) -> float:
        """Seconds an evaluation for handing over what was recorded and writing it, which a run does once in a while."""
        evaluations = len(self.recorder.iteration)
        with tempfile.TemporaryDirectory() as folder:
            writer = trace_files.TraceWriter(Path(folder))
            writer.start()
            start = time.perf_counter()
            writer.append(self.recorder.chunk())
            return (time.perf_counter() - start) / evaluations


# ------------------------------------------------------------------------------------------------ Avalanche
class _Leave(Exception):
    """Ends Avalanche's training loop."""


class Avalanche:
    """Avalanche's own loop and its own periodic evaluation, as in its documentation.

    Args:
        kind: "tensors" or "torchvision".
        updates: to plan for; the loop is left after them.
    """

    def __init__(self, network: nn.Module, kind: str, data: Data, updates: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from avalanche.benchmarks import benchmark_from_datasets
            from avalanche.benchmarks.utils import as_classification_dataset
        n = updates * BATCH
        source, make = data.source, _torchvision if kind == "torchvision" else _tensors
        labels = source.test_y[data.order]
        self._parts = [data.order[np.isin(labels, (c, c + 1))] for c in range(0, 10, 2)]
        self._benchmark = benchmark_from_datasets(
            train=[as_classification_dataset(make(source.train_x[:n], source.train_y[:n], source))],
            test=[
                as_classification_dataset(make(source.test_x[rows], source.test_y[rows], source))
                for rows in self._parts
            ],
        )
        self._model, self._data = network, data
        self._evaluations = 0
        self._strategy: Any = None

    def host(self, advance: Callable[[], bool]) -> None:
        """Trains, and calls `advance` before every update; a turn is one update with its evaluation."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from avalanche.core import SupervisedPlugin
            from avalanche.evaluation.metrics import accuracy_metrics
            from avalanche.training.plugins import EvaluationPlugin
            from avalanche.training.supervised import Naive

            outer = self

            class Turns(SupervisedPlugin[Any]):  # type: ignore[misc]
                """Avalanche evaluates once before training, and then after every update."""

                def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
                    assert outer._evaluations == 1, "a turn is to hold one evaluation"
                    outer._evaluations = 0
                    if not advance():
                        raise _Leave

                def after_eval(self, strategy: Any, **kwargs: Any) -> None:
                    outer._evaluations += 1

            self._strategy = Naive(
                model=self._model,
                optimizer=torch.optim.Adam(self._model.parameters(), lr=1e-3),
                train_mb_size=BATCH,
                train_epochs=1,
                eval_mb_size=AVALANCHE_CHUNK,
                plugins=[Turns()],
                evaluator=EvaluationPlugin(accuracy_metrics(experience=True), loggers=[]),
                eval_every=1,
                peval_mode="iteration",
            )
            try:
                self._strategy.train(self._benchmark.train_stream[0], eval_streams=[self._benchmark.test_stream])
            except _Leave:
                return
            raise AssertionError("Avalanche ended before the last turn")

    def check(self, into: Comparison) -> None:
        """Compares the last evaluation in its total."""
        last = self._strategy.evaluator.get_last_metrics().items()
        accuracies = [v for k, v in sorted(last) if k.startswith("Top1_Acc_Exp")]
        right = sum(round(a * len(rows)) for a, rows in zip(accuracies, self._parts, strict=True))
        into.add(self._model, self._data, AVALANCHE_CHUNK, right)


def _tensors(x: NDArray[np.uint8], y: NDArray[np.int64], source: Any) -> Any:
    dataset: Any = torch.utils.data.TensorDataset(normalised(x, source), torch.from_numpy(y))
    dataset.targets = y.tolist()
    return dataset


def _torchvision(x: NDArray[np.uint8], y: NDArray[np.int64], source: Any) -> Any:
    from PIL import Image
    from torchvision import transforms
    from torchvision.datasets import VisionDataset

    class Images(VisionDataset):  # type: ignore[misc]
        """As torchvision's MNIST: images and labels in memory, one image made ready at a time."""

        def __init__(self) -> None:
            ready = transforms.Compose([transforms.ToTensor(), transforms.Normalize(source.mean, source.std)])
            super().__init__(".", transform=ready)
            self.data, self.targets = torch.from_numpy(x[:, 0]), y.tolist()

        def __len__(self) -> int:
            return len(self.targets)

        def __getitem__(self, i: int) -> tuple[Tensor, int]:
            return self.transform(Image.fromarray(self.data[i].numpy())), self.targets[i]

    return Images()


# ------------------------------------------------------------------------------------------------ one network
@dataclass
class Report:
    """Results for one network.

    Attributes:
        chunk: the fastest of plain PyTorch, samples.
        chunk_ms: median milliseconds of an evaluation, by chunk.
        ratios: see `pairs.Ratio`.
        counts: per row, see `Comparison`.
        precision: what the evaluator says of its reduced precision; None where it is not used.
        record_ms: milliseconds an evaluation to write what was recorded, not part of the ratios.
        memory_mib: per row, of a process of its own: resident size after the imports, and the peak above it.
    """

    chunk: int
    chunk_ms: dict[str, float]
    ratios: list[Ratio]
    counts: dict[str, Comparison]
    precision: dict[str, Any] | None
    record_ms: float
    memory_mib: dict[str, dict[str, float]] = field(default_factory=dict)


def compare(name: str, data: Data, rounds: int, torchvision_rounds: int) -> Report:
    """Times all rows with one network."""
    k = UPDATES[name]
    rows = {p: Watched(NETWORKS[name], p, data) for p in ("float32", "auto")}
    for ours in rows.values():
        ours.warm()
    fresh = copy.deepcopy(rows["float32"].bench.strategy.model)
    bare = Bare(copy.deepcopy(fresh), data, 0)
    chunks = measure({str(c): _evaluation(bare, c) for c in CHUNKS}, min(rounds, 5))
    chunk = min(CHUNKS, key=lambda c: chunks.median_s(str(c)))
    counts = {row: Comparison() for row in ROWS[1:]}
    ratios: list[Ratio] = []

    for precision, ours in rows.items():
        row = f"clbench {precision}"
        bare = Bare(copy.deepcopy(fresh), data, chunk)
        timings = measure(
            {"bare": _turn(bare.segment, k), row: _turn(ours.segment, k)},
            rounds,
            check=_check(ours, counts[row], chunk),
        )
        ratios.append(timings.ratio(row, "bare"))
    for kind, n in (("tensors", rounds), ("torchvision", torchvision_rounds)):
        row = f"avalanche {kind}"
        stock = Avalanche(copy.deepcopy(fresh), kind, data, n + 2)
        turns: dict[str, Segment | Host] = {
            "clbench float32": _turn(rows["float32"].segment, k),
            row: stock.host,
            "clbench auto": _turn(rows["auto"].segment, k),
        }
        timings = measure(turns, n, hosted=row, check=_check_stock(stock, counts[row]))
        ratios += [timings.ratio(row, f"clbench {p}") for p in rows]
    return Report(
        chunk=chunk,
        chunk_ms={str(c): _ms(chunks, str(c)) for c in CHUNKS},
        ratios=ratios,
        counts=counts,
        precision=rows["auto"].bench.evaluator.report().get("model"),
        record_ms=round(1e3 * rows["float32"].record_s(), 3),
    )


def _evaluation(bare: Bare, chunk: int) -> Segment:
    def segment() -> int:
        bare.evaluate(chunk)
        return 1

    return segment


def _turn(segment: Callable[[int], int], updates: int) -> Segment:
    return lambda: segment(updates)


def _check(ours: Watched, into: Comparison, chunk: int) -> Callable[[], None]:
    return lambda: ours.check(into, chunk)


def _check_stock(stock: Avalanche, into: Comparison) -> Callable[[], None]:
    return lambda: stock.check(into)


def _ms(timings: Timings, row: str) -> float:
    return round(1e3 * timings.median_s(row), 2)


# ------------------------------------------------------------------------------------------------ memory
def memory_of(row: str, network: str, chunk: int) -> None:
    """Prints, in bytes, the resident size after the imports and the peak of a few evaluations.

    The data set is in it, and what reading it takes for a moment, the same in every row, is not (on Linux).
    """
    kind, _, rest = row.partition(" ")
    if kind == "avalanche":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import avalanche.training  # noqa: F401
            import torchvision  # noqa: F401
    nn.Linear(1, 1)(torch.ones(1, 1)).sum().backward()
    torch.optim.Adam([nn.Parameter(torch.ones(1))])  # imports what torch puts off until now
    base = _resident()
    data, updates = load_data(), 4
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    if kind == "clbench":
        Watched(NETWORKS[network], rest, data).segment(updates)
    else:
        model = _network(network)
        if kind == "bare":
            Bare(model, data, chunk).segment(updates)
        else:
            turns = itertools.count(1)
            Avalanche(model, rest, data, updates + 1).host(lambda: next(turns) <= updates)
    print(json.dumps({"base": base, "peak": _resident(peak=True)}))


def _network(name: str) -> nn.Module:
    from clbench.training import models

    return models.build(
        resolve.resolve("split_mnist-v1", [f"model={NETWORKS[name]}"], "naive")[0].model, (1, 28, 28), 10
    )


def _resident(peak: bool = False) -> int:
    """Resident size of this process, or its peak, bytes. On Linux from /proc: the kernel's ru_maxrss of a new process
    begins with the size of the one that started it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size if sys.platform == "darwin" else size * 1024
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:" if peak else "VmRSS:")) * 1024


def memory(name: str, chunk: int, threads: int) -> dict[str, dict[str, float]]:
    """MiB after the imports and above that, per row, each in a process of its own."""
    found = {}
    for row in ROWS:
        command = [sys.executable, __file__, "--memory", row, "--only", name, "--chunk", str(chunk)]
        done = subprocess.run([*command, "--threads", str(threads)], stdout=subprocess.PIPE, text=True, check=True)
        sizes = json.loads(done.stdout.splitlines()[-1])
        imports, peak = (round(sizes[key] / 2**20, 1) for key in ("base", "peak"))
        found[row] = {"imports": imports, "above": round(peak - imports, 1)}
    return found


# ------------------------------------------------------------------------------------------------ the tables
def describe(threads: int, data: Data) -> dict[str, Any]:
    """Machine and software."""
    known = provenance.collect("cpu")
    return {
        "processor": known["cpu"],
        "cores": os.cpu_count(),
        "threads": threads,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "fast_bfloat16": fast_here(),
        "platform": known["platform"],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "avalanche": metadata.version("avalanche-lib"),
        "git": known["git"],
        "data": data.name,
    }


def markdown(machine: dict[str, Any], reports: dict[str, Report]) -> str:
    """The table for readers."""
    bfloat16 = "fast" if machine["fast_bfloat16"] else "not fast"
    lines = [
        f"{machine['processor']} ({machine['capability']}, bfloat16 {bfloat16}), {machine['cores']} cores, "
        f"{machine['threads']} threads; torch {machine['torch']}, avalanche-lib {machine['avalanche']}; "
        f"{machine['data']}, 10,000 test images. Ratios of the time of one update with its evaluation.",
        "",
    ]
    rows = []
    for name, report in reports.items():
        for r in report.ratios:
            sign, bound = GOALS[r.row, r.base]
            met = r.median <= bound if sign == "<=" else r.median >= bound
            rows.append(
                [
                    name,
                    f"{r.row} / {r.base}",
                    f"{r.median:.{telling_places((r.median, bound), 'iterations')}f}",
                    f"{r.low:.2f} to {r.high:.2f}",
                    f"{r.total:.2f}",
                    str(r.pairs),
                    f"{sign.replace('<=', '≤').replace('>=', '≥')} {bound:g}: {'met' if met else 'missed'}",
                    f"{1e3 * r.row_s:.0f} / {1e3 * r.base_s:.0f}",
                ]
            )
    header = ["network", "ratio", "median", "95 % interval", "of the sums", "pairs", "goal", "median ms"]
    lines += [table(header, rows), ""]
    rows = []
    for name, report in reports.items():
        held = [report.memory_mib[row] for row in ROWS]
        rows.append([name, *(f"{m['above']:.0f} above {m['imports']:.0f}" for m in held)])
    lines += ["Peak memory above what stands after the imports, MiB:", "", table(["network", *ROWS], rows), ""]
    for name, report in reports.items():
        lines.append(f"{name}: " + "; ".join(_remarks(report)) + ".")
    return "\n".join(lines) + "\n"


def _remarks(report: Report) -> Iterator[str]:
    yield f"bare is fastest in chunks of {report.chunk:,}"
    yield f"writing the record takes {report.record_ms:g} ms an evaluation beside"
    p = report.precision
    if p is None:
        yield "no reduced precision here"
    else:
        ways = ", ".join(f"{n} {way}" for way, n in p["evaluations"].items())
        yield (
            f"auto: {ways}; {p['samples_repeated'] / max(1, p['samples_reduced']):.2%} of samples repeated, "
            f"{p['audited_predictions']:,} predictions audited, {p['audited_differing']:,} of them differ"
            + (f"; turned off: {p['off']}" if p["off"] else "")
        )
        for way, of in p.get("selection", {}).items():
            share = of["samples_looked_at"] / max(1, of["samples"])
            yield f"{of['evaluations']['selected']} evaluations looked at {share:.1%} of the samples ({way})"
    compared = sum(c.evaluations for c in report.counts.values())
    ties, wrong = (sum(getattr(c, what) for c in report.counts.values()) for what in ("ties", "wrong"))
    yield f"counts compared with bare's in {compared} evaluations: {ties} ties of float32, {wrong} differences"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=30, help="rounds of each comparison (30)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of torch (all cores)")
    parser.add_argument("--only", default=",".join(NETWORKS), help="networks (mlp,cnn)")
    parser.add_argument("--out", type=Path, help="folder of the result files (benchmarks/results; none with --quick)")
    parser.add_argument("--quick", action="store_true", help="2 pairs: shows that it works, and no more")
    parser.add_argument("--memory", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--chunk", type=int, default=500, help=argparse.SUPPRESS)
    given = parser.parse_args()
    unknown = sorted(set(given.only.split(",")) - set(NETWORKS))
    if unknown:
        parser.error(f"--only: unknown {', '.join(unknown)}. Allowed: {', '.join(NETWORKS)}.")
    if given.pairs < 1 or given.threads < 1:
        parser.error("--pairs and --threads: at least 1.")
    return given


def main() -> int:
    given = _arguments()
    torch.set_num_threads(given.threads)
    names = given.only.split(",")
    if given.memory:
        memory_of(given.memory, names[0], given.chunk)
        return 0
    start = time.perf_counter()
    data, rounds = load_data(), 2 if given.quick else given.pairs
    reports = {}
    for name in names:
        report = compare(name, data, rounds, min(rounds, TORCHVISION_ROUNDS))
        report.memory_mib = memory(name, report.chunk, given.threads)
        reports[name] = report
    machine = describe(given.threads, data)
    text = markdown(machine, reports)
    print(text)
    out = given.out or (None if given.quick else Path(__file__).resolve().parent.parent / "results")
    if out is not None:
        document = {
            "machine": machine,
            "wall_s": round(time.perf_counter() - start, 1),
            "goals": [{"row": row, "base": base, "median": goal} for (row, base), goal in GOALS.items()],
            "networks": {name: asdict(report) for name, report in reports.items()},
        }
        write_json(out / "evaluation.json", document)
        (out / "evaluation.md").write_text(text)
    wrong = {(n, row): c.wrong for n, r in reports.items() for row, c in r.counts.items() if c.wrong}
    for (name, row), count in wrong.items():
        print(f"{name}, {row}: {count} predictions differ from plain PyTorch's on the same weights", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
