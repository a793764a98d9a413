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


# ------------------------------------------------------------------------------------------------ labels and tasks
PLAIN = np.arange(N) % 3
"""The labels that each of the arrays below stands for."""
VALUES: dict[str, tuple[Any, str]] = {
    "object": (np.array(["ant", "bee", "cat"], object)[PLAIN], "holds Python objects"),
    "object_numbers": (np.array([3, 4, 7], object)[PLAIN], "holds Python objects"),
    "strings": (np.array(["ant", "bee", "cat"])[PLAIN], "holds strings (<U3)"),
    "bytes": (np.array([b"ant", b"bee", b"cat"])[PLAIN], "holds strings (|S3)"),
    "floats": (PLAIN.astype(np.float32), "holds floats (float32)"),
    "from_1": (PLAIN + 1, "holds the {kind} 1, 2, 3, and none is 0"),
    "from_10": (PLAIN + 10, "holds the {kind} 10, 11, 12, and none is 0"),
    "gaps": (PLAIN * 10, "holds the {kind} 0, 10, 20, and none is 1"),
    "negative": (PLAIN - 1, "holds the {kind} -1, 0, 1"),
    "unsigned": (PLAIN.astype(np.uint8) + np.uint8(200), "holds the {kind} 200, 201, 202, and none is 0"),
    "one_hot": (np.eye(3)[PLAIN], "is one-hot, of shape {shape}"),
    "one_hot_objects": (np.eye(3, dtype=bool)[PLAIN], "is one-hot, of shape {shape}"),
    "column": (PLAIN[:, None], "has the shape {shape}"),
}
"""Labels that are none, and what is said of them."""


def mended(message: str, held: dict[str, Any]) -> dict[str, Any]:
    """The arrays after the line at the end of a message."""
    line = message.rpartition(": ")[2].removesuffix(".")
    after = {"np": np, **held}
    exec(line, after)
    return {name: after[name] for name in held}


def check(way: str, values: str, kind: str, name_of: Callable[..., str]) -> None:
    """Checks the message about labels or tasks of some values, and that its line gives the plain ones."""
    array, sentence = VALUES[values]
    stem = "y" if kind == "labels" else "task"
    whole = arrays(**{stem: array}) if kind == "labels" else arrays(y=np.zeros(N, int), task=array)
    plain = {**whole, stem: PLAIN}
    for held, expected in ((divided(whole), divided(plain)), (whole, plain)):
        if way == "tuple" and "x" in held:
            continue
        first = next(n for n in held if n.endswith(stem))
        message = refused(name_of(way, held))
        text = sentence.format(kind=kind, shape=held[first].shape)
        assert message.startswith(f"{first} {text}; {kind} are whole numbers 0 to ")
        assert "damaged" not in message
        after = mended(message, held)
        assert all(np.array_equal(after[n], expected[n]) for n in held)
        data = load.load(name_of(way, after))
        assert data.sha256 == load.load(name_of(way, expected)).sha256


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("way", NAMED)
def test_labels_that_are_none(way: str, values: str, name_of: Callable[..., str]) -> None:
    check(way, values, "labels", name_of)


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("way", ["npz", "npy", "mapping"])
def test_tasks_that_are_none(way: str, values: str, name_of: Callable[..., str]) -> None:
    """Numbers of subjects, names of sessions."""
    check(way, values, "tasks", name_of)


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("way", ["npz", "root", "npy"])
def test_files_are_refused_before_images_are_read(way: str, values: str, name_of: Callable[..., str]) -> None:
    for held in (arrays(y=VALUES[values][0]), divided(arrays(y=VALUES[values][0]))):
        name = name_of(way, held)
        with pytest.raises(UserError) as early:
            load.facts(name)
        with pytest.raises(UserError) as late:
            load.load(name)
        assert str(early.value) == str(late.value)


def test_labels_that_no_line_mends(name_of: Callable[..., str]) -> None:
    nan = PLAIN.astype(float)
    nan[7] = np.nan
    several = np.eye(3, dtype=int)[PLAIN]
    several[5] = 1
    rule = "labels are whole numbers 0 to C-1."
    for y, sentence in (
        (nan, f"y holds NaN, first in sample 7; {rule}"),
        (several, f"y must hold one integer a sample, and is int64 of shape (40, 3); {rule}"),
    ):
        assert refused(name_of("npz", arrays(y=y))) == sentence


def test_the_parts_are_numbered_alike(name_of: Callable[..., str]) -> None:
    """A class that one part lacks keeps its number in the other: the next message says so."""
    held = divided(arrays(y=np.array(["a", "b", "c"])[PLAIN]))
    held["test_y"] = np.array(["a", "c"])[np.arange(10) % 2]
    after = mended(refused(name_of("npz", held)), held)
    assert after["test_y"].tolist() == [0, 2] * 5
    assert refused(name_of("npz", after)) == "class 1 has no test sample."
    lacking = {**after, "train_y": after["train_y"][:1].repeat(30)}
    assert refused(name_of("npz", lacking)) == "class 2 is in test_y, but not in train_y."


class Labelled(Images):
    """Items with labels of a list."""

    shape = (8, 7)
    values: Any = ()

    def __getitem__(self, i: int) -> Any:
        return super().__getitem__(i)[0], self.values[i]


@pytest.mark.parametrize("prefix", ["", "lazy:"])
@pytest.mark.parametrize("tensor", [False, True])
def test_labels_of_items_that_are_none(prefix: str, tensor: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{prefix}{user_module(monkeypatch, Labelled)}:Labelled"
    rule = "labels are whole numbers 0 to C-1"
    numbered = "np.unique(y, return_inverse=True)[1] numbers those of all items"
    cases: list[tuple[Any, str]] = [
        (PLAIN.astype(np.float64), f"0.0, not a whole number; {rule}: {numbered}."),
        (PLAIN > 0, f"false, not a whole number; {rule}: {numbered}."),
        (np.eye(3, dtype=int)[PLAIN], f"[1, 0, 0], not a whole number; {rule}: of one that is one-hot, y.argmax()."),
        (np.stack([PLAIN, PLAIN], 1), f"[0, 0], not a whole number; {rule}: {numbered}."),
    ]
    if not tensor:
        cases += [
            (["a", "b", "c"] * 20, f"'a', not a whole number; {rule}: {numbered}."),
            ([None] * N, f"null, not a whole number; {rule}: {numbered}."),
            ([False, True] * N, f"false, not a whole number; {rule}: {numbered}."),
        ]
    for values, sentence in cases:
        monkeypatch.setattr(Labelled, "values", torch.as_tensor(values) if tensor else values)
        assert refused(name) == f"data set '{name}': the label of item 0 is {sentence}"
    for values in (PLAIN, PLAIN + 1, PLAIN - 1, PLAIN * 10):
        monkeypatch.setattr(Labelled, "values", torch.as_tensor(values) if tensor else values)
        if values is PLAIN:
            data = load.load(name)
            assert np.bincount([*data.train_y, *data.test_y]).tolist() == np.bincount(PLAIN).tolist()
        else:
            assert refused(name).removeprefix(f"{name}: ").startswith("y holds the labels ")
            assert refused(name).endswith(": y = np.unique(y, return_inverse=True)[1].")


# ------------------------------------------------------------------------------------------------ inputs, and damage
@pytest.mark.parametrize("way", NAMED)
def test_samples_of_different_sizes(way: str, name_of: Callable[..., str]) -> None:
    sizes = np.empty(N, object)
    sizes[:] = [np.zeros((8 + i % 2, 7), np.uint8) for i in range(N)]
    held = arrays(x=sizes)
    name, held = ("train_x", divided(held)) if way == "tuple" else ("x", held)
    sentence = (
        f"{name} holds Python objects, such as samples of different sizes; samples are one array of uint8 or floats, "
        f"all of one shape: np.stack(list({name}))."
    )
    assert refused(name_of(way, held)) == sentence
    if way in ("mapping", "tuple"):
        assert refused(name_of(way, {**held, name: list(held[name])})) == sentence
    alike = {**held, name: np.array([{}] * len(held[name]), object)}
    for place in range(len(held[name])):
        alike[name][place] = np.full((8, 7), place, np.uint8)
    if way == "tuple":
        alike["test_x"] = np.stack([x[:8] for x in alike["test_x"]])
    assert refused(name_of(way, alike)) == sentence
    after = {**alike, name: np.stack(list(alike[name]))}
    assert load.load(name_of(way, after)).shape == (1, 8, 7)


def test_nothing_else_is_called_damaged(tmp_path: Path, name_of: Callable[..., str]) -> None:
    """Files that are whole and of another kind, or may not be read."""
    single = tmp_path / "single.npz"
    with single.open("wb") as file:
        np.save(file, np.zeros((N, 3)))
    assert refused(f"npz:{single}") == (
        "a single array, as np.save writes it; an npz has several: np.savez(path, x=x, y=y)."
    )
    single.write_bytes(b"neither")
    assert refused(f"npz:{single}").startswith("damaged or truncated, not readable as npz (")
    name = name_of("npy", arrays())
    (tmp_path / "mine" / "y.npy").unlink()
    (tmp_path / "mine" / "y.npy").mkdir()
    assert refused(name) == "cannot be read (Is a directory)."
