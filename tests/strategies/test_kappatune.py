"""KappaTune: condition numbers, budgets, which parameters learn, its controls, the laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clbench import resolve
from clbench.errors import UserError
from clbench.rng import Generator
from clbench.runner.components import Components
from clbench.strategies.kappatune import KappaTune, condition_number, matrix, ordered, rows_within
from clbench.testing import check_resume
from clbench.testing.strategies import check_strategy
from support import DIGITS, assembled, make_run, unwatched

PRETRAINED = "split_glyphs-v1"
SELECTIONS = ["lowest", "highest", "random", "last"]
ADAPTERS = "strategy={rank: 2, tensors: 3}"


def components(overrides: list[str], *more: str) -> Components:
    return assembled(resolve.make_run(PRETRAINED, strategy="kappatune", overrides=[*overrides, *more]))


def method_of(parts: Components) -> KappaTune:
    assert isinstance(parts.strategy, KappaTune)
    return parts.strategy


def state(parts: Components) -> dict[str, Tensor]:
    return {name: t.detach().clone() for name, t in parts.strategy.model.state_dict().items()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, Any]:
    """Rows of each tensor that changed."""
    rows = {}
    for name, old in before.items():
        old, new = (t.squeeze(0) if t.ndim == 3 and len(t) == 1 else t for t in (old, after[name]))
        differ = (old != new).reshape(len(old), -1).any(1) if old.ndim else old[None] != new[None]
        if differ.any():
            rows[name] = torch.nonzero(differ).flatten().tolist()
    return rows


# ------------------------------------------------------------------------------------------------ condition numbers
def test_condition_numbers_are_numpys() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in [(5, 5), (8, 3), (2, 9)]:
        weight = torch.randn(shape, generator=generator)
        expected = np.linalg.cond(weight.double().numpy())
        assert condition_number(weight) == pytest.approx(
            expected, rel=1e-10
        )  # both in double, of well-conditioned ones
        assert condition_number(1000 * weight) == pytest.approx(expected, rel=1e-6), (
            "scale-invariant; 1000 w is rounded"
        )
    singular = torch.outer(torch.arange(1.0, 4.0), torch.arange(1.0, 4.0))
    assert condition_number(singular) > 1e15
    assert condition_number(torch.zeros(3, 3)) == 2.0**52
    assert condition_number(torch.diag(torch.tensor([6.0, 3.0, 2.0]))) == 3.0


def test_weights_as_matrices() -> None:
    weight = torch.arange(96.0).view(4, 3, 2, 4)
    assert torch.equal(matrix(weight), weight.view(4, 24))  # type: ignore[arg-type]
    assert torch.equal(matrix(weight.view(1, 24, 4)), weight.view(24, 4))  # type: ignore[arg-type]
    assert [matrix(torch.zeros(shape)) for shape in [(7,), (1, 7), (7, 1), (1, 1, 7)]] == [None] * 4


def test_orders_and_budgets_by_hand() -> None:
    kappa = {"a": 3.0, "b": 1.0, "c": 2.0}
    assert ordered(kappa, "lowest", Generator(0, "x")) == ["b", "c", "a"]
    assert ordered(kappa, "highest", Generator(0, "x")) == ["a", "c", "b"]
    assert ordered(kappa, "last", Generator(0, "x")) == ["c", "b", "a"]
    drawn = {"".join(ordered(kappa, "random", Generator(seed, "x"))) for seed in range(60)}
    assert len(drawn) == 6, "every order comes"
    assert rows_within([(4, 10), (3, 7), (9, 2)], 60) == [4, 2, 0], "what is left after the cut goes unused"
    assert rows_within([(4, 10), (3, 7), (9, 2)], 61) == [4, 3, 0]
    assert rows_within([(4, 10)], 9) == [0]


# ------------------------------------------------------------------------------------------------ what learns
@pytest.mark.parametrize("select", SELECTIONS)
def test_what_is_selected_learns_and_nothing_else_moves(select: str, pretrained: list[str]) -> None:
    parts = components(pretrained, f"strategy.select={select}", "strategy.share=0.3")
    method, before = method_of(parts), state(parts)
    layers = {n: p for n, p in method.model.named_parameters() if n.startswith("0.") and matrix(p.detach()) is not None}
    assert set(method.kappa) == set(layers)
    assert "0.token" not in layers
    views = {name: matrix(p.detach()) for name, p in layers.items()}
    kappa = {name: float(np.linalg.cond(view.double().numpy())) for name, view in views.items() if view is not None}
    expected = sorted(kappa, key=kappa.__getitem__)
    for order, names in (("lowest", expected), ("highest", expected[::-1]), ("last", list(kappa)[::-1])):
        if select == order:
            assert list(method.rows) == names[: len(method.rows)]
    rows = moved(before, state(unwatched(parts)))
    assert set(rows) == {*method.rows, "1.weight", "1.bias"}
    for name, count in method.rows.items():
        assert max(rows[name]) < count, "no row beyond the budget moves"


@pytest.mark.parametrize(
    "optimizer", ["{name: adamw, lr: 1e-3, weight_decay: 0.1}", "{name: sgd, lr: 0.1, momentum: 0.9}"]
)
def test_rows_beyond_the_budget_stay_bit_for_bit(optimizer: str, pretrained: list[str]) -> None:
    """Weight decay and momentum would move them though their gradients are 0."""
    parts = components(pretrained, "strategy.select=last", "strategy.share=0.17", f"training.optimizer={optimizer}")
    method, before = method_of(parts), state(parts)
    (part,) = method._held
    after = state(unwatched(parts))
    count = method.rows[part]
    assert torch.equal(before[part][count:], after[part][count:])
    assert not torch.equal(before[part][:count], after[part][:count])


def test_all_selections_train_equally_many_parameters(pretrained: list[str]) -> None:
    methods = [method_of(components(pretrained, f"strategy.select={s}", "strategy.share=0.3")) for s in SELECTIONS]
    total = sum(p.numel() for n, p in methods[0].model.named_parameters() if n in methods[0].kappa)
    for method in methods:
        trained = 0
        for name, count in method.rows.items():
            weight = method.model.get_parameter(name)
            trained += weight[..., :count, :].numel() if weight.ndim == 3 else weight[:count].numel()
        assert trained == method.report()["parameters"]
        assert 0 <= round(0.3 * total) - trained < 64, "less than a row, of which the longest has 64 numbers"
    assert len({frozenset(method.rows) for method in methods}) > 2, "they choose differently"


def test_convolutions_are_candidates_too() -> None:
    parts = assembled(make_run("kappatune", "model={name: cnn, hidden: 16}", "strategy.tensors=2", benchmark=DIGITS))
    method, before = method_of(parts), state(parts)
    assert set(method.kappa) == {"0.weight", "3.weight", "7.weight"}
    kernel = before["3.weight"].double().reshape(32, -1).numpy()
    assert method.kappa["3.weight"] == pytest.approx(np.linalg.cond(kernel), rel=1e-10)
    rows = moved(before, state(unwatched(parts)))
    assert set(rows) == {*method.rows, "9.weight", "9.bias"}


def test_a_number_of_tensors(pretrained: list[str]) -> None:
    parts = components(pretrained, "strategy.tensors=2")
    before = state(parts)
    kappa = method_of(parts).kappa
    two = set(sorted(kappa, key=kappa.__getitem__)[:2])
    assert set(moved(before, state(unwatched(parts)))) == {*two, "1.weight", "1.bias"}
    assert method_of(parts).memory().bytes == 0


def test_selection_at_each_experience_follows_the_weights(pretrained: list[str]) -> None:
    rate = "training.optimizer={name: adam, lr: 0.3}"
    parts = components(pretrained, "strategy={at: experience, share: 0.2}", rate)
    method = method_of(parts)
    first = dict(method.kappa)
    unwatched(parts)
    assert method.kappa != first
    report = method.report()
    assert {name: report[f"kappa {name}"] for name in first} == method.kappa
    assert method_of(unwatched(components(pretrained, "strategy.share=0.2", rate))).kappa == first


def test_adapters_learn_in_the_selected_layers(pretrained: list[str]) -> None:
    pytest.importorskip("peft")
    weights = method_of(components(pretrained, "strategy.tensors=10")).kappa
    parts = components(pretrained, ADAPTERS)
    method, before = method_of(parts), state(parts)
    assert not {name for name in method.kappa if "blocks" not in name}, "linear layers alone"
    kappa = {name: weights[name] for name in method.kappa}
    three = sorted(kappa, key=kappa.__getitem__)[:3]
    rows = moved(before, state(unwatched(parts)))
    layers = [name.removesuffix(".weight") for name in three]
    assert set(rows) == {*(f"{n}.lora_{m}.adapter.weight" for n in layers for m in "AB"), "1.weight", "1.bias"}
    trained = sum(2 * sum(method.model.get_submodule(f"{n}.base_layer").weight.shape) for n in layers)  # type: ignore[arg-type]
    assert method.report()["parameters"] == trained
    assert method.memory().bytes == 4 * trained


# ------------------------------------------------------------------------------------------------ refusals
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("strategy={share: 0.1, tensors: 2}", "got both 'share' and 'tensors'"),
        ("strategy={rank: 2, at: experience}", "Allowed with adapters, which stay where they are: start"),
        ("strategy.alpha=2.0", "'alpha' is for adapters; set 'rank' too"),
    ],
)
def test_settings_that_do_not_go_together(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_run("kappatune", override)


def test_budgets_of_less_and_of_more_than_there_is(pretrained: list[str]) -> None:
    assert list(method_of(components(pretrained, "strategy.share=1e-5")).rows.values()) == [1], "a row at least"
    with pytest.raises(UserError) as caught:
        components(pretrained, "strategy={share: 1e-5, rank: 2}")
    assert str(caught.value) == "strategy.share: 1e-05 of all adapters is less than one, of rank 2."
    with pytest.raises(UserError) as caught:
        components(pretrained, "strategy.tensors=99")
    assert str(caught.value) == "strategy.tensors: got 99, and the network has 10 candidates."


def test_adapters_do_not_compose_with_another_parts_optimiser() -> None:
    """They would stay as they are without a word: the optimiser is made before them."""
    pytest.importorskip("peft")
    adapted = "strategy={er: {memory: 20}, kappatune: {rank: 2, tensors: 1}}"
    with pytest.raises(UserError) as caught:
        assembled(make_run("er+kappatune", adapted, "model.hidden=[8, 8]"))
    assert str(caught.value) == (
        "strategy.kappatune.rank: adapters do not compose with a part that defines the training objective. "
        "Allowed: null."
    )


# ------------------------------------------------------------------------------------------------ laws
@pytest.mark.parametrize(
    "override", ["strategy={select: last, share: 0.17}", "strategy={at: experience, select: random}"]
)
def test_a_resumed_run_ends_the_same(override: str, pretrained: list[str]) -> None:
    run = resolve.make_run(PRETRAINED, strategy="kappatune", overrides=[*pretrained, override, "evaluation.every=0"])
    check_resume(run, at=[4, 7])


@pytest.mark.slow
@pytest.mark.parametrize("override", ["strategy={at: experience, select: random}", "strategy.select=highest"])
def test_it_keeps_all_laws(override: str) -> None:
    check_strategy("kappatune", [override], domains=None, online=None, better_than=(), seeds=[0])


def test_a_network_is_frozen_but_for_what_learns() -> None:
    """Statistics of batch normalisation stay."""
    small = ["model={name: slim_resnet18, filters: 2}", "stream.tasks.count=2", "training.batch_size=8"]
    parts = assembled(make_run("kappatune", *small, benchmark=DIGITS, iterations=2))
    before = state(parts)
    after = state(unwatched(parts))
    assert not [name for name in before if "running" in name and not torch.equal(before[name], after[name])]
    assert all(not m.training for m in parts.strategy.model.modules() if isinstance(m, nn.BatchNorm2d))
