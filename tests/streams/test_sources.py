"""Arrays that are not what they seem: refused in one sentence with its remedy, however the data set is named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from clbench.errors import UserError
from clbench.streams.datasets import load
from support import user_module

N = 40


@pytest.fixture(autouse=True)
def _places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("CLBENCH_DATA", str(tmp_path_factory.mktemp("root")))


def arrays(**changes: Any) -> dict[str, Any]:
    """Arrays of a whole data set; those that are None are left out."""
    x = np.random.default_rng(0).integers(0, 256, (N, 8, 7), np.uint8)
    return {k: v for k, v in {"x": x, "y": np.arange(N) % 2, **changes}.items() if v is not None}


def divided(whole: dict[str, Any]) -> dict[str, Any]:
    """The same arrays as a training and a test part."""
    parts = {"train": slice(0, 30), "test": slice(30, N)}
    return {f"{part}_{name}": array[rows] for part, rows in parts.items() for name, array in whole.items()}


NAMED = ["npz", "root", "npy", "mapping", "tuple"]
"""Ways to name arrays."""


@pytest.fixture
def name_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, dict[str, Any]], str]:
    """Names a data set of some arrays."""

    def make(way: str, held: dict[str, Any]) -> str:
        if way == "npz":
            np.savez(tmp_path / "mine.npz", **held)
            return f"npz:{tmp_path / 'mine.npz'}"
        if way == "root":
            np.savez(Path(load.data_root()) / "mine.npz", **held)
            return "mine"
        if way == "npy":
            (tmp_path / "mine").mkdir(exist_ok=True)
            for old in (tmp_path / "mine").iterdir():
                old.unlink()
            for name, array in held.items():
                np.save(tmp_path / "mine" / f"{name}.npy", array)
            return f"npy:{tmp_path / 'mine'}"

        def function() -> Any:
            return tuple(held[n] for n in ("train_x", "train_y", "test_x", "test_y")) if way == "tuple" else held

        return f"{user_module(monkeypatch, function)}:function"

    return make


def refused(name: str) -> str:
    """The message, without where."""
    with pytest.raises(UserError) as caught:
        load.load(name)
    (problem,) = caught.value.problems
    return re.sub(r"^(/\S+|mine|\w+:function): ", "", problem)


# ------------------------------------------------------------------------------------------------ channels first
FIRST = [(3, 32, 32), (1, 28, 28), (4, 9, 16), (2, 8, 8), (512, 7, 7), (1, 5, 6)]
LAST = [
    (32, 32, 3), (4, 4, 512), (28, 28, 1), (128, 1, 9), (3, 3, 3), (8, 8, 8), (7, 7, 512), (5, 5, 6), (4, 5, 3),
    (3, 4, 8),
]  # fmt: skip


@pytest.mark.parametrize("way", NAMED)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_channels_first_are_refused(way: str, dtype: Any, name_of: Callable[..., str]) -> None:
    """With two lines, each of which makes it a data set."""
    for shape in FIRST:
        held = arrays(x=np.arange(N * np.prod(shape)).reshape(N, *shape).astype(dtype))
        held, name, n = (divided(held), "train_x", 30) if way == "tuple" else (held, "x", N)
        message = refused(name_of(way, held))
        assert message == (
            f"{name} has the shape {(n, *shape)}, which looks like channels first; images are (N, H, W, C): "
            f"{name}.transpose(0, 2, 3, 1). (If the {shape[0]} are rows: {name}.transpose(0, 2, 1, 3) swaps rows and "
            "columns)."
        )
        for axes, expected in (((0, 2, 3, 1), shape), ((0, 2, 1, 3), (shape[2], shape[1], shape[0]))):
            assert f"{name}.transpose{axes}" in message
            after = {k: v.transpose(axes) if k.endswith("x") else v for k, v in held.items()}
            assert load.load(name_of(way, after)).shape == expected


@pytest.mark.parametrize("way", NAMED)
def test_channels_last_are_read(way: str, name_of: Callable[..., str]) -> None:
    for shape in LAST:
        held = arrays(x=np.zeros((N, *shape), np.uint8))
        name = name_of(way, divided(held) if way == "tuple" else held)
        assert load.load(name).shape == (shape[2], *shape[:2])


def test_they_are_refused_before_images_are_read(name_of: Callable[..., str]) -> None:
    for way in ("npz", "npy"):
        name = name_of(way, arrays(x=np.zeros((N, 3, 32, 32))))
        with pytest.raises(UserError, match="looks like channels first"):
            load.facts(name)


class Images(Dataset[Any]):
    """Items of one shape, as arrays or tensors."""

    shape: tuple[int, ...] = ()
    tensor = False

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Any:
        x = np.full(self.shape, i, np.uint8)
        return torch.from_numpy(x) if self.tensor else x, i % 2


@pytest.mark.parametrize("prefix", ["", "lazy:"])
def test_items_of_the_other_layout_are_refused(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{prefix}{user_module(monkeypatch, Images)}:Images"
    for shape in FIRST:
        monkeypatch.setattr(Images, "shape", shape)
        monkeypatch.setattr(Images, "tensor", False)
        assert refused(name) == (
            f"data set '{name}': item 0 is an array of shape {shape}, which looks like channels first; arrays are "
            f"(H, W, C), tensors (C, H, W): x.transpose(1, 2, 0). (If the {shape[0]} are rows: x.transpose(1, 0, 2) "
            "swaps rows and columns)."
        )
        monkeypatch.setattr(Images, "tensor", True)
        assert load.load(name).shape == shape
        monkeypatch.setattr(Images, "shape", shape[::-1])
        assert refused(name) == (
            f"data set '{name}': item 0 is a tensor of shape {shape[::-1]}, which looks like channels last; arrays are "
            f"(H, W, C), tensors (C, H, W): x.permute(2, 0, 1). (If the {shape[0]} are columns: x.permute(0, 2, 1) "
            "swaps rows and columns)."
        )
        monkeypatch.setattr(Images, "tensor", False)
        assert load.load(name).shape == (shape[0], shape[2], shape[1])
