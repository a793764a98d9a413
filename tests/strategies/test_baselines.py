"""The reference rows: chance, the linear probe, separate networks, and `naive` as the multi-head reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from clbench import resolve
from clbench.errors import UserError
from clbench.evaluation import recorder
from clbench.runner import components, observer, training_loop
from clbench.strategies.chance import guesses
from clbench.strategies.separate import networks_of, routed
from clbench.testing.resume import check_resume
from clbench.testing.states import assert_same
from support import assembled

SPLIT, DOMAIN = "split_synthetic-v1", "permuted_digits-v1"
CHANCE, PROBE, SEPARATE = "chance", "linear_probe", "separate"
TASK = "stream.setting=task"


def bench(strategy: str, *overrides: str, benchmark: str = SPLIT, iterations: int = 6) -> components.Components:
    budget = "training={iterations: %d, epochs: null}" % iterations  # noqa: UP031 - braces
    run = resolve.make_run(benchmark, strategy=strategy, overrides=[budget, *overrides])
    return assembled(run)


def train(b: components.Components, watched: bool = False) -> None:
    training_loop.train(b, observer.Observation(b, recorder.Recorder(b.device) if watched else None, lambda: None))


def weights(b: components.Components) -> dict[str, torch.Tensor]:
    return {n: t.detach().clone() for n, t in b.strategy.model.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {n for n in before if not torch.equal(before[n], after[n])}


# ------------------------------------------------------------------------------------------------ chance
def test_guesses_depend_on_the_input_alone() -> None:
    x = torch.randn(60, 3, 4, generator=torch.Generator().manual_seed(0))
    whole = guesses(x, 10, 7)
    assert_same(torch.cat([guesses(part, 10, 7) for part in x.split(7)]), whole)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    assert_same(guesses(x[order], 10, 7), whole[order])
    assert_same(guesses(x.transpose(1, 2).contiguous().transpose(1, 2), 10, 7), whole)
    assert_same(guesses(x, 4, 7), whole[:, :4])
    assert len(whole.unique()) == 600
    assert ((whole >= 0) & (whole < 1)).all()
    assert float(whole.mean()) == pytest.approx(0.5, abs=4.5 / math.sqrt(12 * 600))
    for other in (guesses(x.flip(1), 10, 7), guesses(x, 10, 8), guesses(torch.nextafter(x, x + 1), 10, 7)):
        assert not (other == whole).any()


@pytest.mark.parametrize("among", [range(10), [2, 3], [1, 4, 9]])
def test_every_competitor_is_guessed_equally_often_also_for_inputs_that_differ_little(among: Any) -> None:
    """10,000 inputs that differ in two places: counts are binomial(10000, 1/k), checked to 4.5 deviations."""
    x = torch.zeros(10_000, 100)
    rows = torch.arange(10_000)
    x[rows, rows % 100], x[rows, rows // 100] = 1.0, 0.5
    k, competing = len(among), guesses(x, 10, 0)[:, list(among)]
    counts = torch.bincount(competing.argmax(1), minlength=k).double()
    assert (counts - 10_000 / k).abs().max() < 4.5 * math.sqrt(10_000 / k * (1 - 1 / k))


@pytest.mark.parametrize(("setting", "expected"), [("class", [0.1, 0.5]), ("task", [0.5]), ("domain", [0.5])])
def test_its_accuracy_is_that_of_guessing_among_the_competitors(setting: str, expected: list[float]) -> None:
    """Of 4,000 test samples: binomial, to 4.5 deviations."""
    labels = ["stream.tasks.labels=within_task"] if setting == "domain" else []
    b = bench(CHANCE, f"stream.setting={setting}", "stream.synthetic.test_per_class=400", *labels)
    before = weights(b)
    train(b)
    assert not changed(before, weights(b)), "nothing is learnt"
    counts = b.evaluator.evaluate(b.strategy, range(5), range(5)).counts
    assert list(counts) == ["class", "task"][: len(expected)] if setting == "class" else [setting]
    for view, share in zip(counts, expected, strict=True):
        got = int(counts[view].sum()) / b.evaluator.samples
        assert abs(got - share) < 4.5 * math.sqrt(share * (1 - share) / 4000)


def test_another_seed_guesses_otherwise_and_the_same_seed_the_same() -> None:
    def counts(*overrides: str) -> list[int]:
        b = bench(CHANCE, *overrides)
        return list(b.evaluator.evaluate(b.strategy, range(5), range(5)).counts["class"].tolist())

    assert counts() == counts("evaluation.batch_size=7")
    assert counts() != counts("seeds.strategy=1")


# ------------------------------------------------------------------------------------------------ linear probe
def test_the_probe_trains_its_head_alone_and_the_front_is_evaluated_once() -> None:
    b = bench(PROBE)
    before = weights(b)
    train(b, watched=True)
    assert changed(before, weights(b)) == {"3.weight", "3.bias"}
    assert b.evaluator._evaluated[0].front.computed == 1


def test_statistics_of_a_probes_batch_norm_stay_as_they_are() -> None:
    small = ["model={name: slim_resnet18, filters: 2}", "stream.tasks.count=2", "training.batch_size=8"]
    b = bench(PROBE, *small, benchmark="split_digits-v1", iterations=2)
    before = weights(b)
    train(b)
    head = len(b.strategy.model) - 1  # type: ignore[arg-type]
    assert changed(before, weights(b)) == {f"{head}.weight", f"{head}.bias"}


def test_the_probe_by_hand() -> None:
    """Logistic regression on the features of the network as it was."""
    b = bench(PROBE, "training.optimizer={name: sgd, lr: 0.5}")
    front, head = b.strategy.model[:-1], b.strategy.model[-1]  # type: ignore[index]
    experience = b.experience(0)
    b.strategy.begin_experience(experience)
    batch = next(b.batches.of(experience, 1))
    w, bias = head.weight.detach().clone(), head.bias.detach().clone()
    features = front(batch.x).detach()
    error = torch.softmax(features @ w.T + bias, 1) - torch.nn.functional.one_hot(batch.y, 10)
    b.strategy.step(batch)
    torch.testing.assert_close(head.weight.detach(), w - 0.5 * error.T @ features / len(batch.y))
    torch.testing.assert_close(head.bias.detach(), bias - 0.5 * error.mean(0))


def test_a_probe_of_one_layer_is_naive() -> None:
    states = []
    for strategy in (PROBE, "naive"):
        b = bench(strategy, "model={name: linear}")
        train(b)
        states.append(weights(b))
    assert_same(*states)


# ------------------------------------------------------------------------------------------------ separate, multi-head
def test_each_sample_goes_through_the_network_of_its_task() -> None:
    networks = torch.nn.ModuleList([torch.nn.Linear(1, 2) for _ in range(3)])
    for t, n in enumerate(networks):
        torch.nn.init.constant_(n.weight, t + 1.0)  # type: ignore[arg-type]
        torch.nn.init.constant_(n.bias, 0.0)  # type: ignore[arg-type]
    x = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    assert routed(networks, x, torch.tensor([2, 0, 2, 1])).tolist() == [[3, 3], [2, 2], [9, 9], [8, 8]]
    assert routed(networks, x, 1).tolist() == [[2, 2], [4, 4], [6, 6], [8, 8]]


def test_asked_without_a_task_each_output_is_that_of_its_own_network() -> None:
    networks = networks_of(torch.nn.Linear(3, 5), [[0, 3], [1, 4]])
    torch.nn.init.constant_(networks[1].bias, 9.0)  # type: ignore[arg-type]
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    one, other = (n(x) for n in networks)
    expected = torch.stack([one[:, 0], other[:, 1], one[:, 2], one[:, 3], other[:, 4]], 1)
    assert torch.equal(networks(x), expected)


@pytest.mark.parametrize("optimizer", ["{name: sgd, lr: 0.1, momentum: 0.9, weight_decay: 0.01}", "{name: adam}"])
def test_a_network_of_its_own_learns_as_if_there_were_no_other(optimizer: str) -> None:
    """Each is the network of `naive` on a stream in which the other tasks were not trained on."""
    choice = f"training.optimizer={optimizer}"
    b = bench(SEPARATE, TASK, choice)
    starts = [weights(bench("naive", TASK))] * 5
    networks: Any = b.strategy.model
    assert_same([dict(n.state_dict()) for n in networks], starts)
    train(b)
    for v in range(5):
        fresh = bench("naive", TASK, choice)
        for earlier in range(v):
            list(fresh.batches.of(fresh.experience(earlier), 6))  # the order of batches goes on as it did
        experience = fresh.experience(v)
        fresh.strategy.begin_experience(experience)
        for batch in fresh.batches.of(experience, 6):
            fresh.strategy.step(batch)
        assert_same(weights(fresh), {n: t.detach().clone() for n, t in networks[v].state_dict().items()})


def test_separate_networks_predict_with_the_network_of_the_task_told() -> None:
    b = bench(SEPARATE, TASK)
    train(b)
    x = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    task = torch.tensor([4, 0, 0, 3, 1, 2])
    networks: Any = b.strategy.model.eval()
    expected = torch.stack([networks[int(t)](row[None])[0] for row, t in zip(x, task, strict=True)])
    scores = b.strategy.predict(networks, x, task)
    assert scores is not None
    torch.testing.assert_close(scores, expected)
    counts = b.evaluator.evaluate(b.strategy, range(5), range(5)).counts["task"]
    assert counts.sum() / b.evaluator.samples > 0.7


def test_separate_networks_in_a_domain_setting_that_tells_the_task() -> None:
    b = bench(SEPARATE, "protocol.task_at_test=true", benchmark=DOMAIN, iterations=3)
    train(b)
    assert len({tuple(n.state_dict()["1.bias"].tolist()) for n in b.strategy.model}) == 5  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("overrides", "denied"),
    [([], "task_at_test"), ([TASK, "protocol.task_in_training=false", "training.active_outputs=all"], "task_in_")],
)
def test_separate_networks_are_refused_where_the_task_is_not_told(overrides: list[str], denied: str) -> None:
    with pytest.raises(UserError, match=denied):
        bench(SEPARATE, *overrides)


def test_naive_in_the_task_setting_is_the_multi_head_reference() -> None:
    """The outputs of the other tasks do not move and do not compete: the loss is that over the task's own two."""
    b = bench("naive", TASK, "training.optimizer={name: sgd, lr: 0.1}")
    experience = b.experience(2)
    b.strategy.begin_experience(experience)
    own, head = list(experience.outputs), b.strategy.model[-1]  # type: ignore[index]
    before = head.weight.detach().clone()
    for batch in b.batches.of(experience, 3):
        logits = b.strategy.model(batch.x)[:, own]
        target = torch.tensor([own.index(int(y)) for y in batch.y])
        expected = torch.nn.functional.cross_entropy(logits, target).item()
        assert float(b.strategy.step(batch)) == pytest.approx(expected, rel=1e-6)
    moved = (head.weight.detach() != before).any(1)
    assert np.flatnonzero(moved.numpy()).tolist() == own
    assert b.evaluator.views == ("task",)


def test_separate_networks_with_momentum_go_on_where_they_were_stopped() -> None:
    """With other optimisers, and the other baselines: runner/test_resume.py, over the whole table."""
    small = "training={iterations: 7, epochs: null, batch_size: 60, optimizer_state: reset}"
    momentum = "training.optimizer={name: sgd, lr: 0.1, momentum: 0.9}"
    check_resume(resolve.make_run(SPLIT, strategy=SEPARATE, overrides=[small, TASK, momentum]))


def test_epochs_are_as_many_updates_for_who_trains_on_more() -> None:
    """Passes over an experience's own samples, whatever a strategy may train on; so that costs compare."""
    made = {}
    for strategy in ("naive", "cumulative", "joint"):
        b = bench(strategy, "training={iterations: null, epochs: 2}")
        train(b)
        made[strategy] = b.budgets, len(b.experience(1).index)
    assert len({budgets for budgets, _ in made.values()}) == 1
    assert made["naive"][1] < made["cumulative"][1] < made["joint"][1]
