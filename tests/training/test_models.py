"""Networks of the user's own, and weights from a file: what is wrong with them is said before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from clbench import resolve
from clbench.config.networks import Mlp
from clbench.errors import UserError
from clbench.training import models


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
        (lambda: {"model": right(), "epoch": 3}, "PATH lacks '1.weight' of the network; it has model, epoch."),
        (
            lambda: nn.Linear(2, 2),
            "PATH is no state dictionary (UnpicklingError). Allowed: a file written by "
            "torch.save(model.state_dict(), path).",
        ),
    ],
)
def test_weights_that_are_none(content: Any, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(content(), path)
    with pytest.raises(UserError) as told:
        models.build(network(path), (4,), 2)
    assert str(told.value) == f"model.weights: {sentence}".replace("PATH", str(path))


def test_weights_that_are_right(tmp_path: Path) -> None:
    torch.save(kept := right(), tmp_path / "w.pt")
    made = models.build(network(tmp_path / "w.pt"), (4,), 2).state_dict()
    assert all(torch.equal(made[name], kept[name]) for name in kept)


def test_where_a_relative_path_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"'w.pt' cannot be read .from {tmp_path}, where this runs.: No such file"):
        resolve.make_run("split_digits-v1", strategy="naive", overrides=["model.weights=w.pt"])
