"""The cost of training under clbench, beside plain PyTorch loops of the same method. Nothing is evaluated.

    python benchmarks/speed/training.py [--pairs 30] [--threads 1] [--only naive,er,derpp,ewc,classp] [--quick]

A row is a real run (`clbench.runner.run.execute`, its files and checkpoints in a temporary folder), a few updates a
turn; its counterpart a loop by hand with everything in memory: a shuffle a pass, each batch gathered from uint8 and
normalised, and for replay a reservoir of images. MNIST, batches of 128.

naive   one batch an update
er      new and replayed samples in one pass (`clbench.strategies.er`, 1,000 samples, as many replayed as new)
derpp   DER++ (`strategies/der.py`): three passes, over the batch, over replayed samples whose stored outputs are
        matched, and over replayed samples and their labels
ewc     a quadratic penalty on all weights (`clbench.strategies.ewc`), which is there from the first update
classp  one pass, and the steps of CLASSP (`strategies/classp.py`) by its equations, a tensor at a time; the rule
        that is tested against Adagrad is `threshold` 0, this one has 1e-8
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from evaluation import Data, load_data
from pairs import Host, Ratio, Segment, measure, table
from torch import Tensor, nn

from clbench import resolve, run_config
from clbench.config import optimizers
from clbench.runner import run as runner
from clbench.strategies.ewc import EWC
from clbench.strategy import Experience
from clbench.training import models

NETWORKS = {"mlp": "{name: mlp, hidden: [400, 400]}", "cnn": "{name: cnn, channels: [16, 32], hidden: 128}"}
UPDATES = {"mlp": 40, "cnn": 4}
"""Updates of a turn; one turn is to last some tenths of a second."""
BATCH = 128
MEMORY = 1000
OPTIMIZERS = {"sgd": "{name: sgd, lr: 0.01}", "adam": "{name: adam, lr: 0.001}"}
CASES = (
    ("naive", "mlp", "sgd"), ("naive", "mlp", "adam"), ("naive", "cnn", "sgd"), ("er", "mlp", "sgd"),
    ("er", "cnn", "sgd"), ("derpp", "mlp", "sgd"), ("derpp", "cnn", "sgd"), ("ewc", "mlp", "sgd"),
    ("ewc", "cnn", "sgd"), ("classp", "mlp", "sgd"), ("classp", "cnn", "sgd"),
)  # fmt: skip
GOALS = {"naive": 1.05, "er": 1.10, "derpp": 1.10, "ewc": 1.10, "classp": 1.10}
LR, THRESHOLD, EPSILON = 0.01, 1e-8, 1e-5
"""Of CLASSP, at power 1."""


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
        self._anchor = [p.detach().clone() for p in self.model.parameters()]
        self._fisher = [torch.ones_like(p) for p in self.model.parameters()]
        self._sums = [torch.zeros_like(p) for p in self.model.parameters()]

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

    def _derpp(self, x: Tensor, y: Tensor) -> None:
        logits = self.model(self._ready(x))
        loss = F.cross_entropy(logits, y)
        if self._met:
            at, again = self._drawn(), self._drawn()
            loss = loss + 0.5 * F.mse_loss(self.model(self._ready(self._kept[at])), self._logits[at])
            loss = loss + 0.5 * F.cross_entropy(self.model(self._ready(self._kept[again])), self._labels[again])
        self._minimise(loss)
        kept, slots = self._keep(x, y)
        self._logits[slots] = logits.detach()[kept]

    def _ewc(self, x: Tensor, y: Tensor) -> None:
        loss = F.cross_entropy(self.model(self._ready(x)), y)
        held = zip(self.model.parameters(), self._anchor, self._fisher, strict=True)
        self._minimise(loss + 5.0 * sum((f * (p - a).square()).sum() for p, a, f in held))

    def _classp(self, x: Tensor, y: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(self.model(self._ready(x)), y).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for p, a in zip(self.model.parameters(), self._sums, strict=True):
                assert p.grad is not None
                g = p.grad * (p.grad.square() > THRESHOLD)
                a += g.abs()
                p.sub_(LR * g / (EPSILON + a))

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
class HeldWeights(EWC):
    """EWC with a penalty from the first update on, as it is after a first experience."""

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        self.anchor, self.importance = self.weights(), [torch.ones_like(p) for p in self.model.parameters()]


STRATEGIES = {"naive": "naive", "er": "er", "derpp": "derpp", "ewc": "training:HeldWeights", "classp": "classp"}
SETTINGS = {"classp": [f"lr={LR}", f"threshold={THRESHOLD}", f"epsilon={EPSILON}", "apply_decay=always"]}


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


def configured(method: str, network: str, optimizer: str) -> run_config.RunConfig:
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
            *(f"strategy.{text}" for text in SETTINGS.get(method, [])),
        ],
        threads=torch.get_num_threads(),
        device="cpu",
    )


def ours(run: run_config.RunConfig, updates: int) -> Host:
    """A run, so many updates a turn."""

    def host(advance: Callable[[], bool]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            try:
                runner.execute(run, Path(folder), progress=Turns(updates, advance))
            except KeyboardInterrupt:
                return
        raise AssertionError("the run ended before the last turn")

    return host


def plain(settings: optimizers.Optimizer, model: nn.Module) -> torch.optim.Optimizer:
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
