"""The cost of hosting: Avalanche's strategies under our runner, beside stock scripts and beside a plain PyTorch loop.

    python benchmarks/speed/hosted.py [--pairs 20] [--threads 1] [--only naive,replay] [--optimizer sgd] [--quick]

Split MNIST, an MLP of 784-400-400-10, batches of 128, one epoch; nothing is evaluated. A turn is one experience of
some 94 updates, with all that a strategy does around it; after the fifth, a strategy that was made beforehand begins
anew.

bare          plain PyTorch: a shuffle, and each batch gathered from uint8 and normalised
hosted        the strategy under our runner
tensors       the strategy in a stock Avalanche script, on ready float tensors
torchvision   the same on a torchvision data set that makes every image ready (ToTensor, Normalize)

Stock scripts are given an evaluator without metrics and loggers, which is less than what they have by default.
"""

from __future__ import annotations

import argparse
import copy
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from evaluation import Data, _tensors, _torchvision, load_data
from pairs import Segment, measure, table
from torch import nn

from clbench import resolve, run_config
from clbench.formatting import telling_places
from clbench.rng import fenced
from clbench.runner.components import assemble
from clbench.strategy import Watcher
from clbench.streams.compile import compile_stream

BATCH = 128
EXPERIENCES = 5
STRATEGIES: dict[str, tuple[str, dict[str, Any]]] = {
    "naive": ("Naive", {}),
    "replay": ("Replay", {"mem_size": 500}),
    "ewc": ("EWC", {"ewc_lambda": 1.0, "mode": "online", "decay_factor": 0.9}),
    "lwf": ("LwF", {"alpha": 1.0, "temperature": 2.0}),
    "agem": ("AGEM", {"patterns_per_exp": 200}),
    "der": ("DER", {"mem_size": 500}),
}
OPTIMIZERS = {"sgd": "{name: sgd, lr: 0.1}", "adam": "{name: adam, lr: 0.001}"}
GOALS: dict[tuple[str, str], tuple[str, float]] = {
    ("hosted", "bare"): ("<=", 1.4),
    ("tensors", "hosted"): (">=", 1.5),
    ("torchvision", "hosted"): (">=", 3.0),
}


@dataclass(frozen=True)
class Bench:
    """Settings of all rows.

    Attributes:
        data: MNIST.
        strategy: a key of `STRATEGIES`.
        optimizer: a key of `OPTIMIZERS`.
        turns: that each row is to last.
        shots: training images of each class; None for all, some 6,000.
    """

    data: Data
    strategy: str
    optimizer: str
    turns: int
    shots: int | None = None

    @property
    def setting(self) -> list[str]:
        """The training data of every row."""
        budget = f"{{epochs: 1, iterations: null, batch_size: {BATCH}, optimizer: {OPTIMIZERS[self.optimizer]}}}"
        few = [] if self.shots is None else [f"stream.supervision={{shots: {self.shots}, base: 0}}"]
        return [
            "model={name: mlp, hidden: [400, 400]}",
            f"training={budget}",
            "stream.normalise=standard",
            *few,
        ]

    @cached_property
    def run(self) -> run_config.RunConfig:
        name, parameters = STRATEGIES[self.strategy]
        overrides = [*self.setting, *(f"strategy.{k}={v}" for k, v in parameters.items())]
        return resolve.make_run(
            "split_mnist-v1",
            strategy=f"avalanche.training.supervised:{name}",
            overrides=overrides,
            threads=torch.get_num_threads(),
            device="cpu",
        )

    @cached_property
    def stream(self) -> Any:
        return compile_stream(self.run.benchmark.stream, 0, self.data.source)

    def assemble(self) -> Any:
        with fenced():
            return assemble(self.run, self.stream)

    @cached_property
    def network(self) -> nn.Module:
        model: nn.Module = self.assemble().strategy.model
        return model

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        if self.optimizer == "adam":
            return torch.optim.Adam(model.parameters(), lr=1e-3)
        return torch.optim.SGD(model.parameters(), lr=0.1)

    def in_turns(self, learners: list[Callable[[int], int]]) -> Segment:
        """Experience after experience, learner after learner."""
        turn = -1

        def segment() -> int:
            nonlocal turn
            turn += 1
            return learners[turn // EXPERIENCES](turn % EXPERIENCES)

        return segment

    @property
    def learners(self) -> int:
        return -(-self.turns // EXPERIENCES)


def updates(samples: int) -> int:
    return -(-samples // BATCH)


# ------------------------------------------------------------------------------------------------ rows
def bare(bench: Bench) -> Segment:
    """Plain PyTorch, fine-tuning."""
    source = bench.data.source
    stored, labels = torch.from_numpy(source.train_x), torch.from_numpy(source.train_y)
    rows_of = [torch.from_numpy(experience.index) for experience in bench.stream.experiences]
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (source.mean, source.std))

    def learner() -> Callable[[int], int]:
        model = copy.deepcopy(bench.network)
        optimizer = bench.make_optimizer(model)

        def train(number: int) -> int:
            rows = rows_of[number][torch.randperm(len(rows_of[number]))]
            for index in torch.split(rows, BATCH):
                x = (stored.index_select(0, index).to(torch.float32) / source.top - mean) / std
                optimizer.zero_grad()
                F.cross_entropy(model(x), labels.index_select(0, index)).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            return updates(len(rows))

        return train

    return bench.in_turns([learner() for _ in range(bench.learners)])


def hosted(bench: Bench) -> Segment:
    """Under our runner."""

    def learner() -> Callable[[int], int]:
        parts = bench.assemble()

        def train(number: int) -> int:
            experience, n = parts.experience(number), parts.budgets[number]
            with fenced():
                parts.strategy.fit(experience, n, Watcher())
            return int(n)

        return train

    return bench.in_turns([learner() for _ in range(bench.learners)])


def own(bench: Bench, strategy: str) -> Segment:
    """Our own strategy of the same method, without evaluation."""
    run = resolve.make_run(
        "split_mnist-v1",
        strategy=strategy,
        overrides=[
            *bench.setting,
            *([f"strategy.memory={bench.run.strategy.parameters['mem_size']}"] if strategy == "er" else []),
        ],
        threads=torch.get_num_threads(),
        device="cpu",
    )

    def learner() -> Callable[[int], int]:
        with fenced():
            parts = assemble(run, bench.stream)

        def train(number: int) -> int:
            experience, n = parts.experience(number), parts.budgets[number]
            parts.strategy.begin_experience(experience)
            for batch in parts.batches.of(experience, n):
                parts.strategy.step(batch)
            parts.strategy.end_experience(experience)
            return int(n)

        return train

    return bench.in_turns([learner() for _ in range(bench.learners)])


def stock(bench: Bench, kind: str) -> Segment:
    """A stock script; on "tensors" or "torchvision" data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from avalanche.benchmarks import benchmark_from_datasets, with_classes_timeline
        from avalanche.benchmarks.scenarios.task_aware import with_task_labels
        from avalanche.benchmarks.utils import _make_taskaware_classification_dataset
        from avalanche.logging import BaseLogger
        from avalanche.training import supervised
        from avalanche.training.plugins import EvaluationPlugin
    source, make = bench.data.source, _torchvision if kind == "torchvision" else _tensors
    name, parameters = STRATEGIES[bench.strategy]
    parts = []
    for experience in bench.stream.experiences:
        dataset = make(source.train_x[experience.index], source.train_y[experience.index], source)
        parts.append(_make_taskaware_classification_dataset(dataset, task_labels=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        benchmark = with_task_labels(with_classes_timeline(benchmark_from_datasets(train=parts)))

    def learner() -> Callable[[int], int]:
        model = copy.deepcopy(bench.network)
        strategy = getattr(supervised, name)(
            model=model, optimizer=bench.make_optimizer(model), criterion=nn.CrossEntropyLoss(), train_mb_size=BATCH,
            train_epochs=1, evaluator=EvaluationPlugin(loggers=[BaseLogger()]), **parameters,
        )  # fmt: skip

        def train(number: int) -> int:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                strategy.train(benchmark.train_stream[number], eval_streams=[])
            return updates(len(parts[number]))

        return train

    return bench.in_turns([learner() for _ in range(bench.learners)])


def rows(bench: Bench) -> dict[str, Segment]:
    """All rows by name; plain PyTorch is no comparison but for fine-tuning."""
    found = {"hosted": hosted(bench), "tensors": stock(bench, "tensors"), "torchvision": stock(bench, "torchvision")}
    return {"bare": bare(bench), **found} if bench.strategy == "naive" else found


# ------------------------------------------------------------------------------------------------ measuring
def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=20, help="rounds of each comparison (20)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
    parser.add_argument("--only", default=",".join(STRATEGIES), help=f"strategies ({','.join(STRATEGIES)})")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd")
    parser.add_argument("--quick", action="store_true", help="2 pairs: shows that it works, and no more")
    given = parser.parse_args()
    unknown = sorted(set(given.only.split(",")) - set(STRATEGIES))
    if unknown:
        parser.error(f"--only: unknown {', '.join(unknown)}. Allowed: {', '.join(STRATEGIES)}.")
    if given.pairs < 1 or given.threads < 1:
        parser.error("--pairs and --threads: at least 1.")
    torch.set_num_threads(given.threads)
    rounds = 2 if given.quick else given.pairs
    data, lines = load_data(), []
    for name in given.only.split(","):
        bench = Bench(data, name, given.optimizer, rounds + 1)
        timings = measure(rows(bench), rounds)
        for (row, base), (sign, bound) in GOALS.items():
            if not {row, base} <= timings.seconds.keys():
                continue
            r = timings.ratio(row, base)
            places = telling_places((r.median, bound), "iterations")
            met = r.median <= bound if sign == "<=" else r.median >= bound
            lines.append(
                [
                    name, f"{row} / {base}", f"{r.median:.{places}f}", f"{r.low:.2f} to {r.high:.2f}", f"{r.total:.2f}",
                    str(r.pairs), f"{sign} {bound:g}: {'met' if met else 'missed'}",
                    f"{1e3 * r.row_s:.2f} / {1e3 * r.base_s:.2f}",
                ]
            )  # fmt: skip
    header = ["strategy", "ratio", "median", "95 % interval", "of the sums", "pairs", "goal", "median ms an update"]
    print(table(header, lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
