"""Sums over per-sample gradients, for layers of all kinds: equal to a loop over samples by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.errors import UserError
from clbench.strategies.shared.importance import sum_over_samples, vectorises
from clbench.testing.states import assert_same
from support import assembled, make_run, unwatched, user_module


class Doubled(torch.autograd.Function):
    """A function with a backward pass of its own, and without a rule for vmap."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * gradient


class Between(nn.Module):
    """A layer of some kind between two linear ones."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.first, self.last = kind, nn.Linear(4, 4), nn.Linear(4, 3)
        inner: dict[str, Callable[[], nn.Module]] = {
            "gru": lambda: nn.GRU(4, 4, batch_first=True),
            "rnn": lambda: nn.RNN(4, 4, batch_first=True),
            "lstm": lambda: nn.LSTM(4, 4, batch_first=True),
            "attention": lambda: nn.MultiheadAttention(4, 2, batch_first=True),
            "batch norm": lambda: nn.BatchNorm1d(4),
            "layer norm": lambda: nn.LayerNorm(4),
            "group norm": lambda: nn.GroupNorm(2, 4),
            "instance norm": lambda: nn.InstanceNorm1d(3, affine=True),
            "dropout": lambda: nn.Dropout(0.5),
        }
        self.inner = inner.get(kind, nn.Identity)()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.kind in ("gru", "rnn", "lstm"):
            x = self.inner(x)[0][:, -1]
        elif self.kind == "attention":
            x = self.inner(x, x, x)[0].mean(1)
        elif self.kind == "instance norm":
            x = self.inner(x).mean(1)
        else:
            x = self.inner(x[:, 0])
        if self.kind == "function":
            x = Doubled.apply(x)  # type: ignore[no-untyped-call]
        if self.kind == "in place":
            x = x.clone()
            x += 1
            x[:, 0].mul_(2)
        if self.kind == "branch" and x.sum() > 0:
            x = x.tanh()
        if self.kind == "twice":
            x = self.last(x) @ self.last.weight
        return self.last(x)


# LSTM in double precision; in single precision vmap takes it.
BY_VMAP = {
    "lstm": False, "attention": True, "batch norm": True, "layer norm": True, "group norm": True,
    "instance norm": True, "in place": True, "dropout": True, "twice": True, "gru": False, "rnn": False,
    "function": False, "branch": False,
}  # fmt: skip


def network(kind: str) -> tuple[Any, Tensor]:
    """A network in double precision and evaluation mode, and inputs."""
    torch.manual_seed(3)
    return Between(kind).double().eval(), torch.randn(7, 3, 4, dtype=torch.float64)


def two_vectors(logits: Tensor) -> Iterable[Tensor]:
    return [logits.tanh(), torch.ones_like(logits)]


@pytest.mark.parametrize("power", [torch.square, torch.abs])
@pytest.mark.parametrize("kind", BY_VMAP)
def test_sums_are_those_of_a_loop_over_samples(kind: str, power: Callable[[Tensor], Tensor]) -> None:
    model, x = network(kind)
    model.first.requires_grad_(False)
    sums = sum_over_samples(model, x, two_vectors, power)
    model.first.requires_grad_(True)
    expected = [torch.zeros_like(p) for p in model.parameters()]
    for n in range(len(x)):
        for k in range(2):
            out = model(x[n : n + 1])
            v = list(two_vectors(out.detach()))[k]
            gradients = torch.autograd.grad((out * v).sum(), list(model.parameters()))
            for total, g in zip(expected, gradients, strict=True):
                total += power(g)
    for a, b in zip(sums, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-14)
        assert float(b.abs().sum()) > 0


@pytest.mark.parametrize("kind", BY_VMAP)
def test_a_trial_tells_what_vmap_takes(kind: str) -> None:
    """As the docstring of `sum_over_samples` has it; the network and the global generators are left as they were."""
    model, x = network(kind)
    model.first.requires_grad_(False)
    before, chance = copy.deepcopy(dict(model.state_dict())), torch.get_rng_state()
    assert vectorises(model, x[:2]) == BY_VMAP[kind]
    assert_same(dict(model.state_dict()), before)
    assert torch.equal(torch.get_rng_state(), chance)
    assert [p.requires_grad for p in model.first.parameters()] == [False, False]


def test_dropout_that_is_always_on_is_differentiated_sample_by_sample() -> None:
    class Always(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(super().forward(x), 0.5, training=True)

    model, x = nn.Sequential(Always(4, 3), nn.Tanh(), nn.Linear(3, 3)).eval(), torch.randn(5, 4)
    chance = torch.get_rng_state()
    assert not vectorises(model, x[:2])
    assert torch.equal(torch.get_rng_state(), chance)
    sums = sum_over_samples(model, x, two_vectors, torch.square, together=False)
    assert all(bool(s.isfinite().all()) and float(s.sum()) > 0 for s in sums)


@pytest.mark.parametrize("strategy", ["ewc", "mas", "er+ewc"])
@pytest.mark.parametrize("cell", ["gru", "rnn", "lstm"])
def test_recurrent_networks_are_trained_to_the_end(cell: str, strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Rows(Between):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.view(len(x), -1, 4))

    def rows(shape: Any, outputs: int) -> nn.Module:
        model = Rows(cell)
        model.last = nn.Linear(4, outputs)
        return model

    model = f"model={{name: imported, factory: '{user_module(monkeypatch, rows)}:rows'}}"
    small = ["stream.tasks.count=2", "stream.synthetic.classes=4", "stream.synthetic.train_per_class=10"]
    trained: Any = unwatched(assembled(make_run(strategy, model, *small, iterations=2))).strategy
    part = trained.members["ewc"] if "+" in strategy else trained
    assert part.together == (cell == "lstm")
    assert sum(float(i.sum()) for i in part.importance) > 0


@pytest.mark.parametrize(
    ("strategy", "remedy"),
    [("ewc", "Set fisher: batched, or choose another network."), ("mas", "Choose another network.")],
)
def test_a_network_that_takes_no_single_sample_is_refused_before_training(
    strategy: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pairs(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) < 2:
                raise ValueError("two at least.\nAs a rule.")
            return super().forward(x)

    def pairs(shape: Any, outputs: int) -> nn.Module:
        return Pairs(nn.Linear(shape[0], outputs), nn.LayerNorm(outputs))

    model = f"model={{name: imported, factory: '{user_module(monkeypatch, pairs)}:pairs'}}"
    components = assembled(make_run(strategy, model))
    with pytest.raises(UserError) as caught:
        components.strategy.begin_experience(components.experience(0))
    assert str(caught.value) == (
        f"model: {strategy.upper()} needs gradients at single samples, which the network does not give "
        f"(ValueError: two at least). {remedy}"
    )
    if strategy == "ewc":
        unwatched(assembled(make_run("ewc", model, "strategy.fisher=batched")))


def test_a_module_with_two_names_keeps_its_weights() -> None:
    """torch's functional call leaves those of the call in such a module."""
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.Tanh(), layer)
    before = list(model.parameters())
    sum_over_samples(model, torch.randn(4, 3), two_vectors, torch.square)
    assert all(p is q for p, q in zip(model.parameters(), before, strict=True))
