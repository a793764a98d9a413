"""What training under clbench costs, beside plain PyTorch loops of the same method. Nothing is evaluated.

    .venv/bin/python benchmarks/training.py [--pairs 30] [--threads 1] [--only naive,er,dark] [--quick]

A row is a real run (`clbench.runner.execute`, its files and checkpoints in a temporary folder), a few updates a turn;
its counterpart a loop by hand with everything in memory: a shuffle a pass, each batch gathered from uint8 and
normalised, and for replay a reservoir of images. MNIST, batches of 128.

naive   one batch an update
er      new and replayed samples in one pass (`strategies.er`, 1,000 samples, as many replayed as new)
dark    two passes, one over the batch and one over replayed samples whose stored outputs are matched (as DER; Buzzega
        et al. 2020), by a strategy of this file
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from evaluation import Data, load_data
from pairs import Host, Ratio, Segment, measure, table
from pydantic import Field
from torch import Tensor, nn

from clbench import config, models, resolve, runner
from clbench.config import Model
from clbench.strategy import Batch, Memory, Setup, Strategy
from strategies.buffers import Buffer

NETWORKS = {"mlp": "{name: mlp, hidden: [400, 400]}", "cnn": "{name: cnn, channels: [16, 32], hidden: 128}"}
UPDATES = {"mlp": 40, "cnn": 4}
"""Updates of a turn; one turn is to last some tenths of a second."""
BATCH = 128
MEMORY = 1000
OPTIMIZERS = {"sgd": "{name: sgd, lr: 0.01}", "adam": "{name: adam, lr: 0.001}"}
CASES = (
    ("naive", "mlp", "sgd"), ("naive", "mlp", "adam"), ("naive", "cnn", "sgd"), ("er", "mlp", "sgd"),
    ("er", "cnn", "sgd"), ("dark", "mlp", "sgd"), ("dark", "cnn", "sgd"),
)  # fmt: skip
GOALS = {"naive": 1.05, "er": 1.10, "dark": 1.10}


# ------------------------------------------------------------------------------------------------ by hand
@dataclass
class Hand:
    """Plain PyTorch.

    Args:
        data: MNIST.
        model: freshly initialised.
        optimizer: over its parameters.
        method: a key of `GOALS`.
    """

    data: Data
    model: nn.Module
    optimizer: torch.optim.Optimizer
    method: str

    def __post_init__(self) -> None:
        source = self.data.source
        self._x, self._y = torch.from_numpy(source.train_x), torch.from_numpy(source.train_y)
        self._mean, self._std = (torch.tensor(v).view(1, -1, 1, 1) for v in (source.mean, source.std))
        self._rows = self._shuffled()
        self._kept = torch.zeros((MEMORY, *self._x.shape[1:]), dtype=self._x.dtype)
        self._labels = torch.zeros(MEMORY, dtype=torch.int64)
        self._logits = torch.zeros((MEMORY, 10))
        self._met = 0

    def _shuffled(self) -> Iterator[Tensor]:
        while True:
            yield from torch.split(torch.randperm(len(self._x)), BATCH)

    def _ready(self, x: Tensor) -> Tensor:
        return (x.to(torch.float32) / 255 - self._mean) / self._std

    def segment(self, updates: int) -> int:
        """So many updates."""
        step: Callable[[Tensor, Tensor], None] = getattr(self, f"_{self.method}")
        for _ in range(updates):
            rows = next(self._rows)
            step(self._x[rows], self._y[rows])
        return updates

    def _minimise(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def _naive(self, x: Tensor, y: Tensor) -> None:
        self._minimise(F.cross_entropy(self.model(self._ready(x)), y))

    def _er(self, x: Tensor, y: Tensor) -> None:
        if self._met:
            at = self._drawn()
            both = self._ready(torch.cat([x, self._kept[at]]))
            loss = F.cross_entropy(self.model(both), torch.cat([y, self._labels[at]]))
        else:
            loss = F.cross_entropy(self.model(self._ready(x)), y)
        self._minimise(loss)
        self._keep(x, y)

    def _dark(self, x: Tensor, y: Tensor) -> None:
        logits = self.model(self._ready(x))
        loss = F.cross_entropy(logits, y)
        if self._met:
            at = self._drawn()
            loss = loss + 0.5 * F.mse_loss(self.model(self._ready(self._kept[at])), self._logits[at])
        self._minimise(loss)
        kept, slots = self._keep(x, y)
        self._logits[slots] = logits.detach()[kept]

    def _drawn(self) -> Tensor:
        return torch.randperm(min(self._met, MEMORY))[:BATCH]

    def _keep(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Vitter's reservoir, a batch at a time. Positions in the batch that were kept, and where."""
        numbers = self._met + torch.arange(len(x))
        slots = torch.where(numbers < MEMORY, numbers, (torch.rand(len(x)) * (numbers + 1)).long())
        kept = torch.nonzero(slots < MEMORY).flatten()
        slots = slots[kept]
        self._kept[slots], self._labels[slots] = x[kept], y[kept]
        self._met += len(x)
        return kept, slots


# ------------------------------------------------------------------------------------------------ clbench
class DarkReplay(Strategy):
    """Two passes: cross-entropy of the batch, and squared distance to stored outputs of replayed samples."""

    class Config(Model):
        """Hyper-parameters."""

        memory: Annotated[int, Field(ge=1)] = MEMORY
        alpha: Annotated[float, Field(ge=0)] = 0.5

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.buffer = Buffer(setup.generator, capacity=config.memory)
        self._stored = torch.zeros((config.memory, setup.outputs), device=setup.device)
        self._now: Tensor | None = None

    def loss(self, batch: Batch) -> Tensor:
        logits: Tensor = self.model(batch.x)
        self._now, loss = logits, self.criterion(logits, batch.y, batch.task)
        if not len(self.buffer):
            return loss
        slots = self.buffer.slots(len(batch.y))
        index, task = (torch.from_numpy(held[slots]) for held in (self.buffer.index_of, self.buffer.task_of))
        x, _ = self.setup.samples.fetch(index, task)
        matched: Tensor = F.mse_loss(self.model(x), self._stored[torch.from_numpy(slots)])
        return loss + float(self.config.alpha) * matched

    def step(self, batch: Batch) -> Tensor:
        loss = super().step(batch)
        index = batch.index.numpy()
        task = np.full(len(index), batch.task) if isinstance(batch.task, int) else batch.task.numpy()
        kept, slots = self.buffer.add(index, task, np.zeros_like(index))
        assert self._now is not None
        self._stored[torch.from_numpy(slots)] = self._now.detach()[torch.from_numpy(kept)]
        return loss

    def memory(self) -> Memory:
        return Memory(len(self.buffer), None)


STRATEGIES = {"naive": "naive", "er": "er", "dark": "training:DarkReplay"}


class _Over(KeyboardInterrupt):
    """Ends a run."""


class Turns:
    """A run's progress, a turn every so many updates.

    Args:
        updates: of a turn.
        advance: ends the turn and says whether there is another.
    """

    def __init__(self, updates: int, advance: Callable[[], bool]) -> None:
        self._updates, self._advance = updates, advance

    def start(self, total: int, done: int) -> None:
        self._advance()

    def update(self, done: int) -> None:
        if done % self._updates == 0 and not self._advance():
            raise _Over

    def close(self) -> None: ...


def configured(method: str, network: str, optimizer: str) -> resolve.RunConfig:
    """A run over all of MNIST, longer than anybody waits."""
    return resolve.make_run(
        "split_mnist-v1",
        strategy=STRATEGIES[method],
        overrides=[
            "stream.tasks.count=1",
            "stream.normalise=standard",
            f"model={NETWORKS[network]}",
            f"training={{iterations: 1000000, batch_size: {BATCH}, optimizer: {OPTIMIZERS[optimizer]}}}",
            "evaluation.every=0",
        ],
        threads=torch.get_num_threads(),
        device="cpu",
    )


def ours(run: resolve.RunConfig, updates: int) -> Host:
    """A run, so many updates a turn."""

    def host(advance: Callable[[], bool]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            try:
                runner.execute(run, Path(folder), progress=Turns(updates, advance))
            except KeyboardInterrupt:
                return
        raise AssertionError("the run ended before the last turn")

    return host


def plain(settings: config.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """torch's own, as one writes it."""
    if settings.name == "adam":
        return torch.optim.Adam(model.parameters(), lr=settings.lr)
    return torch.optim.SGD(model.parameters(), lr=settings.lr)


def by_hand(method: str, network: str, optimizer: str, data: Data) -> Hand:
    """The same by hand."""
    run = configured(method, network, optimizer)
    model = models.build(run.benchmark.model, data.source.train_x.shape[1:], 10)
    return Hand(data, model, plain(run.benchmark.training.optimizer, model), method)


def compare(method: str, network: str, optimizer: str, data: Data, rounds: int) -> Ratio:
    """A real run in units of the loop by hand."""
    k, hand = UPDATES[network], by_hand(method, network, optimizer, data)

    def segment() -> int:
        hand.segment(k)
        return 1

    rows: dict[str, Segment | Host] = {"by hand": segment, "clbench": ours(configured(method, network, optimizer), k)}
    return measure(rows, rounds, hosted="clbench").ratio("clbench", "by hand")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=30, help="rounds of each comparison (30)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
    parser.add_argument("--only", default=",".join(GOALS), help=f"methods ({','.join(GOALS)})")
    parser.add_argument("--quick", action="store_true", help="2 pairs: shows that it works, and no more")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    data, lines = load_data(), []
    for method, network, optimizer in CASES:
        if method in given.only.split(","):
            r = compare(method, network, optimizer, data, 2 if given.quick else given.pairs)
            met = "met" if r.median <= GOALS[method] else "missed"
            spread = f"{r.low:.3f} to {r.high:.3f}"
            k = UPDATES[network]
            times = f"{1e3 * r.row_s / k:.2f} / {1e3 * r.base_s / k:.2f}"
            lines.append([method, network, optimizer, f"{r.median:.3f}", spread, f"≤ {GOALS[method]}: {met}", times])
    header = ["method", "network", "optimiser", "clbench / by hand", "95 % interval", "goal", "median ms an update"]
    print(table(header, lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
