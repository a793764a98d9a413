"""The estimate before a run, which leaves no trace in it, and the hint where inputs are large and not standardised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clbench import resolve
from clbench.evaluation import evaluator
from clbench.runner import components, run
from clbench.runner.estimate import estimate
from clbench.runner.run import execute
from clbench.strategy import Strategy
from clbench.streams.compile import compile_stream
from clbench.testing.states import assert_same
from support import DIGITS, DOMAIN, SPLIT, assembled, generators, make_run, user_module


def said(out: Path, data: Path, *overrides: str) -> list[str]:
    """Lines that a run of one update an experience says before it trains."""
    benchmark = {
        "id": "mine",
        "stream": {"data": f"npz:{data}", "tasks": {"by": "classes", "count": 2}, "setting": "class"},
        "model": {"name": "linear"},
        "training": {"iterations": 1, "batch_size": 10, "optimizer": {"name": "sgd", "lr": 0.1}},
    }
    lines: list[str] = []
    execute(resolve.make_run(benchmark, strategy="naive", overrides=list(overrides)), out, say=lines.append)
    return lines


@pytest.mark.parametrize(
    ("scale", "overrides", "hint"),
    [
        (
            [1.0, 500.0],
            [],
            "inputs are large: feature 1 has a mean of 1,000 and a deviation of 500; "
            "-o stream.normalise=standard standardises them",
        ),
        ([1.0, 500.0], ["stream.normalise=standard"], ""),
        ([1.0, 5.0], [], ""),
    ],
)
def test_large_inputs_are_hinted_at(scale: list[float], overrides: list[str], hint: str, tmp_path: Path) -> None:
    signs = np.tile([[1.0], [-1.0]], (20, 1))
    x = ((2 + signs) * scale).astype(np.float32)  # mean 2 and deviation 1, in units of the scale
    y = np.repeat([0, 1], 20)
    np.savez(tmp_path / "data.npz", train_x=x, train_y=y, test_x=x, test_y=y)
    lines = said(tmp_path / "out", tmp_path / "data.npz", *overrides)
    assert [line for line in lines if line.startswith("inputs")] == ([hint] if hint else [])


# ------------------------------------------------------------------------------------------------ the estimate
NETWORK = "model={name: cnn, channels: [4], hidden: 8}"
WATCHED = "watch={ema: [0.9], last: [3], gradients: true, features: true}"
CHANGED = "training.augmentation=[{name: random_crop, padding: 1}, {name: horizontal_flip}]"
CASES = {
    "replay and averages": ("er", (WATCHED,), DIGITS),
    "convolutions of augmented images": ("er", (NETWORK, CHANGED), DIGITS),
    "a frozen front": ("linear_probe", ("model={name: mlp, hidden: [16]}", WATCHED), SPLIT),
    "the whole stream": ("joint", ("watch.precision=auto",), DOMAIN),
    "a loop of its own": ("avalanche.training.supervised:Replay", ("strategy.mem_size=30",), SPLIT),
}


@pytest.mark.parametrize("case", list(CASES))
def test_a_run_with_an_estimate_is_one_without(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes, though its samples and its test inputs serve both, where reduced precision is fast too."""
    monkeypatch.setattr(evaluator, "fast_here", lambda: True)
    strategy, overrides, benchmark = CASES[case]
    configuration = make_run(strategy, "stream.tasks.count=2", *overrides, benchmark=benchmark)
    lines: list[str] = []
    talkative = execute(configuration, tmp_path / "a", say=lines.append)
    silent = execute(configuration, tmp_path / "b")
    assert [line.partition(" ")[0] for line in lines] == ["about"]
    assert (talkative.directory / "trace.npz").read_bytes() == (silent.directory / "trace.npz").read_bytes()
    assert talkative.record["weights_sha256"] == silent.record["weights_sha256"]
    precision = [outcome.record["costs"]["evaluation_precision"] for outcome in (talkative, silent)]
    assert precision[0] == precision[1]
    for record in (talkative.record, silent.record):
        del record["provenance"], record["costs"]
    assert talkative.record == silent.record


def test_an_estimate_leaves_the_components_of_the_run_as_they_were() -> None:
    bench = assembled(make_run("er", WATCHED, CHANGED, benchmark=DIGITS))
    before, chance = bench.state_dict(), generators()
    with run.fenced():
        probe = components.assemble(bench.run, bench.stream, beside=bench)
        assert probe.evaluator._inputs is bench.evaluator._inputs
        assert probe.samples._inputs is bench.samples._inputs
        estimate(probe)
        probe.release()
    assert_same(bench.state_dict(), before)
    assert_same(generators(), chance)
    assert bench.samples._fence.admitted is not None
    assert not bench.samples._fence.admitted.any(), "samples that only the probe has met"


class Ahead(Strategy):
    """Asks for a sample of the second experience during the first."""

    def end_experience(self, experience):  # type: ignore[no-untyped-def]
        import torch

        if experience.number == 0:
            stream = compile_stream(make_run("naive").benchmark.stream, 0)
            later = torch.from_numpy(stream.experiences[1].index[:1])
            self.setup.samples.fetch(later, 1)


def test_an_estimate_opens_no_samples_to_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It trains on two experiences; a strategy that asks for data to come fails all the same."""
    name = f"{user_module(monkeypatch, Ahead)}:Ahead"
    failures = [
        execute(make_run(name), tmp_path / str(i), say=say).record["failure"]
        for i, say in enumerate((lambda text: None, None))
    ]
    assert failures[0] == failures[1]
    assert failures[0]["kind"] == "data_to_come"


def test_a_run_is_assembled_once_beside_its_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    of_stream = evaluator.Evaluator.of_stream
    monkeypatch.setattr(evaluator.Evaluator, "of_stream", lambda *a: (calls.append("inputs"), of_stream(*a))[1])
    execute(make_run("er"), tmp_path, say=lambda text: None)
    assert calls == ["inputs"]
