"""Runs of stock Avalanche scripts, written by the plugin: equal to hosted ones, on a board, honest about the rest."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import clbench
from clbench.avalanche import ContinualEvaluation, benchmark, quiet
from clbench.cli import main
from clbench.errors import UserError
from clbench.results import files
from clbench.results.record import check
from clbench.rng import fenced
from clbench.runner.run import execute
from support import assembled, make_run

# After the bridge, which knows what its dependencies say when they are imported.
from avalanche.benchmarks import nc_benchmark  # isort: skip
from avalanche.logging import BaseLogger  # isort: skip
from avalanche.training.plugins import EvaluationPlugin  # isort: skip
from avalanche.training.supervised import Naive  # isort: skip

EPOCHS = ["stream.tasks.count=3", "training={iterations: null, epochs: 1}", "evaluation.every=3"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def watched(
    exported: Any, model: nn.Module, lr: float = 0.1, criterion: Any = None, every: int = 3, experiences: Any = None
) -> ContinualEvaluation:
    """A stock script: naive training on an Avalanche benchmark."""
    watch = ContinualEvaluation(exported.test_stream, every=every)
    strategy = Naive(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=lr), criterion=criterion or nn.CrossEntropyLoss(),
        train_mb_size=32, plugins=[watch], evaluator=EvaluationPlugin(loggers=[BaseLogger()]),
    )  # fmt: skip
    with quiet.hushed():
        for experience in experiences or exported.train_stream:
            strategy.train(experience)
    return watch


def classes(seed: int = 0) -> Any:
    """An Avalanche benchmark of somebody else's: three experiences of two classes each."""
    x, y = torch.randn(60, 8, generator=torch.Generator().manual_seed(seed)), torch.arange(60) % 6
    data = torch.utils.data.TensorDataset(x, y)
    data.targets = y.tolist()  # type: ignore[attr-defined]
    return nc_benchmark(data, data, n_experiences=3, task_labels=False, seed=1)


def saved(**claims: Any) -> Path:
    torch.manual_seed(0)
    return watched(classes(), nn.Linear(8, 6)).save(**{"benchmark": "theirs", "strategy": "mine", "seed": 0, **claims})


def test_a_script_of_the_same_configuration_has_the_trace_of_a_hosted_run_and_stands_on_its_board() -> None:
    run = make_run("avalanche.training.supervised:Naive", *EPOCHS, benchmark="split_digits-v1", iterations=None)
    hosted = clbench.read_run(execute(run, Path("results")).directory)
    with fenced():
        bench = assembled(run)
        chance = random.getstate(), np.random.get_state(), torch.get_rng_state()
        exported, model = benchmark(bench.stream), copy.deepcopy(bench.strategy.model)
        random.setstate(chance[0])
        np.random.set_state(chance[1])
        torch.set_rng_state(chance[2])
        watch = watched(exported, model)
    script = clbench.read_run(watch.save(benchmark=run.benchmark, strategy="my_naive", seed=0, access="experience"))
    assert script.record.raw["differences"] == []
    assert script.record.raw["weights_sha256"] == hosted.record.raw["weights_sha256"]
    assert (script.record.definition_hash, script.record.stream) == (
        hosted.record.definition_hash,
        hosted.record.stream,
    )
    assert script.record.modified, "three tasks are not the shipped five"
    ours, theirs = script.trace.arrays(), hosted.trace.arrays()
    same = {name for name in ours if np.array_equal(ours[name], theirs[name])}
    assert ours.keys() - same == set()
    assert theirs.keys() - ours.keys() == {"bits.task", "correct.task", "predicted.task"}
    assert script.metrics == pytest.approx(dict(hosted.metrics), nan_ok=True, abs=0)
    board = clbench.leaderboard("results")
    assert len(set(board.frame["definition_hash"])) == 1
    assert sorted(board.frame["unranked"]) == ["1 of 5 seeds", "of a script, which clbench cannot run again"]
    assert "my_naive (script) " in repr(board)
    assert "script: trained outside of clbench, which cannot run it again; not ranked" in repr(board).splitlines()
    assert clbench.compare(script, hosted).frame["difference"].tolist() == [0.0] * 4
    assert script.costs["iterations"] == len(script.trace.loss) == hosted.costs["iterations"]
    assert script.costs["evaluations"] == len(script.trace.iteration)
    assert 0 < script.costs["train_s"] + script.costs["eval_s"] < script.costs["wall_s"]


def test_a_script_with_the_stream_and_settings_of_its_own_stands_apart_and_says_why() -> None:
    run = make_run("naive", *EPOCHS, benchmark="split_digits-v1", iterations=None)
    stream = assembled(run).stream
    exported = benchmark(stream)
    sgd = watched(exported, nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), lr=0.2, every=0)
    script = clbench.read_run(sgd.save(benchmark=run.benchmark, strategy="mine", seed=7))
    assert script.record.raw["differences"] == [
        "shapes of the network's parameters: [[10, 64], [10]], defined is [[100, 64], [100], [10, 100], [10]]",
        script.record.raw["differences"][1],
        "evaluation: [0, 0, null], defined is [3, 0, null]",
    ]
    assert script.record.raw["differences"][1].startswith("settings of the optimiser: {")
    assert script.record.definition_hash != run.definition_hash
    assert script.record.stream is not None
    assert script.record.stream.instance_hash == stream.instance_hash
    assert script.config["seeds"]["stream"] == 0, "the stream's seed is not the script's"
    shipped = sgd.save(benchmark="split_digits-v1", strategy="mine", seed=0)
    assert clbench.read_run(shipped).record.raw["differences"] == [
        "its stream is another one than that of split_digits-v1"
    ]
    partly = watched(exported, nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), experiences=exported.train_stream[:2])
    told = clbench.read_run(partly.save(benchmark=run.benchmark, strategy="partly", seed=0))
    assert told.record.raw["differences"][0] == "it did not train on each experience once, in order"


def test_data_of_somebody_elses_are_known_by_their_test_part(capsys: pytest.CaptureFixture[str]) -> None:
    run = clbench.read_run(saved(parameters={"strength": 0.5}, memory_samples=20))
    record = run.record
    assert record.modified
    assert record.raw["differences"] == ["no benchmark 'theirs' is known"]
    assert record.stream is not None
    assert (record.stream.experiences, record.stream.tasks, record.stream.classes) == (3, 3, 6)
    assert (record.stream.samples, record.stream.definition_hash) == (None, None)
    assert record.stream.data_sha256 == clbench.read_run(saved()).record.stream.data_sha256  # type: ignore[union-attr]
    training = record.config.benchmark.training
    assert (training.batch_size, training.epochs, training.optimizer.name) == (32, 1, "SGD")
    assert training.optimizer.parameters["lr"] == 0.1
    assert (record.access, record.parameters) == (None, 54)
    assert record.memory is not None
    assert (record.memory.samples, record.memory.bytes) == (20, None)
    [one, other] = clbench.leaderboard("results").frame.to_dict("records")
    assert one["definition_hash"] == other["definition_hash"]
    assert one["row_id"] != other["row_id"]
    assert sorted([one["parameters"], other["parameters"]]) == ["", "strength=0.5"]
    assert clbench.score(run, "average_accuracy")["value"].tolist() == [run.metrics["average_accuracy"]]
    assert len(clbench.plot(run).figure.axes) == 1
    assert main(["rescore", str(run.directory)]) == 0
    assert capsys.readouterr().out.endswith(": nothing changed\n")
    assert main(["verify", str(one["row_id"])]) == 2
    sentence = "theirs seed 0: the result of a script, which clbench cannot run again; run the script itself again."
    assert capsys.readouterr().err.splitlines()[-1] == sentence


def test_no_result_is_overwritten() -> None:
    folder = saved()
    assert saved() == folder
    assert not (folder / files.SUPERSEDED).exists(), "the same once more"
    before = (folder / "trace.npz").read_bytes()
    theirs = classes()  # seeds torch
    torch.manual_seed(1)
    other = watched(theirs, nn.Linear(8, 6)).save(benchmark="theirs", strategy="mine", seed=0)
    assert other == folder
    assert (folder / files.SUPERSEDED / "1" / "trace.npz").read_bytes() == before
    assert (folder / "trace.npz").read_bytes() != before


def test_a_loss_that_is_not_finite_is_a_failure() -> None:
    broken = watched(classes(), nn.Linear(8, 6), criterion=lambda out, y: out.sum() * float("nan"))
    run = clbench.read_run(broken.save(benchmark="theirs", strategy="broken", seed=0))
    assert (run.status, run.reason) == ("failed", "the loss became NaN at iteration 1")
    assert not (run.directory / "trace.npz").exists()


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"strategy": " "}, "strategy: got ' '. Allowed: a name of up to 80 characters."),
        ({"seed": -1}, "seed: got -1. Allowed: an integer >= 0."),
        ({"access": "all"}, "access: got 'all'. Allowed: experience, past, stream."),
        ({"memory_samples": 0.5}, "memory_samples: got 0.5. Allowed: an integer >= 0."),
        ({"parameters": {"lr": float("nan")}}, "parameters: got {lr: .nan}. Allowed: plain finite values by name."),
        ({"parameters": {"name": "x"}}, "parameters: 'name' is the strategy's own."),
        (
            {"benchmark": "../x"},
            "benchmark: got '../x'. Allowed: a benchmark's id, a YAML file, or a name of letters, digits, _, . and -.",
        ),
    ],
)
def test_a_mistake_is_one_sentence(claims: dict[str, Any], message: str, watch: ContinualEvaluation) -> None:
    with pytest.raises(UserError) as caught:
        watch.save(**{"benchmark": "theirs", "strategy": "mine", "seed": 0, **claims})
    assert str(caught.value) == f"ContinualEvaluation.save: {message}"
    assert not Path("results").exists()


@pytest.fixture(scope="module")
def watch() -> ContinualEvaluation:
    return watched(classes(), nn.Linear(8, 6), every=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(access=None), "'': completed, but 'access' is null"),
        (
            lambda raw: raw["config"]["benchmark"]["training"].update(batch_size=None),
            "'config.benchmark.training.batch_size' is null, which only a script's run may leave unknown",
        ),
        (
            lambda raw: raw["config"]["benchmark"]["stream"].update(data=None),
            "'config.benchmark.stream.data' is null, which only a script's run may leave unknown",
        ),
    ],
)
def test_a_run_of_clbench_may_leave_none_of_it_unknown(change: Callable[[Any], Any], message: str) -> None:
    raw = json.loads((saved() / "run.json").read_text())
    change(raw)
    assert check(Path("x"), raw).made_by == "script"
    raw["made_by"] = "clbench"
    raw["access"] = raw["access"] if "access" in message else "experience"
    raw["config"]["benchmark"]["stream"]["data"] = None if "stream.data" in message else "theirs"
    with pytest.raises(UserError) as caught:
        check(Path("x"), raw)
    assert message.removeprefix("'': ") in str(caught.value)
