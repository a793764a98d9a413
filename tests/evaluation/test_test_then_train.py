"""Incoming samples are predicted before they are learnt: against a loop that does it by the definition."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from clbench import resolve
from clbench.errors import UserError
from clbench.evaluation.test_then_train import TestThenTrain as Predictions
from clbench.prequential import Prequential
from clbench.results import load, trace_files
from clbench.runner.checkpoint import Every
from clbench.strategy import Batch, Experience, SelfDriven, Strategy, Watcher
from clbench.testing.traces import make_trace
from clbench.trace import Trace
from support import DIGITS, DOMAIN, SPLIT, CrashAt, assembled, execute, make_run, user_module

WATCH = "watch.prequential=true"
AROUND = "evaluation.every=0"


def recorded(run: Any, tmp_path: Path) -> Prequential:
    outcome = execute(run, tmp_path)
    assert outcome.record["status"] == "completed", outcome.record["failure"]
    record = trace_files.read_trace(outcome.directory).prequential
    assert record is not None
    return record


def by_definition(run: Any, views: tuple[str, ...], delay: int = 0) -> dict[str, list[list[bool | None]]]:
    """For each view and update, whether each sample that is new in its task is predicted; None without a prediction.

    With a delay by the strategy as it was so many updates earlier.
    """
    bench = assembled(run)
    stream, strategy = bench.stream, bench.strategy
    came: set[tuple[int, int]] = set()
    seen: set[int] = set()
    history: list[Any] = []
    out: dict[str, list[list[bool | None]]] = {view: [] for view in views}
    for number, budget in enumerate(bench.budgets):
        experience = bench.experience(number)
        seen |= set(bench.experiences.tasks(number))
        strategy.begin_experience(experience)
        for batch in bench.batches.of(experience, budget):
            past = copy.copy(strategy)
            past.__dict__ = {**strategy.__dict__, "model": copy.deepcopy(strategy.model).eval()}
            history.append(past)
            then = history[max(0, len(history) - 1 - delay)]
            tasks = [batch.task] * len(batch.y) if isinstance(batch.task, int) else batch.task.tolist()
            answers: dict[str, list[bool | None]] = {view: [] for view in views}
            for row, task, y in zip(batch.index.tolist(), tasks, batch.y.tolist(), strict=True):
                if (task, row) in came:
                    continue
                came.add((task, row))
                x, _ = bench.samples.fetch(torch.tensor([row]), task, plain=True)
                told = torch.tensor([task]) if run.benchmark.task_at_test else None
                with torch.no_grad():
                    scores = then.predict(then.model, x, told) if then.available() else None
                of_seen = {o for t in seen for o in stream.tasks[t].targets}
                own = set(stream.all_tasks[task].targets)
                for view in views:
                    if scores is None or y >= scores.shape[1]:
                        answers[view].append(None)
                        continue
                    allowed = {"class": of_seen | own, "task": own, "domain": set(range(scores.shape[1]))}[view]
                    best = max(sorted(allowed & set(range(scores.shape[1]))), key=lambda o: float(scores[0, o]))
                    answers[view].append(best == y)
            for view in views:
                out[view].append(answers[view])
            strategy.step(batch)
        strategy.end_experience(experience)
    return out


CASES: dict[str, tuple[str, str, list[str], int | None]] = {
    "several epochs": ("naive", SPLIT, ["training={epochs: 3, iterations: null}"], None),
    "less than a pass": ("naive", SPLIT, ["training.batch_size=7"], 5),
    "replay": ("er", SPLIT, ["training.batch_size=30"], 9),
    "class means": ("ncm", SPLIT, ["training.batch_size=30"], 4),
    "a composition": ("er+ewc", SPLIT, ["training.batch_size=30"], 4),
    "all data so far": ("cumulative", SPLIT, ["training.batch_size=30"], 9),
    "everything at once": ("joint", SPLIT, ["training.batch_size=30"], 9),
    "domains": ("er", DOMAIN, ["stream.tasks.count=3", "training.batch_size=100"], 4),
    "recurring tasks": ("naive", "power_law_digits-v1", ["training.batch_size=50", "training.budget=experience"], 2),
    "blurred": ("naive", "blurry_digits-v1", ["stream.schedule.experiences=6", "training.batch_size=50"], 4),
    "drift": ("naive", "drift_digits-v1", ["training.batch_size=50"], 2),
    "pieces": ("naive", SPLIT, ["stream.online=40", "training.batch_size=20"], 2),
    "task setting": ("naive", SPLIT, ["stream.setting=task", "training.batch_size=30"], 4),
    "augmented": ("naive", DIGITS, ["training.augmentation=[{name: horizontal_flip}]", "stream.tasks.count=2"], 4),
}


@pytest.mark.parametrize("case", CASES)
def test_the_record_is_that_of_its_definition(case: str, tmp_path: Path) -> None:
    strategy, benchmark, overrides, iterations = CASES[case]
    run = make_run(strategy, AROUND, WATCH, *overrides, benchmark=benchmark, iterations=iterations)
    record = recorded(run, tmp_path)
    expected = by_definition(run, tuple(record.right))
    for view, updates in expected.items():
        assert record.incoming.tolist() == [len(answers) for answers in updates], view
        assert record.unavailable.tolist() == [answers.count(None) for answers in updates], view
        assert record.right[view].tolist() == [bool(answer) for answers in updates for answer in answers], view
    assert record.delay == 0
    assert record.iteration.tolist() == [n for n, answers in enumerate(expected[view]) for _ in answers]
    if case == "several epochs":
        assert record.incoming.sum() == 1000
        assert record.repeated.sum() == 2000
    if case == "class means":
        assert record.unavailable[:4].all(), "there are no means before the end of the first experience"


@pytest.mark.parametrize("delay", [1, 3, 8])
@pytest.mark.parametrize(
    "overrides",
    [
        ["training.batch_size=60"],
        ["stream.online=50", "training.batch_size=20"],
        ["training.batch_size=60", "training.order=data"],
    ],
)
def test_with_a_delay_the_learner_of_so_many_updates_earlier_predicts(
    delay: int, overrides: list[str], tmp_path: Path
) -> None:
    """Across the boundaries of experiences too; 4 or 3 updates are a pass. Nothing is predicted before the stream."""
    single = [AROUND, "training={epochs: 1, iterations: null}", *overrides]
    run = make_run("naive", WATCH, f"watch.prequential_delay={delay}", *single, iterations=None)
    record = recorded(run, tmp_path)
    expected = by_definition(run, ("task",), delay)["task"]
    assert record.right["task"].tolist() == [answer for answers in expected for answer in answers]
    assert record.incoming.tolist() == [len(answers) for answers in expected]
    assert record.delay == delay
    at_once = recorded(make_run("naive", WATCH, *single, iterations=None), tmp_path)
    assert (at_once.right["task"] != record.right["task"]).any()


def test_classes_of_experiences_to_come_do_not_compete_where_a_delay_looks_ahead(tmp_path: Path) -> None:
    """Of a sample of the next experience only its own task's join those seen so far: some are right by that alone."""
    run = make_run(
        "naive", WATCH, "watch.prequential_delay=1", AROUND, "training={epochs: 1, iterations: null, batch_size: 200}",
        iterations=None,
    )  # fmt: skip
    bench = assembled(run)
    assert bench.prequential is not None
    bench.strategy.begin_experience(bench.experience(0))
    batch = next(bench.batches.of(bench.experience(0), 1))
    asked: list[int] = []

    def predict(model: nn.Module, x: torch.Tensor, task: torch.Tensor | None) -> torch.Tensor:
        asked.append(len(x))
        return torch.arange(bench.stream.outputs, dtype=torch.float32).repeat(len(x), 1)  # the last output is best

    bench.strategy.predict = predict  # type: ignore[method-assign]
    arrived = bench.prequential.before_update(bench.strategy, batch, bench.batches.places, True, {0})
    assert asked == [200, 200], "the first batch and, ahead, the one of the next experience"
    assert arrived.right[0].tolist() == (batch.y == max(bench.stream.tasks[0].targets)).tolist()
    [ahead] = bench.prequential.state_dict()["waiting"]
    assert 0 < ahead[0][0].float().mean() < 1


def test_a_row_that_is_in_a_batch_twice_counts_once() -> None:
    bench = assembled(make_run("naive", WATCH))
    predictions = bench.prequential
    assert isinstance(predictions, Predictions)
    rows, tasks = np.array([5, 7, 5, 9, 5]), np.array([0, 0, 1, 0, 0])
    assert predictions._first(rows, tasks).tolist() == [0, 1, 2, 3]
    assert predictions._first(rows, tasks).tolist() == []
    assert predictions._first(np.array([11, 9]), np.array([0, 1])).tolist() == [0, 1]


# ------------------------------------------------------------------------------------------------ what users may do
class Writes(Strategy):
    """Writes into what it is to predict."""

    def predict(self, model: nn.Module, x: torch.Tensor, task: torch.Tensor | None) -> torch.Tensor:
        if len(x) == 32:  # a batch of training
            x.zero_()
        return model(x)


class Overflows(Strategy):
    """Its scores overflow for batches of training, after some updates."""

    updates = 0

    def after_update(self, batch: Batch) -> None:
        self.updates += 1

    def predict(self, model: nn.Module, x: torch.Tensor, task: torch.Tensor | None) -> torch.Tensor:
        return model(x) + (float("nan") if len(x) == 32 and self.updates == 7 else 0.0)


class Driven(SelfDriven):
    """Has its own loop, as Avalanche's strategies have."""

    def fit(self, experience: Experience, iterations: int, watcher: Watcher) -> None:
        watcher.before_first_update()
        for _ in range(iterations):
            index = torch.from_numpy(experience.index[:8])
            x, y = self.setup.samples.fetch(index, int(experience.task[0]))
            watcher.after_iteration(self.step(Batch(x=x, y=y, index=index, task=int(experience.task[0]))))


@pytest.mark.parametrize(("kind", "reason"), [(Writes, "predict_writes"), (Overflows, "nan_scores")])
def test_a_prediction_that_writes_or_overflows_ends_the_run(
    kind: type[Strategy], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{user_module(monkeypatch, kind)}:{kind.__name__}"
    outcome = execute(make_run(name, WATCH, AROUND, "training.batch_size=32"), tmp_path)
    assert outcome.record["failure"]["kind"] == reason
    if reason == "nan_scores":
        assert outcome.record["failure"]["iteration"] == 7
    with pytest.raises(UserError):
        load.read(outcome.directory)
    load.read(outcome.directory, partial=True)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["watch.prequential_delay=3"], r"prequential_delay: got 3, which needs prequential: true"),
        (["watch={prequential: true, prequential_delay: -1}"], r"prequential_delay: got -1"),
    ],
)
def test_mistakes_in_the_configuration(overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make_run("naive", *overrides)


def test_a_delay_needs_a_budget_of_one_pass(tmp_path: Path) -> None:
    run = make_run("naive", WATCH, "watch.prequential_delay=2", "training.batch_size=60", iterations=5)
    with pytest.raises(UserError, match=r"experience 0 is learnt in 5 updates, more than one pass \(4\)"):
        execute(run, tmp_path)


@pytest.mark.parametrize(
    ("strategy", "more", "why"),
    [
        ("driven", [], "has a training loop of its own"),
        ("joint", ["watch.prequential_delay=1"], "trains on past samples again"),
    ],
)
def test_where_batches_cannot_be_seen_ahead_it_is_said_and_nothing_recorded(
    strategy: str, more: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if strategy == "driven":
        strategy = f"{user_module(monkeypatch, Driven)}:Driven"
    warnings: list[str] = []
    outcome = execute(make_run(strategy, WATCH, AROUND, *more, iterations=2), tmp_path, warn=warnings.append)
    assert [why in line for line in warnings] == [True], warnings
    assert trace_files.read_trace(outcome.directory).prequential is None
    assert not any(name.startswith("prequential") for name in outcome.record["metrics"]["class"])


# ------------------------------------------------------------------------------------------------ files
def test_a_run_without_it_has_the_arrays_of_before(tmp_path: Path) -> None:
    outcome = execute(make_run("naive", AROUND, iterations=1), tmp_path)
    with np.load(outcome.directory / "trace.npz") as arrays:
        assert not [name for name in arrays if name.startswith("prequential")]


def test_an_unfinished_run_is_read_as_far_as_it_is_written(tmp_path: Path) -> None:
    run = make_run("naive", WATCH, "training.batch_size=7")
    whole = recorded(run, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        execute(run, tmp_path / "part", progress=CrashAt(13))
    part = load.read(run.directory(tmp_path / "part"), partial=True)
    got = part.trace.prequential
    assert got is not None
    assert len(got.incoming) == len(part.trace.loss) == 13
    assert got.right["class"].tolist() == whole.until(13).right["class"].tolist()
    ended = part.scored().prequential
    assert ended is not None
    assert len(ended.incoming) == 10, "two experiences have ended"
    assert len(ended.right["class"]) == ended.incoming.sum() == 70


def made() -> Trace:
    return make_trace(np.full((2, 5, 2), 0.5), prequential=np.array([[False, True, True, False, True]] * 2))


def test_the_record_is_the_same_after_it_was_written() -> None:
    trace = made()
    again = Trace.from_arrays(trace.arrays()).prequential
    assert again is not None
    assert trace.prequential is not None
    assert again.right["class"].tolist() == trace.prequential.right["class"].tolist()
    for name in ("incoming", "repeated", "unavailable"):
        assert getattr(again, name).tolist() == getattr(trace.prequential, name).tolist()
    assert Trace.from_arrays(dataclasses.replace(trace, prequential=None).arrays()).prequential is None


@pytest.mark.parametrize(
    ("name", "array", "sentence"),
    [
        ("prequential_incoming", np.ones(5, np.int32), r"'prequential_incoming' has the shape \(5,\)"),
        ("prequential_unavailable", np.ones(6), r"'prequential_unavailable' has the shape \(6,\) and the kind float64"),
        ("prequential.class", np.zeros(1, np.uint8), r"'prequential.class' does not hold the bits of 10 samples"),
    ],
)
def test_damaged_arrays_are_named(name: str, array: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Trace.from_arrays({**made().arrays(), name: array})


def test_scores_of_another_shape_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Narrow(Strategy):
        def predict(self, model: nn.Module, x: torch.Tensor, task: torch.Tensor | None) -> torch.Tensor:
            return model(x)[:-1] if len(x) == 32 else model(x)

    name = f"{user_module(monkeypatch, Narrow)}:Narrow"
    outcome = execute(make_run(name, WATCH, AROUND, "training.batch_size=32"), tmp_path)
    assert "the shape (31, 10) for 32 samples" in outcome.record["failure"]["message"]


# ------------------------------------------------------------------------------------------------ numbers
def forecast(tmp_path: Path) -> Path:
    """A regression of two targets in two tasks of 40 samples, in batches of 8."""
    draw = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 80), ("test", 20)):
        x, task = draw.normal(size=(n, 3)), np.repeat([0, 1], n // 2)
        target = np.stack([x.sum(1) * (1 - 2 * task), x[:, 0]], 1)
        arrays |= {f"{part}_x": x.astype(np.float32), f"{part}_target": target, f"{part}_task": task}
    np.savez(tmp_path / "table.npz", **arrays)
    path = tmp_path / "forecast.yaml"
    path.write_text(
        f"id: forecast\nstream: {{data: 'npz:{tmp_path / 'table.npz'}', tasks: {{by: given}}, setting: domain}}\n"
        "model: {name: mlp, hidden: [8]}\nevaluation: {every: 0}\n"
        "training: {epochs: 1, batch_size: 8, loss: squared_error, optimizer: {name: sgd, lr: 0.05}}\n"
    )
    return path


@pytest.mark.parametrize("delay", [0, 3])
def test_errors_of_a_regression_are_those_before_each_update(delay: int, tmp_path: Path) -> None:
    override = f"watch={{prequential: true, prequential_delay: {delay}}}"
    run = resolve.make_run(str(forecast(tmp_path)), strategy="naive", overrides=[override], threads=1)
    outcome = execute(run, tmp_path / "out")
    record = trace_files.read_trace(outcome.directory).prequential
    assert record is not None
    assert record.right == {}
    bench = assembled(run)
    errors: list[torch.Tensor] = []
    history: list[nn.Module] = []
    for number, budget in enumerate(bench.budgets):
        experience = bench.experience(number)
        bench.strategy.begin_experience(experience)
        for batch in bench.batches.of(experience, budget):
            history.append(copy.deepcopy(bench.strategy.model).eval())
            with torch.no_grad():
                errors.append(history[max(0, len(history) - 1 - delay)](batch.x) - batch.y)
            bench.strategy.step(batch)
        bench.strategy.end_experience(experience)
    exact = torch.cat(errors).double()
    assert record.incoming.tolist() == [8] * 10
    for name, numbers in (("squared_error", exact.square()), ("absolute_error", exact.abs())):
        np.testing.assert_allclose(record.values[f"domain:{name}"], numbers.mean(1).numpy(), rtol=1e-5)
    scores = outcome.record["metrics"]["domain:squared_error"]
    assert scores["prequential.average"]["value"] == pytest.approx(float(exact.square().mean()), rel=1e-6)
    assert scores["prequential.average"]["per_experience"] == pytest.approx(
        [float(exact[part].square().mean()) for part in (slice(0, 40), slice(40, 80))], rel=1e-6
    )
    assert scores["prequential.windowed_100"]["value"] == scores["prequential.average"]["value"]
    with pytest.raises(KeyboardInterrupt):
        execute(run, tmp_path / "again", every=Every(0, 3), progress=CrashAt(7))
    resumed = execute(run, tmp_path / "again")
    assert resumed.record["costs"]["resumed_at"] == [6]
    assert (resumed.directory / "trace.npz").read_bytes() == (outcome.directory / "trace.npz").read_bytes()


def test_the_log_loss_of_classes_is_over_the_active_logits(tmp_path: Path) -> None:
    run = make_run("naive", WATCH, AROUND, "watch.measures=[log_loss]", "training.batch_size=50", iterations=2)
    record = recorded(run, tmp_path)
    bench = assembled(run)
    expected: dict[str, list[float]] = {"class": [], "task": []}
    seen: set[int] = set()
    for number in range(len(bench.budgets)):
        experience = bench.experience(number)
        seen |= set(bench.stream.tasks[number].targets)
        bench.strategy.begin_experience(experience)
        for batch in bench.batches.of(experience, 2):
            with torch.no_grad():
                scores = bench.strategy.model(batch.x)
            for view, active in (("class", seen), ("task", set(bench.stream.tasks[number].targets))):
                outputs = sorted(active)
                target = torch.tensor([outputs.index(y) for y in batch.y.tolist()])
                losses = nn.functional.cross_entropy(scores[:, outputs].double(), target, reduction="none")
                expected[view] += losses.tolist()
            bench.strategy.step(batch)
        bench.strategy.end_experience(experience)
    assert set(record.right) == {"class", "task"}
    for view, losses in expected.items():
        np.testing.assert_allclose(record.values[f"{view}:log_loss"], losses, rtol=1e-5, atol=1e-6)
