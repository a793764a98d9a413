"""Adam on a CPU: first moments that have become negligible are removed before they slow down a step, and no bit of a
weight changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from clbench.config import optimizers as config
from clbench.training import optimizers

SMALLEST_NORMAL = torch.finfo(torch.float32).smallest_normal


def trained(make: object, steps: int, remove: bool = True) -> tuple[nn.Linear, torch.optim.Optimizer]:
    """A layer of which half of the inputs are silent after the first 20 steps."""
    torch.manual_seed(0)
    layer = nn.Linear(20, 3)
    optimizer: torch.optim.Optimizer = make(layer.parameters())  # type: ignore[operator]
    for n in range(steps):
        x = torch.randn(16, 20)
        if n >= 20:
            x[:, :10] = 0
        optimizer.zero_grad()
        layer(x).square().sum().backward()
        optimizer.step()
        if remove:
            optimizers.remove_denormals(optimizer)
    return layer, optimizer


@pytest.mark.parametrize(
    ("settings", "plain"),
    [
        (config.Adam(name="adam"), torch.optim.Adam),
        (config.AdamW(name="adamw", weight_decay=0.01), lambda p: torch.optim.AdamW(p, weight_decay=0.01)),
    ],
    ids=["adam", "adamw"],
)
def test_weights_are_those_of_torch_and_no_moment_is_denormal(settings: config.Adam, plain: object) -> None:
    ours, optimizer = trained(lambda p: optimizers.optimizer(settings, p), 1200)
    theirs, reference = trained(plain, 1200, remove=False)
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)
    moment, before = (o.state[layer.weight]["exp_avg"] for o, layer in ((optimizer, ours), (reference, theirs)))
    assert ((before != 0) & (before.abs() < SMALLEST_NORMAL)).float().mean() > 0.4, "torch's own has them"
    assert not ((moment != 0) & (moment.abs() < SMALLEST_NORMAL)).any()


def test_moments_are_left_alone_where_they_could_matter() -> None:
    """With a smaller epsilon a small moment can move a weight."""
    _, optimizer = trained(lambda p: optimizers.optimizer(config.Adam(name="adam", eps=1e-30), p), 1200)
    moment = next(iter(optimizer.state.values()))["exp_avg"]
    assert ((moment != 0) & (moment.abs() < SMALLEST_NORMAL)).any()
