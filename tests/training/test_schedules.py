"""Schedules are the closed forms of torch's schedulers, and every strategy's optimiser follows them."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pydantic
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_pre_hook

from clbench.config.schedules import Schedule
from clbench.errors import UserError
from clbench.streams.compile import compile_stream
from clbench.training.budget import budgets
from clbench.training.schedules import Positions, factor
from support import CLASSIFIERS, SPLIT, assembled, make_run, trained, unwatched, user_module

LENGTH = 40
EPS = sys.float_info.epsilon


def schedule(**keys: Any) -> Any:
    return pydantic.TypeAdapter(Schedule).validate_python(keys)


TORCH: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "step": ({"name": "step", "every": 7, "factor": 0.3}, lambda o: lr_scheduler.StepLR(o, 7, 0.3)),
    "multi_step": (
        {"name": "multi_step", "milestones": [3, 4, 30], "factor": 0.2},
        lambda o: lr_scheduler.MultiStepLR(o, [3, 4, 30], 0.2),
    ),
    "exponential": ({"name": "exponential", "factor": 0.93}, lambda o: lr_scheduler.ExponentialLR(o, 0.93)),
    "cosine": ({"name": "cosine"}, lambda o: lr_scheduler.CosineAnnealingLR(o, LENGTH)),
    "linear": (
        {"name": "linear", "start": 0.7, "end": 0.05, "length": 13},
        lambda o: lr_scheduler.LinearLR(o, 0.7, 0.05, 13),
    ),
    "constant": ({"name": "constant"}, lambda o: lr_scheduler.ConstantLR(o, 1.0)),
}


def sgd(lr: float) -> torch.optim.SGD:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)


def chained(make: Callable[[Any], Any], lr: float, steps: int = LENGTH) -> list[float]:
    """The rates of a scheduler of torch, stepped once for each unit."""
    optimizer = sgd(lr)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of SequentialLR about its own use
        scheduler, rates = make(optimizer), []
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    return rates


@pytest.mark.parametrize("lr", [1.0, 0.1, 0.3, 7e-4])
@pytest.mark.parametrize("name", TORCH)
def test_it_is_the_closed_form_of_torch(name: str, lr: float) -> None:
    keys, make = TORCH[name]
    scheduler = make(sgd(lr))
    closed = []
    for t in range(LENGTH):
        scheduler.last_epoch = t
        closed += scheduler._get_closed_form_lr()
    assert [lr * factor(schedule(**keys), t, LENGTH) for t in range(LENGTH)] == closed


@pytest.mark.parametrize("lr", [1.0, 0.3])
def test_the_minimum_of_a_cosine_is_a_share_of_the_rate(lr: float) -> None:
    scheduler = lr_scheduler.CosineAnnealingLR(sgd(lr), LENGTH, eta_min=0.05 * lr)
    for t in range(LENGTH):
        scheduler.last_epoch = t
        # Each of the two forms rounds six times, by half an eps of a value of at most the rate.
        expected = scheduler._get_closed_form_lr()[0]
        assert abs(lr * factor(schedule(name="cosine", minimum=0.05), t, LENGTH) - expected) <= 6 * EPS * lr


@pytest.mark.parametrize("warm_up", [0, 5])
@pytest.mark.parametrize("name", TORCH)
def test_torchs_chained_rates_differ_by_their_rounding_alone(name: str, warm_up: int) -> None:
    keys, make = TORCH[name]

    def sequence(optimizer: Any) -> Any:
        rising = lr_scheduler.LinearLR(optimizer, 0.2, 1.0, warm_up)
        return lr_scheduler.SequentialLR(optimizer, [rising, make(optimizer)], [warm_up])

    length = LENGTH + warm_up
    rule = schedule(**keys, **({"warm_up": {"length": warm_up, "start": 0.2}} if warm_up else {}))
    ours = [0.3 * factor(rule, t, length) for t in range(length)]
    for t, rate in enumerate(chained(sequence if warm_up else make, 0.3, length)):
        # A chained rate has been multiplied, added to and divided up to ten times a step, each time by half an eps of
        # the largest rate; towards the end of a cosine its small rates carry the rounding of the large ones.
        assert math.isclose(ours[t], rate, abs_tol=5 * EPS * 0.3 * (t + 1))


# ------------------------------------------------------------------------------------------------ positions
def position_of(training: str, *overrides: str, **keys: Any) -> list[tuple[int, int]]:
    """The position of every update of a run, by experience after experience."""
    run = make_run("naive", f"training={training}", *overrides, iterations=None)
    stream = compile_stream(run.benchmark.stream, 0)
    of = budgets(run.benchmark.training, stream)
    positions = Positions(run.benchmark.training, stream, of)
    return [positions(schedule(**keys), v, done) for v, n in enumerate(of) for done in range(n)]


UPDATES, EPOCHS = {"name": "constant", "unit": "updates"}, {"name": "constant", "unit": "epochs"}
ITERATIONS = "{iterations: 7, epochs: null, batch_size: 60}"  # 4 updates a pass, 5 experiences


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (UPDATES, [(u, 7) for _ in range(5) for u in range(7)]),
        (EPOCHS, [(u // 4, 2) for _ in range(5) for u in range(7)]),
        (UPDATES | {"over": "stream"}, [(u, 35) for u in range(35)]),
        (EPOCHS | {"over": "stream"}, [(2 * v + u // 4, 10) for v in range(5) for u in range(7)]),
    ],
)
def test_positions(keys: dict[str, Any], expected: list[tuple[int, int]]) -> None:
    assert position_of(ITERATIONS, **keys) == expected


def test_the_pieces_of_an_experience_are_one() -> None:
    online = "stream.online=50"  # 200 samples an experience: four pieces
    training = "{iterations: null, epochs: 2, batch_size: 25}"  # a pass over each is 2 updates
    assert position_of(training, online, **UPDATES) == [(u, 16) for _ in range(5) for u in range(16)]
    assert position_of(training, online, **EPOCHS) == [(u // 8, 2) for _ in range(5) for u in range(16)]


def test_a_pass_over_the_stream_where_the_budget_is_its_own() -> None:
    training = "{iterations: null, epochs: 3, budget: stream, batch_size: 60}"  # 1,000 samples: a pass is 17 updates
    assert position_of(training, **EPOCHS, over="stream") == [(u // 17, 3) for u in range(51)]


# ------------------------------------------------------------------------------------------------ in a run
@pytest.fixture
def rates() -> Iterator[list[float]]:
    """The learning rate of each step of any optimiser."""
    seen: list[float] = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"]))
    yield seen
    hook.remove()


MULTI_STEP = "training.schedule={name: multi_step, milestones: [2], unit: updates, warm_up: {length: 1, start: 0.5}}"
FACTORS = [0.5, 1.0, 1.0, 0.1]


COMPOSED = ["er+ewc", "er+classp", "er+agem+ema"]


@pytest.mark.parametrize(
    ("strategy", "state"),
    [
        *((name, "reset") for name in [*CLASSIFIERS, *COMPOSED]),
        *((name, "keep") for name in ["naive", "napa_vq", *COMPOSED]),
    ],
)
def test_every_strategy_follows_it(strategy: str, state: str, rates: list[float]) -> None:
    few = ["stream.tasks.count=3", f"training.optimizer_state={state}"]
    run = make_run(strategy, MULTI_STEP, *few, iterations=4)
    components = assembled(run)
    base = {g["initial_lr"] for g in components.strategy.optimizer.param_groups} if rates_of(components) else {0.0}
    rates.clear()
    unwatched(components)
    [lr] = base
    later = getattr(getattr(components.strategy, "config", None), "later_lr", 1.0)
    expected = [lr * (1.0 if v == 0 else later) * f for v in range(3) for f in FACTORS]
    if not rates:
        assert strategy in ("chance", "refit", "ncm", "fetril"), "it has steps"
    elif len(rates) == 12:
        assert rates == expected
    else:  # it trains in the first experience alone, or something of its own between experiences
        assert rates[:4] == expected[:4]


def rates_of(components: Any) -> bool:
    return isinstance(getattr(components.strategy, "optimizer", None), torch.optim.Optimizer)


def test_over_the_stream_it_needs_no_boundaries(rates: list[float]) -> None:
    over = "training.schedule={name: linear, unit: updates, over: stream}"
    trained(make_run("naive", over, "protocol.boundaries=false", iterations=4), watch=False)
    [lr] = {rate for rate in rates[:1]}
    assert rates == [lr * (1.0 + (0.0 - 1.0) * t / 20) for t in range(20)]


def triangle(update: int, updates: int, peak: float = 1.0) -> float:
    return peak * (1 - abs(2 * update / updates - 1))


def test_a_function_of_a_user(rates: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{user_module(monkeypatch, triangle)}:triangle"
    run = make_run(
        "naive", f"training.schedule={{name: imported, function: {path}, options: {{peak: 2}}}}", iterations=4
    )
    lr = run.benchmark.training.optimizer.lr
    trained(run, watch=False)
    assert rates == [lr * f for _ in range(5) for f in (0.0, 1.0, 2.0, 1.0)]


def half(update: int, updates: int) -> Any:
    return "half"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["training.schedule={name: multi_step, milestones: [2, 9], unit: updates}"],
            "training.schedule.milestones: got 9, and experience 0 has 5 updates. Allowed: less.",
        ),
        (
            ["training.schedule={name: cosine, unit: updates, warm_up: {length: 5}}"],
            "training.schedule.warm_up.length: got 5, and experience 0 has 5 updates. Allowed: less.",
        ),
        (
            ["training.schedule={name: cosine, unit: updates, length: 4, warm_up: {length: 2}}"],
            "training.schedule.length: got 4 after a warm-up of 2, and experience 0 has 5 updates. Allowed: up to 3.",
        ),
        (
            ["training.schedule={name: step, every: 1}"],
            "training.schedule.every: got 1, and experience 0 has 1 epoch. Allowed: less.",
        ),
        (
            ["training.schedule={name: step, every: 25, unit: updates, over: stream}"],
            "training.schedule.every: got 25, and the stream has 25 updates. Allowed: less.",
        ),
        (
            ["training.schedule={name: step, every: 4, unit: updates}", "training.experiences={3: {iterations: 3}}"],
            "training.schedule.every: got 4, and experience 3 has 3 updates. Allowed: less.",
        ),
        (
            ["training.experiences={2: {schedule: {name: step, every: 5, unit: updates}}}"],
            "training.experiences.2.schedule.every: got 5, and experience 2 has 5 updates. Allowed: less.",
        ),
        (
            ["training.experiences={7: {iterations: 3}}"],
            "training.experiences: got the key '7', and the stream has 5 experiences. Allowed: 0 to 4.",
        ),
        (
            ["training.schedule={name: imported, function: a_users_module:half}"],
            "training.schedule.function: 'a_users_module:half', called with (0, 5), gave 'half'. "
            "Allowed: a number >= 0.",
        ),
        (
            ["training.schedule={name: imported, function: a_users_module:hlaf}"],
            "training.schedule.function: 'a_users_module:hlaf' does not import: module 'a_users_module' has no 'hlaf'. "
            "Did you mean 'half'?",
        ),
    ],
)
def test_mistakes(overrides: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    user_module(monkeypatch, half)
    with pytest.raises(UserError) as raised:
        assembled(make_run("naive", *overrides))
    assert str(raised.value) == message


def test_it_needs_boundaries_where_it_starts_anew() -> None:
    with pytest.raises(UserError) as raised:
        make_run("naive", "training.schedule={name: cosine}", "protocol.boundaries=false", benchmark=SPLIT)
    assert "training.schedule.over: got 'experience', which needs the boundaries" in str(raised.value)
