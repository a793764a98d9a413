"""Selective evaluation, scores kept from one boundary to the next, and test inputs that are made at each use: the trace
is that of a full evaluation, whatever was left out."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import support
from clbench.evaluation import audits, evaluated_model, linear_bound, selection
from clbench.evaluation.competition import Judged
from clbench.evaluation.inputs import TestInputs
from clbench.evaluation.passes import Passes, padded
from clbench.run_config import RunConfig
from clbench.runner import components
from clbench.strategy import Strategy
from clbench.testing.states import assert_same
from clbench.trace import Trace
from support import DIGITS, DOMAIN, assembled, learned, trace_of, user_module, watched

CPU = torch.device("cpu")
FULL = ("watch.samples=all", "watch.precision=float32")


@pytest.fixture(autouse=True)
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Selection and reduced precision also where they do not pay."""
    monkeypatch.setattr("clbench.evaluation.evaluator.fast_here", lambda: True)
    monkeypatch.setattr(evaluated_model, "_WORTH", 0)


def make_run(*overrides: str, strategy: str = "er", benchmark: str = DIGITS, iterations: int = 60) -> RunConfig:
    """Small steps, so that most samples can be left alone on few digits too."""
    small = "training.optimizer={name: sgd, lr: 0.003}"
    return support.make_run(strategy, small, *overrides, benchmark=benchmark, iterations=iterations)


def observed(run: RunConfig) -> tuple[components.Components, Trace]:
    bench = assembled(run)
    return bench, trace_of(bench, watched(bench))


def selected(bench: components.Components, model: str = "model") -> dict[str, Any]:
    report: dict[str, Any] = bench.evaluator.report()[model]["selection"]["audited"]
    return report


# ------------------------------------------------------------------------------------------------ exactness
@pytest.mark.parametrize("few", [8, 128])
@pytest.mark.parametrize(
    ("strategy", "benchmark", "overrides"),
    [
        ("er", DIGITS, ("model={name: mlp, hidden: [100, 100]}",)),
        ("er", DIGITS, ("model={name: mlp, hidden: [100], dropout: 0.5}", "watch={ema: [0.9], last: [3]}")),
        ("er", DIGITS, ("model={name: cnn}", "evaluation.views=[class, task, domain]")),
        ("er", DIGITS, ("model={name: slim_resnet18, filters: 4}", "training.iterations=12")),
        ("er", DOMAIN, ("evaluation.scope=all",)),
        ("naive", DIGITS, ("watch.precision=float32",)),
        ("naive", DIGITS, ("training.optimizer={name: adam, lr: 1e-3}",)),
        ("fetril", DIGITS, ()),
        ("ncm", DIGITS, ()),
    ],
    ids=["mlp", "dropout, averages", "cnn, three views", "batch norm", "domains", "float32", "adam", "fetril", "ncm"],
)
def test_the_trace_is_that_of_a_full_evaluation(
    monkeypatch: pytest.MonkeyPatch, strategy: str, benchmark: str, overrides: tuple[str, ...], few: int
) -> None:
    monkeypatch.setattr(evaluated_model, "_FEW", few)
    bench, cheap = observed(make_run(*overrides, strategy=strategy, benchmark=benchmark))
    _, exact = observed(make_run(*overrides, *FULL, strategy=strategy, benchmark=benchmark))
    assert_same(vars(cheap), vars(exact))
    for model in bench.evaluator.report():
        report = selected(bench, model)
        assert report["evaluations"]["selected"] > 2
        assert 0 < report["samples_looked_at"] < report["samples"]
        assert report["audited_answers"] > 10
        assert (report["audited_differing"], report["off"], report["suspect_evaluations"]) == (0, None, None)


def test_most_samples_are_left_alone_once_training_has_settled() -> None:
    bench, _ = observed(make_run("training.optimizer={name: sgd, lr: 0.001}", strategy="joint"))
    report = selected(bench)
    assert report["samples_looked_at"] < 0.5 * report["samples"]


def test_a_jump_behind_everybodys_back_is_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights turned round between two updates: every probe moves, so that every sample is looked at."""

    class Turns(Strategy):
        def after_update(self, batch: Any) -> None:
            self.updates = getattr(self, "updates", 0) + 1
            if self.updates % 40 == 0:
                self.model[-1].weight.data.mul_(-1)

    name = f"{user_module(monkeypatch, Turns)}:Turns"
    bench, cheap = observed(make_run(strategy=name))
    _, exact = observed(make_run(*FULL, strategy=name))
    assert_same(vars(cheap), vars(exact))
    assert selected(bench)["evaluations"]["selected"] > 3


def test_a_model_that_looks_at_the_batch_takes_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    class Centred(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - x.mean(0)

    class Looks(Strategy):
        def __init__(self, config: Any, setup: Any) -> None:
            super().__init__(config, setup)
            self.model.append(Centred())

    name = f"{user_module(monkeypatch, Looks)}:Looks"
    bench, cheap = observed(make_run(strategy=name, iterations=8))
    _, exact = observed(make_run(*FULL, strategy=name, iterations=8))
    assert_same(vars(cheap), vars(exact))
    assert "selection" not in bench.evaluator.report()["model"]


def test_selection_changes_nothing_in_training() -> None:
    watched_run, never = assembled(make_run()), assembled(make_run("evaluation.every=0"))
    watched(watched_run)
    watched(never)
    assert selected(watched_run)["evaluations"]["selected"] > 50
    assert_same(learned(watched_run), learned(never))


# ------------------------------------------------------------------------------------------------ audits
def test_an_audit_finds_a_bound_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """With hardly any safety answers are kept that are wrong; an audit says so, names them, and the way is left."""
    monkeypatch.setattr(selection, "_SAFETY", 1e-6)
    bench, cheap = observed(make_run(iterations=150))
    _, exact = observed(make_run(*FULL, iterations=150))
    report = selected(bench)
    assert report["audited_differing"] > 0
    assert report["off"] == "an audit found an answer that a full evaluation does not confirm"
    first, last = report["suspect_evaluations"]
    wrong = np.flatnonzero((cheap.correct["class"] != exact.correct["class"]).any(1)) + 1
    assert ((first <= wrong) & (wrong <= last)).any()
    assert_same(cheap.correct["class"][last:], exact.correct["class"][last:], "afterwards everything is looked at")


def test_audits_come_at_powers_of_two_and_at_a_stated_rate() -> None:
    clock = audits.Clock()
    due = [n for n in range(1, 200) if clock.tick()]
    assert due == [1, 2, 3, 5, 9, 17, 33, 65, 129, 193]
    clock.renew()
    assert clock.tick()


def test_where_most_samples_move_selection_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    probes: list[int] = []
    begin = selection.Selection.begin
    monkeypatch.setattr(
        selection.Selection, "begin", lambda self, *a: (probes.append(looked := begin(self, *a)), looked)[1]
    )
    _, cheap = observed(make_run("training.optimizer={name: sgd, lr: 5.0}", strategy="naive"))
    _, exact = observed(make_run("training.optimizer={name: sgd, lr: 5.0}", *FULL, strategy="naive"))
    assert_same(vars(cheap), vars(exact))
    assert sum(probes) < 0.6 * len(probes), "in most evaluations not even the probes are looked at"


def test_a_selection_continues_where_its_state_was_taken() -> None:
    """Half of an experience on another evaluator, with the same outcome and the same record."""
    whole, halves = assembled(make_run()), assembled(make_run())
    results: list[list[Any]] = []
    for bench, change in ((whole, False), (halves, True)):
        experience, counts = bench.experience(0), []
        bench.strategy.begin_experience(experience)
        for n, batch in enumerate(itertools.islice(bench.batches.of(experience, 60), 60)):
            bench.strategy.step(batch)
            if change and n == 20:
                state = bench.evaluator.state_dict()
                bench.evaluator = assembled(make_run()).evaluator
                bench.evaluator.load_state_dict(state)
            counts.append(bench.evaluator.evaluate(bench.strategy, [0], [0]).bits)
        results.append(counts)
    assert_same(results[0], results[1])
    assert whole.evaluator.report() == halves.evaluator.report()
    assert selected(whole)["evaluations"]["selected"] > 20


# ------------------------------------------------------------------------------------------------ rows
def test_selected_rows_have_the_bits_that_they_have_among_all() -> None:
    torch.manual_seed(0)
    x = torch.rand(1500, 60)
    network = nn.Sequential(nn.Linear(60, 200), nn.ReLU(), nn.Linear(200, 10)).eval()
    inputs = TestInputs(x)
    passes = Passes(inputs, CPU, 500)
    with torch.inference_mode():
        everything = passes.scores(network, inputs, (0, 1500))
        for n in (1, 3, 63, 64, 65, 129, 700, 1500):
            which = torch.randperm(1500)[:n].sort().values
            assert torch.equal(passes.scores(network, inputs, which), everything[which]), n
    assert len(padded(torch.arange(65))) == 128


# ------------------------------------------------------------------------------------------------ boundaries
def test_scores_around_a_boundary_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The evaluation before an experience takes what the one after the last computed of the tasks seen."""
    computed: list[int] = []
    scores = Passes.scores
    monkeypatch.setattr(
        Passes, "scores", lambda self, network, inputs, which: (computed.append(which[1] - which[0]),
                                                                scores(self, network, inputs, which))[1],
    )  # fmt: skip
    bench, once = observed(make_run("evaluation.every=0", "evaluation.batch_size=50"))
    start = bench.evaluator.cells.start.tolist()
    seen = [n for n in start[1:]]
    before = [start[-1], *(start[-1] - n for n in seen[:-1])]
    assert computed == [n for pair in zip(before, seen, strict=True) for n in pair]
    monkeypatch.setattr("clbench.evaluation.kept_scores._BYTES", 0)
    computed.clear()
    _, twice = observed(make_run("evaluation.every=0", "evaluation.batch_size=50"))
    assert sum(computed) == 5 * start[-1] + sum(seen)
    assert_same(vars(once), vars(twice))


def test_a_change_between_two_boundaries_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that torch does not count as a new version of the tensor."""

    class Begins(Strategy):
        def begin_experience(self, experience: Any) -> None:
            super().begin_experience(experience)
            self.model[-1].weight.data.mul_(-1)

    name = f"{user_module(monkeypatch, Begins)}:Begins"
    _, kept = observed(make_run("evaluation.every=0", strategy=name))
    monkeypatch.setattr("clbench.evaluation.kept_scores._BYTES", 0)
    _, plain = observed(make_run("evaluation.every=0", strategy=name))
    assert_same(vars(kept), vars(plain))
    after, before = kept.correct["task"][1], kept.correct["task"][2]
    assert (after[:2] != before[:2]).any(), "the turned weights answer otherwise"


# ------------------------------------------------------------------------------------------------ inputs
@pytest.mark.parametrize("benchmark", [DOMAIN, "rotated_digits-v1", DIGITS])
def test_inputs_that_are_made_at_each_use_are_those_kept_ready(benchmark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, ready = observed(make_run(benchmark=benchmark))
    monkeypatch.setattr("clbench.evaluation.inputs.READY_BYTES", 0)
    bench, made = observed(make_run(benchmark=benchmark))
    assert_same(vars(made), vars(ready))
    held = bench.evaluator.held_bytes()
    assert (held["inputs"], held["reduced"]) == (0, 0)
    assert selected(bench)["samples_looked_at"] > 0


def test_single_inputs_of_many_tasks_are_made_like_whole_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clbench.evaluation.inputs.READY_BYTES", 0)
    inputs = assembled(make_run(benchmark=DOMAIN)).evaluator._inputs
    everything = torch.cat([inputs.between(a, a + 100) for a in range(0, len(inputs) - 100, 100)])
    for step in (1, 7, 90):
        which = torch.arange(0, len(everything), step)
        assert torch.equal(inputs.at(which), everything[which])


# ------------------------------------------------------------------------------------------------ the proven bound
def proven(bench: components.Components) -> dict[str, Any]:
    report: dict[str, Any] = bench.evaluator.report()["model"]["selection"]["proven"]
    return report


@pytest.mark.parametrize(
    ("strategy", "benchmark", "overrides"),
    [
        ("linear_probe", DIGITS, ("model={name: mlp, hidden: [100]}", "evaluation.views=[class, task, domain]")),
        ("linear_probe", DIGITS, ("model={name: cnn}", "training.optimizer={name: adam, lr: 1e-4}")),
        ("linear_probe", DOMAIN, ("model={name: mlp, hidden: [50]}", "evaluation.scope=all")),
        ("er", DIGITS, ("model={name: linear}",)),
    ],
    ids=["probe", "adam", "domains", "no hidden layer"],
)
def test_a_linear_layer_behind_unchanged_features_needs_no_audit(
    strategy: str, benchmark: str, overrides: tuple[str, ...]
) -> None:
    bench, cheap = observed(make_run(*overrides, strategy=strategy, benchmark=benchmark))
    _, exact = observed(make_run(*overrides, *FULL, strategy=strategy, benchmark=benchmark))
    assert_same(vars(cheap), vars(exact))
    report = proven(bench)
    assert report["evaluations"]["selected"] > 50
    assert 0 < report["samples_looked_at"] < 0.6 * report["samples"]


def test_the_bound_is_never_below_a_movement() -> None:
    """Leads in float64, of every sample at every evaluation; and it is no more than some times too large."""
    torch.manual_seed(0)
    x, y = torch.rand(800, 30) + 1, torch.arange(800) % 7
    layer = nn.Linear(30, 7)
    inputs, bound = TestInputs(x), linear_bound.LinearBound()
    key = (0,), tuple(range(7))

    def lead() -> torch.Tensor:
        scores = x.double() @ layer.weight.double().T + layer.bias.double()
        mine = scores.gather(1, y[:, None])[:, 0]
        return mine - scores.scatter(1, y[:, None], -torch.inf).amax(1)

    closest = 0.0
    with torch.inference_mode():
        for step in range(30):
            assert bound.begin(layer, inputs, [(0, 800)], key, y)
            if step == 0:
                assert bound.due() is None
                start = lead()
                verdict = Judged((start > 0)[None], start.float()[None], torch.zeros((), dtype=torch.bool), 7)
                bound.refer(verdict)
            else:
                share = (lead() - start).abs() / bound._bound()
                assert float(share.max()) <= 1
                closest = max(closest, float(share.max()))
            layer.weight += torch.randn(7, 30) * 10.0 ** -(step % 8)
            layer.bias += torch.randn(7) * 0.1
    assert closest > 0.4


def test_a_bound_continues_where_its_state_was_taken_and_not_on_other_features() -> None:
    make = partial(make_run, "model={name: linear}", "training.optimizer={name: sgd, lr: 0.001}")
    whole, halves = assembled(make()), assembled(make())
    for bench, change in ((whole, False), (halves, True)):
        experience = bench.experience(0)
        bench.strategy.begin_experience(experience)
        for n, batch in enumerate(itertools.islice(bench.batches.of(experience, 40), 40)):
            bench.strategy.step(batch)
            if change and n == 20:
                state = bench.evaluator.state_dict()
                bench.evaluator = assembled(make()).evaluator
                bench.evaluator.load_state_dict(state)
            bench.evaluator.evaluate(bench.strategy, [0], [0])
    assert whole.evaluator.report() == halves.evaluator.report()
    state = halves.evaluator._evaluated[0].bound.state_dict()
    state["features"] = "of other features"
    other = linear_bound.LinearBound()
    other.load_state_dict(state)
    _, inputs, _ = halves.evaluator._evaluated[0]._scored(halves.strategy.model, halves.evaluator._passes)
    other.begin(halves.strategy.model, inputs, [(0, 40)], state["key"], halves.evaluator._targets)
    assert other.due() is None
