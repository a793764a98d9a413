"""LoRA: the rule against its equation, what learns and what does not, merging, adapters of tasks, the laws."""

from __future__ import annotations

import copy
import warnings
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clbench import resolve
from clbench.errors import UserError
from clbench.rng import Generator
from clbench.runner.components import Components
from clbench.strategies.lora import Lora
from clbench.strategies.shared import adapters
from clbench.testing import assert_same, check_resume
from clbench.testing.strategies import check_strategy
from support import assembled, generators, make_run, unwatched

pytest.importorskip("peft")

PRETRAINED = "split_glyphs-v1"
SUM = "strategy={adapters: per_task, prediction: sum}"
TASKS = ("strategy={adapters: per_task}", "stream.setting=task")
MODES: dict[str, tuple[str, ...]] = {
    "single": (),
    "dropout": ("strategy.dropout=0.3", "strategy.rank=3"),
    "merged": ("strategy.adapters=merged",),
    "sum": (SUM,),
    "O-LoRA": ("strategy={adapters: per_task, prediction: sum, orthogonality: 0.5}",),
    "by task": TASKS,
}


def components(overrides: list[str], *more: str, strategy: str = "lora") -> Components:
    run = resolve.make_run(PRETRAINED, strategy=strategy, overrides=[*overrides, *more])
    return assembled(run)


def lora(parts: Components) -> Lora:
    assert isinstance(parts.strategy, Lora)
    return parts.strategy


def state(parts: Components) -> dict[str, Tensor]:
    return {name: t.detach().clone() for name, t in parts.strategy.model.state_dict().items()}


def images(parts: Components) -> Tensor:
    x, _ = parts.samples.fetch(torch.arange(20), 0, plain=True)
    return x


def by_hand(network: nn.Module, weights: dict[str, Tensor], names: list[str], scale: float, x: Tensor) -> Tensor:
    """Scores of a plain network with W + scale sum B A in place of W, in double precision."""
    plain = copy.deepcopy(network).double()
    values = {}
    for name in plain.state_dict():
        layer, _, kind = name.rpartition(".")
        base = f"{layer}.base_layer.{kind}"
        values[name] = weights[base if base in weights else name].double()
        for adapter in names if kind == "weight" and base in weights else []:
            a, b = (weights[f"{layer}.lora_{m}.{adapter}.weight"].double() for m in "AB")
            values[name] = values[name] + scale * b @ a
    plain.load_state_dict(values)
    return plain.eval()(x.double())


def plain_network(overrides: list[str]) -> nn.Module:
    return components(overrides, strategy="naive").strategy.model


# ------------------------------------------------------------------------------------------------ the rule
@pytest.mark.parametrize("mode", ["single", "sum", "merged"])
def test_scores_are_those_of_the_equation(mode: str, pretrained: list[str]) -> None:
    """In double precision, where both orders of the sums agree to rounding: 1e-10 of scores of order 1 to 10."""
    parts = unwatched(components(pretrained, *MODES[mode]))
    x, method = images(parts), lora(parts)
    with torch.no_grad():
        expected = by_hand(plain_network(pretrained), state(parts), method.adapters.names, 16 / 8, x)
        got = copy.deepcopy(method.model).double().eval()(x.double())
    assert torch.allclose(got, expected, rtol=0, atol=1e-10)
    assert any(bool(b.any()) for _, b in pairs(method)) is (mode != "merged"), "it has learnt, or was merged"


def pairs(method: Lora) -> list[tuple[Tensor, Tensor]]:
    held = [list(method.adapters.parameters(name)) for name in method.adapters.names]
    return [(a, b) for each in held for a, b in zip(each[::2], each[1::2], strict=True)]


@pytest.mark.parametrize("mode", MODES)
def test_a_new_adapter_changes_no_prediction(mode: str, pretrained: list[str]) -> None:
    parts, plain = components(pretrained, *MODES[mode]), plain_network(pretrained)
    parts.strategy.begin_experience(parts.experience(0))
    x = images(parts)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(parts.strategy.model).eval()(x), plain.eval()(x)), "B is 0, exactly"


@pytest.mark.parametrize("mode", MODES)
def test_the_network_is_frozen_and_head_and_adapters_learn(mode: str, pretrained: list[str]) -> None:
    parts, before = components(pretrained, *MODES[mode]), plain_network(pretrained).state_dict()
    after = state(unwatched(parts))
    head = {name for name in before if name.startswith("1.")}
    same = {name for name in before if torch.equal(before[name], after.get(_base(name), after.get(name, before[name])))}
    adapted = {name for name in before if _base(name) in after and name.endswith("weight")}
    assert {name.split(".")[3] for name in adapted} == {"qkv", "out"}, "the linear layers of attention"
    changed = before.keys() - same
    assert changed == (head | adapted if mode == "merged" else head)


def _base(name: str) -> str:
    layer, _, kind = name.rpartition(".")
    return f"{layer}.base_layer.{kind}"


# ------------------------------------------------------------------------------------------------ merging
def test_merging_changes_no_prediction_but_by_rounding(pretrained: list[str]) -> None:
    """In double precision the scores agree to 1e-10. In single precision each of the 4 adapted layers rounds anew: the
    distance of the merged network's scores from the exact ones is within ten times that of the network's before."""
    parts = unwatched(components(pretrained))
    method, x = lora(parts), images(parts)
    twice = copy.deepcopy(method.model).double().eval()
    exact = by_hand(plain_network(pretrained), state(parts), ["adapter"], 2.0, x)
    with torch.no_grad():
        before = method.model.eval()(x)
        method.adapters.merge("adapter")
        after = method.model(x)
        rounding = float((before - exact).abs().max())
        assert 0 < float((after - before).abs().max()) < 10 * max(rounding, 1e-7)
        for layer in adapters.adapted(twice):
            layer.get_base_layer().weight += layer.get_delta_weight("adapter")
            layer.lora_B["adapter"].weight.zero_()
        assert torch.allclose(twice(x.double()), exact, rtol=0, atol=1e-10)


def test_a_merged_adapter_starts_anew_without_the_old_ones_moments(pretrained: list[str]) -> None:
    parts = components(pretrained, *MODES["merged"])
    drawn = [a.detach().clone() for a, _ in pairs(lora(parts))]
    method = lora(unwatched(parts))
    again = pairs(method)
    assert all(not torch.equal(a, before) for (a, _), before in zip(again, drawn, strict=True))
    assert all(not b.any() for _, b in again)
    moments = [p for p in method.optimizer.state if any(p is each for pair in again for each in pair)]
    assert not moments
    assert len(method.optimizer.state) == 2, "those of the head are kept"


# ------------------------------------------------------------------------------------------------ adapters of tasks
@pytest.mark.parametrize("mode", ["by task", "sum", "O-LoRA"])
def test_adapters_of_past_tasks_stay_bit_for_bit(mode: str, pretrained: list[str]) -> None:
    parts = components(pretrained, *MODES[mode])
    method = lora(parts)
    ends: list[dict[str, list[Tensor]]] = []
    end = method.end_experience

    def noted(experience: Any) -> None:
        end(experience)
        names = method.adapters.names
        ends.append({name: [p.detach().clone() for p in method.adapters.parameters(name)] for name in names})

    method.end_experience = noted  # type: ignore[method-assign]
    unwatched(parts)
    assert [len(each) for each in ends] == [1, 2, 3]
    for earlier, later in pairwise(ends):
        for name, values in earlier.items():
            assert all(torch.equal(a, b) for a, b in zip(values, later[name], strict=True))
            assert any(b.any() for b in values[1::2]), "it had learnt"


def test_samples_of_several_tasks_go_through_their_adapters_in_one_batch(pretrained: list[str]) -> None:
    parts = unwatched(components(pretrained, *TASKS))
    method, x = lora(parts), images(parts)
    task = torch.arange(20) % 4  # there are three; the fourth has no adapter
    model = copy.deepcopy(method.model).double().eval()
    before = [list(layer.active_adapters) for layer in adapters.adapted(model)]
    with torch.no_grad():
        mixed = method.predict(model, x.double(), task)
        assert mixed is not None
        for each in range(4):
            names = [f"task_{each}"] if each < 3 else []
            expected = by_hand(plain_network(pretrained), state(parts), names, 2.0, x[task == each])
            assert torch.allclose(mixed[task == each], expected, rtol=0, atol=1e-10)
    assert [list(layer.active_adapters) for layer in adapters.adapted(model)] == before


def test_a_task_that_returns_finds_its_adapter() -> None:
    parts = assembled(make_run("lora", "stream.setting=task", "strategy.adapters=per_task", "stream.tasks.count=2"))
    method = lora(parts)
    for number in (0, 1, 0):
        method.begin_experience(parts.experience(number))
    assert method.adapters.names == ["task_0", "task_1"]
    assert method.learning == ["task_0"]
    learning = [p.requires_grad for name in method.adapters.names for p in method.adapters.parameters(name)]
    assert learning == [True, True, False, False]


def test_the_optimiser_keeps_what_it_knows_of_the_head(pretrained: list[str]) -> None:
    parts = components(pretrained, SUM)
    method = lora(parts)
    unwatched(parts)
    head = method.model.get_submodule("1").weight
    assert int(method.optimizer.state[head]["step"]) == 15, "five updates of three experiences"
    reset = lora(unwatched(components(pretrained, SUM, "training.optimizer_state=reset")))
    assert int(reset.optimizer.state[reset.model.get_submodule("1").weight]["step"]) == 5


def test_the_penalty_is_o_loras(pretrained: list[str]) -> None:
    parts = unwatched(components(pretrained, *MODES["O-LoRA"]))
    with torch.no_grad():
        penalty = lora(parts).penalty()
    weights, expected = state(parts), 0.0
    layers = [name.removesuffix(".lora_A.block_2.weight") for name in weights if name.endswith("lora_A.block_2.weight")]
    for layer in layers:
        now = weights[f"{layer}.lora_A.block_2.weight"].double()
        for past in ("block_0", "block_1"):
            expected += 0.5 * float((weights[f"{layer}.lora_A.{past}.weight"].double() @ now.T).abs().sum())
    assert penalty is not None
    assert float(penalty) == pytest.approx(expected, rel=1e-5)  # float32 sums of some hundred numbers
    free = state(unwatched(components(pretrained, SUM)))
    overlap = sum(
        float((free[f"{n}.lora_A.{p}.weight"] @ free[f"{n}.lora_A.block_2.weight"].T).abs().sum())
        for n in layers
        for p in ("block_0", "block_1")
    )
    assert float(penalty) / 0.5 < overlap, "it pushes adapters apart"


# ------------------------------------------------------------------------------------------------ chance and memory
def test_adapters_are_drawn_from_the_strategys_generator_and_no_other(pretrained: list[str]) -> None:
    network = copy.deepcopy(plain_network(pretrained))
    before = generators()
    drawn = adapters.Adapters(network, ["0.blocks.1.qkv"], 8, 16.0, 0.0, Generator(0, "strategy", "adapters"))
    drawn.add("adapter")
    assert_same(before, generators())
    a = next(drawn.inputs("adapter"))
    assert float(a.detach().abs().max()) <= 1 / 16**0.5
    variance = float(a.detach().double().square().mean())  # of a uniform number: bound^2 / 3, here of 128 draws
    assert variance == pytest.approx(1 / 16 / 3, rel=4.5 * (0.8 / 128) ** 0.5)


@pytest.mark.parametrize(("mode", "number"), [("single", 1), ("merged", 1), ("sum", 3), ("by task", 3)])
def test_adapters_are_counted_in_bytes(mode: str, number: int, pretrained: list[str]) -> None:
    method = lora(unwatched(components(pretrained, *MODES[mode])))
    each = 2 * (8 * (16 + 48) + 8 * (16 + 16))  # blocks x (qkv, out) x rank x (in + out)
    assert method.memory().bytes == 4 * number * each
    assert method.report() == {"adapters": number, "adapter_parameters": each}


# ------------------------------------------------------------------------------------------------ which layers
def test_layers_are_chosen_by_name_or_by_its_end() -> None:
    names = ["0.a.qkv", "0.a.out", "0.a.fc1", "0.b.qkv", "0.b.out"]
    assert adapters.chosen_layers(names, None) == ["0.a.qkv", "0.a.out", "0.b.qkv", "0.b.out"]
    assert adapters.chosen_layers(names, ["0.b.qkv", "fc1"]) == ["0.a.fc1", "0.b.qkv"]
    bert = [f"e.0.attention.{n}" for n in ("self.query", "self.value", "output.dense")]
    assert adapters.chosen_layers([*bert, "e.0.output.dense"], None) == bert
    with pytest.raises(UserError) as caught:
        adapters.chosen_layers(names, ["qvk"])
    assert str(caught.value) == (
        "strategy.layers: the network has no linear layer 'qvk' before its head. Did you mean 'qkv'? "
        "Allowed: qkv, out, fc1."
    )


def test_a_layer_that_is_only_read_is_no_candidate() -> None:
    """nn.MultiheadAttention reads the weight of `out_proj` and never calls it."""
    model = nn.Sequential(nn.Linear(4, 4), nn.TransformerEncoderLayer(4, 2, 8), nn.Linear(4, 3))
    layers, head = adapters.linear_layers(model, "lora")
    assert (list(layers), head) == (["0", "1.linear1", "1.linear2"], "2")


def test_a_network_without_layers_to_adapt_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        assembled(make_run("lora", "model={name: linear}"))
    assert str(caught.value) == "model: 'lora' needs a network with a linear layer before the last one, the head."


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("strategy.prediction=sum", "'prediction' needs 'adapters: per_task'"),
        ("strategy.orthogonality=1", "'orthogonality' needs 'adapters: per_task' and 'prediction: sum'"),
        ("strategy.layers=[]", "an empty list adapts nothing"),
    ],
)
def test_settings_that_do_not_go_together(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_run("lora", override)


def test_adapters_of_tasks_need_the_task_at_test() -> None:
    with pytest.raises(UserError, match="task_at_test"):
        assembled(make_run("lora", "strategy.adapters=per_task"))


def test_any_module_of_a_user_can_be_adapted() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.ModuleDict({"query": nn.Linear(6, 6), "other": nn.Linear(6, 6)})
            self.classifier = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.classifier(self.encoder["other"](self.encoder["query"](x)).relu())
            return out

    net = Net()
    layers, head = adapters.linear_layers(net, "lora")
    assert head == "classifier"
    adapters.freeze_all_but(net, head)
    held = adapters.Adapters(net, adapters.chosen_layers(list(layers), None), 2, 2.0, 0.0, Generator(0, "a"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        held.add("one")
        held.add("two")
    held.train("two")
    learning = {name for name, p in net.named_parameters() if p.requires_grad}
    assert learning == {"classifier.weight", "classifier.bias", *(f"encoder.query.lora_{m}.two.weight" for m in "AB")}
    twin = copy.deepcopy(net)
    adapters.activate(twin, ["one", "two"])
    assert {name for name, p in net.named_parameters() if p.requires_grad} == learning, "activating trains nothing"
    assert [layer.active_adapters for layer in adapters.adapted(net)] != [["one", "two"]]


# ------------------------------------------------------------------------------------------------ laws
@pytest.mark.parametrize("mode", ["dropout", "merged", "O-LoRA", "by task"])
def test_a_resumed_run_ends_the_same(mode: str, pretrained: list[str]) -> None:
    run = resolve.make_run(PRETRAINED, strategy="lora", overrides=[*pretrained, *MODES[mode], "evaluation.every=0"])
    check_resume(run, at=[4, 7])


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_it_keeps_all_laws(mode: str) -> None:
    check_strategy("lora", MODES[mode], domains=None, online=None, better_than=(), seeds=[0])
