"""Methods for forecasts: their pure parts against oracles."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from clbench.errors import UserError
from clbench.resolve import make_run
from clbench.results import trace_files
from clbench.rng import Generator
from clbench.run_config import RunConfig
from clbench.runner.run import execute
from clbench.strategies.refit import ridge_regression
from clbench.strategies.shared.drift import Adwin, PageHinkley
from clbench.streams.datasets import load
from clbench.testing.resume import check_resume
from clbench.trace import Trace

RIVER = importlib.util.find_spec("river") is not None
NCPS = importlib.util.find_spec("ncps") is not None


def first_alarm(test: PageHinkley | Adwin, values: list[float]) -> int | None:
    return next((i for i, value in enumerate(values) if test.add(value)), None)


def test_page_hinkley_is_its_definition() -> None:
    values = (Generator(0, "test").normal(200) * 0.3).tolist()
    values[120:] = [v + 1.0 for v in values[120:]]

    def by_hand(n: int) -> bool:
        sums = [0.0]
        for i in range(n):
            sums.append(sums[-1] + values[i] - math.fsum(values[: i + 1]) / (i + 1) - 0.2)
        return sums[-1] - min(sums) > 3.0

    expected = next(n - 1 for n in range(1, 201) if by_hand(n))
    assert first_alarm(PageHinkley(0.2, 3.0), values) == expected
    assert 120 <= expected < 150


def test_page_hinkley_is_silent_where_nothing_rises() -> None:
    falling = [10.0 - 0.1 * i for i in range(100)]
    assert first_alarm(PageHinkley(0.1, 1.0), falling) is None


@pytest.mark.skipif(not RIVER, reason="river is not installed")
def test_adwin_alarms_at_a_rise_and_not_at_a_fall() -> None:
    noise = Generator(1, "test").normal(200) * 0.3
    rise = np.where(np.arange(200) < 100, 0.0, 2.0)
    alarm = first_alarm(Adwin(0.002), (noise + rise).tolist())
    assert alarm is not None
    assert 100 <= alarm < 130
    assert first_alarm(Adwin(0.002), (noise - rise).tolist()) is None


def test_a_missing_river_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "river.drift", None)
    with pytest.raises(UserError, match="needs the package river: pip install"):
        Adwin(0.002)


def test_ridge_regression_is_that_of_another_library() -> None:
    from sklearn.linear_model import Ridge

    draws = Generator(2, "test").normal(50 * 9).reshape(50, 9)
    x, y = draws[:, :6] + 3.0, draws[:, 6:] - 1.0
    weight, bias = ridge_regression(torch.from_numpy(x), torch.from_numpy(y), 2.5)
    other = Ridge(alpha=2.5).fit(x, y)
    assert np.allclose(weight, other.coef_, atol=1e-10)
    assert np.allclose(bias, other.intercept_, atol=1e-10)


# ------------------------------------------------------------------------------------------------ runs
SMALL = (
    "stream.link_load={days_before: 2, days_failed: 1, days_repaired: 1, failures: [1], steps_per_day: 48}",
    "evaluation={every: 5, dense: 0}",
)


def small(strategy: str, *overrides: str, model: str = "{name: mlp, hidden: [8]}") -> RunConfig:
    return make_run(
        "link_load_abilene-v1", strategy=strategy, threads=1, overrides=[*SMALL, f"model={model}", *overrides]
    )


def trace_of(run: RunConfig, folder: Path) -> Trace:
    outcome = execute(run, folder)
    assert outcome.record["status"] == "completed", outcome.record.get("failure")
    return trace_files.read_trace(outcome.directory)


@pytest.mark.parametrize(("value", "step"), [("last", -1), ("season", 0)])
def test_persistence_has_the_error_of_the_value_that_it_repeats(value: str, step: int, tmp_path: Path) -> None:
    run = small("persistence", f"strategy.value={value}")
    data = load.load("link_load", run.benchmark.stream.parameters)
    assert data.test_target is not None
    assert data.test_task is not None
    squares = (np.asarray(data.test_x).reshape(-1, 13, 15)[:, step].astype(np.float64) - data.test_target) ** 2
    expected = [squares[data.test_task == t].mean() for t in range(3)]
    assert np.allclose(trace_of(run, tmp_path).task_mean("domain:squared_error")[-1], expected, rtol=1e-6)


def test_persistence_is_refused_where_classes_are_told_or_inputs_are_no_steps(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"forecasts numbers, and training\.loss is 'cross_entropy'"):
        execute(make_run("split_digits-v1", strategy="persistence"), tmp_path)
    x, y = np.zeros((8, 5), np.float32), np.ones((8, 2), np.float32)
    task = np.arange(8) % 2
    np.savez(tmp_path / "odd.npz", train_x=x, train_target=y, test_x=x, test_target=y, train_task=task, test_task=task)
    overrides = ["stream.link_load=null", f"stream.data='npz:{tmp_path / 'odd.npz'}'"]
    with pytest.raises(UserError, match="needs inputs that are steps of 2 numbers, as the targets are; they have 5"):
        execute(make_run("link_load_abilene-v1", strategy="persistence", overrides=overrides), tmp_path)


def test_refit_is_the_ridge_regression_of_its_window(tmp_path: Path) -> None:
    """At the end of the first regime: 76 samples in batches of 4, fits after 40 and, of the last 30 samples, 80."""
    overrides = ("strategy={window: 30, every: 40, ridge: 2.0}", "evaluation={every: 1, dense: 0}")
    run = small("refit", *overrides, model="{name: linear}")
    trace = trace_of(run, tmp_path)
    data = load.load("link_load", run.benchmark.stream.parameters)
    assert data.train_target is not None
    assert data.test_target is not None
    assert data.train_task is not None
    assert data.test_task is not None
    rows = np.flatnonzero(data.train_task == 0)[10:40]
    from sklearn.linear_model import Ridge

    fitted = Ridge(alpha=2.0).fit(
        np.asarray(data.train_x, np.float64)[rows], data.train_target[rows].astype(np.float64)
    )
    test = data.test_task == 0
    expected = ((fitted.predict(np.asarray(data.test_x, np.float64)[test]) - data.test_target[test]) ** 2).mean()
    at = int(np.flatnonzero((trace.iteration == 10) & (trace.experience == 0))[-1])
    error = trace.task_mean("domain:squared_error")[:, 0]
    assert error[at] == pytest.approx(expected, rel=1e-4)
    assert np.isnan(error[at - 1])


def test_drift_tuning_learns_at_first_and_after_an_alarm_alone(tmp_path: Path) -> None:
    tuning = ("strategy.warm_up=40", "strategy.tune=8", "evaluation={every: 1, dense: 0}")
    quiet = execute(small("drift_tuning", *tuning, "strategy.detector=none"), tmp_path / "none")
    assert quiet.record["report"] == {"alarms": 0.0, "samples_learnt_from": 40.0}
    error = trace_files.read_trace(quiet.directory).task_mean("domain:squared_error")[:, 0]
    assert (error[12:] == error[-1]).all()
    assert error[5] != error[-1]
    loud = execute(small("drift_tuning", *tuning, "strategy.threshold=0.5"), tmp_path / "alarms")
    report = loud.record["report"]
    assert report["alarms"] >= 1
    assert report["samples_learnt_from"] <= 40 + 8 * report["alarms"]


@pytest.mark.parametrize(
    ("strategy", "overrides"),
    [
        ("persistence", ()),
        ("refit", ("strategy={window: 30, every: 20}",)),
        ("drift_tuning", ("strategy={warm_up: 30, tune: 12, threshold: 0.5, memory: 20}",)),
        pytest.param(
            "drift_tuning",
            ("strategy={warm_up: 30, tune: 12, detector: adwin, delta: 0.5, memory: 20}",),
            marks=pytest.mark.skipif(not RIVER, reason="river is not installed"),
        ),
    ],
)
def test_a_forecast_that_was_stopped_ends_as_one_that_was_not(strategy: str, overrides: tuple[str, ...]) -> None:
    check_resume(small(strategy, *overrides))


# ------------------------------------------------------------------------------------------------ liquid networks
@pytest.mark.skipif(not NCPS, reason="ncps is not installed")
@pytest.mark.parametrize("name", ["cfc", "ltc"])
def test_a_liquid_network_reads_the_steps_in_their_order(name: str) -> None:
    from ncps.torch import LTC, CfC

    from clbench.config.networks import Liquid
    from clbench.training.models import build, split

    torch.manual_seed(0)
    model = build(Liquid(name=name, units=5), (12,), 3)  # type: ignore[arg-type]
    torch.manual_seed(0)
    cell = {"cfc": CfC, "ltc": LTC}[name](3, 5, return_sequences=False)
    x = torch.arange(24.0).reshape(2, 12) / 24
    front, head = split(model)
    with torch.no_grad():
        state = cell(x.reshape(2, 4, 3))[0]
        assert torch.equal(front(x), state)
        assert torch.equal(model(x), head(state))
    with pytest.raises(UserError, match="steps of 5 numbers, as the targets are; they have 12"):
        build(Liquid(name=name), (12,), 5)  # type: ignore[arg-type]


@pytest.mark.skipif(not NCPS, reason="ncps is not installed")
def test_a_liquid_network_forecasts_and_resumes() -> None:
    check_resume(small("er", "strategy.memory=20", model="{name: cfc, units: 4}"))


def test_a_missing_ncps_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ncps.torch", None)
    with pytest.raises(UserError, match="liquid networks need the package ncps: pip install 'clbench"):
        execute(small("naive", model="{name: cfc}"), tmp_path)
