"""Kept weights: predictions made again from them are those that were recorded; nothing else is taken for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clbench.cli import main
from clbench.errors import UserError
from clbench.results import files, read_trace
from clbench.runner import kept_weights
from clbench.runner.attempt import Outcome
from clbench.runner.checkpoint import Every
from clbench.runner.signals import Interrupted
from clbench.strategy import Strategy
from clbench.training.weights import state_sha256
from support import CrashAt, execute, make_run

HOSTED = "avalanche.training.supervised:"
RUNS: dict[str, tuple[str, list[str]]] = {
    "naive": ("naive", []),
    "adam": ("naive", ["training.optimizer={name: adam}"]),
    "replay": ("er", []),
    "class means": ("ncm", []),
    "prototypes": ("fetril", []),
    "augmented prototypes": ("pass", []),
    "vector quantisation": ("napa_vq", []),
    "average of weights": ("ema", []),
    "heads": ("separate", []),
    "composition": ("er+ewc", []),
    "whole stream": ("joint", []),
    "chance": ("chance", []),
    "watched": ("naive", ["watch={ema: [0.5], gradients: true}"]),
    "all tasks": ("naive", ["evaluation.scope=all"]),
    "hosted": (HOSTED + "Naive", []),
    "hosted replay": (HOSTED + "Replay", ["strategy.mem_size=20"]),
}


def kept(tmp_path: Path, strategy: str, *overrides: str, benchmark: str = "split_synthetic-v1") -> Outcome:
    run = make_run(strategy, "evaluation.every=0", *overrides, benchmark=benchmark)
    outcome = execute(run, tmp_path / "out", keep=["weights"])
    assert outcome.record["status"] == "completed", outcome.record["failure"]
    return outcome


@pytest.mark.parametrize("kind", RUNS)
def test_predictions_made_again_are_those_of_the_trace(kind: str, tmp_path: Path) -> None:
    strategy, overrides = RUNS[kind]
    outcome = kept(tmp_path, strategy, *overrides)
    before = torch.get_rng_state()
    learned = kept_weights.load(outcome.directory)
    trace = read_trace(outcome.directory)
    views = [view for view in trace.correct if "." not in view]
    correct, predictions = learned.correct(), learned.predictions()
    assert sorted(correct) == sorted(predictions) == sorted(views)
    cells = learned.components.evaluator.cells
    targets = np.repeat(cells.target, cells.size)
    for view in views:
        assert np.array_equal(correct[view], trace.correct[view][-1]), view
        assert np.array_equal(predictions[view], trace.predictions(view)[-1]), view
        right = (predictions[view] == targets).astype(int)
        cell = np.repeat(np.arange(len(cells.size)), cells.size)
        assert np.array_equal(np.bincount(cell, right, len(cells.size)), trace.correct[view][-1]), view
    assert torch.equal(torch.get_rng_state(), before)
    assert state_sha256(learned.model.state_dict()) == outcome.record["weights_sha256"]


def test_images_of_a_convolutional_network(tmp_path: Path) -> None:
    network = "model={name: slim_resnet18, filters: 2}"
    few = ["training={iterations: 2, epochs: null, batch_size: 16}", "stream.tasks.count=2"]
    outcome = kept(tmp_path, "er", network, *few, benchmark="split_digits-v1")
    learned = kept_weights.load(outcome.directory)
    trace = read_trace(outcome.directory)
    for view, counts in learned.correct().items():
        assert np.array_equal(counts, trace.correct[view][-1])
    scores = learned.scores(torch.zeros(3, 1, 8, 8))
    assert scores is not None
    assert scores.shape == (3, 10)


def test_the_weights_are_an_ordinary_state_dictionary(tmp_path: Path) -> None:
    outcome = kept(tmp_path, "naive", "training.optimizer={name: adam}")
    state = torch.load(outcome.directory / "weights.pt", weights_only=True)
    assert state_sha256(state) == outcome.record["weights_sha256"]
    (model := kept_weights.load(outcome.directory).model).load_state_dict(state)
    beside = torch.load(outcome.directory / "strategy.pt", weights_only=True)["model"]
    assert {*map(str, beside.values())} == {str({"tensor of weights.pt": name}) for name in state}, "stored once"
    path = f"model.weights={outcome.directory / 'weights.pt'}"
    again = make_run("naive", path)
    assert again.benchmark.model.tensors_sha256 == outcome.record["weights_sha256"] == state_sha256(model.state_dict())


def test_a_run_from_given_weights_needs_them_no_more(tmp_path: Path) -> None:
    first = kept(tmp_path, "naive")
    initial = tmp_path / "initial.pt"
    initial.write_bytes((first.directory / "weights.pt").read_bytes())
    second = kept(tmp_path, "er", f"model.weights={initial}")
    initial.unlink()
    trace = read_trace(second.directory)
    assert np.array_equal(kept_weights.load(second.directory).correct()["class"], trace.correct["class"][-1])


def test_they_change_nothing_and_a_resumed_run_keeps_the_same(tmp_path: Path) -> None:
    run = make_run("ncm", "evaluation.every=0")
    plain = execute(run, tmp_path / "plain")
    assert {path.name for path in plain.directory.iterdir()} == {"run.json", "trace.npz", "predictions.npz"}
    whole = execute(run, tmp_path / "whole", keep=["weights"])
    with pytest.raises(Interrupted):
        execute(run, tmp_path / "out", every=Every(0, 3), progress=CrashAt(7), keep=["weights"])
    resumed = execute(run, tmp_path / "out", keep=["weights"])
    assert resumed.record["costs"]["resumed_at"] == [6]
    for name in ("trace.npz", "predictions.npz", "weights.pt", "strategy.pt"):
        others = [whole] if name.endswith(".pt") else [whole, plain]
        for other in others:
            assert (other.directory / name).read_bytes() == (resumed.directory / name).read_bytes()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def change_a_bit(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    next(iter(state.values())).view(-1).view(torch.uint8)[0] ^= 1
    torch.save(state, path)


def of_another(path: Path) -> None:
    torch.save({"model": {}}, path)


DAMAGES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "weights cut": ("weights.pt", truncate, "damaged or truncated"),
    "strategy cut": ("strategy.pt", truncate, "damaged or truncated"),
    "weights gone": ("weights.pt", Path.unlink, "`clbench run --keep weights` writes it"),
    "strategy gone": ("strategy.pt", Path.unlink, "`clbench run --keep weights` writes it"),
    "another bit": ("weights.pt", change_a_bit, "not the weights of this run"),
    "another strategy": ("strategy.pt", of_another, "not the state of this run's strategy"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_other_files_are_refused(damage: str, tmp_path: Path) -> None:
    name, act, message = DAMAGES[damage]
    outcome = kept(tmp_path, "naive")
    act(outcome.directory / name)
    with pytest.raises(UserError, match=f"{name}: .*{message}"):
        kept_weights.load(outcome.directory)


def test_other_code_and_unfinished_runs_are_refused(tmp_path: Path) -> None:
    outcome = kept(tmp_path, "naive")
    record: dict[str, Any] = files.read_run(outcome.directory)
    for change, message in (
        ({"status": "interrupted"}, "interrupted; only a finished run has weights"),
        (
            {"provenance": {**record["provenance"], "user_code": {"lab": "0" * 64}}},
            r"not that of today \(lab changed\)",
        ),
        ({"stream": {**record["stream"], "instance_hash": "0"}}, "its data are not those of today"),
    ):
        files.write_json(outcome.directory / "run.json", {**record, **change})
        with pytest.raises(UserError, match=message):
            kept_weights.load(outcome.directory)


class Unsaved(Strategy):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "thing": object()}


def test_what_cannot_be_saved_is_said_and_the_weights_are_kept(tmp_path: Path, named: Callable[[type], str]) -> None:
    lines: list[str] = []
    run = make_run(named(Unsaved), "evaluation.every=0")
    outcome = execute(run, tmp_path / "out", keep=["weights"], warn=lines.append)
    assert outcome.record["status"] == "completed"
    assert any(line.startswith("weights are kept, but predictions cannot be made from them: ") for line in lines)
    left = {path.name for path in outcome.directory.iterdir()}
    assert left == {"run.json", "trace.npz", "predictions.npz", "weights.pt"}


def test_the_commands_keep_them_and_say_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["run", "split_synthetic-v1", "--strategy", "naive", "--threads", "1", "--quiet"]
    command += ["-o", "training.iterations=3", "-o", "evaluation.every=0"]
    line = "finished runs without weights: 1; --force of `clbench run` does them again\n"
    for more, err in (
        ([], ""),
        (["--keep", "weights"], line),
        (["--keep", "weights", "--force"], ""),
        (["--keep", "weights"], ""),
    ):
        assert main([*command, *more]) == 0
        assert capsys.readouterr().err == err
    [directory] = files.find_runs(Path("results"))
    assert (
        state_sha256(kept_weights.load(directory).model.state_dict())
        == json.loads((directory / "run.json").read_text())["weights_sha256"]
    )
    Path("study.yaml").write_text(
        "id: s\nstreams: [split_synthetic-v1]\nstrategies: [naive]\nseeds: 1\nbudget: {iterations: 3}\n"
    )
    grid = ["grid", "study.yaml", "--quiet", "--processes", "1", "--out", "study"]
    assert main([*grid, "--keep", "weights"]) == 0
    [directory] = files.find_runs(Path("study"))
    assert (directory / "weights.pt").exists()
    assert capsys.readouterr().err == ""
    (directory / "weights.pt").unlink()
    assert main([*grid, "--keep", "weights"]) == 0
    assert capsys.readouterr().err == line
