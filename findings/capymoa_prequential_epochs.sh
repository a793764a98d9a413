#!/usr/bin/env bash
# capymoa 0.15.1: the test-then-train accuracy of `ocl_train_eval_loop` counts every epoch anew, and its accuracy matrix
# depends on how often one looks.
#
# In the loop every batch of every epoch is tested before it is learnt and counted, also when its samples were learnt in
# an earlier epoch. One expects of a prequential number that each sample is predicted once, before anything was learnt
# from it. And of a task of N batches the looks are after each floor(N / continual_evaluations) batches until there are
# as many as were asked for; the last of them is taken for the accuracy "after sequentially training on tasks 1 through
# i", though N - H floor(N / H) batches are still to come.
#
# Seen, two tasks of 15 batches, and a learner that knows what it has learnt, and nothing else:
#     epochs   test-then-train accuracy (%)   samples counted
#          1                            0.0               300
#          2                           50.0               600
#         10                           90.0              3000
#     looks H   R (%), one epoch       accuracy_final   backward_transfer
#           1   [[100.0, 0.0], [100.0, 100.0]]          1.000               0.000
#           3   [[100.0, 0.0], [100.0, 100.0]]          1.000               0.000
#          10   [[66.7, 0.0], [100.0, 66.7]]          0.833               0.333
# It needs Java, as CapyMOA does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "capymoa[torch]==0.15.1" torch==2.15.0
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import torch
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
import capymoa
from capymoa.base import BatchClassifier
from capymoa.ocl.evaluation import ocl_train_eval_loop
from capymoa.stream import Schema


class Memoriser(BatchClassifier):
    """Knows the label of each sample that it has learnt, and says class 0 to all others."""

    def __init__(self) -> None:
        super().__init__(Schema.from_custom(["x", "y"], "y", {"y": ["0", "1", "2", "3"]}))
        self.known: dict[float, int] = {}

    def batch_train(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.known |= zip(x[:, 0].tolist(), y.tolist(), strict=True)

    def batch_predict_proba(self, x: torch.Tensor) -> torch.Tensor:
        answers = torch.tensor([self.known.get(v, 0) for v in x[:, 0].tolist()])
        return torch.nn.functional.one_hot(answers, 4).float()

    def __str__(self) -> str:
        return "memoriser"


def task(number: int) -> DataLoader:
    """150 samples, half of class 1 and half of class 2 or 3: 15 batches."""
    x = torch.arange(150.0)[:, None] + 1000 * number
    y = torch.where(torch.arange(150) % 2 == 0, 1, 2 + number)
    return DataLoader(TensorDataset(x, y), batch_size=10)


def run(epochs: int, looks: int):
    streams = [task(0), task(1)]  # tested on what it was trained on
    return ocl_train_eval_loop(Memoriser(), streams, streams, continual_evaluations=looks, epochs=epochs)


print(f"capymoa {capymoa.__version__}, two tasks of 15 batches; a learner that only memorises")
print("epochs   test-then-train accuracy (%)   samples counted")
seen: list[object] = []
for epochs in (1, 2, 10):
    result = run(epochs, 1)
    counted = int(result.boundaries[-1])
    seen.append((round(result.ttt.cumulative.accuracy(), 1), counted))
    print(f"{epochs:6}   {result.ttt.cumulative.accuracy():28.1f}   {counted:15}")
print("looks H   R (%), one epoch       accuracy_final   backward_transfer")
for looks in (1, 3, 10):
    result = run(1, looks)
    R = [[round(100 * float(a), 1) for a in row] for row in result.accuracy_matrix]
    seen.append(R)
    print(f"{looks:7}   {R!s:22} {result.accuracy_final:14.3f} {result.backward_transfer:19.3f}")
exact, late = [[100.0, 0.0], [100.0, 100.0]], [[66.7, 0.0], [100.0, 66.7]]
assert seen == [(0.0, 300), (50.0, 600), (90.0, 3000), exact, exact, late], seen
print("as stated")
PYTHON
