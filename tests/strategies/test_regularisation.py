"""Methods that hold weights or outputs: importances by hand and by loops, reductions, exact resumption."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clbench import resolve, run_config
from clbench.errors import UserError
from clbench.runner import components
from clbench.strategies.ewc import fisher_diagonal, fold
from clbench.strategies.lwf import distillation
from clbench.strategies.mas import output_sensitivity
from clbench.strategies.shared.importance import quadratic_penalty
from clbench.strategies.si import SI as SynapticIntelligence
from clbench.strategies.si import SiConfig, path_importance
from clbench.strategy import evaluating
from clbench.testing.resume import check_resume
from clbench.testing.states import assert_same
from support import assembled, unwatched

EWC, SI, MAS, LWF = "ewc", "si", "mas", "lwf"
F = torch.nn.functional
SPLIT = "split_synthetic-v1"
CNN = ["model={name: cnn, channels: [4, 8], hidden: 16}"]


def make_run(*overrides: str, strategy: str, benchmark: str = SPLIT, iterations: int = 6) -> run_config.RunConfig:
    budget = f"training={{iterations: {iterations}, epochs: null, budget: experience}}"
    return resolve.make_run(benchmark, strategy=strategy, overrides=[budget, *overrides])


def bench(*overrides: str, **kwargs: Any) -> components.Components:
    run = make_run(*overrides, **kwargs)
    return assembled(run)


def live(
    b: components.Components, experiences: int, iterations: int = 6, at_end: Callable[[], None] | None = None
) -> Any:
    """Trains on the first experiences and begins the next one; `at_end` is called before each `end_experience`."""
    strategy: Any = b.strategy
    for v in range(experiences):
        experience = b.experience(v)
        strategy.begin_experience(experience)
        for batch in b.batches.of(experience, iterations):
            strategy.step(batch)
        if at_end is not None:
            at_end()
        strategy.end_experience(experience)
    strategy.begin_experience(b.experience(experiences))
    return strategy


def weights(b: components.Components) -> Tensor:
    unwatched(b)
    return torch.cat([p.detach().flatten() for p in b.strategy.model.parameters()])


def flat(tensors: Any) -> Tensor:
    return torch.cat([t.detach().flatten().double() for t in tensors])


def gradient(model: nn.Module, value: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(value, list(model.parameters()), retain_graph=True))


# ------------------------------------------------------------------------------------------------ Fisher information
class Logistic(nn.Module):
    """Logits (w x + b, 0): the first class has probability 1 / (1 + exp(-(w x + b)))."""

    def __init__(self, w: float, b: float) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1).double()
        self.line.weight.data.fill_(w)
        self.line.bias.data.fill_(b)

    def forward(self, x: Tensor) -> Tensor:
        z = self.line(x)
        return torch.cat([z, torch.zeros_like(z)], 1)


def batches_of(x: Tensor, y: Tensor, draws: Tensor, size: int, allowed: Tensor | None = None) -> Any:
    everything = torch.ones(len(x), int(y.max()) + 1, dtype=torch.bool) if allowed is None else allowed
    return zip(*(t.split(size) for t in (x, y, everything, draws)), strict=True)


def test_fisher_of_a_logistic_model_in_closed_form() -> None:
    """F_w = mean x^2 p (1 - p) and F_b = mean p (1 - p); with given labels mean x^2 (p - 1[y = 0])^2."""
    x, y = torch.tensor([[0.5], [-2.0], [3.0]], dtype=torch.float64), torch.tensor([0, 1, 1])
    draws = torch.tensor([[0.1], [0.9], [0.99]], dtype=torch.float64)
    model = Logistic(0.7, -0.2)
    p = 1 / (1 + np.exp(-(0.7 * x[:, 0].numpy() - 0.2)))  # 0.537, 0.168, 0.870
    drawn = np.array([0, 1, 1])  # 0.1 < 0.537; 0.9 > 0.168; 0.99 > 0.870
    residual = {"exact": p * (1 - p), "empirical": (p - (y.numpy() == 0)) ** 2, "sampled": (p - (drawn == 0)) ** 2}
    for kind, square in residual.items():
        found = fisher_diagonal(model, batches_of(x, y, draws, 3), kind)  # type: ignore[arg-type]
        assert found[0].item() == pytest.approx((x[:, 0].numpy() ** 2 * square).mean(), rel=1e-12)
        assert found[1].item() == pytest.approx(square.mean(), rel=1e-12)
    y = torch.tensor([1, 0, 0])  # of no consequence to the model's own labels
    again = fisher_diagonal(model, batches_of(x, y, draws, 3), "exact")
    assert again[1].item() == pytest.approx((p * (1 - p)).mean(), rel=1e-12)


def test_drawn_labels_follow_the_model() -> None:
    """One sample, p = 0.3: over 4,000 draws the mean is within 4.5 deviations of the exact p (1 - p) = 0.21.

    (p - 1)^2 = 0.49 with probability 0.3, p^2 = 0.09 with 0.7: deviation 0.183, of the mean 0.0029.
    """
    n, model = 4000, Logistic(0.0, float(np.log(0.3 / 0.7)))
    x, y = torch.ones(n, 1, dtype=torch.float64), torch.zeros(n, dtype=torch.int64)
    draws = torch.from_numpy(np.random.default_rng(0).random((n, 1)))
    batches = batches_of(x, torch.ones_like(y), draws, n)
    assert fisher_diagonal(model, batches, "sampled")[1].item() == pytest.approx(0.21, abs=4.5 * 0.0029)


def network(kind: str) -> tuple[nn.Module, Tensor]:
    """A network in double precision and evaluation mode, and inputs."""
    torch.manual_seed(3)
    layers: dict[str, list[nn.Module]] = {
        "mlp": [nn.Flatten(), nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 4, bias=False), nn.Tanh()],
        "cnn": [nn.Conv2d(1, 2, 2, (1, 2), (1, 0)), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(6, 4)],
        "sequence": [nn.Linear(3, 4), nn.Tanh(), nn.Flatten(), nn.Linear(8, 4)],  # the first layer's inputs are 3-D
    }
    shape = {"mlp": (6,), "cnn": (1, 2, 3), "sequence": (2, 3)}[kind]
    tail: list[nn.Module] = [nn.Linear(4, 3)]
    model = nn.Sequential(*layers[kind], *tail).double()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):  # as after some training
            for t in (m.running_mean, m.running_var, m.weight, m.bias):
                assert t is not None
                t.data += torch.rand(2)
    return model.eval(), torch.randn(7, *shape, dtype=torch.float64)


def twice_used() -> tuple[nn.Module, Tensor]:
    layer = nn.Linear(3, 3).double()
    return nn.Sequential(layer, nn.Tanh(), layer), torch.randn(7, 3, dtype=torch.float64)


def by_loop(model: nn.Module, x: Tensor, y: Tensor, kind: str, draws: Tensor, allowed: Tensor) -> Tensor:
    """The definition: one sample and one label at a time."""
    total = torch.zeros(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    for n in range(len(x)):
        log_p = F.log_softmax(model(x[n : n + 1]).masked_fill(~allowed[n], float("-inf")), 1)[0]
        p = log_p.detach().exp()
        labels = {c: float(p[c]) for c in range(len(p)) if allowed[n, c]}
        if kind == "empirical":
            labels = {int(y[n]): 1.0}
        if kind == "sampled":
            labels = {int((p.cumsum(0) > draws[n]).nonzero()[0]): 1.0}
        for c, weight in labels.items():
            total += weight * flat(gradient(model, log_p[c])).square()
    return total / len(x)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["exact", "sampled", "empirical"])
@pytest.mark.parametrize("net", ["mlp", "cnn", "sequence", "twice"])
def test_fisher_is_that_of_a_loop_over_samples(net: str, kind: Any, masked: bool) -> None:
    model, x = twice_used() if net == "twice" else network(net)
    y, draws = torch.tensor([0, 1, 2, 0, 1, 2, 0]), torch.rand(7, 1, dtype=torch.float64)
    allowed = torch.ones(7, 3, dtype=torch.bool)
    if masked:  # per sample, as in a batch of several tasks
        allowed[torch.arange(7), (y + 1) % 3] = False
    expected = by_loop(model, x, y, kind, draws, allowed)
    assert (expected > 0).sum() > 10
    found = flat(fisher_diagonal(model, batches_of(x, y, draws, 4, allowed), kind))
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-18)


def test_fisher_is_that_of_finite_differences() -> None:
    model, x = network("mlp")
    y = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    with torch.no_grad():
        p, squares = model(x).softmax(1), []
        for w in model.parameters():
            for i in range(w.numel()):
                either = []
                for step in (1e-6, -2e-6):
                    w.view(-1)[i] += step
                    either.append(model(x).log_softmax(1))
                w.view(-1)[i] += 1e-6
                squares.append((p * ((either[0] - either[1]) / 2e-6).square()).sum(1).mean())
    found = flat(fisher_diagonal(model, batches_of(x, y, torch.zeros(7, 1), 7)))
    assert torch.allclose(found, torch.stack(squares), rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("kind", ["exact", "sampled", "empirical"])
def test_fisher_does_not_depend_on_batches(kind: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
    x, y, draws = torch.randn(100, 20), torch.randint(5, (100,)), torch.rand(100, 1, dtype=torch.float64)
    one, ten, hundred = (flat(fisher_diagonal(model, batches_of(x, y, draws, n), kind)) for n in (1, 10, 100))
    assert torch.allclose(one, hundred, rtol=1e-5, atol=0)
    assert torch.allclose(ten, hundred, rtol=1e-5, atol=0)


def test_fisher_of_squared_error() -> None:
    """Logits w x without a bias and unit variance: exact mean x^2 for each output's weight, whatever w and y."""
    model = nn.Linear(1, 2, bias=False).double()
    x, y, noise = torch.tensor([[1.0], [3.0]]).double(), torch.tensor([0, 1]), torch.tensor([[1.0, 2.0], [0.5, -1.0]])
    batch = lambda: batches_of(x, y, noise, 2)  # noqa: E731
    assert flat(fisher_diagonal(model, batch(), "exact", True)).tolist() == [5.0, 5.0]
    assert flat(fisher_diagonal(model, batch(), "sampled", True)).tolist() == [(1 + 9 / 4) / 2, (4 + 9) / 2]
    model.weight.data = torch.tensor([[1.0], [2.0]]).double()  # residuals (0, 2) and (3, 5)
    assert flat(fisher_diagonal(model, batch(), "empirical", True)).tolist() == [81 / 2, (4 + 225) / 2]


def test_batched_is_the_squared_mean_gradient() -> None:
    b = bench("strategy.fisher=batched", "strategy.fisher_batch=50", strategy=EWC)
    strategy = live(b, 1)
    experience, model = b.experience(0), copy.deepcopy(strategy.model)
    model.load_state_dict(dict(zip(model.state_dict(), strategy.anchor, strict=True)))
    index, task = torch.from_numpy(experience.index), torch.from_numpy(experience.task)
    expected, batches = 0.0, 0
    for a in range(0, len(index), 50):
        x, y = b.samples.fetch(index[a : a + 50], task[a : a + 50])
        expected = expected + flat(gradient(model, F.cross_entropy(model(x), y))).square()
        batches += 1
    assert batches > 3
    found = flat(strategy.importance)
    assert torch.allclose(found, expected / batches, rtol=1e-4, atol=1e-12)
    one = flat(live(bench("strategy.fisher=batched", "strategy.fisher_batch=1", strategy=EWC), 1).importance)
    empirical = flat(live(bench("strategy.fisher=empirical", strategy=EWC), 1).importance)
    assert torch.allclose(one, empirical, rtol=1e-3, atol=1e-10)
    assert found.sum() < 0.5 * empirical.sum()


@pytest.mark.parametrize("active", ["all", "task", "seen", "batch"])
def test_the_outputs_of_the_training_loss_are_those_of_the_fisher(active: str) -> None:
    """The head's rows of outputs that do not take part have no importance."""
    overrides = ["stream.setting=task"] if active == "task" else [f"training.active_outputs={active}"]
    b = bench(*overrides, strategy=EWC)
    strategy = live(b, 2)
    of_head = strategy.importance[-1]
    some = {o for t in b.stream.tasks[:2] for o in t.targets}
    expected = set(range(10)) if active == "all" else some
    assert set(of_head.nonzero().flatten().tolist()) == expected


def test_the_subset_is_drawn_and_large_enough_means_all() -> None:
    every = live(bench(strategy=EWC), 1)
    same = live(bench("strategy.fisher_samples=100000", strategy=EWC), 1)
    assert_same(every.state_dict(), same.state_dict())
    some = live(bench("strategy.fisher_samples=20", strategy=EWC), 1)
    assert not torch.equal(some.importance[0], every.importance[0])
    assert torch.equal(some.anchor[0], every.anchor[0])
    assert flat(some.importance).mean() == pytest.approx(flat(every.importance).mean().item(), rel=0.8)


# ------------------------------------------------------------------------------------------------ the network stays
KINDS = ["exact", "sampled", "empirical", "batched"]


@pytest.mark.parametrize(
    "setting", [*[(EWC, f"strategy.fisher={kind}") for kind in KINDS], (MAS, "strategy.samples=5")]
)
def test_the_network_is_left_as_it_was(setting: tuple[str, str]) -> None:
    """Batch normalisation with one layer frozen by hand, gradients from the last update, global generators."""
    small = ["model={name: slim_resnet18, filters: 2}", "training.batch_size=16", "stream.tasks.count=2"]
    b = bench(*small, setting[1], strategy=setting[0], benchmark="split_digits-v1")
    strategy: Any = b.strategy
    experience = b.experience(0)
    experience = replace(experience, index=experience.index[:6], task=experience.task[:6])
    strategy.begin_experience(experience)
    strategy.step(next(b.batches.of(experience, 1)))
    strategy.model[0][1].eval()
    strategy.model[0][0].weight.requires_grad_(False)

    def seen() -> dict[str, Any]:
        return {
            "state": {k: v.clone() for k, v in strategy.model.state_dict().items()},
            "modes": [m.training for m in strategy.model.modules()],
            "learns": [p.requires_grad for p in strategy.model.parameters()],
            "gradients": [None if p.grad is None else p.grad.clone() for p in strategy.model.parameters()],
            "hooks": [len(m._forward_hooks) for m in strategy.model.modules()],
            "global": [torch.get_rng_state(), np.random.get_state()[1]],
        }

    before = seen()
    strategy.end_experience(experience)
    assert_same(seen(), before)
    assert before["modes"].count(False) == 1
    assert len(strategy.anchor) == len(list(strategy.model.parameters()))


def test_modes_are_put_back_after_an_error() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3).eval())

    def fail() -> None:
        with evaluating(model):
            assert not any(m.training for m in model.modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [m.training for m in model.modules()] == [True, True, False]


# ------------------------------------------------------------------------------------------------ the penalty
def test_the_penalty_and_its_gradient_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    ws = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((3, 4), (5,), (2, 3, 2))]
    anchor, importance = [torch.randn_like(w) for w in ws], [torch.rand_like(w) for w in ws]
    value = quadratic_penalty(ws, anchor, importance)
    plain = torch.stack([(f * (w - a) ** 2).sum() for w, a, f in zip(ws, anchor, importance, strict=True)]).sum()
    assert torch.allclose(value, plain, rtol=1e-12)
    for g, h in zip(torch.autograd.grad(value, ws), torch.autograd.grad(plain, ws), strict=True):
        assert torch.allclose(g, h, rtol=1e-12)


@pytest.mark.parametrize("overrides", [[], ["strategy.mode=online", "strategy.decay=0.5"]])
@pytest.mark.parametrize("net", ["mlp", "cnn"])
def test_the_penalty_after_several_experiences(overrides: list[str], net: str) -> None:
    """Against the sum over experiences written out in double precision: strength/2 sum_k sum_i F_k (w - w_k)^2."""
    benchmark = {"mlp": SPLIT, "cnn": "split_digits-v1"}[net]
    b = bench("strategy.strength=4", *overrides, *(CNN if net == "cnn" else []), strategy=EWC, benchmark=benchmark)
    strategy: Any = b.strategy
    anchors: list[Tensor] = []
    fishers: list[Tensor] = []

    def note() -> None:
        anchors.append(flat(strategy.model.parameters()))
        fishers.append(flat(strategy._fisher(b.experience(len(fishers)))))

    live(b, 4, at_end=note)
    strategy.step(next(b.batches.of(b.experience(4), 1)))
    w = flat(strategy.model.parameters())
    springs = list(zip(anchors, fishers, strict=True))
    if overrides:
        springs = [(anchors[3], 0.125 * fishers[0] + 0.25 * fishers[1] + 0.5 * fishers[2] + fishers[3])]
    penalty = strategy.penalty()
    assert penalty.item() == pytest.approx(2 * sum((f * (w - a).square()).sum().item() for a, f in springs), rel=1e-5)
    expected = sum(4 * f * (w - a) for a, f in springs)
    assert isinstance(expected, Tensor)
    error = flat(gradient(strategy.model, penalty)) - expected
    assert error.norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("experiences", [2, 50, 400])
def test_folding_is_exact_to_half_a_unit_in_the_last_place_of_a_weight(experiences: int) -> None:
    """Importances over 12 orders of magnitude, anchors near each other, as long training leaves them.

    Weights are in (0.5, 1), where a unit in the last place is 2^-24. Beside the rounding of m there is that of the sum
    of importances: half a unit for each addition, relative to the distance.
    """
    rng = torch.Generator().manual_seed(0)
    n = 10_000
    base = 0.6 + 0.3 * torch.rand(n, generator=rng)
    near = lambda: base + 0.001 * torch.randn(n, generator=rng)  # noqa: E731
    pairs = [(near(), 10 ** (-12 * torch.rand(n, generator=rng))) for _ in range(experiences)]
    mean, total, constant = [pairs[0][0].double()], [pairs[0][1]], 0.0
    for a, f in pairs[1:]:
        mean, total, more = fold(mean, total, [a], [f])
        constant += more
    w = near()
    exact = torch.stack([f.double() * (w.double() - a.double()) for a, f in pairs]).sum(0)
    all_of_it = torch.stack([f.double() for _, f in pairs]).sum(0)
    folded = total[0] * (w - mean[0].float())
    moved = ((folded - exact) / all_of_it).abs() / 2**-24
    assert moved.max() <= 0.5 + 0.5 * experiences * float((w - mean[0]).abs().max())
    assert moved.mean() < 0.3
    value = float(sum((f.double() * (w.double() - a.double()).square()).sum() for a, f in pairs))
    found = float(quadratic_penalty([w], [mean[0].float()], total)) + constant
    assert found == pytest.approx(value, rel=1e-5)


def test_the_mean_goes_on_in_double_precision() -> None:
    b = bench(strategy=EWC)
    strategy: Any = b.strategy
    before: list[Any] = []

    def note() -> None:
        before[:] = [strategy.mean, strategy.importance]

    live(b, 3, at_end=note)  # after the third, the network is as it was at its end
    again = fold(*before, strategy.weights(), strategy._fisher(b.experience(2)))
    assert_same(strategy.mean, again[0])
    assert_same(strategy.anchor, [m.float() for m in strategy.mean])


def test_folding_weights_without_importance() -> None:
    mean, total, constant = fold([torch.ones(1).double()], [torch.zeros(1)], [torch.tensor([2.0])], [torch.zeros(1)])
    assert (mean[0].item(), total[0].item(), constant) == (2.0, 0.0, 0.0)


def test_one_experience_is_the_same_in_both_modes() -> None:
    two = ["stream.tasks.count=2", "strategy.strength=100"]
    separate = weights(bench(*two, strategy=EWC))
    online = weights(bench(*two, "strategy.mode=online", "strategy.decay=0.3", strategy=EWC))
    assert torch.equal(separate, online)
    assert not torch.equal(separate, weights(bench(two[0], strategy="naive")))


@pytest.mark.parametrize(("mode", "bytes_a_weight"), [("separate", 4 + 4 + 8), ("online", 4 + 4)])
def test_the_memory_does_not_grow(mode: str, bytes_a_weight: int) -> None:
    b = bench(f"strategy.mode={mode}", strategy=EWC)
    assert b.strategy.memory().bytes == 0
    strategy = live(b, 3)
    parameters = sum(p.numel() for p in strategy.model.parameters())
    assert strategy.memory().bytes == bytes_a_weight * parameters
    assert strategy.memory().samples == 0


# ------------------------------------------------------------------------------------------------ synaptic intelligence
class OnePulled(SynapticIntelligence):
    """One weight w and the loss (w - target)^2 / 2 in place of a network and data."""

    target = 1.0

    def loss(self, batch: Any) -> Tensor:
        return 0.5 * (self.model.w - self.target).square()


class One(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.0, dtype=torch.float64))


@pytest.mark.parametrize("path", ["data", "total"])
def test_importance_of_one_weight_on_a_parabola(path: Any) -> None:
    """lr 0.1, xi 0.1, c 2. First towards 1 from 0: g = -1, -0.9, -0.81, dw = 0.1, 0.09, 0.081; then towards 2.

    omega = 0.1 + 0.081 + 0.06561 = 0.24661, moved 0.271: Omega = 0.24661 / (0.271^2 + 0.1).
    """
    b = bench(strategy="naive")
    setup = replace(b.strategy.setup, model=One(), make_optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    strategy = OnePulled(SiConfig(strength=2.0, damping=0.1, path=path), setup)
    batch: Any = None
    for _ in range(2):
        strategy.begin_experience(b.experience(0))
        for _ in range(3):
            strategy.step(batch)
        if strategy.target == 1.0:
            assert strategy.omega[0].item() == pytest.approx(0.24661, rel=1e-12)
            assert strategy.penalty() is None
            strategy.end_experience(b.experience(0))
            first = 0.24661 / (0.271**2 + 0.1)
            assert strategy.importance[0].item() == pytest.approx(first, rel=1e-12)
            assert strategy.anchor[0].item() == pytest.approx(0.271, rel=1e-12)
            strategy.target = 2.0
    w, omega = 0.271, 0.0
    for _ in range(3):
        g, pull = w - 2.0, 2 * 2.0 * first * (w - 0.271)
        omega -= (g if path == "data" else g + pull) * -0.1 * (g + pull)
        w -= 0.1 * (g + pull)
    assert strategy.omega[0].item() == pytest.approx(omega, rel=1e-12)
    assert strategy.penalty() is not None
    strategy.end_experience(b.experience(0))
    expected = first + omega / ((w - 0.271) ** 2 + 0.1)
    assert strategy.importance[0].item() == pytest.approx(expected, rel=1e-12)
    assert strategy.anchor[0].item() == pytest.approx(w, rel=1e-12)


def test_a_weight_that_raised_the_loss_has_negative_importance() -> None:
    assert path_importance(torch.tensor([-1.0]), torch.tensor([1.0]), 1.0).item() == -0.5


def test_the_path_is_that_of_the_optimiser_and_the_loss_falls_along_it() -> None:
    """With small steps the sum of omega is the fall of the loss on a batch that is always the same."""
    b = bench("training.optimizer={name: sgd, lr: 1e-3, momentum: 0.9}", strategy=SI)
    strategy: Any = b.strategy
    strategy.begin_experience(b.experience(0))
    batch = next(b.batches.of(b.experience(0), 1))
    losses = [strategy.step(batch).item() for _ in range(100)]
    assert losses[0] - losses[-1] > 0.1
    last = strategy.loss(batch).item()
    assert flat(strategy.omega).sum().item() == pytest.approx(losses[0] - last, rel=0.02)


# ------------------------------------------------------------------------------------------------ memory aware synapses
@pytest.mark.parametrize("net", ["mlp", "cnn"])
def test_sensitivity_of_the_outputs_is_that_of_a_loop_over_samples(net: str) -> None:
    model, x = network(net)
    active = torch.ones(7, 3, dtype=torch.bool)
    active[:4, 1] = False
    expected = torch.zeros(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    for n in range(7):
        length = (model(x[n : n + 1])[0] * active[n]).square().sum()
        expected += flat(gradient(model, length)).abs()
    found = flat(output_sensitivity(model, x, active))
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-16)
    whole = flat(gradient(model, (model(x) * active).square().sum())).abs()
    assert (found > whole * 1.01).any(), "samples do not cancel each other"


@pytest.mark.parametrize("accumulate", ["sum", "mean"])
def test_importances_accumulate(accumulate: str) -> None:
    b = bench(f"strategy.accumulate={accumulate}", "strategy.strength=0.5", strategy=MAS)
    strategy: Any = b.strategy
    single: list[Tensor] = []
    live(b, 3, at_end=lambda: single.append(flat(strategy._importance(b.experience(len(single))))))
    expected = torch.stack(single).sum(0) / (3 if accumulate == "mean" else 1)
    assert torch.allclose(flat(strategy.importance), expected, rtol=1e-5)
    before = flat(strategy.anchor)
    strategy.step(next(b.batches.of(b.experience(3), 1)))
    moved = flat(strategy.model.parameters()) - before
    assert strategy.penalty().item() == pytest.approx(0.5 * (expected * moved.square()).sum().item(), rel=1e-4)


def test_samples_without_labels_count() -> None:
    """One sample in four has a label; importance is the mean over all of them."""
    b = bench("stream.supervision={labelled: 0.25}", strategy=MAS)
    experience = b.experience(0)
    rows = torch.from_numpy(np.concatenate([experience.index, experience.unlabelled]))
    assert len(rows) > 3 * len(experience.index)
    x, _ = b.samples.fetch(rows, 0)
    strategy: Any = b.strategy
    expected = flat(output_sensitivity(strategy.model, x, torch.ones(len(x), 10))) / len(x)
    assert torch.allclose(flat(strategy._importance(experience)), expected, rtol=1e-5, atol=1e-9)


# ------------------------------------------------------------------------------------------------ old answers
def test_distillation_by_hand() -> None:
    """T = 2: softmax((ln 9, 0) / 2) = (3/4, 1/4) is answered with (1/2, 1/2): cross-entropy ln 2; a softmax a group."""
    old = torch.tensor([[np.log(9.0), 0.0, 5.0]])
    new = torch.tensor([[1.0, 1.0, 7.0]])
    assert distillation(new, old, [[0, 1]], 2.0).item() == pytest.approx(np.log(2))
    turned = distillation(old, new, [[0, 1]], 2.0).item()
    assert turned == pytest.approx(-0.5 * np.log(3 / 4) - 0.5 * np.log(1 / 4))
    both = distillation(torch.cat([new, old]), torch.cat([old, new]), [[0, 1]], 2.0).item()
    assert both == pytest.approx((np.log(2) + turned) / 2)


@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize("setting", ["class", "class, all", "task", "domain"])
def test_the_loss_of_old_answers(setting: str, growing: bool) -> None:
    """Against the formula with the network as it was at the end of the second experience."""
    overrides = {"task": ["stream.setting=task"], "class, all": ["strategy.outputs=all"]}.get(setting, [])
    if setting == "domain":
        overrides = ["stream.setting=domain", "stream.tasks.labels=within_task"]
    grow = f"strategy.growing={str(growing).lower()}"
    b = bench(*overrides, grow, "strategy.alpha=0.7", "strategy.temperature=3", strategy=LWF)
    strategy: Any = b.strategy
    kept: list[nn.Module] = []
    live(b, 2, at_end=lambda: kept.append(copy.deepcopy(strategy.model)))
    for batch in b.batches.of(b.experience(2), 2):
        own = [list(t.targets) for t in b.stream.tasks]
        groups = {
            "class": [sorted({*own[0], *own[1]})],
            "class, all": [list(range(10))],
            "task": own[:2],
            "domain": [[0, 1]],
        }[setting]
        logits, old = strategy.model(batch.x), kept[-1](batch.x)
        expected = strategy.criterion(logits, batch.y, batch.task)
        for g in groups:
            q, log_p = (old[:, g] / 3).softmax(1), (logits[:, g] / 3).log_softmax(1)
            expected = expected - 0.7 * (2 if growing else 1) * (q * log_p).sum(1).mean()
        assert strategy.loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)
        strategy.step(batch)
    assert not any(p.requires_grad for p in strategy.old.parameters())
    assert strategy.memory().bytes == 4 * sum(p.numel() for p in strategy.model.parameters())


def test_old_answers_are_those_of_a_network_that_is_not_trained() -> None:
    """Copied in evaluation mode: neither updates nor batch statistics of the new samples move it."""
    small = ["model={name: slim_resnet18, filters: 2}", "training.batch_size=16"]
    b = bench(*small, strategy=LWF, benchmark="split_digits-v1", iterations=2)
    strategy = live(b, 1, iterations=2)
    before = {k: v.clone() for k, v in strategy.old.state_dict().items()}
    for batch in b.batches.of(b.experience(1), 2):
        strategy.step(batch)
    assert_same(dict(strategy.old.state_dict()), before)
    assert not any(m.training for m in strategy.old.modules())
    assert all(m.training for m in strategy.model.modules())


# ------------------------------------------------------------------------------------------------ reductions
NOTHING = [
    *[(EWC, ["strategy.strength=0", f"strategy.fisher={kind}"]) for kind in KINDS],
    (EWC, ["strategy.strength=0", "strategy.mode=online"]),
    (SI, ["strategy.strength=0"]),
    (SI, ["strategy.strength=0", "strategy.path=total"]),
    (MAS, ["strategy.strength=0"]),
    (LWF, ["strategy.alpha=0"]),
]


@pytest.mark.parametrize(("strategy", "overrides"), NOTHING)
def test_without_strength_it_is_naive(strategy: str, overrides: list[str]) -> None:
    assert torch.equal(weights(bench(*overrides, strategy=strategy)), weights(bench(strategy="naive")))


@pytest.mark.parametrize("strategy", [EWC, SI, MAS, LWF])
def test_in_one_experience_it_is_naive(strategy: str) -> None:
    one = "stream.tasks.count=1"
    assert torch.equal(weights(bench(one, strategy=strategy)), weights(bench(one, strategy="naive")))


def test_replay_and_a_penalty_for_one_step() -> None:
    """er+ewc: the loss is that of replay, written out, plus the penalty."""
    b = bench("strategy.ewc.strength=10", strategy=f"er+{EWC}", iterations=4)
    strategy = live(b, 2, iterations=4)
    strategy.step(next(b.batches.of(b.experience(2), 1)))
    batch = next(b.batches.of(b.experience(2), 1))
    er, ewc = strategy.members["er"], strategy.members["ewc"]
    assert ewc.model is er.model
    state = er.setup.generator.state_dict()
    data = er.loss(batch)  # of batch and replayed samples; test_replay.py has it by hand
    er.setup.generator.load_state_dict(state)
    triples = zip(strategy.model.parameters(), ewc.anchor, ewc.importance, strict=True)
    spring = torch.stack([(f * (w - a).square()).sum() for w, a, f in triples]).sum()
    expected = data + 5 * (spring + ewc.constant)
    gradients = gradient(strategy.model, expected)
    assert spring.item() > 0
    assert strategy.step(batch).item() == pytest.approx(expected.item(), rel=1e-5)
    for p, g in zip(strategy.model.parameters(), gradients, strict=True):
        assert torch.allclose(p.grad, g, rtol=1e-3, atol=1e-7)


# ------------------------------------------------------------------------------------------------ resumption, streams
RESUMED = [
    (EWC, ["strategy.fisher_samples=30", "strategy.fisher=sampled", "strategy.strength=5"]),
    (EWC, ["strategy.mode=online", "strategy.decay=0.9"]),
    (EWC, ["strategy.fisher=batched"]),
    (SI, []),
    (MAS, ["strategy.samples=30", "strategy.accumulate=mean"]),
    (LWF, ["strategy.growing=true"]),
    (f"{LWF}+{EWC}+{SI}", ["strategy.ewc.strength=5"]),
    (f"er+{EWC}", ["strategy.ewc={fisher: sampled, fisher_samples: 30, strength: 5}"]),
]


@pytest.mark.parametrize(("strategy", "overrides"), RESUMED)
def test_it_goes_on_where_it_was_stopped(strategy: str, overrides: list[str]) -> None:
    small = ["training={iterations: 7, epochs: null, batch_size: 60}", "stream.tasks.count=3", "evaluation.every=0"]
    check_resume(resolve.make_run(SPLIT, strategy=strategy, overrides=[*small, *overrides]))  # 4 updates a pass


STREAMS = {
    "online": (SPLIT, ["stream.online=50"]),
    "recurrent": ("power_law_digits-v1", []),
    "domain": ("permuted_digits-v1", []),
    "cnn": ("split_digits-v1", CNN),
    "squared error": (SPLIT, ["training.loss=squared_error", "training.optimizer={name: sgd, lr: 0.01}"]),
    "task": (SPLIT, ["stream.setting=task"]),
}


@pytest.mark.parametrize(
    ("strategy", "stream"),
    [(s, name) for s in (EWC, SI, MAS, LWF) for name in STREAMS if (s, name) != (LWF, "squared error")],
)
def test_streams(strategy: str, stream: str) -> None:
    benchmark, overrides = STREAMS[stream]
    end = weights(bench(*overrides, strategy=strategy, benchmark=benchmark, iterations=2))
    assert end.isfinite().all()
    naive = weights(bench(*overrides, strategy="naive", benchmark=benchmark, iterations=2))
    assert not torch.equal(end, naive)


def test_lwf_keeps_the_network_of_the_last_experience_and_not_of_a_piece() -> None:
    b = bench("stream.online=50", "strategy.growing=true", strategy=LWF)
    pieces = sum(b.experience(v).tasks == b.experience(0).tasks for v in range(8))
    assert pieces == 4
    strategy = live(b, pieces - 1, iterations=2)
    assert (strategy.old, strategy.ended) == (None, 0)
    strategy.end_experience(b.experience(pieces - 1))
    kept = flat(strategy.old.parameters())
    assert torch.equal(kept, flat(strategy.model.parameters()))
    for v in (pieces, pieces + 1):
        strategy.begin_experience(b.experience(v))
        for batch in b.batches.of(b.experience(v), 2):
            strategy.step(batch)
        strategy.end_experience(b.experience(v))
    assert strategy.ended == 1
    assert torch.equal(kept, flat(strategy.old.parameters()))


@pytest.mark.parametrize(
    ("strategy", "overrides", "sentence"),
    [
        (EWC, ["strategy.fisher_batch=9"], "'fisher_batch' has no effect with 'fisher: exact'"),
        (EWC, ["strategy.decay=0.5"], "'decay' needs 'mode: online'"),
        (EWC, ["strategy.strength=-1"], "strength"),
        (SI, ["strategy.damping=0"], "damping"),
        (LWF, ["training.loss=squared_error"], "'lwf' keeps probabilities"),
        (LWF, ["stream.setting=task", "strategy.outputs=all"], "has no effect where each task has outputs of its own"),
        (LWF, ["protocol.boundaries=false", "stream.online=50"], "boundaries"),
        (f"er+{LWF}", [], "both define the training objective"),
        (EWC, ["protocol.boundaries=false", "stream.online=50"], "boundaries"),
    ],
)
def test_refusals(strategy: str, overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        bench(*overrides, strategy=strategy)
