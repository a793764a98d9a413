"""CLASSP: steps by hand, reductions, and the optimiser as a strategy."""

from __future__ import annotations

import copy
import importlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from clbench import resolve
from clbench.errors import UserError
from clbench.runner import components
from clbench.strategies.classp_optimizer import CLASSP
from clbench.testing.resume import check_resume
from clbench.testing.states import assert_same
from support import assembled, unwatched

GRADIENTS = [[3.0, -0.5, 0.0, 1.0], [-4.0, 2.0, 0.0, 0.5], [0.5, 1.0, 0.25, -2.0]]
"""Three steps of four coordinates."""


def parameter(values: list[float]) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def stepped(optimizer: torch.optim.Optimizer, p: nn.Parameter, gradients: list[list[float]]) -> list[float]:
    for g in gradients:
        p.grad = torch.tensor(g, dtype=p.dtype)
        optimizer.step()
    return list(p.detach().tolist())


def accumulator(optimizer: Any, p: nn.Parameter) -> list[float]:
    return list(optimizer.state[p]["accumulator"].tolist())


def random_net(seed: int = 0) -> tuple[nn.Module, list[nn.Parameter]]:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(7, 9), nn.ReLU(), nn.Linear(9, 3))
    return net, list(net.parameters())


def random_gradients(params: list[nn.Parameter], generator: torch.Generator) -> None:
    """Also exact zeros, and one parameter without a gradient every third time."""
    for i, p in enumerate(params):
        g = torch.randn(p.shape, generator=generator)
        p.grad = None if i == 1 and torch.rand((), generator=generator) < 1 / 3 else g * (g.abs() > 0.3)


# ------------------------------------------------------------------------------------------------ by hand
def test_three_steps_of_the_papers_rule_by_hand() -> None:
    """p = 2, threshold 0.25, epsilon 0: squares 9 .25 0 1, then 16 4 0 .25, then .25 1 .0625 4; .25 is not above it.

    A: 9 0 0 1, then 25 4 0 1, then 25 5 0 5. Updates / lr: 3/3 0 0 1/1, then -4/5 2/2 0 0, then 0 1/sqrt 5 0 -2/sqrt 5.
    """
    p = parameter([1.0, 1.0, 1.0, 1.0])
    optimizer = CLASSP([p], lr=0.1, threshold=0.25, epsilon=0.0, power=2.0)
    assert stepped(optimizer, p, GRADIENTS[:1]) == pytest.approx([0.9, 1.0, 1.0, 0.9], abs=1e-15)
    assert accumulator(optimizer, p) == [9, 0, 0, 1]
    assert stepped(optimizer, p, GRADIENTS[1:2]) == pytest.approx([0.98, 0.9, 1.0, 0.9], abs=1e-15)
    assert accumulator(optimizer, p) == [25, 4, 0, 1]
    root = 5**0.5
    third = [0.98, 0.9 - 0.1 / root, 1.0, 0.9 + 0.2 / root]
    assert stepped(optimizer, p, GRADIENTS[2:]) == pytest.approx(third, abs=1e-15)
    assert accumulator(optimizer, p) == [25, 5, 0, 5]
    assert optimizer.suppressed == pytest.approx(6 / 12)


def test_three_steps_of_the_published_code_by_hand() -> None:
    """The gate is open for the whole tensor and A sums absolute values, whatever p is: 3 .5 0 1, then 7 2.5 0 1.5,
    then 7.5 3.5 .25 3.5. With p = 2 and epsilon 1 the divisors are the roots of that plus 1."""
    p = parameter([1.0, 1.0, 1.0, 1.0])
    optimizer = CLASSP([p], lr=0.1, threshold=0.99, epsilon=1.0, power=2.0, variant="official")
    expected = np.ones(4)
    for g, a in zip(GRADIENTS, [[3, 0.5, 0, 1], [7, 2.5, 0, 1.5], [7.5, 3.5, 0.25, 3.5]], strict=True):
        expected -= 0.1 * np.array(g) / np.sqrt(1 + np.array(a))
        assert stepped(optimizer, p, [g]) == pytest.approx(expected.tolist(), abs=1e-15)
        assert accumulator(optimizer, p) == a
    assert optimizer.suppressed == 0.0


def test_the_published_codes_gate() -> None:
    """Closed for a tensor of zeros, and for everything from a threshold of 1 on."""
    one, other = parameter([1.0, 2.0]), parameter([3.0, 4.0])
    optimizer = CLASSP([one, other], lr=0.1, threshold=0.5, variant="official")
    one.grad, other.grad = torch.zeros(2, dtype=torch.float64), torch.tensor([0.0, 1e-3], dtype=torch.float64)
    optimizer.step()
    assert one.tolist() == [1.0, 2.0]
    assert other[1] < 4.0
    assert optimizer.suppressed == 0.5
    p = parameter([1.0])
    assert stepped(CLASSP([p], threshold=1.0, variant="official"), p, [[100.0]]) == [1.0]


def test_without_decay_it_is_gradient_descent_through_the_gate_and_still_accumulates() -> None:
    p = parameter([1.0, 1.0, 1.0, 1.0])
    optimizer = CLASSP([p], lr=0.1, threshold=0.25, power=1.0, apply_decay=False)
    assert stepped(optimizer, p, GRADIENTS) == pytest.approx([1.1, 0.7, 1.0, 1.1], abs=1e-15)
    assert accumulator(optimizer, p) == [7, 3, 0, 3]
    optimizer.param_groups[0]["apply_decay"] = True
    optimizer.param_groups[0]["epsilon"] = 0.0
    assert stepped(optimizer, p, [[1.0, 1.0, 0.0, -1.0]]) == pytest.approx(
        [1.1 - 0.1 / 8, 0.7 - 0.1 / 4, 1.0, 1.1 + 0.1 / 4], abs=1e-15
    )


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_any_power_in_numpy(variant: Any, power: float, foreach: bool) -> None:
    rng = np.random.default_rng(0)
    p = nn.Parameter(torch.zeros(50, dtype=torch.float64))
    optimizer = CLASSP([p], 0.1, 0.3, 1e-3, power, variant=variant, foreach=foreach)
    w, a = np.zeros(50), np.zeros(50)
    for _ in range(4):
        g = rng.normal(size=50)
        gated = np.where(g * g > 0.3, g, 0.0) if variant == "paper" else g
        a += np.abs(gated) ** (power if variant == "paper" else 1)
        w -= 0.1 * gated / (1e-3 + a) ** (1 / power)
        p.grad = torch.from_numpy(g)
        optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), w, rtol=1e-12)


# ------------------------------------------------------------------------------------------------ reductions
@pytest.mark.parametrize("epsilon", [0.0, 1e-5])
def test_threshold_0_and_power_2_is_adagrad(epsilon: float) -> None:
    """Bit for bit with epsilon 0. Else Adagrad has epsilon as the first term of its sum and here it is the last, which
    rounds differently: in float64 the two agree to 1e-12."""
    dtype = torch.float32 if epsilon == 0 else torch.float64
    nets = [random_net()[0].to(dtype) for _ in range(2)]
    params = [list(net.parameters()) for net in nets]
    ours = CLASSP(params[0], lr=0.1, threshold=0.0, epsilon=epsilon, power=2.0)
    theirs = torch.optim.Adagrad(params[1], lr=0.1, initial_accumulator_value=epsilon, eps=0.0, foreach=False)
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        x = torch.randn(16, 7, generator=generator).to(dtype)
        for net, optimizer in zip(nets, (ours, theirs), strict=True):
            optimizer.zero_grad()
            (torch.sigmoid(net[2](torch.tanh(net[0](x)))).square().sum()).backward()  # no gradient of it is 0
            optimizer.step()
    for a, b in zip(*params, strict=True):
        assert torch.equal(a, b) if epsilon == 0 else torch.allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("apply_decay", [True, False])
def test_the_variants_coincide_with_threshold_0_and_power_1(apply_decay: bool) -> None:
    params = [random_net()[1] for _ in range(2)]
    both = [
        CLASSP(p, 0.1, 0.0, 1e-5, 1.0, variant=v, apply_decay=apply_decay)
        for p, v in zip(params, ("paper", "official"), strict=True)
    ]
    for p, optimizer in zip(params, both, strict=True):
        generator = torch.Generator().manual_seed(1)
        for _ in range(10):
            random_gradients(p, generator)
            optimizer.step()
    for a, b in zip(*params, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("epsilon", [0.0, 1e-5])
@pytest.mark.parametrize("foreach", [False, True])
def test_a_threshold_above_all_gradients_changes_nothing(foreach: bool, epsilon: float) -> None:
    _, params = random_net()
    before = [p.detach().clone() for p in params]
    optimizer = CLASSP(params, 10.0, 1e6, epsilon, 2.0, foreach=foreach)
    for _ in range(3):
        random_gradients(params, torch.Generator().manual_seed(2))
        optimizer.step()
    assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))
    assert not any(s["accumulator"].any() for s in optimizer.state.values())
    assert optimizer.suppressed == 1.0


# ------------------------------------------------------------------------------------------------ as an optimiser
GROUPS = [
    {"lr": 0.05, "threshold": 0.2, "power": 2.0},
    {"epsilon": 0.0, "power": 1.0, "apply_decay": False},
    {"threshold": 0.9, "variant": "official", "power": 3.0},
]


def groups(params: list[nn.Parameter]) -> list[dict[str, Any]]:
    return [{"params": p, **g} for p, g in zip((params[:2], params[2:3], params[3:]), GROUPS, strict=True)]


def test_foreach_is_the_plain_loop_bit_for_bit_over_several_groups() -> None:
    params = [random_net(3)[1] for _ in range(2)]
    both = [CLASSP(groups(p), foreach=f) for p, f in zip(params, (False, True), strict=True)]
    for p, optimizer in zip(params, both, strict=True):
        generator = torch.Generator().manual_seed(3)
        for _ in range(20):
            random_gradients(p, generator)
            optimizer.step()
    for a, b in zip(*params, strict=True):
        assert torch.equal(a, b)
    assert both[0].suppressed == both[1].suppressed > 0
    for one, other in zip(both[0].param_groups, both[1].param_groups, strict=True):
        assert (one["opened"], one["tested"]) == (other["opened"], other["tested"])


@pytest.mark.parametrize("foreach", [False, True])
def test_a_state_dict_continues_bit_for_bit(foreach: bool) -> None:
    _, params = random_net(4)
    optimizer = CLASSP(groups(params), foreach=foreach)
    generator = torch.Generator().manual_seed(4)
    for _ in range(5):
        random_gradients(params, generator)
        optimizer.step()
    optimizer.param_groups[1]["apply_decay"] = True
    _, copied = random_net(5)
    for p, q in zip(params, copied, strict=True):
        q.data.copy_(p.data)
    again = CLASSP(groups(copied), lr=9.0)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert again.param_groups[1]["apply_decay"] is True
    chance = generator.get_state()
    for p, o in ((params, optimizer), (copied, again)):
        generator.set_state(chance)
        for _ in range(5):
            random_gradients(p, generator)
            o.step()
    assert_same([p.detach() for p in params], [p.detach() for p in copied])
    assert_same(optimizer.state_dict(), again.state_dict())


def test_the_share_suppressed_is_counted_exactly_also_beyond_what_float32_counts() -> None:
    one, other = nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(2**24 + 3))
    optimizer = CLASSP([one, other], threshold=1.0)
    one.grad, other.grad = torch.tensor([1.5, 1.0, -1.5, 2.0, -3.0]), torch.full_like(other, 2.0)
    optimizer.step()
    one.grad, other.grad = torch.zeros(5), None
    optimizer.step()
    [group] = optimizer.param_groups
    assert (float(group["opened"]), group["tested"]) == (2**24 + 7, 2**24 + 13)
    assert optimizer.suppressed == pytest.approx(6 / (2**24 + 13), rel=1e-6)
    assert CLASSP([one]).suppressed == 0.0


def test_a_closure_is_called_with_gradients_and_its_loss_returned() -> None:
    p = parameter([3.0])
    optimizer = CLASSP([p], lr=0.5, power=1.0, apply_decay=False)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (p * p).sum() / 2
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 4.5
    assert p.tolist() == [1.5]
    assert optimizer.step() is None


@pytest.mark.parametrize("foreach", [False, True])
def test_a_nan_is_not_suppressed(foreach: bool) -> None:
    """A run whose gradients are not numbers must fail, not go on without them."""
    for g in (float("nan"), float("inf")):
        p = parameter([1.0, 1.0])
        [broken, whole] = stepped(CLASSP([p], 0.1, 0.5, foreach=foreach), p, [[g, 2.0]])
        assert not np.isfinite(broken)
        assert np.isfinite(whole)


@pytest.mark.parametrize(
    ("name", "value"),
    [("lr", -0.1), ("threshold", -1e-9), ("epsilon", -1.0), ("power", 0.0), ("power", -2.0), ("lr", float("nan"))],
)
def test_hyper_parameters_out_of_range_are_refused_also_in_a_group(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"Invalid {name}: {value}"):
        CLASSP([parameter([1.0])], **{name: value})
    with pytest.raises(ValueError, match=f"Invalid {name}: {value}"):
        CLASSP([{"params": [parameter([1.0])], name: value}])


@pytest.mark.parametrize(("name", "value"), [("epsilon", "x"), ("lr", None), ("apply_decay", "never")])
def test_hyper_parameters_of_another_type_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"Invalid {name}: {value!r}"):
        CLASSP([parameter([1.0])], **{name: value})


def test_an_unknown_variant_and_sparse_gradients_are_refused() -> None:
    with pytest.raises(ValueError, match="Invalid variant: 'mine'"):
        CLASSP([parameter([1.0])], variant="mine")  # type: ignore[arg-type]
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        CLASSP(table.parameters()).step()


def test_the_strategys_module_does_not_import_torch() -> None:
    code = "import sys, clbench.strategies.classp; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

    with pytest.raises(AttributeError, match="no attribute 'CLASP'"):
        importlib.import_module("clbench.strategies.classp").CLASP  # noqa: B018


# ------------------------------------------------------------------------------------------------ the strategy
NAME = "classp"
SPLIT = "split_synthetic-v1"


def bench(*overrides: str, strategy: str | None = NAME, iterations: int = 6) -> components.Components:
    overrides = (f"training.iterations={iterations}", *overrides)
    run = resolve.make_run(SPLIT, strategy=strategy, overrides=list(overrides))
    return assembled(run)


def trained(b: components.Components) -> torch.Tensor:
    unwatched(b)
    return torch.cat([p.detach().flatten() for p in b.strategy.model.parameters()])


def test_without_decay_and_threshold_it_is_naive_with_gradient_descent() -> None:
    sgd = trained(bench("training.optimizer={name: sgd, lr: 0.1}", strategy="naive"))
    assert torch.equal(trained(bench("strategy={lr: 0.1, apply_decay: never}")), sgd)
    assert not torch.equal(trained(bench("strategy={lr: 0.1, apply_decay: always}")), sgd)


@pytest.mark.parametrize(
    ("apply_decay", "online", "expected"),
    [
        ("after_first_experience", False, [False, True, True, True, True]),
        ("always", False, [True] * 5),
        ("never", False, [False] * 5),
        ("after_first_experience", True, [False] * 4 + [True] * 16),
    ],
)
def test_the_schedule(apply_decay: str, online: bool, expected: list[bool]) -> None:
    """Of five experiences, or of five that are cut into four each."""
    b = bench(f"strategy.apply_decay={apply_decay}", *(["stream.online=50"] if online else []))
    found = []
    for v in range(len(b.budgets)):
        b.strategy.begin_experience(b.experience(v))
        found.append(b.strategy.optimizer.param_groups[0]["apply_decay"])
    assert found == expected


def test_the_schedule_needs_boundaries_and_no_other_does() -> None:
    with pytest.raises(UserError, match="boundaries"):
        bench("protocol.boundaries=false")
    bench("protocol.boundaries=false", "strategy.apply_decay=always")


def test_the_state_lives_for_the_whole_stream_and_is_reported() -> None:
    b = bench("strategy={lr: 0.05, threshold: 1e-4}")
    strategy: Any = b.strategy
    first = strategy.optimizer
    trained(b)
    assert strategy.optimizer is first
    size = sum(p.nbytes for p in strategy.model.parameters())
    assert (strategy.memory().samples, strategy.memory().bytes) == (0, size)
    report = strategy.report()
    assert report["accumulator_bytes"] == size
    assert 0 < report["suppressed"] < 1
    assert first.param_groups[0]["tested"] == 5 * 6 * size // 4
    again = bench("strategy={lr: 0.05, threshold: 1e-4}", "training.optimizer_state=reset")
    trained(again)
    assert again.strategy.optimizer.param_groups[0]["tested"] == 6 * size // 4


def test_it_is_the_optimiser_of_a_composition() -> None:
    both: Any = bench("strategy=[er, {name: 'clbench.strategies.classp:Classp', lr: 0.05}]", strategy=None).strategy
    assert isinstance(both.optimizer, CLASSP)
    assert all(member.optimizer is both.optimizer for member in both.members.values())
    b = bench("strategy=[er, {name: 'clbench.strategies.classp:Classp', lr: 0.05, threshold: 1e-4}]", strategy=None)
    together: Any = b.strategy
    trained(b)
    assert together.optimizer.param_groups[0]["apply_decay"] is True
    assert together.report()["Classp.suppressed"] > 0
    size = sum(p.nbytes for p in together.model.parameters())
    assert together.memory().bytes == size + together.members["er"].memory().bytes


def test_no_optimiser_beside_it() -> None:
    with pytest.raises(UserError, match="optimizer: unknown key"):
        bench("strategy.optimizer={name: adam}")


@pytest.mark.parametrize(
    "overrides",
    [
        ["strategy={lr: 0.05, threshold: 1e-4, power: 2}"],
        ["strategy={variant: official, threshold: 0.5}", "training.optimizer_state=reset"],
        ["strategy=[er, {name: 'clbench.strategies.classp:Classp', lr: 0.05}]"],
    ],
)
def test_resume(overrides: list[str]) -> None:
    name = None if "[er" in overrides[0] else NAME
    small = "training={iterations: 7, epochs: null, batch_size: 60}"
    check_resume(resolve.make_run(SPLIT, strategy=name, overrides=[small, *overrides]))
