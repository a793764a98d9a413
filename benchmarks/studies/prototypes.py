"""Does prototype augmentation hold what its papers promise? The page: strategies/studies/prototypes_study.md.

    CLBENCH_DATA=... python benchmarks/studies/prototypes.py --weights FILE  # resumes; --jobs, --only, --seeds
    python benchmarks/studies/prototypes.py --table                             # the page's tables from the CSV

Nothing is tuned: every method has its published hyper-parameters, the suite's defaults, and the benchmark's optimiser.
Every run is a line of results/prototypes.csv; runs that exist are not run again, and an interrupted one goes on.
Features of CIFAR-10 are made once, from FILE, and lie in the data root from then on.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pages import Line, Place, interval, percent, read, write

from clbench.errors import UserError
from clbench.resolve import make_run
from clbench.run_config import RunConfig

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent.parent
VALUES = ROOT / "results" / "prototypes.csv"
PAGE = Place(
    ROOT / "strategies" / "studies" / "prototypes_study.md",
    "<!-- tables: written by benchmarks/studies/prototypes.py -->",
    "<!-- end of tables -->",
)

SEEDS = (0, 1, 2, 3, 4)
METRICS = {
    "final": "sessions.final",
    "incremental": "sessions.average",
    "forgetting": "forgetting.after_learning",
    "min_acc": "min_acc",
    "final_of_tasks": "average_accuracy",
    "incremental_of_tasks": "average_incremental_accuracy",
}
"""The first two weigh samples, as the papers do: a first task of half of the classes counts for half at the end. The
last two weigh tasks."""
KEY = ["stream", "method", "seed"]
COLUMNS = [*KEY, "updates", *METRICS, "memory_bytes", "sessions", "run_id", "failure"]

WATCHED = "evaluation={every: 20, dense: 30}"
"""The first 30 updates of each task, where the gap is, and then every 20th; all test samples."""
AT_THE_END = "evaluation={every: 0, dense: 0}"
"""After each session."""

FEATURES = "cifar10_mobilenet96"
SIZE = 96
"""Side to which CIFAR-10's images are brought: 60,000 take 7 core-minutes; at 128, 13."""
WEIGHTS_SHA256 = "d2a6abee0f8a1ae46db90cd013a32448d7b6a4ecf2c1f170a638cd202d66e448"


# ------------------------------------------------------------------------------------------------ what is compared
@dataclass(frozen=True)
class Method:
    """A method, and what it is told beside its defaults."""

    name: str
    strategy: str
    flags: tuple[str, ...] = ()


FROZEN = ("strategy.extractor=frozen",)
FC = ("strategy.classifier=fc",)
ER = Method("ER, 200 samples", "er", ("strategy.memory=200",))
CHANCE, NAIVE, JOINT = Method("chance", "chance"), Method("naive", "naive"), Method("joint", "joint")
EWC = Method("EWC, strength 10", "ewc", ("strategy.strength=10", "strategy.fisher_samples=1000"))
NCM, SVC, FETRIL_FC = Method("NCM", "ncm"), Method("FeTrIL", "fetril"), Method("FeTrIL, fc", "fetril", FC)
PASS, NAPA_VQ = Method("PASS", "pass"), Method("NAPA-VQ", "napa_vq")


@dataclass(frozen=True)
class Stream:
    """A stream and who runs on it.

    Attributes:
        name: in the table.
        benchmark: the shipped one that is changed.
        overrides: how.
        methods: in the order of the table.
        few: whether it is few-shot, and accuracy after each session is what is told.
    """

    name: str
    benchmark: str
    overrides: tuple[str, ...]
    methods: tuple[Method, ...]
    few: bool = False


HALF = (CHANCE, NAIVE, EWC, NCM, SVC, FETRIL_FC, PASS, NAPA_VQ, ER, JOINT)
SHOTS = (NAIVE, NCM, SVC)
STREAMS = (
    Stream("MNIST", "split_mnist_half-v1", (WATCHED,), HALF),
    Stream("Fashion-MNIST", "split_fashion_mnist_half-v1", (WATCHED,), HALF),
    Stream(
        "CIFAR-10, frozen features", "split_mnist_half-v1",
        (WATCHED, f"stream.data={FEATURES}", "model={name: linear}"),
        (CHANCE, NAIVE, Method(NCM.name, "ncm", FROZEN), Method(SVC.name, "fetril", FROZEN),
         Method(FETRIL_FC.name, "fetril", FROZEN + FC), ER, JOINT),
    ),
    Stream("few-shot Omniglot", "few_shot_omniglot-v1", (AT_THE_END,), SHOTS, True),
    Stream("few-shot MNIST", "few_shot_digits-v1", (AT_THE_END, "stream.data=mnist"), SHOTS, True),
    Stream("few-shot Fashion-MNIST", "few_shot_digits-v1", (AT_THE_END, "stream.data=fashion_mnist"), SHOTS, True),
)  # fmt: skip

CLAIMS = (
    (SVC.name, PASS.name, (2.8, 3.4)),
    (NAPA_VQ.name, SVC.name, (4.1, 3.8)),
    (NAPA_VQ.name, PASS.name, (6.9, 7.2)),
    (SVC.name, FETRIL_FC.name, (1.6, 1.8)),
)
"""Better, worse, and by how many points of average incremental accuracy on CIFAR-100 after half of it, with 5 and 10
steps."""


# ------------------------------------------------------------------------------------------------ frozen features
_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2)


def mobilenet(weights: dict[str, Tensor], size: int) -> Callable[[Tensor], Tensor]:
    """MobileNet v1 up to its twelfth block, its outputs averaged over space.

    Args:
        weights: `conv1`, and of each block `dw1..12` (depthwise, 3 x 3) and `pw1..12` (1 x 1): convolutions with batch
            normalisation folded in, `_w` (out, in, k, k) and `_b` (out,).
        size: side of the images it sees, a multiple of 32; others are brought to it bilinearly.

    Returns:
        uint8 (N, 3, H, W) to float32 (N, F).

    Reference: Howard et al. 2017 (arXiv 1704.04861). ReLU6; pixels in [-1, 1]; padding as TensorFlow's "SAME", which
    with stride 2 and an even side is at the right and the bottom alone.
    """
    import torch
    import torch.nn.functional as F

    def convolution(x: Tensor, name: str, stride: int) -> Tensor:
        w = weights[f"{name}_w"]
        if w.shape[-1] == 3:
            x = F.pad(x, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))
        groups = x.shape[1] if w.shape[1] == 1 else 1
        return F.conv2d(x, w, weights[f"{name}_b"], stride, groups=groups).clamp(0, 6)

    def features(x: Tensor) -> Tensor:
        x = x.to(torch.float32).contiguous(memory_format=torch.channels_last)
        x = F.interpolate(x, (size, size), mode="bilinear", align_corners=False)
        x = convolution(x / 127.5 - 1, "conv1", 2)
        for block, stride in enumerate(_STRIDES, 1):
            x = convolution(convolution(x, f"dw{block}", stride), f"pw{block}", 1)
        return x.mean((2, 3))

    return features


def prepare(path: Path | None) -> None:
    """Writes the features of CIFAR-10 into the data root, where they are missing.

    Args:
        path: the file of weights.

    Raises:
        UserError: there is none, or it is another file.
    """
    import torch

    from clbench.streams.datasets import load, sources

    target = sources.data_root() / f"{FEATURES}.npz"
    if target.exists():
        return
    if path is None:
        raise UserError("the stream of frozen features needs --weights; others can be chosen by --only.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != WEIGHTS_SHA256:
        raise UserError(f"{path}: not the file of the study, whose SHA-256 is {WEIGHTS_SHA256}.")
    with np.load(path, allow_pickle=False) as held:
        front = mobilenet({name: torch.from_numpy(held[name].astype(np.float32)) for name in held}, SIZE)
    d, arrays = load.load("cifar10"), dict[str, NDArray[Any]]()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the last bit may depend on it
    try:
        with torch.inference_mode():
            for part, x, y in (("train", d.train_x, d.train_y), ("test", d.test_x, d.test_y)):
                batches = np.array_split(np.array(x), max(1, len(x) // 250))
                made = [front(torch.from_numpy(batch)).numpy() for batch in batches]
                arrays |= {f"{part}_x": np.concatenate(made), f"{part}_y": y}
    finally:
        torch.set_num_threads(threads)
    temporary = target.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)  # not compressed: every run reads it
    temporary.replace(target)


# ------------------------------------------------------------------------------------------------ runs
@dataclass(frozen=True)
class Job:
    """One run."""

    stream: Stream
    method: Method
    seed: int

    def configuration(self) -> RunConfig:
        """As clbench resolves it."""
        return make_run(
            self.stream.benchmark, strategy=self.method.strategy, seed=self.seed,
            overrides=[*self.stream.overrides, *self.method.flags], threads=1, device="cpu",
        )  # fmt: skip

    @property
    def key(self) -> Line:
        return dict(zip(KEY, (self.stream.name, self.method.name, str(self.seed)), strict=True))


def jobs(streams: Iterable[Stream], seeds: Iterable[int]) -> list[Job]:
    """Seed by seed, so that what is interrupted has as many of each method."""
    chosen = list(streams)
    return [Job(stream, method, seed) for seed in seeds for stream in chosen for method in stream.methods]


def once(job: Job, out: Path) -> Line:
    """Runs it, unless it has been; its line."""
    from clbench.runner.run import execute

    outcome = execute(job.configuration(), out)
    if outcome.busy is not None:
        raise UserError(f"{outcome.directory}: {outcome.busy}")
    return {**job.key, **line(outcome.record)}


def line(record: dict[str, Any]) -> Line:
    """The values kept of a run's record; none that is undefined or of a failed run."""
    found: dict[str, Any] = {"run_id": record["run_id"], "updates": record["costs"]["iterations"]}
    if record["status"] != "completed":
        found["failure"] = record["failure"]["message"]
    else:
        metrics = record["metrics"][record["primary_view"]]
        found |= {name: metrics[metric]["value"] for name, metric in METRICS.items()}
        found["memory_bytes"] = record["memory"]["bytes"]
        sessions = metrics["sessions.average"]["per_experience"]
        found["sessions"] = " ".join("nan" if v is None else f"{v:.6f}" for v in sessions)
    return {name: "" if found.get(name) is None else str(found[name]) for name in COLUMNS if name not in KEY}


def ordered(lines: Iterable[Line]) -> list[Line]:
    """By stream, method and seed, as they stand in this file; without those of no stream and method of it."""
    places = {(s.name, m.name): (i, j) for i, s in enumerate(STREAMS) for j, m in enumerate(s.methods)}
    known = [each for each in lines if (each["stream"], each["method"]) in places]
    return sorted(known, key=lambda each: (places[each["stream"], each["method"]], int(each["seed"])))


def merged(old: Iterable[Line], new: Iterable[Line]) -> list[Line]:
    """In order; a new line is in the place of the old one of the same run."""
    return ordered({tuple(each[k] for k in KEY): each for each in (*old, *new)}.values())


def run(wanted: list[Job], out: Path, processes: int) -> Iterator[Line]:
    """Lines, as they come."""
    begin = time.monotonic()
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(once, job, out) for job in wanted]
        try:
            for done, future in enumerate(as_completed(running), 1):
                found = future.result()
                shown = found["failure"] or f"{100 * float(found['final']):.2f}"
                where = ", ".join(found[key] for key in KEY)
                print(f"[{(time.monotonic() - begin) / 60:.1f} min, {done}/{len(wanted)}] {where}: {shown}", flush=True)
                yield found
        finally:
            pool.shutdown(cancel_futures=True)


# ------------------------------------------------------------------------------------------------ the tables
SHOWN = {"final": "final accuracy", "incremental": "average incremental", "forgetting": "forgetting",
         "min_acc": "min-ACC"}  # fmt: skip


def tables(lines: list[Line]) -> str:
    """Markdown: what came out on each stream, and differences; percent and percentage points."""
    out = list[str]()
    for stream in STREAMS:
        of_stream = [each for each in ordered(lines) if each["stream"] == stream.name]
        out += [f"### {stream.name}", "", *_missing(stream, of_stream)]
        if of_stream:
            out += [*(_sessions if stream.few else _whole)(stream, of_stream), "", *_paired(stream, of_stream), ""]
            if PASS in stream.methods:
                out += [*_claims(of_stream), ""]
            elif FETRIL_FC.name in [m.name for m in stream.methods]:
                out += [*_claims(of_stream, CLAIMS[3:]), ""]
    return "\n".join(out).rstrip()


def _missing(stream: Stream, lines: list[Line]) -> list[str]:
    total = len(stream.methods) * len(SEEDS)
    if not lines:
        return [f"**Not run yet: {total} runs missing.**", ""]
    return [f"**Incomplete: {total - len(lines)} of {total} runs missing.**", ""] if len(lines) < total else []


def _values(lines: list[Line], method: str, column: str) -> dict[str, float]:
    """By seed, in percent; without those that failed or have none."""
    return {e["seed"]: 100 * float(e[column]) for e in lines if e["method"] == method and e[column] != ""}


def _seeds(lines: list[Line], method: str) -> str:
    failures = [bool(each["failure"]) for each in lines if each["method"] == method]
    return f"{len(failures)}{f', {sum(failures)} failed' if any(failures) else ''}"


def _whole(stream: Stream, lines: list[Line]) -> Iterator[str]:
    yield f"| | seeds | {' | '.join(SHOWN.values())} | kept, KiB |"
    yield f"|---|---|{'---|' * len(SHOWN)}---|"
    for method in stream.methods:
        cells = [method.name, _seeds(lines, method.name)]
        for column in SHOWN:
            found = list(_values(lines, method.name, column).values())
            cells.append(percent(*interval(found)) if found else "")
        kept = {float(e["memory_bytes"]) / 1024 for e in lines if e["method"] == method.name and e["memory_bytes"]}
        cells.append(", ".join(f"{v:,.1f}" for v in sorted(kept)))
        yield f"| {' | '.join(cells)} |"


def _sessions(stream: Stream, lines: list[Line]) -> Iterator[str]:
    """Accuracy after each session, or after every fifth of many."""
    last = max((len(each["sessions"].split()) for each in lines), default=0)
    shown = [k for k in range(last) if last <= 10 or k % 5 == 0]
    yield f"| after session | seeds | {' | '.join(str(k) for k in shown)} | average | forgetting | kept, KiB |"
    yield f"|---|---|{'---|' * len(shown)}---|---|---|"
    for method in stream.methods:
        own = [e for e in lines if e["method"] == method.name and e["sessions"]]
        cells = [method.name, _seeds(lines, method.name)]
        for k in shown:
            found = [100 * float(each["sessions"].split()[k]) for each in own]
            cells.append(percent(*interval(found)) if found else "")
        for column in ("incremental", "forgetting"):
            values = list(_values(lines, method.name, column).values())
            cells.append(percent(*interval(values)) if values else "")
        kept = {float(each["memory_bytes"]) / 1024 for each in own if each["memory_bytes"]}
        cells.append(", ".join(f"{v:,.1f}" for v in sorted(kept)))
        yield f"| {' | '.join(cells)} |"


def difference(lines: list[Line], method: str, other: str, column: str) -> tuple[float, float] | None:
    """Mean of the one minus the other, paired by seed, and half its interval; None without a common seed."""
    ours, theirs = _values(lines, method, column), _values(lines, other, column)
    both = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    return interval(both) if both else None


def _said(found: tuple[float, float] | None) -> str:
    if found is None:
        return ""
    said = percent(*found, "+")
    return f"**{said}**" if abs(found[0]) > found[1] else said


def _paired(stream: Stream, lines: list[Line]) -> Iterator[str]:
    others = (NAIVE.name, NCM.name)
    columns = {key: SHOWN[key] for key in ("final", "incremental")}
    yield f"| | {' | '.join(f'{said}, minus {other}' for other in others for said in columns.values())} |"
    yield f"|---|{'---|' * len(others) * len(columns)}"
    for method in stream.methods:
        cells = [
            "" if method.name == other else _said(difference(lines, method.name, other, column))
            for other in others
            for column in columns
        ]
        yield f"| {method.name} | {' | '.join(cells)} |"


def verdict(found: tuple[float, float]) -> str:
    """Of an order that is claimed, by the interval of the difference.

    >>> verdict((2.0, 1.0)), verdict((-2.0, 1.0)), verdict((0.5, 1.0))
    ('holds', 'reversed', 'open')
    """
    mean, half = found
    return "open" if abs(mean) <= half else "holds" if mean > 0 else "reversed"


def _claims(lines: list[Line], claims: Iterable[tuple[str, str, tuple[float, float]]] = CLAIMS) -> Iterator[str]:
    yield "| claim, average incremental accuracy | papers: CIFAR-100, 5 / 10 steps | here | order | size, 5 steps |"
    yield "|---|---|---|---|---|"
    for better, worse, told in claims:
        found = difference(lines, better, worse, "incremental")
        cells = [f"{better} minus {worse}", f"{told[0]:+.1f} / {told[1]:+.1f}", _said(found)]
        if found is None or found[1] == math.inf:
            cells += ["", ""]
        else:
            low, high = found[0] - found[1], found[0] + found[1]
            inside = "within" if low <= told[0] <= high else "below" if told[0] > high else "above"
            cells += [verdict(found), inside]
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[s.name for s in STREAMS], help="a stream; default: all")
    parser.add_argument("--weights", type=Path, help="the network's file, for the stream of frozen features")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="only the first N")
    parser.add_argument("--missing", action="store_true", help="only runs that have no line in the CSV")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs side by side (default: cores)")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "prototypes", help="where runs are kept")
    parser.add_argument("--table", action="store_true", help="run nothing; write the tables of what was run")
    options = parser.parse_args()
    if not options.table:
        wanted = [s for s in STREAMS if not options.only or s.name in options.only]
        if any(f"stream.data={FEATURES}" in s.overrides for s in wanted):
            prepare(options.weights)
        todo = jobs(wanted, SEEDS[: options.seeds])
        if options.missing:
            known = {tuple(each[k] for k in KEY) for each in read(VALUES)}
            todo = [job for job in todo if tuple(job.key[k] for k in KEY) not in known]
        for found in run(todo, options.out, options.jobs):
            write(VALUES, COLUMNS, merged(read(VALUES), [found]))
    PAGE.write(tables(read(VALUES)))


if __name__ == "__main__":
    main()
