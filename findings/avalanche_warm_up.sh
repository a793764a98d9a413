#!/usr/bin/env bash
# avalanche-lib 0.6.0 with torch 2.15.0: a warm-up by LRSchedulerPlugin and LinearLR warms up at the first experience
# only. From the second on the learning rate starts at its base and rises above it, by a further factor at the end of
# each experience's warm-up.
#
# One expects the same rates at every experience: the plugin "is reset at the end of the experience" (`reset_scheduler`
# and `reset_lr`, both true by default). At its end the plugin sets each group's rate to the base rate and the
# scheduler's `last_epoch` to 0. But LinearLR, as most schedulers of torch, computes a rate from the one before it, and
# applies its first factor only when it is constructed: after the reset it multiplies the whole base rate by what leads
# from 0.25 to 1. CosineAnnealingLR, whose first factor is 1, is as expected.
#
# Seen: SGD with lr 0.1, LinearLR(start_factor=0.25, total_iters=3), 5 epochs an experience, the rate of each epoch:
#     experience 1    0.025  0.05  0.075  0.1  0.1
#     experience 2    0.1    0.2   0.3    0.4  0.4
#     experience 3    0.1    0.2   0.3    0.4  0.4
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet avalanche-lib==0.6.0 torch==2.15.0 "setuptools<81"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import math

import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.training.plugins import EvaluationPlugin, LRSchedulerPlugin, SupervisedPlugin
from avalanche.training.supervised import Naive
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

BASE, START, UNITS, EPOCHS = 0.1, 0.25, 3, 5


class Rates(SupervisedPlugin):
    """The learning rate of each epoch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def before_training_epoch(self, strategy, **kwargs):
        self.seen.append(strategy.optimizer.param_groups[0]["lr"])


class Data(torch.utils.data.Dataset):
    targets = [0, 1] * 4

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        return torch.ones(2), self.targets[i]


def rates(make):
    """The rates of three experiences."""
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=BASE)
    seen = Rates()
    learner = Naive(
        model=model, optimizer=optimizer, criterion=torch.nn.CrossEntropyLoss(), train_mb_size=8, train_epochs=EPOCHS,
        plugins=[LRSchedulerPlugin(make(optimizer)), seen], evaluator=EvaluationPlugin(loggers=[]),
    )
    parts = [as_classification_dataset(Data()) for _ in range(3)]
    for experience in benchmark_from_datasets(train=parts, test=parts[:1]).train_stream:
        learner.train(experience)
    return [seen.seen[EPOCHS * n : EPOCHS * (n + 1)] for n in range(3)]


def near(a, b):
    return all(math.isclose(x, y, rel_tol=1e-6) for x, y in zip(a, b, strict=True))


warmed = rates(lambda o: LinearLR(o, start_factor=START, total_iters=UNITS))
for n, of in enumerate(warmed, 1):
    print(f"experience {n}    " + "  ".join(f"{rate:.4g}" for rate in of))
expected = [BASE * min(1.0, START + (1 - START) * t / UNITS) for t in range(EPOCHS)]
assert near(warmed[0], expected), warmed
for of in warmed[1:]:
    assert near(of, [rate / START for rate in expected]), warmed
cosine = rates(lambda o: CosineAnnealingLR(o, EPOCHS))
assert near(cosine[1], cosine[0]), cosine
print("as stated")
PYTHON
