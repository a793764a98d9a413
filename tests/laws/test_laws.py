"""The laws of the design, over every strategy of the table."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from clbench import metrics, registry, resolve
from clbench.evaluation.cells import lay_out_cells
from clbench.evaluation.evaluator import Evaluator
from clbench.evaluation.twin import Twin
from clbench.results import trace_files
from clbench.rng import Generator
from clbench.strategy import Batch, Strategy
from clbench.streams.compile import compile_stream
from clbench.testing.states import assert_same
from clbench.trace import UNAVAILABLE
from clbench.training.inputs import InputTransform
from support import (
    CLASSIFIERS,
    DIGITS,
    DOMAIN,
    SPLIT,
    assembled,
    execute,
    generators,
    learned,
    make_run,
    trained,
    user_module,
)

STRATEGIES = CLASSIFIERS
FEW = "stream.tasks.count=3"  # in the third experience two are past


# ------------------------------------------------------------------------------------------------ law 1
@functools.cache
def never_watched(strategy: str, *overrides: str, benchmark: str = SPLIT, iterations: int = 5) -> dict[str, Any]:
    """Everything that chance and learning move in a run without evaluation."""
    return learned(trained(make_run(strategy, *overrides, benchmark=benchmark, iterations=iterations), watch=False))


def assert_unchanged(
    strategy: str,
    *overrides: str,
    evaluation: Sequence[str | tuple[str, ...]],
    benchmark: str = SPLIT,
    iterations: int = 5,
) -> None:
    """Each of these ways to evaluate leaves the run as it is without evaluation."""
    never = never_watched(strategy, *overrides, benchmark=benchmark, iterations=iterations)
    for way in evaluation:
        watched = (way,) if isinstance(way, str) else way
        run = make_run(strategy, *overrides, *watched, benchmark=benchmark, iterations=iterations)
        assert_same(learned(trained(run)), never)


@pytest.mark.parametrize("benchmark", [SPLIT, DOMAIN])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_watching_changes_nothing(strategy: str, benchmark: str) -> None:
    """After every update the tasks met so far, after some updates all tasks, and around experiences alone with
    predictions of incoming samples."""
    ways = ("evaluation.every=1", "evaluation={every: 3, scope: all}", ("evaluation.every=0", "watch.prequential=true"))
    assert_unchanged(strategy, FEW, evaluation=ways, benchmark=benchmark)


RESIDUAL = ("er", "fetril", "lwf")
"""Run with batch norm in a residual network too: one that replays, one that freezes the front, one with a teacher."""


def convolution_with_batch_norm(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """The smallest network with running statistics: the evaluator and teachers copy it in a moment."""
    head = nn.Linear(4 * (shape[1] - 2) * (shape[2] - 2), outputs)
    return nn.Sequential(nn.Conv2d(shape[0], 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), head)


ON_CONVOLUTIONS = [s for s in STRATEGIES if s != "lora"]
"""Those that do not need a linear layer before the head."""


@pytest.mark.parametrize(
    ("strategy", "residual"), [(s, False) for s in ON_CONVOLUTIONS] + [(s, True) for s in RESIDUAL]
)
def test_watching_changes_nothing_with_batch_norm(
    strategy: str, residual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that can be watched, in several passes an evaluation, and full precision in one."""
    small = ["stream.tasks.count=2", "training.batch_size=8", "evaluation.subset=50"]
    module = user_module(monkeypatch, convolution_with_batch_norm)
    plain = f"model={{name: imported, factory: '{module}:convolution_with_batch_norm'}}"
    network = "model={name: slim_resnet18, filters: 2}" if residual else plain
    everything = "watch={ema: [0.9], last: [3], gradients: true, features: true, bits: false, prequential: true}"
    ways = (("evaluation.batch_size=30", everything), ("watch.precision=float32",))
    assert_unchanged(strategy, network, *small, evaluation=ways, benchmark=DIGITS, iterations=2)


STREAMS: dict[str, list[str]] = {
    "online, unbounded": ["stream.online=30", "protocol.boundaries=false"],
    "online in total": ["stream.online=30", "training={iterations: 70, budget: stream}"],
    "blurry": ["stream.schedule={by: blurry, experiences: 12, width: 0.5, always: 0.2}"],
    "missing and wrong labels": ["stream.supervision={labelled: 0.3, noise: {rate: 0.3}}"],
    "random subsets": ["stream.schedule={by: random_subsets, experiences: 6}", "training.active_outputs=batch"],
}


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("strategy", ["naive", "er", "cumulative"])
def test_watching_changes_nothing_on_other_streams(strategy: str, kind: str) -> None:
    ways = ("evaluation.every=1", "evaluation={every: 4, scope: all}", ("evaluation.every=0", "watch.prequential=true"))
    assert_unchanged(strategy, "training.batch_size=16", *STREAMS[kind], evaluation=ways, iterations=3)


@pytest.mark.parametrize(
    ("strategy", "overrides"),
    [
        ("ncm", ["strategy.extractor=frozen", "strategy.metric=cosine"]),
        ("ncm", ["strategy.extractor=trained"]),
        ("fetril", ["strategy.classifier=fc", "strategy.nearest=cosine"]),
        ("fetril", ["strategy.extractor=frozen"]),
    ],
)
def test_watching_changes_nothing_with_other_parameters(strategy: str, overrides: list[str]) -> None:
    assert_unchanged(strategy, *overrides, evaluation=("evaluation.every=3",))


class Noisy(Strategy):
    """Draws from every global generator, in training and in prediction, and has dropout and a frozen batch norm."""

    def __init__(self, configuration: Any, setup: Any) -> None:
        super().__init__(configuration, setup)
        self.frozen = nn.BatchNorm1d(setup.input_shape[0], affine=False)
        self.moving = nn.BatchNorm1d(setup.input_shape[0], affine=False)
        self.frozen.eval()
        self.model = nn.Sequential(self.frozen, self.moving, nn.Dropout(0.3), self.model)

    def loss(self, batch: Batch) -> torch.Tensor:
        scale = 1 + 0.1 * random.random() + 0.1 * float(np.random.rand()) + 0.1 * float(torch.rand(()))
        return super().loss(batch) * scale

    def predict(self, model: nn.Module, x: torch.Tensor, task: torch.Tensor | None) -> torch.Tensor:
        assert not any(m.training for m in model.modules())
        assert not torch.is_grad_enabled()
        return model(x) + torch.rand(()) + random.random() + float(np.random.rand())


def test_a_strategy_that_draws_from_global_generators_is_fenced(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = f"{user_module(monkeypatch, Noisy)}:Noisy"
    ways = tuple(f"evaluation.every={every}" for every in (1, 2, 0))
    assert_unchanged(noisy, evaluation=(*ways, ("evaluation.every=0", "watch.prequential=true")))
    assert never_watched(noisy)["modes"].count(False) == 1, "the module that the user froze stays frozen, alone"


def test_a_model_with_forward_hooks_is_put_back() -> None:
    class Remembers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.frozen, self.seen = nn.BatchNorm1d(3), nn.BatchNorm1d(3).eval(), None
            self.norm.register_forward_hook(self._keep)

        def _keep(self, module: nn.Module, args: Any, out: torch.Tensor) -> None:
            self.seen = out

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.frozen(self.norm(x))
            assert self.seen is not None
            return self.seen

    model = Remembers()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.inference_mode(), Twin().of(model) as looked_at:
        out = looked_at(torch.randn(4, 3))
        assert out.shape == (4, 3)
        looked_at.norm.running_mean.add_(1)
    assert_same(dict(model.state_dict()), before)
    assert [m.training for m in model.modules()] == [True, True, False]
    model(torch.randn(4, 3)).sum().backward()


def test_the_twin_follows_parameters_buffers_flags_and_structure() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    twin, x = Twin(), torch.randn(5, 3)

    def expected() -> torch.Tensor:
        copied = nn.Sequential(nn.Linear(3, model[0].out_features), nn.BatchNorm1d(model[0].out_features))
        copied.load_state_dict(model.state_dict())
        copied[1].eps = model[1].eps
        return copied.eval()(x)

    def looked() -> torch.Tensor:
        with torch.no_grad(), twin.of(model) as t:
            assert t is not model
            return t(x)

    changes: list[Callable[[], Any]] = [
        lambda: None,
        lambda: model[0].weight.data.add_(1),
        lambda: model(torch.randn(8, 3)),  # moves batch-norm statistics
        lambda: setattr(model[1], "eps", 0.5),
        lambda: model.__setitem__(0, nn.Linear(3, 3)),
        lambda: (model.__setitem__(0, nn.Linear(3, 5)), model.__setitem__(1, nn.BatchNorm1d(5))),
    ]
    for change in changes:
        change()
        assert torch.equal(looked(), expected())
        assert model.training


def test_a_model_of_constant_accuracy_is_evaluated_as_one(tmp_path: Path) -> None:
    """At every iteration on the whole test set, never on a subset drawn anew."""
    outcome = execute(make_run("naive", "training.optimizer={name: sgd, lr: 1e-30}"), tmp_path)
    trace = trace_files.read_trace(outcome.directory)
    constant = trace.task_accuracy("class")
    # All classes compete only from the last experience on; from there to the end nothing moves.
    last = constant[trace.experience == trace.experience.max()]
    assert (last == last[0]).all()


LEARN_WITHOUT_A_RATE = {"acil", "fecam", "fetril", "napa_vq", "ncm", "ranpac", "refit", "slda"}
"""Strategies that learn by more than the benchmark's optimiser."""


@pytest.mark.parametrize("strategy", sorted({*STRATEGIES} - LEARN_WITHOUT_A_RATE))
@pytest.mark.parametrize("subset", ["null", "50"])
def test_a_model_of_constant_accuracy_has_it_as_minimum(strategy: str, subset: str, tmp_path: Path) -> None:
    """Every other strategy, with a learning rate that moves nothing, on the whole test set and on a subset."""
    is_optimizer = "optimizer" not in registry.strategy_config(strategy).model_fields
    still = "strategy.lr=1e-30" if is_optimizer else "training.optimizer={name: sgd, lr: 1e-30}"
    run = make_run(strategy, FEW, still, f"evaluation.subset={subset}", benchmark=DOMAIN, iterations=4)
    values = execute(run, tmp_path).record["metrics"]["domain"]
    final, minima = values["average_accuracy"]["per_task"], values["min_acc"]["per_task"]
    assert minima[:-1] == final[:-1]
    assert all(0 < a < 1 for a in final)
    assert values["forgetting.after_learning"]["value"] == 0


# ------------------------------------------------------------------------------------------------ law 2
def test_the_strategy_does_not_change_stream_initialisation_or_order() -> None:
    """Replay draws much and naive nothing: both see the same first batches and start from the same weights."""
    seen: dict[str, list[Any]] = {}
    for name in ("naive", "er"):
        run = make_run(name)
        bench = assembled(run)
        start = [p.detach().clone() for p in bench.strategy.model.parameters()]
        batches: list[Any] = []
        for v in range(3):
            experience = bench.experience(v)
            bench.strategy.begin_experience(experience)
            for batch in bench.batches.of(experience, 4):
                batches.append(batch.index)
                bench.strategy.step(batch)
            bench.strategy.end_experience(experience)
        seen[name] = [bench.stream.instance_hash, start, batches]
    assert_same(seen["naive"], seen["er"])


@pytest.mark.parametrize("axis", ["stream", "init", "order", "strategy"])  # augmentation: training/test_augmentation.py
def test_each_axis_of_chance_has_a_seed_of_its_own(axis: str) -> None:
    def state(*overrides: str) -> dict[str, Any]:
        run = make_run("er", *overrides)
        bench = assembled(run)
        first = next(iter(bench.batches.of(bench.experience(0), 1)))
        return {
            "stream": bench.stream.instance_hash,
            "init": bench.strategy.model[1].weight.detach().clone(),
            "order": bench.batches.state_dict()["now"]["key"],
            "strategy": bench.strategy.setup.generator.state_dict()["key"],
            "first": first.index,
        }

    plain, moved = state(), state(f"seeds.{axis}=7")
    for other in ("stream", "init", "order", "strategy"):
        same = torch.equal(plain[other], moved[other]) if other == "init" else plain[other] == moved[other]
        assert same == (other != axis), other


# ------------------------------------------------------------------------------------------------ laws 3 and 4
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_is_a_pure_function_of_its_id(strategy: str, tmp_path: Path) -> None:
    """Twice in one process, with other runs and other draws between, talkative and silent: the same bytes."""
    run = make_run(strategy, FEW)
    first = execute(run, tmp_path / "a", say=lambda text: None)
    torch.rand(3)
    random.random()
    execute(make_run("er", "evaluation.every=0", seed=5, iterations=1), tmp_path / "b")
    second = execute(run, tmp_path / "c")
    assert first.record["weights_sha256"] == second.record["weights_sha256"]
    assert (first.directory / "trace.npz").read_bytes() == (second.directory / "trace.npz").read_bytes()
    for record in (first.record, second.record):
        for part in ("provenance", "costs"):
            record.pop(part)
    assert first.record == second.record


def test_a_run_leaves_the_process_as_it_found_it(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    before = generators() | {"threads": torch.get_num_threads()}
    execute(make_run("er"), tmp_path)
    assert_same(generators() | {"threads": torch.get_num_threads()}, before)


def test_every_number_can_be_derived_from_the_files(tmp_path: Path) -> None:
    outcome = execute(make_run("er"), tmp_path)
    record = json.loads((outcome.directory / "run.json").read_text())
    trace = trace_files.read_trace(outcome.directory)
    assert metrics.compute(trace) == record["metrics"]
    assert trace.correct["class"].dtype == np.int32
    # Before the first update of every experience, after every update, and at its end.
    assert len(trace.iteration) == len(trace.visits) * (1 + 5 + 1)
    assert len(trace.loss) == trace.iteration[-1] == 25
    evaluated = trace.correct["class"] >= 0
    before = trace.phase == 0
    assert evaluated[before].all(), "points before a first update evaluate all cells"
    tasks_seen = (evaluated[~before] @ trace.task_cells.T.astype(int) > 0).sum(1)
    assert tasks_seen.tolist() == [v + 1 for v in range(5) for _ in range(6)]


def test_the_untrained_model_is_evaluated_first(tmp_path: Path) -> None:
    run = make_run("naive")
    outcome = execute(run, tmp_path)
    trace = trace_files.read_trace(outcome.directory)
    assert (trace.iteration[0], trace.phase[0], trace.experience[0]) == (0, 0, 0)
    bench = assembled(run)
    counts = bench.evaluator.evaluate(bench.strategy, range(5), bench.stream.experiences[0].tasks).counts
    assert np.array_equal(counts["class"].numpy(), trace.correct["class"][0])


# ------------------------------------------------------------------------------------------------ counting
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_counts_agree_with_a_plain_loop(batch_size: int) -> None:
    """Every view, with some tasks seen and some not, against one sample at a time."""
    benchmark = resolve.resolve("split_digits-v1", ["stream.tasks.count=3"], need_strategy=False)[0]
    stream = compile_stream(benchmark.stream, 3)
    transform = InputTransform(stream, torch.device("cpu"))
    # Least squares on the training set: a model that is mostly right, so that who may compete decides its errors.
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False)).eval()
    x = transform(torch.from_numpy(stream.data.train_x), 0).flatten(1)
    solution = torch.linalg.lstsq(
        x, nn.functional.one_hot(torch.from_numpy(stream.data.train_y)).float(), driver="gelsd"
    )
    model[1].weight.data.copy_(solution.solution.T)

    class Anything:
        def __init__(self) -> None:
            self.model = model

        def predict(self, twin: nn.Module, x: torch.Tensor, task: torch.Tensor | None) -> torch.Tensor:
            return twin(x)

    cells = lay_out_cells(stream)
    inputs = transform(torch.from_numpy(stream.data.test_x), 0)[torch.from_numpy(cells.rows)]
    evaluator = Evaluator(
        cells,
        inputs,
        views=("class", "task", "domain"),
        device=torch.device("cpu"),
        batch_size=batch_size,
        tell_task=False,
    )
    for scope, seen in (({0, 1, 2}, {0, 1, 2}), ({0, 1, 2}, {1}), ({0, 2}, {0, 2}), ({1}, {1})):
        counts = evaluator.evaluate(Anything(), scope, seen).counts
        expected = {view: np.full(len(cells.size), -1) for view in counts}
        of_task = [set(t.targets) for t in stream.tasks]
        seen_outputs = set().union(*(of_task[t] for t in seen))
        for k, (task, c) in enumerate(zip(cells.task.tolist(), cells.label.tolist(), strict=True)):
            if task not in scope:
                continue
            for view in expected:
                expected[view][k] = 0
            for i in np.flatnonzero(stream.data.test_y == c):
                with torch.no_grad():
                    logits = model(transform(torch.from_numpy(stream.data.test_x[i : i + 1]), 0))[0].tolist()
                for view, allowed in (
                    ("class", seen_outputs | of_task[task]), ("task", of_task[task]), ("domain", set(range(10))),
                ):  # fmt: skip
                    expected[view][k] += max(allowed, key=lambda o: logits[o]) == c
        for view in expected:
            assert counts[view].tolist() == expected[view].tolist(), view


def test_no_prediction_yet_is_not_a_wrong_prediction(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Silent(Strategy):
        def predict(self, model: nn.Module, x: torch.Tensor, task: torch.Tensor | None) -> torch.Tensor | None:
            return model(x) if self.experiences > 1 else None

    outcome = execute(make_run(f"{user_module(monkeypatch, Silent)}:Silent"), tmp_path)
    trace = trace_files.read_trace(outcome.directory)
    first = trace.experience == 0
    assert set(np.unique(trace.correct["class"][first])) <= {UNAVAILABLE, -1}
    assert (trace.correct["class"][~first] != UNAVAILABLE).all()
    assert outcome.record["metrics"]["class"]["average_incremental_accuracy"]["value"] is None
    assert outcome.record["metrics"]["class"]["average_accuracy"]["value"] is not None


@pytest.mark.parametrize(
    ("strategy", "samples"),
    [("naive", [200] * 5), ("er", [200] * 5), ("cumulative", [200, 400, 600, 800, 1000]), ("joint", [1000] * 5)],
)
def test_references_get_the_data_that_their_name_says_and_the_same_number_of_updates(
    strategy: str, samples: list[int]
) -> None:
    bench = trained(make_run(strategy), watch=False)
    assert [len(bench.experience(v).index) for v in range(5)] == samples
    assert bench.budgets == (5,) * 5


def test_order_is_a_permutation_in_each_pass_and_the_budget_is_exact() -> None:
    for drop_last, per_pass in (("true", 6), ("false", 7)):
        run = make_run("naive", "training.batch_size=30", f"training.drop_last={drop_last}")
        bench = assembled(run)
        experience = bench.experience(0)
        batches = list(bench.batches.of(experience, 2 * per_pass + 1))
        assert len(batches) == 2 * per_pass + 1
        for start in (0, per_pass):
            rows = torch.cat([b.index for b in batches[start : start + per_pass]]).tolist()
            assert len(set(rows)) == len(rows) == (180 if drop_last == "true" else 200)
            assert set(rows) <= set(experience.index.tolist())


def test_generators_continue_where_their_state_was_taken() -> None:
    generator = Generator(3, "order")
    generator.raw(5)
    state = generator.state_dict()
    expected = [generator.permutation(9).tolist(), generator.sample(100, 5).tolist()]
    other = Generator(0, "else")
    other.load_state_dict(json.loads(json.dumps(state)))
    assert [other.permutation(9).tolist(), other.sample(100, 5).tolist()] == expected
