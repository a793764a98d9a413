#!/usr/bin/env bash
# torch 2.15.0: on a CPU a step of Adam takes several times as long once the gradients of many weights have stayed
# zero, because their first moments end as denormal numbers and never reach zero.
#
# Without a gradient the first moment shrinks to 0.9 of itself at each step. One expects that it underflows to zero;
# but it stops at the smallest numbers that float32 has, about 1e-45, of which a tenth rounds to nothing. After
# several hundred steps it is below the smallest normal number, 1.2e-38, and from there on every step computes with
# denormals, which are slow on many processors. Weights of inputs that are silent in a task (the borders of images)
# and of units that no longer respond have such moments. They are far too small to move a weight: with those below
# 1e-33 set to zero, steps are as fast as before, and the weights the same bit for bit.
#
# Seen, an MLP 784-400-400-10 of which half of the inputs fall silent (Intel Xeon, one thread):
#     denormal first moments of the first layer      0 % at first, 50 % after 1,000 steps
#     a step of Adam, in milliseconds                1.8 at first, 3.8 then, 1.8 with zeros
#     then / at first 2.09, then / with zeros 2.08; 2.10 and 1.88 on a busier machine
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.15.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import copy, time
from statistics import median

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
SMALLEST_NORMAL = torch.finfo(torch.float32).smallest_normal


class Learner:
    def __init__(self) -> None:
        self.net = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 10))
        self.adam = torch.optim.Adam(self.net.parameters())

    def step(self, x: torch.Tensor, y: torch.Tensor) -> float:
        """Learns a batch; seconds of the optimiser's step."""
        self.adam.zero_grad()
        nn.functional.cross_entropy(self.net(x), y).backward()
        begin = time.perf_counter()
        self.adam.step()
        return time.perf_counter() - begin

    def moments(self) -> list[torch.Tensor]:
        return [state["exp_avg"] for state in self.adam.state.values()]

    def denormal(self) -> float:
        """Share of the first layer's first moments."""
        m = self.moments()[0]
        return float(((m != 0) & (m.abs() < SMALLEST_NORMAL)).float().mean())


def batch(silent: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(128, 784)
    x[:, :silent] = 0
    return x, torch.randint(10, (128,))


learner = Learner()
for _ in range(200):
    learner.step(*batch(0))
early = median(learner.step(*batch(392)) for _ in range(100))
before = learner.denormal()
for _ in range(1000):
    learner.step(*batch(392))
share = learner.denormal()

zeroed = copy.deepcopy(learner)
for m in zeroed.moments():
    m.masked_fill_(m.abs() < 1e-33, 0)
times: dict[str, list[float]] = {"as they are": [], "zeroed": []}
for _ in range(200):  # in turns, on the same batches
    x, y = batch(392)
    times["as they are"].append(learner.step(x, y))
    times["zeroed"].append(zeroed.step(x, y))
late, restored = (median(each) for each in times.values())
same = all(torch.equal(a, b) for a, b in zip(learner.net.parameters(), zeroed.net.parameters(), strict=True))

print(f"denormal first moments of the first layer: {before:.1%} at first, {share:.1%} after 1,000 steps")
print(f"a step of Adam: {1000 * early:.2f} ms at first, {1000 * late:.2f} then, {1000 * restored:.2f} with zeros")
print(f"then / at first {late / early:.2f}, then / with zeros {late / restored:.2f}")
print(f"weights {'the same' if same else 'differ'}")
assert share > 0.05, share
assert late > 1.3 * early, (late, early)
assert late > 1.3 * restored, (late, restored)
assert same
print("as stated")
PYTHON
