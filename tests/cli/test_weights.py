"""`clbench weights`: the tensors of a run, its file, its provenance, its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from clbench.cli import main
from clbench.results import files
from clbench.runner import pretraining
from clbench.training.weights import state_sha256, tensors_sha256

SPLIT = "split_synthetic-v1"
SMALL = ["--threads", "1", "--quiet", "-o", "training.iterations=3"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def weights(*arguments: str) -> int:
    return main(["weights", SPLIT, *SMALL, *arguments])


def test_they_are_those_of_a_run_and_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert weights("--out", "a.pt", "--strategy", "er", "-o", "strategy.memory=20") == 0
    printed = capsys.readouterr().out
    arguments = ["--strategy", "er", "-o", "strategy.memory=20", "--out", "results"]
    assert main(["run", SPLIT, *SMALL, *arguments]) == 0
    (directory,) = Path("results").glob("*/*/*/seed-0")
    record = files.read_run(directory)
    assert tensors_sha256("a.pt") == record["weights_sha256"]
    source = json.loads(Path("a.pt.json").read_text())
    assert source["run_id"] == record["run_id"]
    assert source["config"] == record["config"]
    assert source["stream"] == record["stream"]
    assert source["tensors_sha256"] == record["weights_sha256"]
    assert source["made_by"]["packages"]["torch"]
    assert printed == (
        f"{SPLIT} er seed 0: a.pt, tensors {record['weights_sha256']}, training loss {source['loss']:.4f}\n"
    )
    state = torch.load("a.pt", weights_only=True)
    assert type(state) is dict
    assert sorted(state) == ["1.bias", "1.weight", "3.bias", "3.weight"]
    assert sorted(path.name for path in Path().iterdir()) == ["a.pt", "a.pt.json", "results"]


def test_the_loss_is_the_mean_over_the_last_updates() -> None:
    from clbench import resolve
    from clbench.runner.run import execute

    run = resolve.make_run(SPLIT, strategy="naive", overrides=["training.iterations=20", "evaluation.every=0"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "LOSSES", 7)
        loss = pretraining.train_weights(run).loss
    from clbench.results import read_trace

    trace = read_trace(execute(run, Path("out")).directory)
    assert loss == pytest.approx(float(trace.loss[-7:].astype(float).mean()), rel=1e-6)  # losses are float32


def test_again_gives_the_same_tensors_and_seeds_give_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert weights("--out", "w-{seed}.pt", "--seeds", "2") == 0
    first = [tensors_sha256(f"w-{seed}.pt") for seed in (0, 1)]
    assert first[0] != first[1]
    assert weights("--out", "again-{seed}.pth", "--seed", "1", "--seed", "0") == 0
    assert [tensors_sha256(f"again-{seed}.pth") for seed in (0, 1)] == first
    assert [line.split()[6].rstrip(",") for line in capsys.readouterr().out.splitlines()][:2] == first


def test_a_network_starts_from_them_without_the_head() -> None:
    assert weights("--out", "deep/front.pt", "--no-head") == 0
    state = torch.load("deep/front.pt", weights_only=True)
    assert sorted(state) == ["1.bias", "1.weight"]
    assert json.loads(Path("deep/front.pt.json").read_text())["tensors_sha256"] == state_sha256(state)
    assert main(["run", SPLIT, *SMALL, "--strategy", "linear_probe", "-o", "model.weights=deep/front.pt"]) == 0


def test_safetensors_hold_their_provenance() -> None:
    safetensors = pytest.importorskip("safetensors")
    assert weights("--out", "a.safetensors") == 0
    assert weights("--out", "a.pt") == 0
    assert not Path("a.safetensors.json").exists()
    with safetensors.safe_open("a.safetensors", "pt") as held:
        state = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118 - it is no dictionary
        source = json.loads(held.metadata()["clbench"])
    assert state_sha256(state) == source["tensors_sha256"] == tensors_sha256("a.pt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "a.npz"],
         "--out a.npz: no kind of file that holds weights. Allowed: a name in .pt, .pth, .safetensors."),
        (["--out", "a.pt", "--seeds", "2"],
         "--out a.pt: 2 seeds need '{seed}' in the file's name, such as a-{seed}.pt."),
        (["--out", "a.pt", "--strategy", "separate", "-o", "stream.setting=task"],
         "strategy 'separate' changes the network, so that its weights do not fit 'model.weights'. Allowed: a strategy "
         "that keeps it, such as naive."),
    ],
)  # fmt: skip
def test_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert weights(*arguments) == 2
    assert capsys.readouterr().err == f"{message}\n"
    assert not list(Path().iterdir())


def test_safetensors_without_its_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert weights("--out", "a.safetensors") == 2
    assert capsys.readouterr().err.startswith("--out a.safetensors: needs the package safetensors")


def test_training_that_diverges_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert weights("--out", "a.pt", "-o", "training.optimizer.lr=1e30") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"{SPLIT} naive seed 0: failed: training diverged: ")
    assert not list(Path().iterdir())
