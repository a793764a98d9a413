"""Networks of the user's own, and weights from a file: what is wrong with them is said before anything is trained."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from clbench import resolve
from clbench.config.networks import Head, Mlp
from clbench.errors import UserError
from clbench.training import models, weights
from support import execute, make_run


def network(path: Path) -> Mlp:
    return Mlp(name="mlp", hidden=[3], weights=str(path))


def right() -> dict[str, torch.Tensor]:
    return models.build(Mlp(name="mlp", hidden=[3]), (4,), 2).state_dict()


def nan_in_a_weight() -> dict[str, torch.Tensor]:
    state = right()
    state["1.weight"][2, 1] = float("nan")
    return state


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (nan_in_a_weight, "'1.weight' of PATH has values that are not finite."),
        (
            lambda: {"model": right(), "state_dict": right()},
            "PATH has state dictionaries under 'state_dict' and 'model'; which one is meant is not clear. Allowed: a "
            "file with one, by itself or under one of state_dict, model_state_dict, model.",
        ),
        (
            lambda: {"teacher": right(), "student": right(), "epoch": 3},
            "PATH has state dictionaries under 'teacher' and 'student'; which one is meant is not clear. Allowed: a "
            "file with one, by itself or under one of state_dict, model_state_dict, model.",
        ),
        (
            lambda: {"net": right()},
            "PATH has a state dictionary under 'net'; which one is meant is not clear. Allowed: a file with one, by "
            "itself or under one of state_dict, model_state_dict, model.",
        ),
        (
            lambda: {"model": right() | {"1.weight": torch.zeros(5, 4)}},
            "'1.weight' of PATH has the shape (5, 4) and the network's (3, 4).",
        ),
        (
            lambda: {"model": {f"module.{name}": t for name, t in right().items() if name != "1.bias"}},
            "PATH lacks '1.bias' of the network; it has module.1.weight, module.3.weight, module.3.bias.",
        ),
        (lambda: {"net": 3, "epoch": 3}, "PATH lacks '1.weight' of the network; it has net, epoch."),
        (
            lambda: nn.Linear(2, 2),
            "PATH is no state dictionary (UnpicklingError). Allowed: a file written by "
            "torch.save(model.state_dict(), path), or by safetensors.",
        ),
    ],
)
def test_weights_that_are_none(content: Any, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(content(), path)
    with pytest.raises(UserError) as told:
        models.build(network(path), (4,), 2)
    assert str(told.value) == f"model.weights: {sentence}".replace("PATH", str(path))


def network_of_digits() -> nn.Module:
    return models.build(Mlp(name="mlp", hidden=[3]), (1, 8, 8), 10)


def test_weights_that_are_right(tmp_path: Path) -> None:
    torch.save(kept := right(), tmp_path / "w.pt")
    made = models.build(network(tmp_path / "w.pt"), (4,), 2).state_dict()
    assert all(torch.equal(made[name], kept[name]) for name in kept)


FILES: dict[str, Callable[[dict[str, torch.Tensor], Path], None]] = {
    "a.pt": torch.save,
    "b.pth": torch.save,
    "c.safetensors": save_file,
    "state_dict.pt": lambda state, path: torch.save({"state_dict": state, "epoch": 3, "best": torch.ones(1)}, path),
    "model.pth": lambda state, path: torch.save({"model": state, "optimizer": {"state": {}, "param_groups": []}}, path),
    "model_state_dict.pt": lambda state, path: torch.save({"model_state_dict": state, "ema": state}, path),
    "module.pt": lambda state, path: torch.save({f"module.{name}": t for name, t in state.items()}, path),
    "backbone.safetensors": lambda state, path: save_file({f"backbone.{name}": t for name, t in state.items()}, path),
    "both.pt": lambda state, path: torch.save(
        {"state_dict": {f"module._orig_mod.encoder.{name}": t for name, t in state.items()}}, path
    ),
}


def test_one_network_in_any_file_is_one_run(tmp_path: Path) -> None:
    state, ids = dict(network_of_digits().state_dict()), set()
    for name, save in FILES.items():
        save(state, tmp_path / name)
        ids.add(identity(tmp_path / name))
        run = resolve.make_run(
            "split_digits-v1",
            strategy="naive",
            overrides=[f"model={{name: mlp, hidden: [3], weights: '{tmp_path / name}'}}"],
        )
        made = models.build(run.benchmark.model, (1, 8, 8), 10).state_dict()
        assert all(torch.equal(made[key], state[key]) for key in state)
    assert len(ids) == 1


def test_what_was_taken_off_is_said_where_verbose(tmp_path: Path) -> None:
    state, path, lines = dict(network_of_digits().state_dict()), tmp_path / "both.pt", list[str]()
    FILES["both.pt"](state, path)
    model = f"model={{name: mlp, hidden: [3], weights: '{path}'}}"
    run = make_run("naive", model, "stream.tasks.count=2", benchmark="split_digits-v1", iterations=1)
    execute(run, tmp_path / "out", say=lines.append)
    assert lines[0] == f"{path}: the state dictionary under 'state_dict', names without 'module._orig_mod.encoder.'"
    torch.save(state, path := tmp_path / "plain.pt")
    assert weights.wrapping(str(path)) == ""


def test_a_network_whose_names_begin_so_keeps_them(tmp_path: Path) -> None:
    """Also where the file has all but the last layer, and under the hash of earlier versions."""
    network = nn.Sequential(OrderedDict(encoder=nn.Linear(4, 3), head=nn.Linear(3, 2)))
    state = {name: t for name, t in network.state_dict().items() if name.startswith("encoder.")}
    torch.save(state, path := tmp_path / "w.pt")
    others = nn.Sequential(OrderedDict(encoder=nn.Linear(4, 3), head=nn.Linear(3, 2)))
    for sha256 in (None, weights.tensors_sha256(str(path)), weights.state_sha256(state)):
        weights.load(others, str(path), sha256)
        assert torch.equal(others.encoder.weight, network.encoder.weight)
    assert weights.tensors_sha256(str(path), weights.state_sha256(state)) == weights.state_sha256(state)


def test_weights_of_a_feature_extractor_alone(tmp_path: Path) -> None:
    """A network that is one encoder and a head takes the encoder's own names."""
    save_file(nn.Linear(4, 3).state_dict() | {}, path := tmp_path / "w.safetensors")
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    before = model[1].weight.detach().clone()
    weights.load(model, str(path), None)
    assert torch.equal(model[0].weight, weights.read(str(path)).tensors["weight"])
    assert torch.equal(model[1].weight, before)


def test_weights_of_another_kind_of_head(tmp_path: Path) -> None:
    """The feature extractor is loaded, and so is what both heads have."""
    linear, cosine = (Mlp(name="mlp", hidden=[3], head=head) for head in (None, Head(kind="cosine", growing=True)))
    for number, (saved, loaded) in enumerate([(linear, cosine), (cosine, linear)]):
        torch.save(models.build(saved, (4,), 2).state_dict(), path := tmp_path / f"{number}.pt")
        model = models.build(loaded.model_copy(update={"weights": str(path)}), (4,), 2)
        assert torch.equal(model[1].weight, torch.load(path)["1.weight"])


CONTAINERS: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "dict": dict,
    "OrderedDict": OrderedDict,
    "another order": lambda state: dict(reversed(state.items())),
    "parameters": lambda state: {name: nn.Parameter(tensor) for name, tensor in state.items()},
    "views": lambda state: {name: torch.stack([t, t + 1])[0] for name, t in state.items()},
    "not contiguous": lambda state: {name: t.T.contiguous().T if t.ndim == 2 else t for name, t in state.items()},
    "with other things": lambda state: {**state, "epoch": 3},
}


def identity(path: Path, *more: str) -> tuple[str, str, str]:
    model = f"model={{name: mlp, hidden: [3], weights: '{path}'}}"
    run = resolve.make_run("split_digits-v1", strategy="naive", overrides=[model, *more])
    return run.run_id, run.config_hash, run.definition_hash


@pytest.mark.parametrize("container", CONTAINERS)
def test_equal_tensors_are_one_run_whatever_their_file(container: str, tmp_path: Path) -> None:
    state = network_of_digits().state_dict()
    torch.save(state, tmp_path / "a.pt")
    (tmp_path / "below").mkdir()
    torch.save(CONTAINERS[container](state), tmp_path / "below" / "b.pt")
    assert identity(tmp_path / "a.pt") == identity(tmp_path / "below" / "b.pt")
    digest = weights.tensors_sha256(str(tmp_path / "a.pt"))
    assert digest == weights.state_sha256(state)
    assert identity(tmp_path / "below" / "b.pt", f"model.tensors_sha256='{digest}'") == identity(tmp_path / "a.pt")


def flipped(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    changed = {key: tensor.clone() for key, tensor in state.items()}
    changed[name].view(-1).view(torch.uint8)[0] ^= 1
    return changed


def test_other_tensors_are_other_runs(tmp_path: Path) -> None:
    state, path = dict(network_of_digits().state_dict()), tmp_path / "w.pt"
    others = {f"bit of {name}": flipped(state, name) for name in state}
    others["name"] = {("0.weight" if name == "1.weight" else name): t for name, t in state.items()}
    others["dtype"] = {name: t.double() for name, t in state.items()}
    others["shape"] = {name: t.reshape(1, *t.shape) for name, t in state.items()}
    others["fewer"] = {name: t for name, t in state.items() if not name.startswith("3")}
    torch.save(state, path)
    identities = {identity(path)}
    for number, other in enumerate(others.values()):
        torch.save(other, path)
        os.utime(path, ns=(number, number))  # however coarse the clock of the file system is
        identities.add(identity(path))
    assert len(identities) == 1 + len(others)


def test_a_file_that_changes_before_it_is_loaded_is_refused(tmp_path: Path) -> None:
    state, path = dict(network_of_digits().state_dict()), tmp_path / "w.pt"
    torch.save(state, path)
    run = resolve.make_run(
        "split_digits-v1", strategy="naive", overrides=[f"model={{name: mlp, hidden: [3], weights: '{path}'}}"]
    )
    models.build(run.benchmark.model, (1, 8, 8), 10)
    torch.save(flipped(state, "1.bias"), path)
    with pytest.raises(UserError, match=r"w.pt has other tensors than those that the run is named by\."):
        models.build(run.benchmark.model, (1, 8, 8), 10)


def test_the_hash_of_a_file_or_of_its_tensors_can_be_insisted_on(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(network_of_digits().state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert identity(path, f"model.weights_sha256='{digest}'") == identity(path)
    with pytest.raises(UserError, match=r"has the SHA-256 .*, not that of model\.weights_sha256"):
        identity(path, f"model.weights_sha256='{'0' * 64}'")
    with pytest.raises(UserError, match=r"has tensors with the SHA-256 .*, not that of model\.tensors_sha256"):
        identity(path, f"model.tensors_sha256='{'0' * 64}'")


def test_a_record_of_an_earlier_version_keeps_its_id() -> None:
    """It has the file's hash alone."""
    run = resolve.make_run("split_digits-v1", strategy="naive", overrides=["model={name: mlp, hidden: [3]}"])
    ids = set()
    for digit in "01":
        model = run.benchmark.model.model_copy(update={"weights": "w.pt", "weights_sha256": digit * 64})
        ids.add(run.model_copy(update={"benchmark": run.benchmark.model_copy(update={"model": model})}).run_id)
    assert len(ids) == 2


def test_where_a_relative_path_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"'w.pt' cannot be read .from {tmp_path}, where this runs.: No such file"):
        resolve.make_run("split_digits-v1", strategy="naive", overrides=["model.weights=w.pt"])


def test_a_file_that_is_no_safetensors(tmp_path: Path) -> None:
    (path := tmp_path / "w.safetensors").write_bytes(b"no such file")
    with pytest.raises(UserError) as told:
        models.build(network(path), (4,), 2)
    assert str(told.value) == (
        f"model.weights: {path} is no state dictionary (SafetensorError). Allowed: a file written by "
        "torch.save(model.state_dict(), path), or by safetensors."
    )
