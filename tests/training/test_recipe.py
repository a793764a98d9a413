"""Clipping, label smoothing, rates of parts, settings of single experiences, imported optimisers: laws of a recipe."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from clbench.config.optimizers import Sgd
from clbench.errors import UserError
from clbench.runner import user_code
from clbench.strategy import Batch, Setup, Strategy, smoothed_cross_entropy
from clbench.testing.resume import check_resume
from clbench.training.optimizers import optimizer
from clbench.training.rates import Rates
from support import DIGITS, assembled, make_run, trained, unwatched, user_module

FEW = "stream.tasks.count=3"


def weights(*overrides: str, strategy: str = "naive", **keys: Any) -> list[Tensor]:
    """Those of a trained network."""
    model = trained(make_run(strategy, FEW, *overrides, **keys), watch=False).strategy.model
    return [p.detach() for p in model.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# ------------------------------------------------------------------------------------------------ clipping
Step = tuple[list[Tensor], list[Tensor], list[Tensor]]


@pytest.fixture
def steps() -> Iterator[list[Step]]:
    """Of each step of SGD its weights before, the gradients as the strategy left them, and its weights after."""
    seen: list[Any] = []

    def parameters(optimizer: Any) -> list[nn.Parameter]:
        return [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]

    def before(optimizer: Any, *_: Any) -> None:
        seen.append(
            [
                [p.detach().clone() for p in parameters(optimizer)],
                [p.grad.clone() for p in parameters(optimizer) if p.grad is not None],
            ]
        )

    def after(optimizer: Any, *_: Any) -> None:
        seen[-1].append([p.detach().clone() for p in parameters(optimizer)])

    hooks = register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)
    yield seen
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("strategy", ["naive", "er+agem", "agem", "gem", "er+agem+ewc"])
@pytest.mark.parametrize("clip", ["{norm: 0.05}", "{value: 0.003}"])
def test_gradients_are_clipped_after_the_strategy_and_before_the_step(
    strategy: str, clip: str, steps: list[Step]
) -> None:
    trained(make_run(strategy, FEW, f"training.clip={clip}", "training.optimizer={name: sgd, lr: 0.1}"), watch=False)
    assert len(steps) == 15
    clipped = 0
    for w, gradients, moved in list(steps):  # the oracle's steps are seen too
        held = [nn.Parameter(v.clone()) for v in w]
        for p, g in zip(held, gradients, strict=True):
            p.grad = g.clone()
        if "norm" in clip:
            clipped += float(nn.utils.clip_grad_norm_(held, 0.05)) > 0.05
        else:
            clipped += any(float(g.abs().max()) > 0.003 for g in gradients)
            nn.utils.clip_grad_value_(held, 0.003)
        torch.optim.SGD(held, lr=0.1).step()
        assert same([p.detach() for p in held], moved)
    assert clipped > 10


# ------------------------------------------------------------------------------------------------ label smoothing
@pytest.mark.parametrize("smoothing", [0.1, 0.5])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_smoothing_is_that_of_torch_on_the_active_columns(smoothing: float, reduction: str) -> None:
    draws = torch.Generator().manual_seed(0)
    for active in ([0, 1, 2, 3, 4, 5], [1, 4], [2]):
        logits = 3 * torch.randn(50, 6, generator=draws)
        y = torch.tensor(active)[torch.randint(len(active), (50,), generator=draws)]
        masked = torch.full_like(logits, float("-inf"))
        masked[:, active] = logits[:, active]
        column = torch.tensor([active.index(int(c)) for c in y])
        expected = F.cross_entropy(logits[:, active], column, label_smoothing=smoothing, reduction=reduction)
        ours = smoothed_cross_entropy(masked, y, smoothing, reduction)
        # Both sum up to 50 x 6 products in float32, in another order: the default tolerance of float32.
        torch.testing.assert_close(ours, expected)
        assert F.cross_entropy(masked, y, label_smoothing=smoothing).isinf() or len(active) == 6


@pytest.mark.parametrize(
    ("strategy", "active"),
    [*(("naive", active) for active in ("all", "seen", "task", "batch")), ("er_ace", "all"), ("lwf", "seen")],
)
def test_smoothing_in_a_run(strategy: str, active: str) -> None:
    smooth = ["training.label_smoothing=0.2", f"training.active_outputs={active}"]
    learnt = weights(*smooth, strategy=strategy)
    assert all(w.isfinite().all() for w in learnt)
    assert not same(learnt, weights(smooth[1], strategy=strategy))


def test_the_gradient_of_a_masked_loss_is_finite() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    masked = logits.masked_fill(torch.tensor([False, False, True]), float("-inf"))
    smoothed_cross_entropy(masked, torch.tensor([0, 1, 0, 1]), 0.1).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[:, 2].any()


# ------------------------------------------------------------------------------------------------ rates of parts
def test_rates_of_one_change_nothing() -> None:
    assert same(weights("training.rates={front: 1, head: 1}"), weights())


@pytest.mark.parametrize("kind", ["{name: sgd, lr: 0.1, momentum: 0.9}", "{name: adam}"])
def test_a_frozen_front_is_a_linear_probe(kind: str) -> None:
    settings = [f"training.optimizer={kind}", "training.rates={front: 0}"]
    assert same(weights(*settings), weights(settings[0], strategy="linear_probe"))


def test_rates_are_those_of_torchs_groups() -> None:
    """Two groups by hand, over the batches that the run sees."""
    run = make_run("naive", FEW, "training.rates={front: 0.1, head: 2}", "training.optimizer={name: sgd, lr: 0.1}")
    components = assembled(run)
    model = copy.deepcopy(components.strategy.model)
    assert isinstance(model, nn.Sequential)
    by_hand = torch.optim.SGD(
        [{"params": model[:-1].parameters(), "lr": 0.1 * 0.1}, {"params": model[-1].parameters()}], lr=0.2
    )
    learn = components.strategy.step
    batches = []
    components.strategy.step = lambda batch: batches.append(batch) or learn(batch)  # type: ignore[method-assign, func-returns-value]
    unwatched(components)
    for batch in batches:
        by_hand.zero_grad()
        F.cross_entropy(model(batch.x), batch.y).backward()
        by_hand.step()
    assert same([p.detach() for p in model.parameters()], [p.detach() for p in components.strategy.model.parameters()])


@pytest.mark.parametrize("strategy", ["separate", "fetril", "napa_vq", "er+classp", "ema"])
def test_parts_under_strategies_that_change_the_network(strategy: str) -> None:
    components = assembled(
        make_run(
            strategy, "training.rates={front: 0.5}", benchmark=DIGITS if strategy == "napa_vq" else "split_synthetic-v1"
        )
    )
    model = components.strategy.model
    rate = {id(p): g["rate"] for g in components.strategy.optimizer.param_groups for p in g["params"]}
    of = {name: rate[id(p)] for name, p in model.named_parameters()}
    assert set(of.values()) == {0.5, 1.0}
    heads = {name.rpartition(".")[0] for name, r in of.items() if r == 1.0}
    assert len(heads) == (5 if strategy == "separate" else 1)


def test_the_longest_prefix_wins() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2))
    groups = Rates({"front": 0.1, "0": 0.2, "0.1": 0.3, "0.1.bias": 0.0}, model).groups(model.named_parameters())
    names = {id(p): name for name, p in model.named_parameters()}
    assert {tuple(names[id(p)] for p in g["params"]): g["rate"] for g in groups} == {
        ("0.0.weight", "0.0.bias"): 0.2,
        ("0.1.weight",): 0.3,
        ("0.1.bias",): 0.0,
        ("1.weight", "1.bias"): 1.0,
    }
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["0.1.bias"]


def test_without_rates_there_is_one_group_without_names() -> None:
    for strategy in ("naive", "classp", "er+ewc", "pass"):
        benchmark = DIGITS if strategy == "pass" else "split_synthetic-v1"
        made = assembled(make_run(strategy, benchmark=benchmark)).strategy.optimizer
        [group] = made.param_groups
        assert not {"rate", "initial_lr", "param_names"} & group.keys()


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (
            "{front: 0.1, promts: 2}",
            "training.rates: got 'promts', no part of the network under 'naive'. "
            "Allowed: front, head, 1, 3, and what is within these.",
        ),
        (
            "{haed: 2}",
            "training.rates: got 'haed', no part of the network under 'naive'. Did you mean 'head'? "
            "Allowed: front, head, 1, 3, and what is within these.",
        ),
        ("{front: 0, head: 0}", "training.rates: every parameter has the rate 0, so that nothing learns."),
    ],
)
def test_an_unknown_part(rates: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        assembled(make_run("naive", f"training.rates={rates}"))
    assert str(raised.value) == message


# ------------------------------------------------------------------------------------------------ experiences
def test_settings_of_an_experience() -> None:
    """The kept optimiser takes over rate and momentum; the oracle is one whose groups are changed by hand."""
    run = make_run(
        "naive", FEW, "training.experiences={1: {iterations: 7, optimizer: {name: sgd, lr: 0.05, momentum: 0.5}}}",
        "training.optimizer={name: sgd, lr: 0.1, momentum: 0.9}",
    )  # fmt: skip
    components = assembled(run)
    assert components.budgets == (5, 7, 5)
    model, strategy = copy.deepcopy(components.strategy.model), components.strategy
    by_hand = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for number, budget in enumerate(components.budgets):
        by_hand.param_groups[0].update(lr=0.05, momentum=0.5) if number == 1 else by_hand.param_groups[0].update(
            lr=0.1, momentum=0.9
        )
        experience = components.experience(number)
        components.recipe.enter(number)
        strategy.begin_experience(experience)
        for done, batch in enumerate(components.batches.of(experience, budget)):
            components.recipe.before_update(strategy, number, done)
            strategy.step(batch)
            by_hand.zero_grad()
            F.cross_entropy(model(batch.x), batch.y).backward()
            by_hand.step()
    assert same([p.detach() for p in model.parameters()], [p.detach() for p in strategy.model.parameters()])


def test_keys_may_be_numbers_and_the_pieces_of_an_experience_share_them() -> None:
    run = make_run(
        "naive",
        "training={iterations: null, epochs: 1, experiences: {0: {epochs: 3}}}",
        "stream.online=50",
        iterations=None,
    )
    assert run.benchmark.training.experiences.keys() == {"0"}
    passes = assembled(run).budgets
    assert passes[:4] == tuple(3 * n for n in passes[4:8])
    single = make_run(
        "naive",
        "training={iterations: null, epochs: 1}",
        "training.experiences.0.epochs=3",
        "stream.online=50",
        iterations=None,
    )
    assert single.run_id == run.run_id
    again = type(run).model_validate(run.model_dump(mode="json"))
    assert again.run_id == run.run_id


def test_the_recipe_is_part_of_the_id() -> None:
    changes = [
        "training.schedule={name: cosine}", "training.schedule={name: cosine, unit: updates}",
        "training.clip={norm: 1}", "training.clip={value: 1}", "training.label_smoothing=0.1",
        "training.rates={front: 0.5}", "training.experiences={0: {iterations: 5}}",
    ]  # fmt: skip
    ids = {make_run("naive", *change).definition_hash for change in [[], *([c] for c in changes)]}
    assert len(ids) == 1 + len(changes)
    off = ["training={schedule: null, clip: null, label_smoothing: 0, rates: {}, experiences: {}}"]
    assert make_run("naive", *off).run_id == make_run("naive").run_id


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "training.experiences={0: {optimizer: {name: adam}}}",
            "training.experiences.0.optimizer: got another kind than training.optimizer ('sgd'), whose state cannot be "
            "kept. Allowed: the same kind, or training.optimizer_state: reset.",
        ),
        ("training.experiences={first: {epochs: 2}}", "got the key 'first'. Allowed: numbers of experiences, from 0."),
        (
            "training.experiences={0: {epochs: 2, iterations: 5}}",
            "training.experiences.0: got both 'epochs' and 'iterations'. Allowed: one of them; null unsets a key.",
        ),
        (
            "training={budget: stream, experiences: {0: {iterations: 2}}}",
            "training.experiences.0.iterations: got 'iterations', and training.budget is 'stream', which all share.",
        ),
        (
            "training.experiences={0: {epohcs: 2}}",
            "training.experiences.0.epohcs: unknown key. Did you mean 'epochs'? "
            "Allowed: epochs, iterations, optimizer, schedule, clip, label_smoothing.",
        ),
        (
            "training.clip={norm: 1, value: 1}",
            "training.clip: got both 'norm' and 'value'. Allowed: one of them; null unsets a key.",
        ),
        (
            "training={loss: squared_error, label_smoothing: 0.1}",
            "training.label_smoothing: is for cross_entropy, and training.loss is 'squared_error'.",
        ),
        (
            "training.schedule={name: multi_step, milestones: [4, 2]}",
            "training.schedule.milestones: got [4, 2]. Allowed: numbers that ascend.",
        ),
    ],
)  # fmt: skip
def test_mistakes_of_a_file(override: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        make_run("naive", "training.optimizer={name: sgd, lr: 0.1}", override)
    assert str(raised.value).endswith(message)


def test_without_boundaries_no_experience_has_settings() -> None:
    with pytest.raises(UserError, match="got settings of experience 0, which needs the boundaries"):
        make_run("naive", "training.experiences={0: {iterations: 2}}", "protocol.boundaries=false")


# ------------------------------------------------------------------------------------------------ imported optimisers
IMPORTED = "training.optimizer={name: imported, factory: 'torch.optim:SGD', lr: 0.1, options: {momentum: 0.9}}"


def test_an_imported_optimiser_is_the_same_by_its_name() -> None:
    recipe = "training={clip: {norm: 0.5}, schedule: {name: cosine, unit: updates}, rates: {front: 0.5}}"
    assert same(weights(IMPORTED, recipe), weights("training.optimizer={name: sgd, lr: 0.1, momentum: 0.9}", recipe))


def no_rate(parameters: Iterable[Any]) -> Any:
    raise AssertionError("it is not called")


def fails(parameters: Iterable[Any], lr: float) -> Any:
    raise RuntimeError("no such device")


def no_optimizer(parameters: Iterable[Any], lr: float) -> Any:
    return lr


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("no_rate", "takes (parameters), and would be called with the parameters and lr "
         "(got an unexpected keyword argument 'lr')."),
        ("fails", 'in fails: raise RuntimeError("no such device")).'),
        ("no_optimizer", "gave float. Allowed: a torch.optim.Optimizer."),
        ("nothing", "does not import: module 'a_users_module' has no 'nothing'."),
        ("number", "is int. Allowed: a function or a class."),
    ],
)  # fmt: skip
def test_a_factory_that_is_refused(factory: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = user_module(monkeypatch, no_rate, fails, no_optimizer)
    monkeypatch.setattr(f"{path}.number", 3, raising=False)
    settings = f"training.optimizer={{name: imported, factory: '{path}:{factory}', lr: 0.1}}"
    with pytest.raises(UserError) as raised:
        assembled(make_run("naive", settings))
    assert str(raised.value).startswith(("optimizer.factory: ", "training.optimizer.factory: "))
    assert f"'{path}:{factory}'" in str(raised.value)
    assert str(raised.value).endswith(message)


def test_a_users_modules_are_recorded(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lab_optim", "lab_schedule"):
        (tmp_path / f"{name}.py").write_text("def thing(*a, **k): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    run = make_run(
        "naive", "training.optimizer={name: imported, factory: 'lab_optim:thing', lr: 1.0}",
        "training.experiences={0: {schedule: {name: imported, function: 'lab_schedule:thing'}}}",
    )  # fmt: skip
    assert user_code.of(run).modules.keys() == {"lab_optim", "lab_schedule"}


# ------------------------------------------------------------------------------------------------ resume
RECIPE = (
    "training={clip: {norm: 0.1}, label_smoothing: 0.1, rates: {front: 0.5}, "
    "schedule: {name: cosine, unit: updates, warm_up: {length: 2}}, "
    "experiences: {0: {iterations: 9, "
    "schedule: {name: multi_step, milestones: [5], unit: updates, warm_up: {length: 1}}, "
    "clip: {value: 0.01}, optimizer: {name: OPTIMIZER}}}}"
)


@pytest.mark.parametrize(
    ("strategy", "state", "first"),
    [
        ("naive", "reset", "adam"),
        ("naive", "keep", "sgd, lr: 0.2, momentum: 0.5"),
        ("classp", "keep", "sgd, lr: 0.2"),
        ("er+agem+ewc", "reset", "adam"),
        ("er+agem+ewc", "keep", "sgd, lr: 0.2"),
        ("pass", "reset", "sgd, lr: 0.2"),
    ],
)
def test_it_resumes_bit_for_bit(strategy: str, state: str, first: str) -> None:
    run = make_run(
        strategy, FEW, "training={iterations: 6, epochs: null, batch_size: 60}",
        RECIPE.replace("OPTIMIZER", first), f"training.optimizer_state={state}",
        "training.optimizer={name: sgd, lr: 0.1, momentum: 0.9}", "evaluation.every=0",
        benchmark=DIGITS if strategy == "pass" else "split_synthetic-v1",
    )  # fmt: skip
    check_resume(run)


def test_an_optimiser_over_a_plain_list_is_as_before() -> None:
    layer = nn.Linear(2, 2)
    made = optimizer(Sgd(name="sgd", lr=0.1), Rates({}, layer).groups(layer.parameters()))
    assert made.param_groups[0]["params"] == list(layer.parameters())


class Two(Strategy):
    """Front and head by an optimiser each."""

    def __init__(self, config: Any, setup: Setup) -> None:
        super().__init__(config, setup)
        assert isinstance(self.model, nn.Sequential)
        self.optimizer = self.maker(self.model[:-1].parameters())
        self.of_head = self.maker(self.model[-1].parameters())

    def before_update(self, batch: Batch) -> None:
        self.of_head.step()
        self.of_head.zero_grad()


def test_all_optimisers_of_a_strategy_follow_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = (
        "training={optimizer: {name: sgd, lr: 0.1}, rates: {front: 0.5, head: 2}, "
        "schedule: {name: linear, unit: updates}, experiences: {1: {optimizer: {name: sgd, lr: 0.3}}}}"
    )
    run = make_run(f"{user_module(monkeypatch, Two)}:Two", FEW, recipe, "training.clip={value: 0.01}")
    assert same(
        [p.detach() for p in trained(run, watch=False).strategy.model.parameters()],
        weights(recipe, "training.clip={value: 0.01}"),
    )
