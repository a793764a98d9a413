"""Recipes of hosted strategies: schedules start anew at every experience, gradients are clipped, experiences differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from clbench import resolve
from clbench.avalanche.hosting import _ActiveCrossEntropy
from clbench.errors import UserError
from clbench.run_config import RunConfig
from clbench.strategy import Experience, SelfDriven, Watcher
from clbench.testing.resume import check_resume
from support import assembled, unwatched, user_module

from avalanche.training import supervised  # isort: skip

SUPERVISED = "avalanche.training.supervised:"
WARM_UP = "schedule: {name: constant, unit: updates, warm_up: {length: 3, start: 0.25}}"
RISING = [0.25, 0.25 + 0.75 * 1 / 3, 0.25 + 0.75 * 2 / 3, 1.0, 1.0]


def make_run(name: str, training: str, *overrides: str, **parameters: Any) -> RunConfig:
    beside = [f"strategy.{k}={json.dumps(v)}" for k, v in parameters.items()]
    small = "training={iterations: 5, epochs: null, batch_size: 32, optimizer: {name: sgd, lr: 0.1, momentum: 0.9}}"
    path = name if ":" in name else SUPERVISED + name
    every = ["stream.tasks.count=3", small, f"training={{{training}}}", "evaluation.every=0"]
    return resolve.make_run("split_digits-v1", strategy=path, overrides=[*every, *beside, *overrides])


@pytest.fixture
def steps() -> Iterator[list[tuple[float, float]]]:
    """Of each step of an optimiser its rate, and the largest component of the clipped gradient."""
    seen: list[tuple[float, float]] = []

    def after(optimizer: Any, *_: Any) -> None:
        largest = max(
            float(p.grad.abs().max()) for g in optimizer.param_groups for p in g["params"] if p.grad is not None
        )
        seen.append((optimizer.param_groups[0]["lr"], largest))

    hook = register_optimizer_step_post_hook(after)
    yield seen
    hook.remove()


HOSTED: dict[str, dict[str, Any]] = {
    "Naive": {},
    "Replay": {"mem_size": 40},
    "AGEM": {"patterns_per_exp": 20, "sample_size": 10},
}


@pytest.mark.parametrize("name", HOSTED)
@pytest.mark.parametrize("state", ["keep", "reset"])
def test_a_schedule_warms_up_at_every_experience(name: str, state: str, steps: list[tuple[float, float]]) -> None:
    unwatched(assembled(make_run(name, f"{WARM_UP}, clip: {{value: 0.002}}, optimizer_state: {state}", **HOSTED[name])))
    assert [rate for rate, _ in steps] == [0.1 * factor for _ in range(3) for factor in RISING]
    assert max(largest for _, largest in steps) == pytest.approx(0.002, rel=1e-6)  # float32


@pytest.mark.parametrize("active", ["all", "seen"])
def test_settings_of_an_experience(active: str, steps: list[tuple[float, float]]) -> None:
    first = "{0: {iterations: 7, optimizer: {name: sgd, lr: 0.5}, label_smoothing: 0.2, schedule: {name: constant}}}"
    run = make_run("Naive", f"{WARM_UP}, experiences: {first}, active_outputs: {active}")
    components = assembled(run)
    unwatched(components)
    assert [rate for rate, _ in steps] == [0.5] * 7 + [0.1 * factor for _ in range(2) for factor in RISING]
    criterion = components.strategy.hosted._criterion  # type: ignore[attr-defined]
    assert isinstance(criterion, nn.CrossEntropyLoss if active == "all" else _ActiveCrossEntropy)
    assert criterion.label_smoothing == 0.0
    changed = assembled(make_run("Naive", f"{WARM_UP}, active_outputs: {active}, label_smoothing: 0.2"))
    unwatched(changed)
    assert all(p.isfinite().all() for p in changed.strategy.model.parameters())


def test_rates_of_parts() -> None:
    components = assembled(make_run("Naive", "rates: {front: 0}, optimizer_state: reset"))
    before = [p.detach().clone() for p in components.strategy.model.parameters()]
    unwatched(components)
    moved = [not torch.equal(a, b) for a, b in zip(before, components.strategy.model.parameters(), strict=True)]
    assert moved == [False] * (len(moved) - 2) + [True, True]


@pytest.mark.parametrize("state", ["keep", "reset"])
@pytest.mark.parametrize("name", ["Naive", "Replay"])
def test_it_resumes(name: str, state: str) -> None:
    recipe = (
        f"{WARM_UP}, clip: {{norm: 0.1}}, label_smoothing: 0.1, rates: {{front: 0.5}}, optimizer_state: {state}, "
        "experiences: {1: {iterations: 4, optimizer: {name: sgd, lr: 0.3}}}"
    )
    check_resume(make_run(name, recipe, **HOSTED[name]))


def without_optimizer(model: nn.Module, train_mb_size: int, evaluator: Any) -> Any:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return supervised.Naive(model=model, optimizer=optimizer, train_mb_size=train_mb_size, evaluator=evaluator)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (
            "optimizer_state: reset, experiences: {0: {optimizer: {name: adam}}}",
            f"strategy '{SUPERVISED}Naive': keeps its optimiser, so training.experiences cannot change its kind from "
            "'sgd' to 'adam'.",
        ),
        (
            "clip: {norm: 1}",
            "strategy 'a_users_module:without_optimizer': makes its own optimiser, so training.schedule, clip, rates "
            "and experiences have no effect on it.",
        ),
        (
            "label_smoothing: 0.1",
            "strategy 'a_users_module:without_optimizer': has its own criterion, so training.label_smoothing has no "
            "effect on it.",
        ),
        (
            "schedule: {name: step, every: 9, unit: updates}",
            "training.schedule.every: got 9, and experience 0 has 5 updates. Allowed: less.",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(training: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{user_module(monkeypatch, without_optimizer)}:without_optimizer"
    with pytest.raises(UserError) as raised:
        assembled(make_run(path if "a_users" in message else "Naive", training))
    assert str(raised.value) == message


class Loop(SelfDriven):
    """A training loop of a user's."""

    def fit(self, experience: Experience, iterations: int, watcher: Watcher) -> None:
        self.begin_experience(experience)
        watcher.before_first_update()
        index = torch.from_numpy(experience.index[:32])
        more = True
        while more:
            x, y = self.setup.samples.fetch(index, torch.from_numpy(experience.task[:32]))
            self.optimizer.zero_grad()
            loss: Tensor = self.criterion(self.model(x), y, torch.from_numpy(experience.task[:32]))
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            more = watcher.after_iteration(loss.detach())


@pytest.mark.parametrize("state", ["keep", "reset"])
def test_a_loop_of_a_users_follows_it(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"]))
    try:
        path = f"{user_module(monkeypatch, Loop)}:Loop"
        unwatched(assembled(make_run(path, f"{WARM_UP}, optimizer_state: {state}")))
    finally:
        hook.remove()
    assert seen == [0.1 * factor for _ in range(3) for factor in RISING]
