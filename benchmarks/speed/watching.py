"""The price of an evaluation after every update over whole runs, beside a bare forward pass over the same samples.

    python benchmarks/speed/watching.py [--only mlp,cnn,resnet,probe,restless] [--audit] [--points 30] [--out DIR]

Each row is a class-incremental run, all seen test samples evaluated after each of its updates by the runner's own
parts: `mlp` and `cnn` at the length of their benchmark, `resnet` (on 1,000 test images) shorter, `probe` with a front
that does not learn, whose features are computed once, `restless` with steps so large that everything moves. At equal
distances in the run the same weights do, in turns:

bare    a plain PyTorch forward pass in inference mode over the same samples, ready in memory, in the fastest of chunks
        of 250, 500 or 1,000; predictions are compared with the labels, nothing is recorded; the smallest of three

All evaluations of the run are timed, those that are audits too. A pair is the mean of the evaluations between two
points over the mean of the bare passes at its ends; the result is the median of the pairs with a 95 % bootstrap
interval, and the ratio of the sums. `all` evaluates everything, as `watch.samples: all` does, in turns with `auto` on
the same weights, in a quarter of the updates.

With `--audit` every evaluation is made a second time, in float32 over all samples, and compared bit by bit; nothing is
timed then. The exit status is 1 where a bit differs.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evaluation import describe, load_data
from pairs import table, write_json

from clbench import resolve
from clbench.evaluation.evaluation import Evaluation
from clbench.runner.components import assemble
from clbench.runner.numerics import numerics
from clbench.streams.compile import compile_stream

CHUNKS = (250, 500, 1000)


@dataclass(frozen=True)
class Setting:
    """A run to watch.

    Attributes:
        benchmark, strategy: of the suite.
        overrides: of the benchmark.
        goal: largest ratio to bare; None where there is none.
    """

    benchmark: str
    strategy: str
    overrides: tuple[str, ...]
    goal: float | None


SETTINGS = {
    "mlp": Setting("split_mnist-v1", "er", ("model={name: mlp, hidden: [400, 400]}",), 0.10),
    "cnn": Setting("split_mnist-v1", "er", ("model={name: cnn, channels: [16, 32], hidden: 128}",), 0.08),
    "resnet": Setting(
        "split_cifar10-v1",
        "er",
        ("training.batch_size=32", "training.epochs=null", "training.iterations=60", "evaluation.subset=200"),
        0.08,
    ),
    "probe": Setting(
        "split_cifar100-v1",
        "linear_probe",
        (
            "model={name: cnn, channels: [32, 64], hidden: 512}",
            "training.epochs=null",
            "training.iterations=100",
            "training.augmentation=[]",
        ),
        None,
    ),
    "restless": Setting(
        "split_mnist-v1",
        "naive",
        (
            "model={name: mlp, hidden: [400, 400]}",
            "training.optimizer={name: sgd, lr: 0.5, momentum: 0.9}",
            "training.iterations=200",
        ),
        None,
    ),
}
WORST = 1.05
"""Largest ratio of `auto` to `all`, where everything moves."""
WINDOW, PERIOD = 128, 512
"""`all` takes its turn in so many updates at the start of every so many: audits come at their usual rate."""


@dataclass
class Report:
    """Results of one row.

    Attributes:
        updates: of the run.
        samples: test samples at its end.
        pairs: ratios to bare, in the order of the run.
        median, low, high: of these.
        total: of the sums.
        all_total: the same of `all`; None where it was not measured.
        auto_all: time of `auto` over that of `all`, in the updates in which both were timed.
        bare_ms, auto_ms: means over the run.
        changed: share of answers that changed from one evaluation to the next.
        numerics: of the evaluator's record.
        audited, differing: answers compared by `--audit`, and those that differed.
    """

    updates: int = 0
    samples: int = 0
    pairs: list[float] = field(default_factory=list)
    median: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    total: float = float("nan")
    all_total: float | None = None
    auto_all: float | None = None
    bare_ms: float = float("nan")
    auto_ms: float = float("nan")
    changed: float = float("nan")
    numerics: dict[str, Any] = field(default_factory=dict)
    audited: int = 0
    differing: int = 0


class Run:
    """A run, its evaluator, and another one of everything.

    Args:
        setting: see there.
        other: configuration of the other evaluator's `watch`.
        threads: of torch.
    """

    def __init__(self, setting: Setting, other: tuple[str, ...], threads: int) -> None:
        def configured(*watch: str) -> Any:
            return resolve.make_run(
                setting.benchmark,
                strategy=setting.strategy,
                overrides=[*setting.overrides, *watch],
                threads=threads,
                device="cpu",
            )

        self.run = configured()
        with numerics(self.run.numerics):
            stream = compile_stream(self.run.benchmark.stream, 0)
            self.bench = assemble(self.run, stream)
            self.other = assemble(configured(*other), stream).evaluator
        self.targets = self.bench.evaluator._targets
        ready = self.bench.evaluator._inputs.between(0, self.bench.evaluator.samples)
        self.x = torch.empty(ready.shape).copy_(ready)  # as PyTorch lays out a new tensor
        self.seen: set[int] = set()
        self.chunk = CHUNKS[1]

    @property
    def samples(self) -> int:
        """Test samples seen so far."""
        return int(self.bench.evaluator.cells.start[len(self.seen)])

    def updates(self) -> Iterator[int]:
        """Trains; yields after each update the number of updates done in the experience."""
        for number, budget in enumerate(self.bench.budgets):
            experience = self.bench.experience(number)
            self.seen.update(self.bench.experiences.tasks(number))
            for evaluator in (self.bench.evaluator, self.other):
                evaluator.renew()
            self.bench.strategy.begin_experience(experience)
            for n, batch in enumerate(itertools.islice(self.bench.batches.of(experience, budget), budget)):
                self.bench.strategy.step(batch)
                yield n
            self.bench.strategy.end_experience(experience)

    def evaluate(self) -> Evaluation:
        return self.bench.evaluator.evaluate(self.bench.strategy, self.seen, self.seen)

    def evaluate_all(self) -> Evaluation:
        return self.other.evaluate(self.bench.strategy, self.seen, self.seen)

    def bare(self, chunk: int) -> float:
        """Seconds of a bare pass, the smallest of three."""
        model, n = self.bench.strategy.model, self.samples
        model.eval()
        times = []
        with torch.inference_mode():
            for _ in range(3):
                start, right = time.perf_counter(), torch.zeros((), dtype=torch.int64)
                for a in range(0, n, chunk):
                    b = min(a + chunk, n)
                    right += (model(self.x[a:b]).argmax(1) == self.targets[a:b]).sum()
                times.append(time.perf_counter() - start)
        model.train()
        return min(times)


def price(setting: Setting, points: int, threads: int) -> Report:
    """Times the evaluations of a run."""
    run, report = Run(setting, ("watch.samples=all",), threads), Report()
    total = sum(run.bench.budgets)
    at = {int(i) for i in np.linspace(0, total - 1, points + 1)}
    bare: list[float] = []
    auto: list[list[float]] = [[]]
    both: list[tuple[float, float]] = []
    before, flips, answers = None, 0, 0
    with numerics(run.run.numerics):
        for update, n in enumerate(run.updates()):
            if n == 0:
                run.chunk = min(CHUNKS, key=run.bare)
                before = None
            start = time.perf_counter()
            evaluation = run.evaluate()
            auto[-1].append(time.perf_counter() - start)
            bits = next(iter(evaluation.bits.values()))
            if before is not None:
                flips += int(np.unpackbits((bits ^ before).numpy()).sum())
                answers += run.samples
            before = bits
            if n % PERIOD < WINDOW:
                start = time.perf_counter()
                run.evaluate_all()
                both.append((auto[-1][-1], time.perf_counter() - start))
            if update in at:
                bare.append(run.bare(run.chunk))
                auto.append([])
    blocks = auto[1:-1] if not auto[-1] else auto[1:]
    means = np.array([np.mean(block) for block in blocks])
    bases = np.array([(a + b) / 2 for a, b in itertools.pairwise(bare)])
    sizes = np.array([len(block) for block in blocks])
    ratios = means / bases
    drawn = np.random.Generator(np.random.PCG64(0)).integers(0, len(ratios), (10_000, len(ratios)))
    report.updates, report.samples, report.pairs = total, run.samples, np.round(ratios, 4).tolist()
    report.median = float(np.median(ratios))
    report.low, report.high = (float(v) for v in np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5]))
    report.total = float((means * sizes).sum() / (bases * sizes).sum())
    mine, other = np.array(both).sum(0)
    report.auto_all = float(mine / other)
    report.all_total = report.total / report.auto_all
    report.bare_ms, report.auto_ms = (1e3 * float((v * sizes).sum() / sizes.sum()) for v in (bases, means))
    report.changed = flips / max(1, answers)
    report.numerics = run.bench.evaluator.report()
    return report


def audit(setting: Setting, threads: int, into: Report) -> None:
    """Compares every evaluation of a run with a full one in float32."""
    run = Run(setting, ("watch.samples=all", "watch.precision=float32"), threads)
    with numerics(run.run.numerics):
        for _ in run.updates():
            mine, full = run.evaluate(), run.evaluate_all()
            for view, bits in full.bits.items():
                into.audited += run.samples
                into.differing += int(np.unpackbits((bits ^ mine.bits[view]).numpy()).sum())
                assert into.differing or torch.equal(mine.counts[view], full.counts[view]), "counts differ, bits do not"
    into.updates, into.samples, into.numerics = sum(run.bench.budgets), run.samples, run.bench.evaluator.report()


def markdown(machine: dict[str, Any], reports: dict[str, Report]) -> str:
    """The table for readers."""
    fast = "fast" if machine["fast_bfloat16"] else "not fast"
    lines = [
        f"{machine['processor']} ({machine['capability']}, bfloat16 {fast}), {machine['cores']} cores, "
        f"{machine['threads']} threads; torch {machine['torch']}. An evaluation after every "
        "update, over whole runs, as a ratio of a bare forward pass over the same samples.",
        "",
    ]
    rows = []
    for name, r in reports.items():
        goal = SETTINGS[name].goal
        met = "" if goal is None else f"≤ {goal:g}: {'met' if r.total <= goal else 'missed'}"
        ways = list(r.numerics.get("model", {}).get("selection", {}).values())
        selected = sum(way["evaluations"]["selected"] for way in ways)
        share = sum(way["samples_looked_at"] for way in ways) / max(1, sum(way["samples"] for way in ways))
        rows.append(
            [
                name, f"{r.updates:,}", f"{r.total:.3f}", f"{r.median:.3f} ({r.low:.3f} to {r.high:.3f})", met,
                f"{r.auto_ms:.1f} / {r.bare_ms:.1f}", f"{r.all_total:.3f}", f"{r.auto_all:.2f}",
                f"{share:.1%} in {selected:,}", f"{r.changed:.3%}",
            ]
        )  # fmt: skip
    header = ["run", "updates", "ratio of the sums", "median of pairs (95 %)", "goal", "ms / bare", "all / bare",
              "auto / all", "looked at", "answers changed"]  # fmt: skip
    return "\n".join([*lines, table(header, rows)]) + "\n"


def write(out: Path, kind: str, machine: dict[str, Any], reports: dict[str, Report]) -> None:
    """Writes the rows so far."""
    write_json(out / f"{kind}.json", {"machine": machine, "rows": {n: _finite(asdict(r)) for n, r in reports.items()}})
    if kind == "watching":
        (out / f"{kind}.md").write_text(markdown(machine, reports))


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and value != value else value for key, value in row.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(SETTINGS), help="rows (all)")
    parser.add_argument("--points", type=int, default=30, help="pairs (30)")
    parser.add_argument("--updates", type=int, help="updates of an experience (the benchmark's)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of torch (all cores)")
    parser.add_argument("--audit", action="store_true", help="compare every evaluation with a full one")
    parser.add_argument("--out", type=Path, help="folder of the result files; default: none are written")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    reports = {}
    for name in given.only.split(","):
        setting = SETTINGS[name]
        if given.updates:
            cut = (*setting.overrides, f"training.iterations={given.updates}")
            setting = Setting(setting.benchmark, setting.strategy, cut, setting.goal)
        if given.audit:
            reports[name] = Report()
            audit(setting, given.threads, reports[name])
            r = reports[name]
            print(f"{name}: {r.differing:,} of {r.audited:,} answers differ; {r.numerics}", flush=True)
        else:
            reports[name] = price(setting, given.points, given.threads)
            print(markdown(describe(given.threads, load_data()), {name: reports[name]}), flush=True)
        if given.out is not None:
            write(
                given.out,
                "watching_audit" if given.audit else "watching",
                describe(given.threads, load_data()),
                reports,
            )
    return 1 if any(r.differing for r in reports.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
