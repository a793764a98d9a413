"""Measures that are numbers: errors of a regression and the log loss of classes, in the record of a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import support
from clbench import resolve
from clbench.errors import RunFailed, UserError
from clbench.results.load import read
from clbench.run_config import RunConfig
from clbench.runner.run import execute
from clbench.strategy import Strategy
from clbench.streams.compile import compile_stream
from clbench.testing.resume import check_resume
from clbench.testing.states import assert_same
from clbench.trace import Trace
from support import DIGITS, assembled, learned, trace_of, user_module, watched

TASKS, TRAIN, TEST, OUTPUTS = 3, 40, 30, 2


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A regression whose tasks are three linear maps, with noise."""
    draw = np.random.Generator(np.random.PCG64(0))
    maps = draw.normal(size=(TASKS, 5, OUTPUTS))
    arrays: dict[str, NDArray[Any]] = {}
    for part, n in (("train", TRAIN), ("test", TEST)):
        x, task = draw.normal(size=(TASKS * n, 5)), np.repeat(np.arange(TASKS), n)
        target = np.einsum("nf,nfd->nd", x, maps[task]) + 0.1 * draw.normal(size=(TASKS * n, OUTPUTS))
        arrays |= {f"{part}_x": x.astype(np.float32), f"{part}_target": target, f"{part}_task": task}
    path = tmp_path / "table.npz"
    np.savez(path, **arrays)
    return path


def benchmark(tmp_path: Path, table: Path, **training: Any) -> Path:
    settings = {"iterations": 6, "batch_size": 10, "loss": "squared_error", **training}
    lines = "".join(f"  {key}: {value}\n" for key, value in settings.items())
    path = tmp_path / "benchmark.yaml"
    path.write_text(
        f"id: table\nstream: {{data: 'npz:{table}', tasks: {{by: given}}, setting: domain}}\n"
        f"model: {{name: mlp, hidden: [8]}}\ntraining:\n{lines}  optimizer: {{name: sgd, lr: 0.1}}\n"
    )
    return path


@pytest.fixture
def regression(tmp_path: Path, table: Path) -> Path:
    return benchmark(tmp_path, table)


def make_run(path: Path | str, *overrides: str, strategy: str = "naive") -> RunConfig:
    return resolve.make_run(str(path), strategy=strategy, overrides=list(overrides), threads=1, device="cpu")


def observed(run: RunConfig) -> tuple[Any, Trace]:
    bench = assembled(run)
    return bench, trace_of(bench, watched(bench))


# ------------------------------------------------------------------------------------------------ values
def test_sums_are_those_of_the_recorded_values_and_these_are_errors_of_the_model(regression: Path) -> None:
    bench, trace = observed(make_run(regression))
    assert trace.correct == {}
    assert trace.views == ["domain:squared_error", "domain:absolute_error"]
    data = bench.stream.data
    x, target = torch.from_numpy(data.test_x), torch.from_numpy(data.test_target)
    with torch.inference_mode():
        error = (bench.strategy.model.eval()(x) - target).double().numpy()[trace.rows]
    for view, expected in (("squared_error", (error**2).mean(1)), ("absolute_error", np.abs(error).mean(1))):
        values, sums = trace.values[f"domain:{view}"], trace.sums[f"domain:{view}"]
        np.testing.assert_allclose(values[-1], expected, rtol=1e-4, atol=1e-6)
        cells = values[-1].reshape(TASKS, TEST).tolist()
        assert sums[-1].tolist() == [math.fsum(cell) for cell in cells]
        assert trace.task_mean(f"domain:{view}")[-1].tolist() == [math.fsum(cell) / TEST for cell in cells]


def test_what_is_out_of_scope_has_no_number(regression: Path) -> None:
    _, trace = observed(make_run(regression))
    within = (trace.experience == 0) & (trace.phase == 1)
    sums, values = trace.sums["domain:squared_error"], trace.values["domain:squared_error"]
    assert np.isnan(sums[within][:, 1:]).all()
    assert not np.isnan(sums[within][:, 0]).any()
    assert np.isnan(values[within][:, TEST:]).all()


@pytest.mark.parametrize("change", ["evaluation.batch_size=7", "evaluation.scope=all", "evaluation.every=3"])
def test_numbers_depend_neither_on_the_size_of_a_pass_nor_on_what_is_evaluated(regression: Path, change: str) -> None:
    _, one = observed(make_run(regression))
    _, other = observed(make_run(regression, change))
    same = np.flatnonzero(np.isin(one.iteration, other.iteration) & (one.phase == 1))
    there = np.flatnonzero(np.isin(other.iteration, one.iteration) & (other.phase == 1))
    for view, sums in one.sums.items():
        known = ~np.isnan(sums[same])[: len(there)]
        mine = sums[same][np.isin(one.iteration[same], other.iteration[there])]
        assert mine[known[: len(mine)]].tobytes() == other.sums[view][there][known[: len(mine)]].tobytes()
        assert known.any()


def test_a_larger_pass_of_a_network_gives_the_same_bytes(tmp_path: Path) -> None:
    """Where the size of a pass does change a matrix product: passes over one, three, and 256 samples."""
    small = ("training.iterations=4", "training.epochs=null", "model={name: mlp, hidden: [300, 300]}")
    sizes = [f"evaluation.batch_size={size}" for size in (1, 3, 1000)]
    traces = [observed(make_run(DIGITS, "watch.measures=[log_loss]", size, *small))[1] for size in sizes]
    for other in traces[1:]:
        assert_same(traces[0].sums, other.sums)
        assert_same(traces[0].values, other.values)


def test_log_loss_is_over_the_active_logits(tmp_path: Path) -> None:
    run = make_run(DIGITS, "watch.measures=[log_loss]", "training.iterations=5", "training.epochs=null")
    bench, trace = observed(run)
    assert set(trace.sums) == {"class:log_loss", "task:log_loss"}
    assert set(trace.correct) == {"class", "task"}
    inputs = bench.evaluator._inputs.between(0, bench.evaluator.samples)
    with torch.inference_mode():
        scores = bench.strategy.model.eval()(inputs).double()
    targets = bench.evaluator._targets
    whole = torch.log_softmax(scores, 1).gather(1, targets[:, None])[:, 0]
    np.testing.assert_allclose(trace.values["class:log_loss"][-1], -whole.numpy(), rtol=1e-4, atol=1e-6)
    for task in bench.stream.tasks:
        a, b = bench.evaluator.cells.start[task.id : task.id + 2].tolist()
        own = sorted(task.targets)
        position = torch.tensor([own.index(t) for t in targets[a:b].tolist()])
        mine = -torch.log_softmax(scores[a:b][:, own], 1).gather(1, position[:, None])[:, 0]
        np.testing.assert_allclose(trace.values["task:log_loss"][-1, a:b], mine.numpy(), rtol=1e-4, atol=1e-6)


def test_counts_are_the_same_beside_numbers(tmp_path: Path) -> None:
    small = ("training.iterations=5", "training.epochs=null")
    _, plain = observed(make_run(DIGITS, *small))
    _, beside = observed(make_run(DIGITS, *small, "watch.measures=[log_loss]"))
    assert_same(plain.correct, beside.correct)
    assert_same(plain.bits, beside.bits)


# ------------------------------------------------------------------------------------------------ laws
@pytest.mark.parametrize(
    "strategy",
    ["naive", "joint", "cumulative", "er", "agem", "gem", "der", "der++", "si", "mas", "linear_probe", "er_agem"],
)
def test_a_regression_resumes_without_any_difference(regression: Path, strategy: str) -> None:
    check_resume(make_run(regression, strategy=strategy), at=[1, 8, 13])


def test_watching_a_regression_changes_nothing(regression: Path) -> None:
    runs = [assembled(make_run(regression, f"evaluation.every={every}", strategy="er")) for every in (1, 0)]
    for bench in runs:
        watched(bench)
    assert_same(learned(runs[0]), learned(runs[1]))


def test_a_run_of_a_regression_is_written_and_read(regression: Path, tmp_path: Path) -> None:
    outcome = execute(make_run(regression, strategy="er"), tmp_path / "out")
    assert outcome.record["status"] == "completed"
    assert outcome.record["primary_view"] == "domain:squared_error"
    metrics = outcome.record["metrics"]["domain:squared_error"]
    run = read(outcome.directory)
    assert run.view() == "domain:squared_error"
    last = run.trace.task_mean("domain:squared_error")[-1].tolist()
    assert metrics["average"]["value"] == math.fsum(last) / TASKS
    assert metrics["average"]["se"] > 0
    assert metrics["average"]["per_task"] == last


def test_scores_that_are_not_finite_end_a_regression(regression: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaks(Strategy):
        regresses = True

        def end_experience(self, experience: Any) -> None:
            if experience.number == TASKS - 1:
                with torch.no_grad():
                    self.model[-1].bias[0] = math.inf

    name = f"{user_module(monkeypatch, Breaks)}:Breaks"
    bench = assembled(make_run(regression, strategy=name))
    with pytest.raises(RunFailed, match="scores became NaN or infinite by iteration 18"):
        trace_of(bench, watched(bench))


# ------------------------------------------------------------------------------------------------ mistakes
@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("training.loss=cross_entropy", "training.loss: got 'cross_entropy', but .* has numbers to predict"),
        ("training.active_outputs=seen", "training.active_outputs: got 'seen', but .* has no classes"),
        (
            "watch.measures=[log_loss]",
            "got 'log_loss', but .* has numbers to predict. Allowed: squared_error, absolute",
        ),
        ("watch.features=true", "watch.features: is for classes"),
        ("stream.setting=class", "setting: got 'class', but .* has numbers to predict; set domain"),
    ],
)
def test_what_a_regression_has_no_meaning_for(regression: Path, override: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        assembled(make_run(regression, override))


@pytest.mark.parametrize("strategy", ["ewc", "lwf", "ncm", "er_ace", "er+ewc"])
def test_a_strategy_for_classes_is_refused(regression: Path, strategy: str) -> None:
    with pytest.raises(UserError, match=r"tells classes, and .* has numbers to predict"):
        assembled(make_run(regression, strategy=strategy))


def test_measures_of_numbers_need_numbers() -> None:
    with pytest.raises(UserError, match=r"got 'squared_error', but 'digits' has classes to tell. Allowed: log_loss"):
        assembled(make_run(DIGITS, "watch.measures=[squared_error]"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"train_target": np.array([["1"]] * TASKS * TRAIN)}, "train_target holds strings; a regression needs numbers"),
        ({"train_target": np.full(TASKS * TRAIN, np.nan)}, r"train_target\[0\] is not finite"),
        ({"test_target": np.zeros((4, OUTPUTS))}, "test_target has 4 rows, for 90 samples"),
        ({"test_target": np.zeros((TASKS * TEST, 7))}, r"have \[2, 7\] numbers a sample"),
        ({"train_y": np.zeros(TASKS * TRAIN, int)}, "holds train_y and targets"),
        ({"test_target": None}, "array 'test_target' is missing; a regression needs"),
    ],
)
def test_mistakes_of_a_file_of_targets(regression: Path, table: Path, change: dict[str, Any], sentence: str) -> None:
    with np.load(table) as arrays:
        held = {**arrays, **change}
    np.savez(table, **{name: array for name, array in held.items() if array is not None})
    with pytest.raises(UserError, match=sentence):
        compile_stream(make_run(regression).benchmark.stream, 0)


def test_a_prediction_of_another_width_is_an_error(regression: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Narrow(Strategy):
        regresses = True

        def predict(self, model: nn.Module, x: torch.Tensor, task: torch.Tensor | None) -> torch.Tensor:
            scores: torch.Tensor = model(x)
            return scores[:, :1]

    bench = support.assembled(make_run(regression, strategy=f"{user_module(monkeypatch, Narrow)}:Narrow"))
    with pytest.raises(ValueError, match=r"shape \(30, 1\) for targets of \(30, 2\)|shape \(90, 1\)"):
        watched(bench)
