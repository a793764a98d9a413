"""Heads: a growing one is a layer that really grows, a multi one is a layer for each task, a cosine one is a cosine."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench import resolve
from clbench.config import networks
from clbench.errors import UserError
from clbench.evaluation.evaluator import Evaluator
from clbench.runner.components import Components
from clbench.testing.resume import check_resume
from clbench.trace import UNAVAILABLE, Phase, Trace
from clbench.training import heads
from support import CLASSIFIERS, DIGITS, DOMAIN, assembled, make_run, trace_of, unwatched, watched

GROWING = "model.head={growing: true}"
MULTI = "model.head={multi: true}"
TOLD = "protocol.task_at_test=true"
MOMENTUM = "training.optimizer={name: sgd, lr: 0.1, momentum: 0.9, weight_decay: 0.01}"
COUNT = ["stream.tasks.count=3"]
ALL = "evaluation.scope=all"
QUICK = ["evaluation.every=0", "stream.tasks.count=2"]
ADAM = "training.optimizer={name: adam, lr: 0.01, weight_decay: 0.01}"


def traced(components: Components) -> Trace:
    return trace_of(components, watched(components))


# ------------------------------------------------------------------------------------------------ growing
class Grown:
    """A network whose last layer really grows, trained by hand.

    Args:
        initial: a network whose last layer has the initial weights of all units.
        make: parameters -> optimiser.
    """

    def __init__(self, initial: nn.Sequential, make: Any) -> None:
        self.initial, self.make = initial[-1], make
        self.front, self.units = initial[:-1], list[int]()
        self.layer = self.optimizer = None

    def grow(self, outputs: tuple[int, ...]) -> None:
        """New rows beside the old ones, which keep their weights and their state in the optimiser."""
        new = [unit for unit in outputs if unit not in self.units]
        self.units += new
        before = None if self.optimizer is None else self.optimizer.state_dict()
        layer = nn.Linear(self.initial.in_features, len(self.units))
        with torch.no_grad():
            for name, fresh in self.initial.named_parameters():
                old = fresh[:0] if self.layer is None else getattr(self.layer, name)
                getattr(layer, name).copy_(torch.cat([old, fresh[new]]))
        self.layer = layer
        self.optimizer = self.make([*self.front.parameters(), *layer.parameters()])
        if before is not None:
            placed = dict(enumerate([*self.front.parameters(), *layer.parameters()]))
            for p, state in before["state"].items():
                for key, value in state.items():
                    if value.ndim and value.shape != placed[p].shape:
                        state[key] = torch.cat([value, value.new_zeros(len(new), *value.shape[1:])])
            self.optimizer.load_state_dict(before)

    def step(self, x: Tensor, y: Tensor) -> None:
        self.optimizer.zero_grad()
        F.cross_entropy(self.layer(self.front(x)), torch.tensor([self.units.index(v) for v in y.tolist()])).backward()
        self.optimizer.step()

    @torch.no_grad()
    def counts(self, x: Tensor, cell: Tensor, target: Tensor, cells: int) -> list[int]:
        """Right predictions in each cell; none for a class without a unit."""
        predicted = torch.tensor(self.units)[self.layer(self.front(x)).argmax(1)]
        right = torch.bincount(cell[predicted == target], minlength=cells)
        absent = set(cell[~torch.isin(target, torch.tensor(self.units))].tolist())
        return [UNAVAILABLE if k in absent else count for k, count in enumerate(right.tolist())]


@pytest.mark.parametrize("optimizer", [MOMENTUM, ADAM])
@pytest.mark.parametrize("state", ["keep", "reset"])
def test_a_growing_head_is_a_layer_that_grows(optimizer: str, state: str) -> None:
    overrides = [optimizer, f"training.optimizer_state={state}"]
    run = make_run("naive", GROWING, ALL, *overrides, iterations=15)
    trace = traced(assembled(run))

    plain = assembled(make_run("naive", *overrides, iterations=15))  # for its initial weights, batches and test inputs
    strategy, cells = plain.strategy, plain.evaluator.cells
    of_sample = torch.from_numpy(np.repeat(np.arange(len(cells.size)), cells.size))
    x, target = plain.evaluator._inputs.at(torch.arange(len(of_sample))), torch.from_numpy(cells.target)[of_sample]
    hand = Grown(copy.deepcopy(strategy.model), strategy.setup.make_optimizer)
    rows: list[list[int]] = []

    def look() -> None:
        rows.append(hand.counts(x, of_sample, target, len(cells.size)))

    for number, updates in enumerate(plain.budgets):
        experience = plain.experience(number)
        hand.grow(experience.outputs)
        if state == "reset" and number:
            hand.optimizer = hand.make([*hand.front.parameters(), *hand.layer.parameters()])
        look()
        for batch in plain.batches.of(experience, updates):
            hand.step(batch.x, batch.y)
            look()
        look()
    assert len(rows) == len(trace.iteration)
    assert np.array_equal(trace.correct["class"], np.array(rows))
    assert (trace.correct["class"][0] == UNAVAILABLE).sum() == 8  # of ten classes two are there
    assert (trace.correct["class"][-1] >= 0).all()


def test_units_of_classes_to_come_do_not_change() -> None:
    """Neither by weight decay nor by momentum, and what they begin with is what they would have begun with."""
    components, plain = (assembled(make_run("naive", MOMENTUM, *more, iterations=5)) for more in ([GROWING], []))
    head, initial = components.strategy.model[-1], plain.strategy.model[-1]
    components.experience(0)
    known = sorted(set(range(10)) - head.absent)
    assert len(known) == 2
    unwatched(components)
    assert not head.absent
    again = assembled(make_run("naive", MOMENTUM, GROWING, iterations=5))
    head = again.strategy.model[-1]
    for number in range(5):
        experience = again.experience(number)
        new = [o for o in experience.outputs if o not in known or not number]
        assert torch.equal(head.weight[new], initial.weight[new])
        assert torch.equal(head.bias[new], initial.bias[new])
        again.strategy.begin_experience(experience)
        for batch in again.batches.of(experience, 5):
            again.strategy.step(batch)
        later = sorted(head.absent)
        assert not head.weight[later].any()
        moments = again.strategy.optimizer.state[head.weight]["momentum_buffer"]
        assert not moments[later].any()
        known += new


def test_a_class_to_come_is_no_prediction_in_any_view() -> None:
    """Also where all outputs compete, and where the units of a task alone do, none of which are there."""
    run = make_run("naive", GROWING, ALL, "evaluation.views=[class, task, domain]")
    trace = traced(assembled(run))
    first = trace.experience == 0
    for view in ("class", "task", "domain"):
        counts = trace.correct[view][first]
        assert ((counts == UNAVAILABLE).sum(1) == 8).all()
    assert np.array_equal(trace.correct["domain"], trace.correct["class"])  # all that have come, and no others
    ends = [t for t, phase in enumerate(trace.phase) if phase == Phase.END]
    assert (trace.predicted["task"][0] == 255).sum() == 8 * 20
    assert (trace.predicted["class"][len(ends) - 1] < 10).all()


def test_the_hidden_classes_of_a_prediction_are_not_those_of_training() -> None:
    """Logits of training are finite, for methods that store or distil them."""
    components = assembled(make_run("naive", GROWING))
    components.experience(0)
    model, x = components.strategy.model, torch.randn(4, 32)
    absent = sorted(model[-1].absent)
    assert torch.equal(model(x)[:, absent], torch.zeros(4, 8))
    with Evaluator.__init__.__globals__["Twin"]().of(model) as twin:
        assert torch.equal(twin(x)[:, absent], torch.full((4, 8), -torch.inf))
    assert torch.equal(model(x)[:, absent], torch.zeros(4, 8))


OWN_HEAD = {"ncm", "fetril", "pass", "napa_vq", "refit", "acil", "fecam", "ranpac", "slda"}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_any_strategy_of_the_table_has_such_a_head_or_refuses_it(name: str) -> None:
    run = make_run(name, "model.head={kind: cosine, growing: true}", MOMENTUM, *QUICK, iterations=2)
    if name in OWN_HEAD:
        with pytest.raises(UserError, match=r"^model.head: got a cosine head, and the strategy has its own"):
            assembled(run)
        return
    trace = traced(assembled(run))
    assert np.isfinite(trace.loss).all()
    assert (trace.correct[run.benchmark.stream.setting][-1] >= 0).all()


@pytest.mark.parametrize("name", ["lwf", "ewc", "der", "er+ema"])
def test_a_run_with_a_growing_head_resumes(name: str) -> None:
    check_resume(
        make_run(name, "model.head={kind: cosine, growing: true}", MOMENTUM, "stream.tasks.count=3", iterations=2)
    )


def test_watching_changes_nothing_with_a_growing_head() -> None:
    run = make_run("er", GROWING, MOMENTUM, "watch={ema: [0.9], gradients: true, features: true}")
    seen, unseen = assembled(run), assembled(run)
    watched(seen)
    unwatched(unseen)
    assert all(
        torch.equal(a, b)
        for a, b in zip(*(s.strategy.model.state_dict().values() for s in (seen, unseen)), strict=True)
    )


# ------------------------------------------------------------------------------------------------ cosine
def test_a_cosine_head() -> None:
    torch.manual_seed(0)
    linear, features = nn.Linear(6, 4), torch.randn(5, 6)
    weight = linear.weight.detach().clone()
    for scale, eta in (("learned", 1.0), (16.0, 16.0)):
        head = heads.Head(copy.deepcopy(linear), networks.Head(kind="cosine", scale=scale))
        by_hand = np.array(
            [[eta * float(f @ w) / (float(f.norm()) * float(w.norm())) for w in weight.double()]
             for f in features.double()]
        )  # fmt: skip
        # float32: 6 products, two norms, and a quotient; 20 roundings of numbers of eta's size
        np.testing.assert_allclose(head(features).detach().numpy(), by_hand, atol=20 * eta * 2**-24)
        assert [name for name, _ in head.named_parameters()] == (
            ["weight", "scale"] if scale == "learned" else ["weight"]
        )
    head = heads.Head(linear, networks.Head(kind="cosine"))
    head(features).square().sum().backward()
    assert head.scale.grad.abs() > 0


def test_a_plain_head_is_no_option() -> None:
    plain, written = (make_run("naive", *more) for more in ([], ["model.head={kind: linear, growing: false}"]))
    assert plain.run_id == written.run_id
    ids = {make_run("naive", f"model.head={{{keys}}}").run_id for keys in (
        "kind: cosine", "kind: cosine, scale: 4", "growing: true", "kind: cosine, growing: true")}  # fmt: skip
    assert len({plain.run_id} | ids) == 5


# ------------------------------------------------------------------------------------------------ multi
def test_where_each_task_has_its_units_a_multi_head_is_the_same() -> None:
    one, other = (assembled(make_run("er", "stream.setting=task", *more)) for more in ([], [MULTI]))
    traces = traced(one), traced(other)
    assert np.array_equal(traces[0].correct["task"], traces[1].correct["task"])
    assert np.array_equal(traces[0].loss, traces[1].loss)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            *(map(tuple, (one.strategy.model.parameters(), other.strategy.model.parameters()))), strict=True
        )
    )


def test_a_multi_head_is_a_layer_for_each_task() -> None:
    """Against separate modules trained by hand, by plain gradient descent, where a gradient of 0 is none."""
    run = make_run("naive", MULTI, TOLD, ALL, *COUNT, benchmark=DOMAIN, iterations=8)
    components, other = assembled(run), assembled(run)
    trace = traced(components)
    model, tasks = copy.deepcopy(other.strategy.model), 3
    layers = []
    for t in range(tasks):
        layer = nn.Linear(100, 10)
        with torch.no_grad():
            layer.weight.copy_(model[-1].weight[10 * t : 10 * t + 10])
            layer.bias.copy_(model[-1].bias[10 * t : 10 * t + 10])
        layers.append(layer)
    front, parameters = model[:-1], [*model[:-1].parameters(), *(p for layer in layers for p in layer.parameters())]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    cells = other.evaluator.cells
    of_sample = np.repeat(np.arange(len(cells.size)), cells.size)
    x = other.evaluator._inputs.at(torch.arange(len(of_sample)))
    rows = []

    def look() -> None:
        with torch.no_grad():
            scores = torch.stack([layer(front(x)) for layer in layers], 1)
        of_task = scores[torch.arange(len(x)), torch.from_numpy(cells.task[of_sample])]
        right = of_task.argmax(1).numpy() == cells.label[of_sample]
        rows.append(np.bincount(of_sample[right], minlength=len(cells.size)))

    for number, updates in enumerate(other.budgets):
        look()
        for batch in other.batches.of(other.experience(number), updates):
            optimizer.zero_grad()
            F.cross_entropy(layers[number](front(batch.x)), batch.y - 10 * number).backward()
            optimizer.step()
            look()
        look()
    assert np.array_equal(trace.correct["domain"], np.array(rows))
    assert trace.predicted["domain"].max() < 30
    shared = traced(assembled(make_run("naive", TOLD, ALL, *COUNT, benchmark=DOMAIN, iterations=8)))
    assert not np.array_equal(shared.correct["domain"], trace.correct["domain"])


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_any_strategy_learns_with_a_multi_head(name: str) -> None:
    trace = traced(assembled(make_run(name, MULTI, TOLD, *QUICK, benchmark=DOMAIN, iterations=2)))
    assert np.isfinite(trace.loss).all()
    assert trace.correct["domain"][-1].min() >= 0


def test_a_run_with_a_multi_head_resumes() -> None:
    check_resume(make_run("der", "model.head={multi: true, growing: true}", TOLD, benchmark=DOMAIN, iterations=2))


def test_units_of_tasks_and_of_their_variants() -> None:
    components = assembled(make_run("naive", TOLD, MULTI, benchmark="drift_digits-v1", iterations=1))
    stream = components.stream
    assert stream.variants
    assert stream.outputs == sum(len(set(task.targets)) for task in stream.tasks)
    for variant in stream.variants:
        assert variant.targets == stream.tasks[variant.stands_for].targets


# ------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("benchmark", "overrides", "sentence"),
    [
        (DIGITS, ["model.head={kind: cosin}"],
         "model.head.kind: got 'cosin'. Did you mean 'cosine'? Allowed: linear, cosine."),
        (DIGITS, ["model.head={kind: linear, scale: 3}"], "model.head.scale: is for a cosine head; leave it out."),
        (DIGITS, ["model.head={kind: cosine, scale: 0}"],
         "model.head.scale: got 0. Allowed: a number > 0, or learned."),
        (DIGITS, [MULTI], "model.head.multi: got true, which needs the task of each sample, in training and at test; "
         "take the setting task."),
        (DOMAIN, [MULTI], "model.head.multi: got true, which needs the task of each sample, in training and at test; "
         "set protocol.task_at_test to true."),
        (DOMAIN, [MULTI, TOLD, "protocol.task_in_training=false"],
         "model.head.multi: got true, which needs the task of each sample, in training and at test; "
         "set protocol.task_in_training to true."),
        (DOMAIN, [MULTI, TOLD, "training.active_outputs=all"],
         "training.active_outputs: got 'all'. Allowed with a multi head: task."),
        (DIGITS, [GROWING, "training.active_outputs=all"],
         "training.active_outputs: got 'all'. Allowed with a growing head: seen, task, batch."),
        (DIGITS, [GROWING, "protocol.boundaries=false"],
         "model.head.growing: got true, which needs the boundaries that the protocol denies."),
    ],
)  # fmt: skip
def test_heads_that_cannot_be(benchmark: str, overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as told:
        resolve.make_run(benchmark, strategy="naive", overrides=overrides)
    assert str(told.value).endswith(sentence)


def test_a_network_without_a_last_linear_layer_has_no_other_head(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^model.head: needs a network that is an nn.Sequential and ends in an nn.Lin"):
        heads.with_head(nn.Sequential(nn.Flatten(), nn.ReLU()), networks.Head(growing=True))


def test_numbers_to_predict_have_no_other_head() -> None:
    run = make_run("naive", GROWING, "training.loss=squared_error", benchmark="link_load_abilene-v1", iterations=1)
    with pytest.raises(UserError, match=r"^model.head: is for classes, and 'link_load' has numbers to predict\.$"):
        assembled(run)
