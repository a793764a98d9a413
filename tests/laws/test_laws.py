"""The laws of the design, over every strategy of the table."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from clbench import metrics, registry, resolve, run_config
from clbench.evaluation import recorder as recorder_
from clbench.evaluation.cells import lay_out_cells
from clbench.evaluation.evaluator import Evaluator
from clbench.evaluation.twin import Twin
from clbench.results import trace_files
from clbench.rng import Generator
from clbench.runner import components, observer, training_loop
from clbench.runner import run as runner
from clbench.strategy import Batch, Strategy
from clbench.streams.compile import compile_stream
from clbench.testing.states import assert_same
from clbench.testing.strategies import told_what_it_needs
from clbench.trace import UNAVAILABLE
from clbench.training.inputs import InputTransform

STRATEGIES = sorted(registry.strategies())
SMALL = ["training.iterations=5"]
SPLIT, DOMAIN = "split_synthetic-v1", "permuted_digits-v1"


def make_run(strategy: str, *overrides: str, benchmark: str = SPLIT, seed: int = 0) -> run_config.RunConfig:
    budget = ["training={iterations: 5, epochs: null}"] if benchmark == DOMAIN else SMALL
    overrides = (*told_what_it_needs(strategy, benchmark), *overrides)
    return resolve.make_run(benchmark, strategy=strategy, seed=seed, overrides=[*budget, *overrides])


def trained(run: run_config.RunConfig, watch: bool = True) -> tuple[components.Components, dict[str, Any]]:
    """Trains without files; returns the bench and the state of everything that chance and learning move."""
    stream = compile_stream(run.benchmark.stream, run.seed)
    bench = components.assemble(run, stream)
    recorder = recorder_.Recorder(bench.device) if watch else None
    training_loop.train(bench, observer.Observation(bench, recorder, lambda: None))
    state = {
        "strategy": bench.strategy.state_dict(),
        "modes": [m.training for m in bench.strategy.model.modules()],
        "gradients": [None if p.grad is None else p.grad for p in bench.strategy.model.parameters()],
        "requires_grad": [p.requires_grad for p in bench.strategy.model.parameters()],
        "batches": bench.batches.state_dict(),
        "python": random.getstate(),
        "numpy": np.random.get_state()[1],
        "torch": torch.get_rng_state(),
    }
    return bench, state


# ------------------------------------------------------------------------------------------------ law 1
@pytest.mark.parametrize("benchmark", [SPLIT, DOMAIN])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_watching_changes_nothing(strategy: str, benchmark: str) -> None:
    _, never = trained(make_run(strategy, benchmark=benchmark), watch=False)
    for every in (1, 3, 0):
        _, watched = trained(make_run(strategy, f"evaluation.every={every}", benchmark=benchmark))
        assert_same(watched, never)
    _, everything = trained(make_run(strategy, "evaluation.scope=all", benchmark=benchmark))
    assert_same(everything, never)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_watching_changes_nothing_with_batch_norm_and_a_chunked_evaluation(strategy: str) -> None:
    overrides = ["stream.tasks.count=2", "training.batch_size=8", "evaluation.batch_size=100"]
    overrides += ["model={name: slim_resnet18, filters: 2}"]
    overrides += ["training.iterations=3", *told_what_it_needs(strategy, "split_digits-v1")]
    base = resolve.make_run("split_digits-v1", strategy=strategy, overrides=overrides)
    _, never = trained(base, watch=False)
    _, watched = trained(base)
    assert_same(watched, never)


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


@pytest.fixture
def noisy(monkeypatch: pytest.MonkeyPatch) -> str:
    import sys

    monkeypatch.setitem(sys.modules, "a_users_module", type(sys)("a_users_module"))
    sys.modules["a_users_module"].Noisy = Noisy  # type: ignore[attr-defined]
    return "a_users_module:Noisy"


def test_a_strategy_that_draws_from_global_generators_is_fenced(noisy: str) -> None:
    _, never = trained(make_run(noisy), watch=False)
    for every in (1, 2, 0):
        _, watched = trained(make_run(noisy, f"evaluation.every={every}"))
        assert_same(watched, never)
    assert never["modes"].count(False) == 1, "the module that the user froze stays frozen, alone"


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


def test_a_model_of_constant_accuracy_has_it_as_minimum(tmp_path: Path, noisy: str) -> None:
    """Evaluated at every iteration on the whole test set, never on a subset drawn anew."""
    run = make_run("naive", "training.optimizer={name: sgd, lr: 1e-30}")
    outcome = runner.execute(run, tmp_path)
    values = outcome.record["metrics"]["class"]
    trace = trace_files.read_trace(outcome.directory)
    constant = trace.task_accuracy("class")
    # All classes compete only from the last experience on; from there to the end nothing moves.
    last = constant[trace.experience == trace.experience.max()]
    assert (last == last[0]).all()
    domain = runner.execute(make_run("naive", "training.optimizer={name: sgd, lr: 1e-30}", benchmark=DOMAIN), tmp_path)
    values = domain.record["metrics"]["domain"]
    assert values["min_acc"]["per_task"][:-1] == pytest.approx(values["average_accuracy"]["per_task"][:-1])
    assert values["forgetting.after_learning"]["value"] == 0


# ------------------------------------------------------------------------------------------------ law 2
def test_the_strategy_does_not_change_stream_initialisation_or_order() -> None:
    """Replay draws much and naive nothing: both see the same first batches and start from the same weights."""
    seen: dict[str, list[Any]] = {}
    for name in ("naive", "er"):
        run = make_run(name)
        stream = compile_stream(run.benchmark.stream, 0)
        bench = components.assemble(run, stream)
        start = [p.detach().clone() for p in bench.strategy.model.parameters()]
        batches: list[Any] = []
        for v in range(3):
            experience = bench.experience(v)
            bench.strategy.begin_experience(experience)
            for batch in bench.batches.of(experience, 4):
                batches.append(batch.index)
                bench.strategy.step(batch)
            bench.strategy.end_experience(experience)
        seen[name] = [stream.instance_hash, start, batches]
    assert_same(seen["naive"], seen["er"])


@pytest.mark.parametrize("axis", ["stream", "init", "order", "strategy"])  # augmentation: test_augmentation.py
def test_each_axis_of_chance_has_a_seed_of_its_own(axis: str) -> None:
    def state(*overrides: str) -> dict[str, Any]:
        run = make_run("er", *overrides)
        seeds = run.seeds.model_dump(exclude_none=True)
        stream = compile_stream(run.benchmark.stream, seeds.get("stream", run.seed))
        bench = components.assemble(run, stream)
        first = next(iter(bench.batches.of(bench.experience(0), 1)))
        return {
            "stream": stream.instance_hash,
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
    run = make_run(strategy)
    first = runner.execute(run, tmp_path / "a", say=lambda text: None)
    torch.rand(3)
    random.random()
    runner.execute(make_run("er", seed=5), tmp_path / "b")
    second = runner.execute(run, tmp_path / "c")
    assert first.record["weights_sha256"] == second.record["weights_sha256"]
    assert (first.directory / "trace.npz").read_bytes() == (second.directory / "trace.npz").read_bytes()
    for record in (first.record, second.record):
        for part in ("provenance", "costs"):
            record.pop(part)
    assert first.record == second.record


def test_a_run_leaves_the_process_as_it_found_it(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    before = (random.getstate(), torch.get_rng_state(), torch.get_num_threads())
    runner.execute(make_run("er"), tmp_path)
    after = (random.getstate(), torch.get_rng_state(), torch.get_num_threads())
    assert_same(after, before)


def test_every_number_can_be_derived_from_the_files(tmp_path: Path) -> None:
    outcome = runner.execute(make_run("er"), tmp_path)
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
    outcome = runner.execute(run, tmp_path)
    trace = trace_files.read_trace(outcome.directory)
    assert (trace.iteration[0], trace.phase[0], trace.experience[0]) == (0, 0, 0)
    stream = compile_stream(run.benchmark.stream, 0)
    bench = components.assemble(run, stream)
    counts = bench.evaluator.evaluate(bench.strategy, range(5), stream.visits[0].tasks).counts
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
    import sys

    class Silent(Strategy):
        def predict(self, model: nn.Module, x: torch.Tensor, task: torch.Tensor | None) -> torch.Tensor | None:
            return model(x) if self.experiences > 1 else None

    monkeypatch.setitem(sys.modules, "a_users_module", type(sys)("a_users_module"))
    sys.modules["a_users_module"].Silent = Silent  # type: ignore[attr-defined]
    outcome = runner.execute(make_run("a_users_module:Silent"), tmp_path)
    trace = trace_files.read_trace(outcome.directory)
    first = trace.experience == 0
    assert set(np.unique(trace.correct["class"][first])) <= {UNAVAILABLE, -1}
    assert (trace.correct["class"][~first] != UNAVAILABLE).all()
    assert outcome.record["metrics"]["class"]["average_incremental_accuracy"]["value"] is None
    assert outcome.record["metrics"]["class"]["average_accuracy"]["value"] is not None


def test_references_get_the_data_that_their_name_says_and_the_same_number_of_updates() -> None:
    counted = {}
    for name in STRATEGIES:
        bench, _ = trained(make_run(name))
        counted[name] = [len(bench.experience(v).index) for v in range(5)]
    assert counted["naive"] == counted["er"] == [200] * 5
    assert counted["cumulative"] == [200, 400, 600, 800, 1000]
    assert counted["joint"] == [1000] * 5


def test_order_is_a_permutation_in_each_pass_and_the_budget_is_exact() -> None:
    for drop_last, per_pass in (("true", 6), ("false", 7)):
        run = make_run("naive", "training.batch_size=30", f"training.drop_last={drop_last}")
        bench = components.assemble(run, compile_stream(run.benchmark.stream, 0))
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
