"""Data sets: the layouts that are read, what they hold, and what is said of damaged files."""

from __future__ import annotations

import dataclasses
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clbench import resolve, runner
from clbench.config import SyntheticData
from clbench.errors import UserError
from streams import datasets


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


# ------------------------------------------------------------------------------------------------ what is read
def test_digits() -> None:
    data = datasets.load("digits")
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
    data = datasets.load(reference)
    assert data.train_x.shape == (20, 1, 4, 5)
    assert data.train_x.dtype == np.uint8
    assert (data.classes, data.top) == (4, 255.0)
    assert datasets.facts(reference) == datasets.Facts(4, True)
    assert "mine" in datasets.available()


@pytest.mark.parametrize(
    ("shape", "stored"), [((20, 7), (20, 7)), ((20, 4, 5), (20, 1, 4, 5)), ((20, 4, 5, 3), (20, 3, 4, 5))]
)
def test_layouts(root: Path, shape: tuple[int, ...], stored: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape)
    np.savez(root / "mine.npz", **arrays(train_x=x, test_x=x[:8]))
    data = datasets.load("mine")
    assert (data.train_x.shape, data.train_x.dtype, data.top) == (stored, np.float32, 1.0)
    if len(shape) == 4:
        assert np.array_equal(data.train_x[0, 2], x[0, :, :, 2].astype(np.float32))


def test_digest_is_of_the_content(root: Path) -> None:
    np.savez(root / "a.npz", **arrays())
    np.savez_compressed(root / "b.npz", **arrays())
    changed = arrays()
    changed["train_x"][3, 1, 1] ^= 1
    np.savez(root / "c.npz", **changed)
    digest = {n: datasets.load(n).sha256 for n in "abc"}
    assert digest["a"] == digest["b"] != digest["c"]


def test_moments_are_exact() -> None:
    data = datasets.load("digits")
    x = data.train_x.astype(np.float64) / 16
    assert data.mean[0] == pytest.approx(x.mean(), rel=1e-12)
    assert data.std[0] == pytest.approx(x.std(), rel=1e-12)


def test_synthetic_is_a_function_of_its_parameters() -> None:
    spec = SyntheticData(classes=3, features=5, train_per_class=400, test_per_class=2, separation=4.0, seed=1)
    one, other = datasets.load("synthetic", spec), datasets.load("synthetic", spec)
    assert one.sha256 == other.sha256
    assert one.sha256 != datasets.load("synthetic", spec.model_copy(update={"seed": 2})).sha256
    assert one.train_x.shape == (1200, 5)
    spread = np.concatenate([one.train_x[one.train_y == c] - one.train_x[one.train_y == c].mean(0) for c in range(3)])
    assert spread.std() == pytest.approx(1, abs=0.03)


def test_synthetic_means_lie_as_far_apart_as_said() -> None:
    spec = SyntheticData(classes=60, features=40, train_per_class=50, test_per_class=1, separation=6.0)
    data = datasets.load("synthetic", spec)
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
        datasets.load("mnist")
    assert re.fullmatch(
        rf"torchvision, {re.escape(str(root))}: not the published 'mnist' \(SHA-256 [0-9a-f]{{16}}..., expected "
        r"[0-9a-f]{16}...\); it is damaged, or data of your own, which needs another name.",
        str(caught.value),
    )
    unchecked = dataclasses.replace(datasets.DATASETS["mnist"], sha256=None)
    monkeypatch.setitem(datasets.DATASETS, "mnist", unchecked)
    data = datasets.load("mnist")
    assert np.array_equal(data.train_x[:, 0], source["train_x"])
    assert np.array_equal(data.test_y, source["test_y"])
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"half")
    with pytest.raises(UserError, match=r"MNIST/raw: incomplete or damaged, torchvision cannot read it"):
        datasets.load("mnist")


@pytest.mark.needs("mnist", "usps")
def test_real_data(real_data: Path) -> None:
    mnist = datasets.load("mnist")
    assert (mnist.train_x.shape, mnist.test_x.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    assert mnist.mean[0] == pytest.approx(0.1307, abs=5e-5)
    assert mnist.std[0] == pytest.approx(0.3081, abs=5e-5)
    assert datasets.load("usps").classes == 10


# ------------------------------------------------------------------------------------------------ what is refused
def refused(root: Path, **changes: Any) -> str:
    held = {k: v for k, v in arrays(**changes).items() if v is not None}
    np.savez(root / "bad.npz", **held)
    with pytest.raises(UserError) as caught:
        datasets.load("bad")
    return str(caught.value).replace(str(root), "ROOT")


def test_wrong_arrays_are_named(root: Path) -> None:
    assert refused(root, train_y=None) == (
        "ROOT/bad.npz: array 'train_y' is missing; the file holds test_x, test_y, train_x, "
        "and needs train_x, train_y, test_x, test_y."
    )
    assert refused(root, test_y=np.arange(7) % 4) == "ROOT/bad.npz: test_x has 8 samples, test_y has 7."
    assert refused(root, train_y=np.zeros(20)) == (
        "ROOT/bad.npz: train_y must hold one integer a sample, and is float64 of shape (20,)."
    )
    assert (
        refused(root, train_y=np.arange(20) % 4 - 1)
        == "ROOT/bad.npz: train_y holds the class -1; classes count from 0."
    )
    assert refused(root, train_y=np.arange(20) % 2 * 2) == "ROOT/bad.npz: class 1 has no training sample."
    assert refused(root, test_y=np.zeros(8, int)) == "ROOT/bad.npz: class 1, 2, 3 has no test sample."
    assert refused(root, train_y=np.array([2**40] * 20)) == "ROOT/bad.npz: class 0 has no training sample."
    assert refused(root, train_y=np.array(["a"] * 20)).startswith(
        "ROOT/bad.npz: train_y must hold one integer a sample"
    )
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


def test_objects_are_not_unpickled(root: Path) -> None:
    message = refused(root, train_x=np.array([object()] * 20, dtype=object))
    assert (
        message == "ROOT/bad.npz: array 'train_x' is damaged (Object arrays cannot be loaded when allow_pickle=False)."
    )


def test_truncated_and_flipped_files_are_named(root: Path) -> None:
    path = root / "bad.npz"
    np.savez_compressed(path, **arrays())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"bad.npz: damaged or truncated, not readable as npz"):
        datasets.load("bad")
    flipped = bytearray(whole)
    flipped[len(whole) // 4] ^= 0xFF
    path.write_bytes(flipped)
    with pytest.raises(UserError, match=r"bad.npz: array '\w+' is damaged"):
        datasets.load("bad")


def test_a_missing_set_names_the_variable(root: Path) -> None:
    with pytest.raises(UserError) as caught:
        datasets.load("kmnist")
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
        datasets.check_torchvision()


def test_a_users_arrays_run_end_to_end(root: Path) -> None:
    np.savez(root / "mine.npz", **arrays())
    run = resolve.make_run(
        "split_digits-v1",
        strategy="er",
        overrides=["id=split_mine-v1", "stream.data=mine", "stream.tasks.count=2", "training.iterations=3"],
    )
    outcome = runner.execute(run, root / "out")
    assert outcome.record["status"] == "completed"
    assert outcome.record["stream"]["classes"] == 4
