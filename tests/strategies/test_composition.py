"""Several methods as one strategy: what composes, what it is to the rest of the suite, and that it adds up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from clbench import resolve
from clbench.config.training import Parameters
from clbench.errors import UserError
from clbench.runner.components import Components
from clbench.strategy import Batch, Learner, Memory, SelfDriven, SelfDrivenLearner, Strategy, is_strategy
from clbench.testing.resume import check_resume
from clbench.testing.states import assert_same
from support import assembled, unwatched, user_module

SHORT = ["training.iterations=6"]


class Decay(Strategy):
    """Half the squared weights, times `strength`."""

    class Config(Parameters):
        strength: float = 0.1

    def __init__(self, config: Any, setup: Any) -> None:
        super().__init__(config, setup)
        self.calls: list[str] = []
        self.drawn = 0.0

    def penalty(self) -> Tensor:
        total: Tensor = sum((p.square().sum() for p in self.model.parameters()), start=torch.zeros(()))
        return 0.5 * float(self.config.strength) * total

    def before_update(self, batch: Batch) -> None:
        self.drawn = float(self.setup.generator.uniform(1)[0])
        self.calls.append("before")

    def after_update(self, batch: Batch) -> None:
        self.calls.append("after")

    def memory(self) -> Memory:
        return Memory(0, 8)

    def report(self) -> dict[str, float]:
        return {"drawn": self.drawn}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "calls": list(self.calls), "drawn": self.drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.calls, self.drawn = list(state["calls"]), state["drawn"]


class Sgd(Strategy):
    """Brings an optimiser."""

    @classmethod
    def optimizer_maker(cls, config: Any, setup: Any) -> Any:
        return lambda parameters: torch.optim.SGD(parameters, lr=0.25)


class Opposite(Strategy):
    """Predicts by the negative scores."""

    def predict(self, model: Any, x: Tensor, task: Any) -> Tensor:
        scores: Tensor = -model(x)
        return scores


class Contrary(Opposite):
    """The same."""


class Own(Strategy):
    """Has a step of its own."""

    def step(self, batch: Batch) -> Tensor:
        return super().step(batch)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    user_module(monkeypatch, Decay, Sgd, Opposite, Contrary, Own, name="parts")


def bench(strategy: str, *overrides: str, benchmark: str = "split_digits-v1") -> Components:
    run = resolve.make_run(benchmark, strategy=strategy, overrides=[*SHORT, *overrides])
    return assembled(run)


def test_a_list_is_a_name_with_its_parameters_below(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("base: split_digits-v1\nstrategy: [{name: er, memory: 50}, naive]\n")
    listed = resolve.make_run(str(path))
    assert listed.strategy.name == "er+naive"
    assert listed.strategy.parameters["er"]["memory"] == 50
    named = resolve.make_run("split_digits-v1", strategy="er+naive", overrides=["strategy.er.memory=50"])
    assert (named.run_id, named.config_hash) == (listed.run_id, listed.config_hash)
    given = resolve.make_run("split_digits-v1", overrides=["strategy=[er, naive]", "strategy.er.memory=50"])
    assert given.run_id == listed.run_id
    path.write_text("base: split_digits-v1\nstrategy: [er]\n")
    assert resolve.make_run(str(path)).strategy.name == "er"


def test_the_loss_is_the_sum() -> None:
    """One step of er+Decay has the gradient of replay plus that of the penalty, and draws what replay alone draws."""
    both = unwatched(bench("er+parts:Decay", "strategy.Decay.strength=0.5", "strategy.er.memory=40"))
    batch = next(iter(both.batches.of(both.experience(4), 1)))
    parts = both.strategy.members  # type: ignore[attr-defined]
    state = parts["er"].setup.generator.state_dict()
    loss = parts["er"].loss(batch) + parts["Decay"].penalty()
    parts["er"].setup.generator.load_state_dict(state)
    expected = torch.autograd.grad(loss, list(both.strategy.model.parameters()))
    before = [p.detach().clone() for p in both.strategy.model.parameters()]
    got = both.strategy.step(batch)
    assert got.item() == loss.item()
    for p, old, g in zip(both.strategy.model.parameters(), before, expected, strict=True):
        torch.testing.assert_close(p.detach(), old - 0.1 * g, rtol=0, atol=1e-7)
    assert parts["Decay"].calls[-2:] == ["before", "after"]


def test_a_penalty_of_strength_0_is_not_there() -> None:
    with_it = unwatched(bench("naive+parts:Decay", "strategy.Decay.strength=0.0")).strategy
    without = unwatched(bench("naive")).strategy
    assert_same(with_it.model.state_dict(), without.model.state_dict())


def test_one_model_one_optimiser_own_chance() -> None:
    made = bench("er+parts:Decay", "training.optimizer_state=reset")
    first = made.strategy.optimizer
    strategy: Any = unwatched(made).strategy
    assert strategy.optimizer is not first, "reset at the start of an experience"
    assert all(m.optimizer is strategy.optimizer and m.model is strategy.model for m in strategy.members.values())
    generators = [m.setup.generator.state_dict()["key"] for m in strategy.members.values()]
    assert generators[0] != generators[1]
    held, _ = strategy.held()
    assert len(held) == len(strategy.members["er"].buffer) > 0
    assert strategy.memory().bytes == len(held) * made.samples.sample_bytes + 8
    assert strategy.report().keys() == {"Decay.drawn"}


def test_a_part_brings_the_optimiser_or_says_which() -> None:
    brought = bench("er+parts:Sgd").strategy.optimizer.param_groups[0]
    assert brought["lr"] == 0.25
    assert bench("parts:Sgd").strategy.optimizer.param_groups[0]["lr"] == 0.25
    said = bench("naive+er", "strategy.er.optimizer={name: sgd, lr: 0.5}").strategy.optimizer.param_groups[0]
    assert said["lr"] == 0.5
    alone = bench("er", "strategy.optimizer={name: sgd, lr: 0.5}")
    assert alone.strategy.optimizer.param_groups[0]["lr"] == 0.5
    usual = resolve.make_run("split_digits-v1", strategy="er")
    assert (
        alone.run.definition_hash == resolve.make_run("split_digits-v1", strategy="er", overrides=SHORT).definition_hash
    )
    assert "optimizer" not in usual.strategy.parameters


@pytest.mark.parametrize("name", ["naive+parts:Opposite", "parts:Opposite+naive", "er+parts:Opposite"])
def test_the_part_with_a_prediction_of_its_own_is_asked(name: str) -> None:
    strategy = unwatched(bench(name)).strategy
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(strategy.predict(strategy.model, x, None), -strategy.model(x))  # type: ignore[arg-type]
    assert type(strategy).predict is not Strategy.predict
    assert type(bench("naive+parts:Decay").strategy).predict is Strategy.predict, "a model that predicts by itself"


def test_it_goes_on_after_a_stop() -> None:
    for name in ("er+parts:Decay", "parts:Decay+er"):
        check_resume(resolve.make_run("split_digits-v1", strategy=name, overrides=[*SHORT, "strategy.er.memory=20"]))


def test_a_part_that_forgets_is_found() -> None:
    class Forgets(Decay):
        def load_state_dict(self, state: dict[str, Any]) -> None:
            Strategy.load_state_dict(self, state)

    sys.modules["parts"].Decay = Forgets  # type: ignore[attr-defined]
    run = resolve.make_run("split_digits-v1", strategy="er+parts:Decay", overrides=SHORT)
    with pytest.raises(AssertionError, match=r"attributes 'Decay\.calls', 'Decay\.drawn' are another than before"):
        check_resume(run)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("er+er", "strategy 'er+er': 'er' is named twice."),
        ("er+joint", "strategy 'er+joint': 'er' and 'joint' both define the training objective."),
        (
            "parts:Opposite+er+parts:Contrary",
            "strategy 'parts:Opposite+er+parts:Contrary': 'Opposite' and 'Contrary' both define the prediction.",
        ),
        (
            "naive+parts:Own",
            "strategy 'naive+parts:Own': 'Own' has its own training step and does not compose.",
        ),
        (
            "ncm+ewc",
            "strategy 'ncm+ewc': 'ewc' needs gradients of the model's outputs, by which 'ncm' does not learn.",
        ),
        *(
            (
                f"{one}+{other}",
                f"strategy '{one}+{other}': '{one}' needs gradients of the model's outputs, "
                f"by which '{other}' does not learn.",
            )
            for one, other in (("gem", "pass"), ("mas", "napa_vq"), ("ewc", "fetril"), ("agem", "separate"))
        ),
        (
            "er+avalanche.training.supervised:Naive",
            "strategy 'er+avalanche.training.supervised:Naive': 'avalanche.training.supervised:Naive' has its "
            "own training loop and does not compose.",
        ),
    ],
)
def test_what_does_not_compose(name: str, sentence: str) -> None:
    with pytest.raises(UserError) as told:
        bench(name)
    assert str(told.value).removeprefix("--strategy: ") == sentence


def test_two_optimisers() -> None:
    class Other(Sgd):
        pass

    sys.modules["parts"].Other = Other  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="two optimisers, 'Sgd' and 'Other'"):
        bench("parts:Sgd+parts:Other")
    both = ["strategy.er.optimizer={name: sgd, lr: 1}", "strategy.naive.optimizer={name: sgd, lr: 1}"]
    with pytest.raises(UserError, match=r"got two optimisers, of 'er' and 'naive'. Allowed: one"):
        bench("er+naive", *both)
    with pytest.raises(UserError, match=r"got two optimisers, of 'er' and 'Sgd'. Allowed: one"):
        bench("er+parts:Sgd", both[0])


# ------------------------------------------------------------------------------------------------ the contract
def test_all_that_a_composition_or_a_hosted_strategy_offers_is_there() -> None:
    """Both keep the contract alone, and none of the state that a method of ours has."""
    for name in ("er+ewc", "avalanche.training.supervised:Naive"):
        run = resolve.make_run("split_digits-v1", strategy=name)
        strategy = assembled(run).strategy
        names = [n for n in dir(strategy) if not n.startswith("_")]
        self_driven = isinstance(strategy, SelfDrivenLearner)
        assert {n for n in names if not hasattr(strategy, n)} == set()
        assert not {"criterion", "plain_batches", "experiences", "task_blocks", "_active"} & (
            set(dir(strategy)) - ({"experiences"} if self_driven else set())
        )
        assert is_strategy(type(strategy))
        assert not isinstance(strategy, Strategy)


def test_strategies_of_users_keep_their_bases() -> None:
    assert issubclass(SelfDriven, Strategy)
    assert issubclass(SelfDriven, SelfDrivenLearner)
    assert all(is_strategy(kind) for kind in (Strategy, SelfDriven))
    assert not any(is_strategy(other) for other in (Learner.step, Strategy.__new__(Strategy), "er", dict))
