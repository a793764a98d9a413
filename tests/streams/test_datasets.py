"""Data sets: the layouts that are read, what they hold, sizes, lists, outlines, and what is said of damaged files."""

from __future__ import annotations

import bz2
import dataclasses
import os
import re
import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from clbench import dataset, on_disk, resolve
from clbench.errors import UserError
from clbench.rng import fenced
from clbench.runner.run import execute
from clbench.streams.datasets import load, outline_cache, published, resize
from clbench.streams.datasets.moments import moments_of
from clbench.streams.datasets.synthetic import SyntheticData
from support import ROOT


def arrays(**changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    base = {
        "train_x": rng.integers(0, 256, (20, 4, 5), np.uint8),
        "train_y": np.arange(20) % 4,
        "test_x": rng.integers(0, 256, (8, 4, 5), np.uint8),
        "test_y": np.arange(8) % 4,
    }
    return {**base, **changes}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLBENCH_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of one's own, and the folder of outlines in it."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "clbench" / "outlines"


# ------------------------------------------------------------------------------------------------ what is read
def test_digits() -> None:
    data = load.load("digits")
    assert (data.train_x.shape, data.test_x.shape) == ((1442, 1, 8, 8), (355, 1, 8, 8))
    assert (data.classes, data.top, int(data.train_x.max())) == (10, 16.0, 16)
    from sklearn.datasets import load_digits

    everything = np.concatenate([data.train_x, data.test_x]).reshape(-1, 64)
    assert np.array_equal(np.sort(everything, axis=0), np.sort(load_digits().data, axis=0)), (
        "no image is lost or doubled"
    )
    assert np.bincount(data.test_y).tolist() == [n // 5 for n in np.bincount(load_digits().target)]


@pytest.mark.parametrize("name", ["mine", "npz"])
def test_arrays_of_ones_own(root: Path, name: str) -> None:
    """By NAME where the data root holds NAME.npz, and by npz:PATH from anywhere."""
    np.savez(root / "mine.npz", **arrays())
    reference = "mine" if name == "mine" else f"npz:{root / 'mine.npz'}"
    data = load.load(reference)
    assert data.train_x.shape == (20, 1, 4, 5)
    assert data.train_x.dtype == np.uint8
    assert (data.classes, data.top) == (4, 255.0)
    assert load.facts(reference) == dataset.Facts(4, True)
    assert "mine" in load.available()


@pytest.mark.parametrize(
    ("shape", "stored"), [((20, 7), (20, 7)), ((20, 4, 5), (20, 1, 4, 5)), ((20, 4, 5, 3), (20, 3, 4, 5))]
)
def test_layouts(root: Path, shape: tuple[int, ...], stored: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape)
    np.savez(root / "mine.npz", **arrays(train_x=x, test_x=x[:8]))
    data = load.load("mine")
    assert (data.train_x.shape, data.train_x.dtype, data.top) == (stored, np.float32, 1.0)
    if len(shape) == 4:
        assert np.array_equal(data.train_x[0, 2], x[0, :, :, 2].astype(np.float32))


def test_large_colour_images_are_in_memory_once(root: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (8000, 32, 32, 3), np.uint8)
    np.savez(root / "mine.npz", **arrays(train_x=x, train_y=np.arange(8000) % 4, test_x=x[:8]))
    tracemalloc.start()
    try:
        data = load.load("mine")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(data.train_x, x.transpose(0, 3, 1, 2))
    assert peak < 1.5 * x.nbytes


@pytest.mark.parametrize("reuse", [False, True])
def test_only_memory_of_nobody_else_is_reused(reuse: bool) -> None:
    x = np.random.default_rng(0).integers(0, 256, (400, 32, 32, 3), np.uint8)  # more than one block
    before = x.copy()
    out = on_disk.layout(x, reuse)
    assert np.array_equal(out, before.transpose(0, 3, 1, 2))
    assert out.flags.c_contiguous
    assert np.shares_memory(out, x) == reuse
    assert np.array_equal(x, before) != reuse
    fortran = np.asfortranarray(before)
    assert np.array_equal(on_disk.layout(fortran, reuse), out)
    assert np.array_equal(fortran, before)


def test_digest_is_of_the_content(root: Path) -> None:
    np.savez(root / "a.npz", **arrays())
    np.savez_compressed(root / "b.npz", **arrays())
    changed = arrays()
    changed["train_x"][3, 1, 1] ^= 1
    np.savez(root / "c.npz", **changed)
    digest = {n: load.load(n).sha256 for n in "abc"}
    assert digest["a"] == digest["b"] != digest["c"]


def test_the_shape_of_a_data_set_is_that_of_its_inputs() -> None:
    data = load.load("digits")
    given = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    assert dataset.DataSet(**{k: v for k, v in given.items() if k != "shape"}).shape == (1, 8, 8)
    with pytest.raises(ValueError, match=r"shape is \(1, 8, 9\), but train_x has samples of \(1, 8, 8\)"):
        dataset.DataSet(**{**given, "shape": (1, 8, 9)})


def test_moments_are_exact() -> None:
    data = load.load("digits")
    x = data.train_x.astype(np.float64) / 16
    assert data.mean[0] == pytest.approx(x.mean(), rel=1e-12)
    assert data.std[0] == pytest.approx(x.std(), rel=1e-12)


@pytest.mark.parametrize("chunk", [1, 50, 1 << 20])
def test_moments_do_not_depend_on_the_chunks(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_disk, "_VALUES", chunk)
    x = np.random.default_rng(0).integers(0, 256, (7, 2, 3, 5), np.uint8)
    mean, std = moments_of(x, 255.0)
    for c in range(2):
        values = [int(v) for v in x[:, c].ravel()]
        first, second = sum(values) / len(values), sum(v * v for v in values) / len(values)
        assert (mean[c], std[c]) == (first / 255, (second - first * first) ** 0.5 / 255)


def test_moments_take_little_memory() -> None:
    """47 MB of images; an int64 of each value would be 376 MB."""
    x = np.zeros((60000, 1, 28, 28), np.uint8)
    tracemalloc.start()
    moments_of(x, 255.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_synthetic_is_a_function_of_its_parameters() -> None:
    spec = SyntheticData(classes=3, features=5, train_per_class=400, test_per_class=2, separation=4.0, seed=1)
    one, other = load.load("synthetic", spec), load.load("synthetic", spec)
    assert one.sha256 == other.sha256
    assert one.sha256 != load.load("synthetic", spec.model_copy(update={"seed": 2})).sha256
    assert one.train_x.shape == (1200, 5)
    spread = np.concatenate([one.train_x[one.train_y == c] - one.train_x[one.train_y == c].mean(0) for c in range(3)])
    assert spread.std() == pytest.approx(1, abs=0.03)


def test_synthetic_means_lie_as_far_apart_as_said() -> None:
    spec = SyntheticData(classes=60, features=40, train_per_class=50, test_per_class=1, separation=6.0)
    data = load.load("synthetic", spec)
    means = np.stack([data.train_x[data.train_y == c].mean(0) for c in range(60)])
    squared = ((means[:, None] - means[None]) ** 2).sum(-1)[np.triu_indices(60, 1)]
    assert np.sqrt(squared.mean()) == pytest.approx(6.0, rel=0.05)


def write_idx(path: Path, array: np.ndarray[Any, Any]) -> None:
    header = struct.pack(">HBB", 0, 8, array.ndim) + b"".join(struct.pack(">I", n) for n in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def test_torchvisions_own_layout(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small MNIST in the layout that torchvision leaves behind; it does not pass for the published one."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    source = arrays(
        train_x=np.arange(20 * 784).reshape(20, 28, 28) % 251, test_x=np.arange(8 * 784).reshape(8, 28, 28) % 251
    )
    for part, prefix in (("train", "train"), ("test", "t10k")):
        write_idx(raw / f"{prefix}-images-idx3-ubyte", source[f"{part}_x"])
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", source[f"{part}_y"])
    with pytest.raises(UserError) as caught:
        load.load("mnist")
    assert re.fullmatch(
        rf"torchvision, {re.escape(str(root))}: not the published 'mnist' \(SHA-256 [0-9a-f]{{16}}..., expected "
        r"[0-9a-f]{16}...\); it is damaged, or your data, which needs another name.",
        str(caught.value),
    )
    unchecked = dataclasses.replace(load.DATASETS["mnist"], sha256=None)
    monkeypatch.setitem(load.DATASETS, "mnist", unchecked)
    data = load.load("mnist")
    assert np.array_equal(data.train_x[:, 0], source["train_x"])
    assert np.array_equal(data.test_y, source["test_y"])
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"half")
    with pytest.raises(UserError, match=r"MNIST/raw: incomplete or damaged, torchvision cannot read it"):
        load.load("mnist")


@pytest.mark.needs("mnist", "usps")
def test_real_data(real_data: Path) -> None:
    mnist = load.load("mnist")
    assert (mnist.train_x.shape, mnist.test_x.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    assert mnist.mean[0] == pytest.approx(0.1307, abs=5e-5)
    assert mnist.std[0] == pytest.approx(0.3081, abs=5e-5)
    assert load.load("usps").classes == 10


def write_usps(path: Path, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> None:
    """LIBSVM's text: labels from 1, pixels from -1 to 1."""
    rows = [
        " ".join([str(label + 1), *(f"{i + 1}:{v / 127.5 - 1:.6f}" for i, v in enumerate(image.ravel()))])
        for image, label in zip(x, y, strict=True)
    ]
    path.write_bytes(bz2.compress(("\n".join(rows) + "\n").encode()))


def test_usps_lies_in_the_root_itself(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).integers(0, 2, (30, 16, 16)) * 255
    y = np.arange(30) % 10
    write_usps(root / "usps.bz2", x[:20], y[:20])
    with pytest.raises(UserError) as caught:
        load.load("usps")
    assert str(caught.value) == (
        f"data set 'usps' is not in {root} and cannot be downloaded from here. Put usps.npz (train_x, train_y, test_x, "
        "test_y) or torchvision's files usps.bz2 and usps.t.bz2 into a folder and set CLBENCH_DATA to it."
    )
    write_usps(root / "usps.t.bz2", x[20:], y[20:])
    with pytest.raises(UserError) as caught:
        load.load("usps")
    assert str(caught.value) == (
        f"torchvision, {root}: not the published 'usps' (10 classes, 20 training and 10 test samples; published: 10 "
        "classes, 7,291 training and 2,007 test samples); it is damaged, or your data, which needs another name."
    )
    small = dataclasses.replace(load.DATASETS["usps"], samples=(20, 10))
    monkeypatch.setitem(load.DATASETS, "usps", small)
    data = load.load("usps")
    assert np.array_equal(data.train_x[:, 0], x[:20])
    assert np.array_equal(data.test_y, y[20:])
    (root / "usps.t.bz2").write_bytes(b"half")
    with pytest.raises(UserError) as caught:
        load.load("usps")
    assert str(caught.value).startswith(f"{root}: incomplete or damaged, torchvision cannot read it (")


def write_omniglot(root: Path, characters: int) -> dict[tuple[int, int], Any]:
    """Drawings in the published layout, black ink; by (class, drawer)."""
    from PIL import Image, ImageDraw

    drawn = {}
    for c in range(characters):
        folder = root / "omniglot-py" / "images_evaluation" / ("Beta", "Alpha")[c % 2] / f"character{c:02d}"
        folder.mkdir(parents=True)
        for drawer in range(1, 21):
            image = Image.new("1", (105, 105), 1)
            ImageDraw.Draw(image).line((5 * c, 3 * drawer, 100, 104 - drawer), fill=0, width=3)
            image.save(folder / f"{900 - c:04d}_{drawer:02d}.png")
            drawn[c, drawer] = image
    return drawn


def test_omniglots_drawings(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes in sorted order of alphabet and character, drawers 1 to 15 to learn, ink bright, Pillow's resizing."""
    from PIL import Image

    drawn = write_omniglot(root, 4)
    folder = root / "omniglot-py" / "images_evaluation"
    with pytest.raises(UserError) as caught:
        load.load("omniglot")
    assert str(caught.value) == (
        f"{folder}: incomplete or not Omniglot's, 4 characters (folders ALPHABET/characterNN) where 659 were published."
    )
    monkeypatch.setattr(published, "OMNIGLOT_CHARACTERS", 4)
    known = dataclasses.replace(load.DATASETS["omniglot"], facts=dataset.Facts(4, True), samples=(4 * 15, 4 * 5))
    monkeypatch.setitem(load.DATASETS, "omniglot", known)
    data = load.load("omniglot")
    assert (data.train_x.shape, data.test_x.shape) == ((60, 1, 28, 28), (20, 1, 28, 28))
    assert data.train_y.tolist() == [c for c in range(4) for _ in range(15)]
    for c, written in enumerate((1, 3, 0, 2)):  # Alpha holds 1 and 3, Beta 0 and 2
        for drawer in range(1, 21):
            paper = drawn[written, drawer].convert("L")
            ink = Image.fromarray(255 - np.asarray(paper)).resize((28, 28), Image.Resampling.BILINEAR)
            x, place = (data.train_x, 15 * c + drawer - 1) if drawer <= 15 else (data.test_x, 5 * c + drawer - 16)
            assert np.array_equal(x[place, 0], np.asarray(ink))
    gone = folder / "Alpha" / "character01" / "0899_07.png"
    whole = gone.read_bytes()
    gone.write_bytes(whole[:40])
    with pytest.raises(UserError, match=rf"{gone}: damaged, not readable as an image \("):
        load.load("omniglot")
    drawn[1, 7].resize((50, 60)).save(gone)
    with pytest.raises(UserError) as caught:
        load.load("omniglot")
    assert str(caught.value) == f"{gone}: 50x60 pixels where 105x105 were published."
    gone.unlink()
    with pytest.raises(UserError) as caught:
        load.load("omniglot")
    said = ", ".join(f"{d:02d}" for d in range(1, 21) if d != 7)
    assert str(caught.value) == (
        f"{gone.parent}: incomplete or not Omniglot's, drawings by {said} (files XXXX_DD.png) where drawers 01 to 20 "
        "were published."
    )


@pytest.mark.needs("omniglot")
def test_omniglot_in_the_plain_layout(real_data: Path) -> None:
    data = load.load("omniglot")
    assert (data.classes, data.train_x.shape, data.test_x.shape) == (659, (9885, 1, 28, 28), (3295, 1, 28, 28))
    assert data.mean[0] < 0.2, "ink is bright"


# ------------------------------------------------------------------------------------------------ tasks of the data
def tasked(**changes: Any) -> dict[str, Any]:
    """Classes 0, 1 in task 0, 2, 3 in task 1, and class 0 in task 1 too."""
    base = arrays(
        train_y=np.array([0, 1, 2, 3, 0] * 4), test_y=np.array([0, 1, 2, 3, 0, 1, 2, 0]),
        train_task=np.array([0, 0, 1, 1, 1] * 4), test_task=np.array([0, 0, 1, 1, 1, 0, 1, 0]),
    )  # fmt: skip
    return {**base, **changes}


def test_tasks_of_the_data(root: Path) -> None:
    np.savez(root / "mine.npz", **tasked())
    data = load.load("mine")
    assert data.train_task is not None
    assert data.test_task is not None
    assert (data.train_task.dtype, data.test_task.dtype) == (np.int64, np.int64)
    assert data.train_task.tolist() == [0, 0, 1, 1, 1] * 4
    assert data.test_task.tolist() == [0, 0, 1, 1, 1, 0, 1, 0]
    assert load.facts("mine") == dataset.Facts(4, True, tasks=2)
    without = {k: v for k, v in tasked().items() if "task" not in k}
    np.savez(root / "less.npz", **without)
    assert load.load("less").sha256 != data.sha256
    assert load.load("less").train_task is None


def test_facts_read_no_images(root: Path) -> None:
    """All pixels are destroyed, the headers before them are not."""
    rng = np.random.default_rng(0)
    train, test, undivided = (rng.integers(0, 256, (n, 40, 50), np.uint8) for n in (20, 8, 24))
    for name, held in (("parts", tasked(train_x=train, test_x=test)), ("whole", whole(x=undivided))):
        path = root / f"{name}.npz"
        np.savez(path, **held)
        content = path.read_bytes()
        for image in ("x",) if name == "whole" else ("train_x", "test_x"):
            pixels = held[image].tobytes()
            content = content.replace(pixels, bytes(len(pixels)))
        assert content != path.read_bytes()
        path.write_bytes(content)
        assert load.facts(name) == dataset.Facts(4 if name == "parts" else 2, True, tasks=2)
        with pytest.raises(UserError, match="is damaged"):
            load.load(name)


def whole(**changes: Any) -> dict[str, Any]:
    """Task 0 has 10 samples of class 0 and 5 of class 1, mixed; task 1 has 9 of class 0."""
    y = np.array([0, 0, 1] * 5 + [0] * 9)
    task = np.array([0] * 15 + [1] * 9)
    x = np.arange(24 * 20, dtype=np.uint16).reshape(24, 4, 5).astype(np.uint8)
    x[:, 0, 0] = np.arange(24)
    return {"x": x, "y": y, "task": task, **changes}


def test_every_fifth_of_a_class_in_a_task_is_for_testing(root: Path) -> None:
    np.savez(root / "mine.npz", **whole())
    data = load.load("mine")
    assert data.test_x[:, 0, 0, 0].tolist() == [6, 13, 14, 19], "the fifth and tenth 0 and fifth 1 of task 0; of task 1"
    assert data.train_x[:, 0, 0, 0].tolist() == [i for i in range(24) if i not in (6, 13, 14, 19)]
    assert data.test_y.tolist() == [0, 0, 1, 0]
    assert data.test_task is not None
    assert data.test_task.tolist() == [0, 0, 0, 1]
    assert load.facts("mine") == dataset.Facts(2, True, tasks=2)
    np.savez(root / "untold.npz", **{k: v for k, v in whole().items() if k != "task"})
    data = load.load("untold")
    assert data.train_task is None
    assert data.test_x[:, 0, 0, 0].tolist() == [6, 13, 14, 19]
    assert load.facts("untold") == dataset.Facts(2, True)


# ------------------------------------------------------------------------------------------------ sizes
SIZES = [(28, 28, 32, 32), (16, 16, 28, 28), (105, 105, 28, 28), (28, 28, 8, 8), (7, 5, 3, 9), (1, 1, 4, 4)]


@pytest.mark.parametrize(("h", "w", "height", "width"), SIZES)
def test_resizing_is_pillows(h: int, w: int, height: int, width: int) -> None:
    """Asked for the width first; left to itself, Pillow goes first in the direction that costs less."""
    from PIL import Image

    def pillows(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        image = Image.fromarray(np.moveaxis(pixels, 0, -1))
        wide = image.resize((width, h), Image.Resampling.BILINEAR)
        return np.moveaxis(np.asarray(wide.resize((width, height), Image.Resampling.BILINEAR)), -1, 0)

    x = np.random.default_rng(0).integers(0, 256, (9, 3, h, w), np.uint8)
    x[:4] = (x[:4] > 127) * np.uint8(255)
    assert np.array_equal(resize.resize(x, height, width), np.stack([pillows(image) for image in x]))


def test_resizing_is_near_torchs() -> None:
    """Which rounds once."""
    import torch

    x = np.random.default_rng(0).integers(0, 256, (9, 3, 31, 45), np.uint8)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(x).float(), (20, 60), mode="bilinear", antialias=True, align_corners=False
    )
    assert np.abs(resize.resize(x, 20, 60) - np.rint(expected.numpy())).max() <= 1


def test_resizing_does_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).integers(0, 256, (9, 3, 6, 8), np.uint8)
    at_once = resize.resize(x, 5, 11)
    monkeypatch.setattr(resize, "_CHUNK", 600)
    assert np.array_equal(resize.resize(x, 5, 11), at_once)


def test_a_size_of_ones_own(root: Path) -> None:
    np.savez(root / "mine.npz", **arrays())
    plain, large = load.load("mine"), load.load("mine", size=6)
    assert (large.train_x.shape, large.test_x.shape, large.shape) == ((20, 1, 6, 6), (8, 1, 6, 6), (1, 6, 6))
    assert np.array_equal(large.train_x, resize.resize(plain.train_x, 6, 6))
    assert large.mean[0] == pytest.approx(large.train_x.mean() / 255, rel=1e-12)
    assert large.mean != plain.mean
    assert plain.sha256 != large.sha256 != load.load("mine", size=7).sha256
    assert np.array_equal(large.train_y, plain.train_y)


def test_digits_of_another_size_have_all_levels() -> None:
    data = load.load("digits", size=16)
    assert (data.top, int(data.train_x.max()), data.shape) == (255.0, 255, (1, 16, 16))
    plain = load.load("digits")
    levels = np.rint(plain.train_x * (255 / 16)).astype(np.uint8)
    assert np.array_equal(data.train_x, resize.resize(levels, 16, 16))
    assert load.load("digits", size=8).sha256 == plain.sha256, "that is their size"


def test_only_images_have_a_size(root: Path) -> None:
    for early in (load.load, load.require, load.facts, load.outline):
        with pytest.raises(UserError) as caught:
            early("synthetic", SyntheticData(), size=8)
        assert str(caught.value) == "data set 'synthetic' holds vectors; only images have a size."
    np.savez(root / "mine.npz", **arrays(train_x=np.zeros((20, 4, 5)), test_x=np.zeros((8, 4, 5))))
    with pytest.raises(UserError) as caught:
        load.load("mine", size=8)
    assert str(caught.value) == "data set 'mine' holds images of floats; a size, and a list, need uint8."


# ------------------------------------------------------------------------------------------------ lists
def colour(n: int = 10, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return arrays(
        train_x=rng.integers(0, 256, (30, 6, 6, 3), np.uint8), train_y=np.arange(30) % n,
        test_x=rng.integers(0, 256, (n, 6, 6, 3), np.uint8), test_y=np.arange(n), **changes,
    )  # fmt: skip


def test_data_sets_as_domains(root: Path) -> None:
    """Grey digits of 17 levels and colour images of 256: one size, three channels, one scale."""
    np.savez(root / "photos.npz", **colour())
    digits, photos = load.load("digits"), load.load("photos")
    data = load.load(["digits", "photos"])
    assert (data.name, data.classes, data.top, data.shape) == ("digits+photos", 10, 255.0, (3, 8, 8))
    assert data.train_x.dtype == np.uint8
    levels = np.rint(digits.train_x * (255 / 16)).astype(np.uint8)
    assert np.array_equal(data.train_x[:1442], levels.repeat(3, axis=1)), "grey in all channels, size untouched"
    assert np.array_equal(data.train_x[1442:], resize.resize(photos.train_x, 8, 8))
    assert np.array_equal(data.test_x[355:], resize.resize(photos.test_x, 8, 8))
    assert data.train_y.tolist() == [*digits.train_y, *photos.train_y]
    assert data.train_task is not None
    assert data.test_task is not None
    assert data.train_task.tolist() == [0] * 1442 + [1] * 30
    assert data.test_task.tolist() == [0] * 355 + [1] * 10
    assert data.mean == pytest.approx(data.train_x.mean((0, 2, 3)) / 255, rel=1e-12)
    assert load.facts(["digits", "photos"]) == dataset.Facts(10, True, tasks=2)
    assert data.origin == f"scikit-learn, {root / 'photos.npz'}"
    other = load.load(("photos", "digits"))
    assert (other.shape, other.name) == ((3, 6, 6), "photos+digits")
    digests = [data.sha256, other.sha256, load.load(["digits", "photos"], size=9).sha256]
    digests.append(load.load(["photos", "digits"], size=8).sha256)
    assert len(set(digests)) == 4
    assert load.load(["digits", "photos"], size=8).sha256 == data.sha256, "that is the first one's size"
    assert load.load(["photos", "photos"]).shape == (3, 6, 6)
    assert load.load(["digits", "digits"]).shape == (1, 8, 8)


def refused_list(root: Path, *names: str, **files: dict[str, Any]) -> str:
    for name, held in files.items():
        np.savez(root / f"{name}.npz", **held)
    with pytest.raises(UserError) as caught:
        load.load(names)
    with pytest.raises(UserError) as early:
        load.require(names)
    assert str(caught.value) == str(early.value)
    return str(caught.value)


def test_lists_that_do_not_go_together(root: Path) -> None:
    assert refused_list(root) == "an empty list of data sets; it needs one at least."
    assert refused_list(root, "digits", "five", "digits", five=colour(5)) == (
        "the data sets of a list need the same number of classes: 'digits' has 10, 'five' has 5."
    )
    assert refused_list(root, "digits", "synthetic") == (
        "data set 'synthetic' holds vectors; a list of data sets needs images, or vectors alone."
    )
    assert refused_list(root, "digits", "own", own=tasked()) == (
        "data set 'own' has tasks; in a list each data set is one task."
    )
    assert refused_list(root, "digits", "digit").startswith("unknown data set 'digit'. Did you mean 'digits'?")
    assert refused_list(root, "digits", "kmnist").startswith(f"data set 'kmnist' is not in {root}")
    np.savez(root / "two.npz", **{k: v[..., :2] if "x" in k else v for k, v in colour().items()})
    np.savez(root / "three.npz", **colour())
    with pytest.raises(UserError) as caught:
        load.load(["digits", "two", "three"])
    assert str(caught.value) == (
        "the data sets of a list need one channel, or as many as the others: 'digits' has 1, 'two' has 2, "
        "'three' has 3."
    )


@pytest.mark.needs("mnist", "usps")
def test_real_domains(real_data: Path) -> None:
    data = load.load(["mnist", "usps", "digits"])
    assert data.name == "mnist+usps+digits"
    assert (data.train_x.shape, data.test_x.shape) == ((68733, 1, 28, 28), (12362, 1, 28, 28))
    assert data.train_task is not None
    assert np.bincount(data.train_task).tolist() == [60000, 7291, 1442]
    assert np.array_equal(data.train_x[:60000], load.load("mnist").train_x)


# ------------------------------------------------------------------------------------------------ outlines
def same(one: dataset.Outline, other: dataset.Outline) -> None:
    for field in dataclasses.fields(dataset.Outline):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            assert np.array_equal(a, b), field.name
        else:
            assert (type(a), a) == (type(b), b), field.name


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def loading(*_: Any) -> Any:
        raise AssertionError("loaded")

    monkeypatch.setattr(load, "_one", loading)


SPEC = SyntheticData(classes=3, features=5, train_per_class=6, test_per_class=2)
SETS: list[tuple[Any, SyntheticData | None, int | None]] = [
    ("digits", None, None), ("digits", None, 9), ("synthetic", SPEC, None), ("mine", None, None), ("own", None, None),
    ("npz:mine.npz", None, None), (["mine", "mine"], None, None), (["mine"], None, 3),
]  # fmt: skip


@pytest.mark.parametrize(("name", "spec", "size"), SETS)
@pytest.mark.parametrize("writer", ["load", "outline"])
def test_outlines_are_kept(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, writer: str, name: Any, spec: Any, size: int | None
) -> None:
    monkeypatch.chdir(root)
    np.savez(root / "mine.npz", **arrays())
    np.savez(root / "own.npz", **tasked())
    full = load.load(name, spec, size)
    for file in cache.iterdir():
        file.unlink()
    first = getattr(load, writer)(name, spec, size)
    assert [file.suffix for file in cache.iterdir()] == [".npz"]
    forbid(monkeypatch)
    kept = load.outline(name, spec, size)
    assert type(kept) is dataset.Outline
    same(kept, full)
    same(first, full)


def test_outlines_follow_what_they_depend_on(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(root / "mine.npz", **arrays())
    reference = load.outline("mine")
    assert load.outline("mine", size=3).shape == (1, 3, 3)
    held = arrays()
    held["train_x"][0, 0, 0] ^= 1
    np.savez(root / "mine.npz", **held)
    assert load.outline("mine").sha256 != reference.sha256
    stamp = (root / "mine.npz").stat().st_mtime_ns
    held["train_x"][0, 0, 0] ^= 2
    np.savez(root / "mine.npz", **held)  # as many bytes
    os.utime(root / "mine.npz", ns=(stamp, stamp + 1))
    changed = load.outline("mine")
    assert changed.sha256 == load.load("mine").sha256 != reference.sha256
    assert load.outline("synthetic", SPEC).classes == 3
    assert load.outline("synthetic", SPEC.model_copy(update={"classes": 4})).classes == 4
    np.savez(root / "other.npz", **arrays(train_x=np.zeros((20, 4, 5), np.uint8)))
    assert load.outline(["mine", "other"]).sha256 != load.outline(["other", "mine"]).sha256
    assert load.outline(["other"]).train_task is not None
    assert load.outline("other").train_task is None
    load.outline("digits")
    monkeypatch.setattr(load, "version", lambda package: "0.0.0")
    forbid(monkeypatch)
    with pytest.raises(AssertionError, match="loaded"):
        load.outline("digits")


def test_by_another_name_a_file_is_checked_again(root: Path) -> None:
    """Arrays of one's own may have any name but that of a published data set."""
    np.savez(root / "kmnist.npz", **arrays())
    assert load.outline(f"npz:{root / 'kmnist.npz'}").classes == 4
    with pytest.raises(UserError, match="not the published 'kmnist'"):
        load.outline("kmnist")


def test_an_outline_of_a_folder_follows_each_of_its_files(tmp_path: Path) -> None:
    for name in ("b/two", "b/three", "a/one"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1234")
    (tmp_path / "a" / "lost").symlink_to(tmp_path / "nowhere")
    before = outline_cache.stamps(tmp_path)
    assert [file for file, *_ in before] == [str(tmp_path.resolve() / name) for name in ("a/one", "b/three", "b/two")]
    assert outline_cache.stamps(tmp_path) == before
    stamp = (tmp_path / "b" / "two").stat().st_mtime_ns
    os.utime(tmp_path / "b" / "two", ns=(stamp, stamp + 1))
    assert outline_cache.stamps(tmp_path) != before
    (tmp_path / "link").symlink_to(tmp_path / "b" / "two")
    assert outline_cache.stamps(tmp_path / "link") == outline_cache.stamps(tmp_path / "b" / "two")


def test_another_published_digest_is_another_outline(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that passed for MNIST without a check does not pass for it with one."""
    np.savez(root / "mnist.npz", **arrays())
    with monkeypatch.context() as unchecked:
        known = dataclasses.replace(load.DATASETS["mnist"], sha256=None)
        unchecked.setitem(load.DATASETS, "mnist", known)
        load.outline("mnist")
    with pytest.raises(UserError, match="not the published 'mnist'"):
        load.outline("mnist")


def test_files_that_change_while_they_are_read_leave_no_outline(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(root / "mine.npz", **arrays())
    real = load._one

    def slow(*args: Any) -> Any:
        data = real(*args)
        np.savez(root / "mine.npz", **tasked())
        return data

    monkeypatch.setattr(load, "_one", slow)
    load.load("mine")
    assert not cache.exists()


def test_damaged_outlines_count_as_absent(root: Path, cache: Path) -> None:
    np.savez(root / "mine.npz", **arrays(train_y=np.arange(20) % 2, test_y=np.arange(8) % 2))
    full = load.outline("mine")
    (file,) = cache.iterdir()
    content = file.read_bytes()
    for cut in (0, 1, 30, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:cut])
        same(load.outline("mine"), full)
        assert len(file.read_bytes()) == len(content), "written again"
    for place in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[place] ^= 0x5A
        file.write_bytes(flipped)
        same(load.outline("mine"), full)
    file.unlink()
    np.savez(root / "own.npz", **tasked())
    load.outline("own")
    (other,) = cache.iterdir()
    other.rename(file)
    same(load.outline("mine"), full)


def test_a_cache_that_cannot_be_written_is_no_mistake(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(root / "mine.npz", **arrays())
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    same(load.outline("mine"), load.load("mine"))


def test_the_oldest_outlines_are_removed(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outline_cache, "_KEPT", 2)
    for n in range(1, 5):
        spec = SPEC.model_copy(update={"features": n})
        load.outline("synthetic", spec)
        newest = outline_cache._path(str(load._key("synthetic", spec, None)))
        os.utime(newest, ns=(n, n))
    assert {file.stat().st_mtime_ns for file in cache.iterdir()} == {3, 4}


def test_a_kept_outline_imports_neither_torch_nor_scikit_learn(root: Path) -> None:
    np.savez(root / "mine.npz", **arrays())
    names = ["digits", "mine", ["digits", "digits"]]
    for name in names:
        load.load(name)
    code = f"""
        import sys
        from clbench.streams.datasets import load as datasets
        for name in {names!r}:
            datasets.outline(name)
        print(sorted({{"torch", "sklearn", "PIL", "torchvision"}} & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.needs("mnist")
def test_an_outline_of_mnist_is_quick(real_data: Path) -> None:
    same(load.outline("mnist"), load.load("mnist"))
    begin = time.perf_counter()
    load.outline("mnist")
    assert time.perf_counter() - begin < 0.2


# ------------------------------------------------------------------------------------------------ import paths
@pytest.fixture
def own(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's own."""
    code = """
        import random
        import numpy as np
        import torch
        from PIL import Image
        from torch.utils.data import Dataset

        IMAGES = np.random.default_rng(0).integers(0, 256, (30, 4, 5, 3), np.uint8)
        LABELS = np.arange(30) % 3
        seen = []

        def parts():
            return {"train_x": IMAGES[:21], "train_y": torch.from_numpy(LABELS[:21]), "test_x": IMAGES[21:],
                    "test_y": LABELS[21:], "train_task": LABELS[:21] // 2, "test_task": LABELS[21:] // 2, "more": None}

        def whole():
            return {"x": IMAGES, "y": LABELS}

        def four():
            return IMAGES[:21], LABELS[:21], IMAGES[21:], LABELS[21:]

        def by_chance():
            print("said")
            x = np.full((30, 2), random.random()) + np.random.normal(size=(30, 2)) + torch.rand(30, 2).numpy()
            return {"x": x, "y": LABELS}

        def raises():
            raise KeyError("first line\\nsecond")

        def leaves():
            raise SystemExit(3)

        def needs(path, more):
            return None

        def lacks():
            return {"train_x": IMAGES, "train_y": LABELS}

        def number():
            return 7

        def three():
            return 1, 2, 3

        LIST = [1]

        class Plain(Dataset):
            def __init__(self, root, train=True, download=True):
                seen.append((root, train, download))
                self.data = (IMAGES[:21] if train else IMAGES[21:]).transpose(0, 3, 1, 2)
                self.labels = LABELS[:21] if train else LABELS[21:]
            def __len__(self):
                return len(self.data)
            def __getitem__(self, i):
                return Image.fromarray(self.data[i].transpose(1, 2, 0)), int(self.labels[i])

        class Base(Dataset):
            def __init__(self, root=None, split="train", download=False):
                seen.append((root, split, download))
                self.rows = range(21) if split == "train" else range(21, 30)
            def __len__(self):
                return len(self.rows)
            def __getitem__(self, i):
                return torch.from_numpy(IMAGES[self.rows[i]]).permute(2, 0, 1), torch.tensor(LABELS[self.rows[i]])

        class Hands(Base):
            "Targets are more than labels, arrays are not what the items are."
            def __init__(self, scale=1.0, **kwargs):
                super().__init__(**kwargs)
                self.data = np.zeros((len(self), 4, 5, 3), np.uint8)
                self.targets = torch.zeros(len(self), 8, dtype=torch.int64)

        class Floats(Base):
            def __getitem__(self, i):
                return (IMAGES[self.rows[i]] / 255.0), LABELS[self.rows[i]]

        class Whole(Dataset):
            def __len__(self):
                return 30
            def __getitem__(self, i):
                return Image.fromarray(IMAGES[i, ..., 0] > 127), LABELS[i], "more"

        class Palette(Whole):
            def __getitem__(self, i):
                image = Image.fromarray(np.arange(20, dtype=np.uint8).reshape(4, 5) % 2, "P")
                image.putpalette([0, 0, 0, 200, i, 7])
                return image, LABELS[i]

        class Ragged(Whole):
            def __getitem__(self, i):
                return IMAGES[i, : 4 - (i == 7)], LABELS[i]

        class Words(Whole):
            def __getitem__(self, i):
                return IMAGES[i], f"word {i}"

        class Bare(Whole):
            def __getitem__(self, i):
                return IMAGES[i]

        class Empty(Whole):
            def __len__(self):
                return 0

        class Strange(Whole):
            __init__ = type("Call", (), {"__call__": print, "__signature__": 3})()

        class Needy(Dataset):
            def __init__(self, root, letters, train=True):
                raise RuntimeError
    """
    name = f"own_{root.name.replace('-', '_')}"
    (root / f"{name}.py").write_text(dedent(code))
    monkeypatch.syspath_prepend(str(root))
    yield name
    sys.modules.pop(name, None)


def images(own: str) -> tuple[Any, Any]:
    module = sys.modules[own]
    return module.IMAGES.transpose(0, 3, 1, 2), module.LABELS


def test_functions_of_ones_own(own: str, root: Path, cache: Path) -> None:
    np.savez(root / f"{own}:four.npz", **arrays())  # a file of that name is not looked at
    data = load.load(f"{own}:parts")
    x, y = images(own)
    assert np.array_equal(data.train_x, x[:21])
    assert np.array_equal(data.test_y, y[21:])
    assert data.train_task is not None
    assert np.array_equal(data.train_task, y[:21] // 2)
    assert (data.name, data.origin) == (f"{own}:parts", f"{own}:parts")
    four = load.load(f"{own}:four")
    assert np.array_equal(four.test_x, x[21:])
    assert four.train_task is None
    undivided = load.load(f"{own}:whole")
    assert np.array_equal(undivided.test_x, x[[12, 13, 14, 27, 28, 29]])
    assert load.load(f"{own}:whole", size=3).shape == (3, 3, 3)
    joined = load.load([f"{own}:whole", f"{own}:four"])
    assert joined.train_x.shape == (24 + 21, 3, 4, 5)
    with pytest.raises(UserError) as caught:
        load.load([f"{own}:whole", f"{own}:parts"])
    assert str(caught.value) == (f"data set '{own}:parts' has tasks; in a list each data set is one task.")
    with pytest.raises(UserError) as caught:
        load.load([f"{own}:four", "digits"])
    assert str(caught.value) == (
        f"the data sets of a list need the same number of classes: '{own}:four' has 3, 'digits' has 10."
    )
    same(load.outline(f"{own}:four"), four)
    assert type(load.outline(f"{own}:four")) is dataset.Outline
    assert not cache.exists(), "nothing tells whether code of one's own changed"


def test_ones_own_code_draws_the_same_and_leaves_no_trace(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = load.load(f"{own}:by_chance")
    np.random.random(5)
    assert load.load(f"{own}:by_chance").sha256 == first.sha256
    import random

    import torch

    def seed() -> None:
        np.random.seed(5)
        random.seed(5)
        torch.manual_seed(5)

    def draws() -> list[float]:
        return [np.random.random(), random.random(), float(torch.rand(1))]

    with fenced():
        seed()
        expected = draws()
        seed()
        load.load(f"{own}:by_chance")
        assert draws() == expected
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "said\n" * 3), "standard output may be the JSON of a run"


def test_nothing_of_ones_own_runs_before_loading(own: str, root: Path) -> None:
    assert load.facts(f"{own}:parts") == dataset.Facts(None, None, "user-defined data")
    assert load.facts([f"{own}:parts", "digits"]) == dataset.Facts(10, True, tasks=2), "else it is refused"
    assert load.facts([f"{own}:parts"]) == dataset.Facts(None, True, tasks=1)
    load.require(f"{own}:raises")
    assert own not in sys.modules
    for name in (own, f"npz:{root / own}.py", f"{root / own}.py"):
        with pytest.raises(UserError):
            load.load(name)
    assert own not in sys.modules


@pytest.mark.parametrize(("offline", "download"), [("1", False), ("0", True)])
def test_classes_of_torchs_data_sets(
    own: str, root: Path, monkeypatch: pytest.MonkeyPatch, offline: str, download: bool
) -> None:
    monkeypatch.setenv("CLBENCH_OFFLINE", offline)
    data = load.load(f"{own}:Plain")
    x, y = images(own)
    seen = sys.modules[own].seen
    assert seen == [(str(root), True, download), (str(root), False, download)]
    assert np.array_equal(data.train_x, x[:21])
    assert np.array_equal(data.test_x, x[21:])
    assert np.array_equal(data.test_y, y[21:])
    seen.clear()
    for name in ("Base", "Hands"):
        data = load.load(f"{own}:{name}")
        assert np.array_equal(data.train_x, x[:21]), name
        assert np.array_equal(data.test_x, x[21:]), name
        assert np.array_equal(data.test_y, y[21:]), name
    assert seen == [(str(root), "train", download), (str(root), "test", download)] * 2
    floats = load.load(f"{own}:Floats")
    assert np.array_equal(floats.train_x, (x[:21] / 255.0).astype(np.float32))
    bits = load.load(f"{own}:Whole")
    assert np.array_equal(bits.test_x[:, 0], (x[[12, 13, 14, 27, 28, 29], 0] > 127) * 255)
    assert bits.train_x.dtype == np.uint8
    palette = load.load(f"{own}:Palette")
    assert palette.shape == (3, 4, 5)
    assert palette.test_x[0, :, 0].tolist() == [[0, 200, 0, 200, 0], [0, 12, 0, 12, 0], [0, 7, 0, 7, 0]]


@pytest.mark.parametrize("module", ["torchvision.datasets", "avalanche.benchmarks.datasets"])
def test_a_published_class(root: Path, module: str) -> None:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    source = arrays(train_x=np.arange(20 * 784).reshape(20, 28, 28) % 251, test_x=np.zeros((8, 28, 28), int))
    for part, prefix in (("train", "train"), ("test", "t10k")):
        write_idx(raw / f"{prefix}-images-idx3-ubyte", source[f"{part}_x"])
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", source[f"{part}_y"])
    data = load.load(f"{module}:MNIST")
    assert np.array_equal(data.train_x[:, 0], source["train_x"])
    assert np.array_equal(data.test_y, source["test_y"])
    with pytest.raises(UserError) as caught:
        load.load(f"{module}:EMNIST")
    assert str(caught.value) == (
        f"data set '{module}:EMNIST': needs the argument 'split'; name a user-defined function that passes it and "
        "returns the arrays train_x, train_y, test_x, test_y."
    )
    with pytest.raises(UserError) as caught:
        load.load(f"{module}:QMNIST")
    assert re.fullmatch(
        rf"data set '{module}:QMNIST' fails with train=True \(CLBENCH_OFFLINE forbids downloads\): /.+\.py, line \d+: "
        r"RuntimeError: Dataset not found. You can use download=True to download it.",
        str(caught.value),
    )


REFUSED = {
    "raises": "data set 'OWN:raises' fails: ROOT/OWN.py, line LINE: KeyError: 'first line\\nsecond'.",
    "leaves": "data set 'OWN:leaves' fails: ROOT/OWN.py, line LINE: SystemExit: 3.",
    "needs": "data set 'OWN:needs': needs the argument 'path', 'more'. Allowed: a function without required arguments, "
    "or a class that derives from torch.utils.data.Dataset.",
    "LIST": "data set 'OWN:LIST': is of type list. Allowed: a function without required arguments, or a class that "
    "derives from torch.utils.data.Dataset.",
    "lacks": "OWN:lacks: array 'test_x' is missing; the mapping holds train_x, train_y, and needs train_x, train_y, "
    "test_x, test_y.",
    "number": "data set 'OWN:number': returned type int. Allowed: a mapping with train_x, train_y, test_x, test_y or "
    "with x, y, or a tuple (train_x, train_y, test_x, test_y).",
    "three": "data set 'OWN:three': returned type tuple with 3 members. Allowed: a mapping with train_x, train_y, "
    "test_x, test_y or with x, y, or a tuple (train_x, train_y, test_x, test_y).",
    "Strange": "data set 'OWN:Strange' fails: LIB/inspect.py, line LINE: TypeError: unexpected object 3 in "
    "__signature__ attribute.",
    "Ragged": "data set 'OWN:Ragged': item 0 is uint8 of shape (4, 5, 3), item 7 uint8 of shape (3, 5, 3); all must be "
    "alike.",
    "Words": "data set 'OWN:Words': the label of item 0 is 'word 0', not a whole number; labels are whole numbers 0 to "
    "C-1: np.unique(y, return_inverse=True)[1] numbers those of all items.",
    "Bare": "data set 'OWN:Bare': item 0 is of type ndarray, not a tuple (input, label).",
    "Empty": "data set 'OWN:Empty': holds no sample.",
    "Needy": "data set 'OWN:Needy': needs the argument 'letters'; name a user-defined function that passes it and "
    "returns the arrays train_x, train_y, test_x, test_y.",
    "part": "data set 'OWN:part' does not import: module 'OWN' has no 'part'. Did you mean 'parts'?",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_with_an_import_path(own: str, root: Path, name: str) -> None:
    with pytest.raises(UserError) as caught:
        load.load(f"{own}:{name}")
    code = (root / f"{own}.py").read_text().splitlines()
    line = code.index(f"def {name}():") + 2 if f"def {name}():" in code else 0
    expected = REFUSED[name].replace("OWN", own).replace("ROOT", str(root)).replace("LINE", str(line))
    told = re.sub(r"\S+/inspect.py, line \d+", "LIB/inspect.py, line 0", caught.value.problems[0])
    assert (told, len(caught.value.problems)) == (expected, 1)


def test_a_module_that_does_not_import(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(root))
    (root / "broken_data.py").write_text("def f(): pass\n1 / 0\n")
    with pytest.raises(UserError) as caught:
        load.load("broken_data:f")
    assert str(caught.value) == (
        f"data set 'broken_data:f' does not import: {root}/broken_data.py, line 2: ZeroDivisionError: division by zero."
    )
    with pytest.raises(UserError) as caught:
        load.facts("mnist:")
    assert str(caught.value) == "data set 'mnist:' is no import path; expected package.module:Name."
    with pytest.raises(UserError) as caught:
        load.facts("no_such_module_at_all:f")
    assert str(caught.value).startswith(
        "data set 'no_such_module_at_all:f' does not import: no module named 'no_such_module_at_all'."
    )


# ------------------------------------------------------------------------------------------------ what is refused
def refused(root: Path, base: Any = arrays, **changes: Any) -> str:
    held = {k: v for k, v in base(**changes).items() if v is not None}
    np.savez(root / "bad.npz", **held)
    with pytest.raises(UserError) as caught:
        load.load("bad")
    return str(caught.value).replace(str(root), "ROOT")


def numbered(stem: str) -> str:
    """The line that numbers labels or tasks of both parts."""
    both = f"np.unique(np.concatenate([train_{stem}, test_{stem}]), return_inverse=True)[1]"
    return f"train_{stem}, test_{stem} = np.split({both}, [len(train_{stem})])"


def test_wrong_arrays_are_named(root: Path) -> None:
    assert refused(root, train_y=None) == (
        "ROOT/bad.npz: array 'train_y' is missing; the file holds test_x, test_y, train_x, "
        "and needs train_x, train_y, test_x, test_y."
    )
    assert refused(root, test_y=np.arange(7) % 4) == "ROOT/bad.npz: test_x has 8 samples, test_y has 7."
    assert refused(root, train_y=np.zeros(20)) == (
        f"ROOT/bad.npz: train_y holds floats (float64); labels are whole numbers 0 to C-1: {numbered('y')}."
    )
    assert refused(root, train_y=np.zeros((20, 2, 2), int)) == (
        "ROOT/bad.npz: train_y must hold one integer a sample, and is int64 of shape (20, 2, 2); labels are whole "
        "numbers 0 to C-1."
    )
    assert refused(root, train_y=np.arange(20) % 4 - 1) == (
        f"ROOT/bad.npz: train_y holds the labels -1, 0, 1, 2; labels are whole numbers 0 to 3: {numbered('y')}."
    )
    assert refused(root, train_y=np.arange(20) % 2 * 2, test_y=np.arange(8) % 2 * 2) == (
        f"ROOT/bad.npz: train_y holds the labels 0, 2, and none is 1; labels are whole numbers 0 to 1: {numbered('y')}."
    )
    assert refused(root, train_y=np.arange(20) % 2 * 2) == "ROOT/bad.npz: class 1, 3 is in test_y, but not in train_y."
    assert refused(root, test_y=np.zeros(8, int)) == "ROOT/bad.npz: class 1, 2, 3 has no test sample."
    assert refused(root, train_y=np.array([2**40] * 20), test_y=np.array([2**40] * 8)) == (
        f"ROOT/bad.npz: train_y holds the labels {2**40}, and none is 0; labels are whole numbers 0 to 0: "
        f"{numbered('y')}."
    )
    assert refused(root, train_y=np.array(["a"] * 20)).startswith("ROOT/bad.npz: train_y holds strings (<U1); labels")
    assert refused(root, test_y=np.arange(8)) == "ROOT/bad.npz: class 4, 5, 6, 7 is in test_y, but not in train_y."
    nan = np.zeros((20, 6))
    nan[4, 2] = np.nan
    assert refused(root, train_x=nan) == "ROOT/bad.npz: train_x holds NaN or infinity, first in sample 4."
    assert (
        refused(root, train_x=np.zeros((20, 6), np.int32))
        == "ROOT/bad.npz: train_x must be uint8 or floats, and is int32."
    )
    assert refused(root, test_x=np.zeros((8, 4, 6), np.uint8)) == (
        "ROOT/bad.npz: train_x has samples of (4, 5), test_x of (4, 6)."
    )


def test_wrong_tasks_are_named(root: Path) -> None:
    def told(**changes: Any) -> str:
        return refused(root, tasked, **changes).removeprefix("ROOT/bad.npz: ")

    assert told(test_task=None) == (
        "array 'test_task' is missing; the file holds test_x, test_y, train_task, train_x, train_y, and needs train_x, "
        "train_y, test_x, test_y, train_task, test_task."
    )
    assert told(train_task=np.zeros(20)) == (
        f"train_task holds floats (float64); tasks are whole numbers 0 to T-1: {numbered('task')}."
    )
    assert told(test_task=np.zeros(7, int)) == (
        "test_task must hold one integer a sample (8), and is int64 of shape (7,)."
    )
    assert told(train_task=np.array([0, 0, 1, 1, -1] * 4)) == (
        f"train_task holds the tasks -1, 0, 1; tasks are whole numbers 0 to 2: {numbered('task')}."
    )
    assert told(train_task=np.array([0, 0, 2, 2, 2] * 4)) == (
        f"train_task holds the tasks 0, 2, and none is 1; tasks are whole numbers 0 to 1: {numbered('task')}."
    )
    assert told(test_task=np.ones(8, int)) == (
        f"test_task holds the tasks 1, and none is 0; tasks are whole numbers 0 to 0: {numbered('task')}."
    )
    assert told(test_task=np.zeros(8, int)) == "train_task holds 2 tasks, test_task holds 1."
    assert told(test_task=np.array([0, 0, 1, 1, 0, 0, 1, 0])) == (
        "class 0 has training samples in task 1, but no test sample there."
    )
    assert told(test_task=np.array([0, 0, 1, 1, 1, 1, 1, 0])) == (
        "class 1 has test samples in task 1, but no training sample there."
    )


def test_wrong_undivided_arrays_are_named(root: Path) -> None:
    def told(**changes: Any) -> str:
        return refused(root, whole, **changes).removeprefix("ROOT/bad.npz: ")

    assert told(y=None) == "array 'y' is missing; the file holds task, x, and needs x, y."
    assert told(train_x=np.zeros((4, 4, 5), np.uint8)) == (
        "the file holds train_x, x, y, task. Allowed are either train_x, train_y, test_x, test_y (with train_task, "
        "test_task) or x, y (with task), not both."
    )
    assert told(y=np.array([0, 0, 1] * 5 + [0] * 5 + [1] * 4)) == (
        "class 1 has 4 samples in task 1; every fifth of a class is for testing, so it needs at least 5 in each of its "
        "tasks."
    )
    assert told(task=None, y=np.array([0] * 21 + [1] * 3)) == (
        "class 1 has 3 samples; every fifth of a class is for testing, so it needs at least 5."
    )
    assert told(y=np.arange(24) % 2 * 2) == (
        "y holds the labels 0, 2, and none is 1; labels are whole numbers 0 to 1: y = np.unique(y, "
        "return_inverse=True)[1]."
    )
    assert told(y=np.arange(23) % 2) == "x has 24 samples, y has 23."
    assert told(task=np.arange(24) % 2 * 2) == (
        "task holds the tasks 0, 2, and none is 1; tasks are whole numbers 0 to 1: task = np.unique(task, "
        "return_inverse=True)[1]."
    )
    assert told(task=None, y=np.array([0] * 23 + [1])) == (
        "class 1 has 1 sample; every fifth of a class is for testing, so it needs at least 5."
    )
    assert told(x=np.zeros((24, 6), np.int32)) == "x must be uint8 or floats, and is int32."
    nan = np.zeros((24, 6))
    nan[14, 2] = np.nan
    assert told(x=nan) == "x holds NaN or infinity, first in sample 14.", "counted as in the file"
    nothing = refused(root, lambda: {"image": np.zeros(3)})
    assert nothing == (
        "ROOT/bad.npz: array 'train_x' is missing; the file holds image, and needs train_x, train_y, test_x, test_y, "
        "or x and y."
    )


def test_objects_are_not_unpickled(root: Path) -> None:
    message = refused(root, train_x=np.array([object()] * 20, dtype=object))
    assert message == (
        "ROOT/bad.npz: train_x holds Python objects, such as samples of different sizes; samples are one array of "
        "uint8 or floats, all of one shape: np.stack(list(train_x))."
    )


def test_truncated_and_flipped_files_are_named(root: Path) -> None:
    path = root / "bad.npz"
    np.savez_compressed(path, **arrays())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"bad.npz: damaged or truncated, not readable as npz"):
        load.load("bad")
    flipped = bytearray(whole)
    flipped[len(whole) // 4] ^= 0xFF
    path.write_bytes(flipped)
    with pytest.raises(UserError, match=r"bad.npz: array '\w+' is damaged"):
        load.load("bad")


def test_a_missing_set_names_the_variable(root: Path) -> None:
    with pytest.raises(UserError) as caught:
        load.load("kmnist")
    assert str(caught.value) == (
        f"data set 'kmnist' is not in {root} and cannot be downloaded from here. Put kmnist.npz (train_x, train_y, "
        "test_x, test_y) or torchvision's folder KMNIST/raw into a folder and set CLBENCH_DATA to it."
    )


def test_mismatched_torchvision_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins
    import sys

    real = builtins.__import__

    def broken(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(
        UserError, match=r"do not match \(operator torchvision::nms does not exist\). Install both from"
    ):
        published.check_torchvision()


def test_a_users_arrays_run_end_to_end(root: Path) -> None:
    np.savez(root / "mine.npz", **arrays())
    run = resolve.make_run(
        "split_digits-v1",
        strategy="er",
        overrides=["id=split_mine-v1", "stream.data=mine", "stream.tasks.count=2", "training.iterations=3"],
    )
    outcome = execute(run, root / "out")
    assert outcome.record["status"] == "completed"
    assert outcome.record["stream"]["classes"] == 4
