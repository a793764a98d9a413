"""Data sets by name, as NumPy arrays: looked for in the data root, embedded, generated, or downloaded.

The data root is `CLBENCH_DATA`, else `~/.cache/clbench`. It is looked in first, for `NAME.npz` (arrays `train_x`,
`train_y`, `test_x`, `test_y`) and then for torchvision's own folder layout; only then torchvision downloads. Set
`CLBENCH_OFFLINE=1` to forbid downloads. Nothing is unpickled except CIFAR's official archives, whose bytes
torchvision checks against their published MD5 first.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import socket
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.chance import Generator
from clbench.grammar import SyntheticData
from clbench.errors import UserError, unknown


@dataclass(frozen=True)
class Facts:
    """What can be said of a data set without loading its images; None where its own code would have to be run."""

    classes: int | None
    image: bool | None
    summary: str = ""
    tasks: int | None = None
    """Number of tasks that the data itself says."""


@dataclass(frozen=True, kw_only=True)
class Outline:
    """All of a data set but its inputs: what a stream is compiled from.

    Attributes:
        name: the name in the configuration.
        train_y: int64 (N,), classes 0..classes-1.
        test_y: the same for the test part.
        train_task, test_task: the data's own task of each sample, int64 (N,), 0..T-1; None where it says none.
        classes: number of classes.
        shape: of a sample: (C, H, W) of images, (F,) of vectors.
        sha256: over shapes, dtypes and bytes of the arrays.
        origin: where it came from, for provenance.
    """

    name: str
    train_y: NDArray[np.int64]
    test_y: NDArray[np.int64]
    train_task: NDArray[np.int64] | None = None
    test_task: NDArray[np.int64] | None = None
    classes: int
    shape: tuple[int, ...]
    sha256: str
    origin: str


@dataclass(frozen=True, kw_only=True)
class DataSet(Outline):
    """A data set in memory.

    Attributes:
        train_x: uint8 or float32, (N, C, H, W) for images and (N, F) for vectors.
        test_x: the same for the test part.
        top: the stored value that stands for 1.0 (255 for ordinary uint8 images, 1 for floats).
        mean, std: of the training inputs in units of `top`, one number a channel (images) or one in all (vectors).
    """

    train_x: NDArray[Any]
    test_x: NDArray[Any]
    top: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class _Known:
    """A data set of the table."""

    facts: Facts
    torchvision: str | None = None
    folder: str | None = None
    host: str | None = None
    sha256: str | None = None
    """Digest of the published arrays, where we could check them against the publisher's checksums."""


DATASETS: dict[str, _Known] = {
    "digits": _Known(
        Facts(10, True, "8x8 grey digits, 1,442 train, 355 test; ships with scikit-learn"),
        sha256="145b48fcae08296daf13c0658f889701ddab5cb9bb3ec66f13264349e063c6e0",
    ),
    "mnist": _Known(
        Facts(10, True, "28x28 grey digits, 60,000 train, 10,000 test"),
        "MNIST", "MNIST/raw", "ossci-datasets.s3.amazonaws.com",
        sha256="11de40ec28a7c150195b86fd3a818037e73f1e8d04ab1621d02836dbdf8a2d54",
    ),
    "fashion_mnist": _Known(
        Facts(10, True, "28x28 grey clothes, 60,000 train, 10,000 test"),
        "FashionMNIST", "FashionMNIST/raw", "fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        sha256="b42e0f3189f494f730119201c9e1a41654a875ffd564ea07b7cf8032d5327c02",
    ),
    "kmnist": _Known(
        Facts(10, True, "28x28 grey Kuzushiji, 60,000 train, 10,000 test"), "KMNIST", "KMNIST/raw", "codh.rois.ac.jp"
    ),
    "cifar10": _Known(
        Facts(10, True, "32x32 colour photographs, 50,000 train, 10,000 test"),
        "CIFAR10", "cifar-10-batches-py", "www.cs.toronto.edu",
        sha256="e6216b9018fcebdb2fc8d67681111ecdcbcb1599320d6cfc1c4f6ff4b91839a8",
    ),
    "cifar100": _Known(
        Facts(100, True, "32x32 colour photographs, 50,000 train, 10,000 test"),
        "CIFAR100", "cifar-100-python", "www.cs.toronto.edu",
    ),
    "omniglot": _Known(
        Facts(659, True, "28x28 grey characters of 20 alphabets, 9,885 train, 3,295 test"),
        "Omniglot", "omniglot-py/images_evaluation", "raw.githubusercontent.com",
    ),
    "synthetic": _Known(Facts(10, False, "Gaussian classes of any size, from a seed; nothing to download")),
}  # fmt: skip


def data_root() -> Path:
    """`CLBENCH_DATA`, else the user's cache folder."""
    given = os.environ.get("CLBENCH_DATA")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clbench"


def available() -> dict[str, str]:
    """Every name that can be asked for: the table, and other NAME.npz of the data root, with a summary."""
    found = {name: known.facts.summary for name, known in DATASETS.items()}
    root = data_root()
    if root.is_dir():
        for path in sorted(root.glob("*.npz")):
            found.setdefault(path.stem, f"your own arrays, {path}")
    return found


def facts(name: str, synthetic: SyntheticData | None = None) -> Facts:
    """Number of classes and kind of input, without loading images and without torch.

    Raises:
        UserError: unknown name, or a damaged npz file.
    """
    if name == "synthetic":
        return Facts((synthetic or SyntheticData()).classes, False)
    path = _npz_path(name)
    if path is not None:
        with _open(path) as archive:
            labels = _member(archive, path, "train_y")
            shape = _header(archive, path, "train_x")
        problem = _label_problem("train", labels, shape[0] if shape else 0) or _class_problem(labels)
        if problem:
            raise UserError(f"{path}: {problem}.")
        return Facts(int(labels.max()) + 1, len(shape) > 2)
    if name in DATASETS:
        return DATASETS[name].facts
    message = unknown("data set", name, available()).rstrip(".")
    raise UserError(f"{message}, npz:PATH, or any NAME for which CLBENCH_DATA ({data_root()}) holds a NAME.npz.")


def require(name: str, synthetic: SyntheticData | None = None) -> None:
    """Fails early, and without importing torch, where a data set cannot be had.

    Raises:
        UserError: unknown, damaged at first sight, or missing with no way to download it.
    """
    facts(name, synthetic)
    known = DATASETS.get(name)
    if known is None or known.torchvision is None or _npz_path(name) is not None:
        return
    if (data_root() / str(known.folder)).is_dir() or _can_download(str(known.host)):
        return
    raise UserError(_missing(name, known))


def load(name: str, synthetic: SyntheticData | None = None, size: int | None = None) -> DataSet:
    """A data set, checked.

    Args:
        name: a name of the table, `npz:PATH`, or NAME where the data root holds NAME.npz.
        synthetic: parameters of the data set `synthetic`.

    Raises:
        UserError: cannot be had, or a file is damaged; the message names the file and what is wrong with it.
    """
    require(name, synthetic)
    path = _npz_path(name)
    if name == "synthetic":
        data = _finish(name, *_synthetic(synthetic or SyntheticData()), origin="generated", top=1.0)
    elif path is not None:
        data = _finish(name, *_read_npz(path), origin=str(path))
    elif name == "digits":
        data = _finish(name, *_digits(), origin="scikit-learn", top=16.0)
    else:
        data = _finish(name, *_read_torchvision(name), origin=f"torchvision, {data_root()}")
    expected = DATASETS[name].sha256 if name in DATASETS else None
    if expected is not None and data.sha256 != expected:
        raise UserError(
            f"{data.origin}: not the published '{name}' (SHA-256 {data.sha256[:16]}..., expected {expected[:16]}...); "
            "it is damaged, or data of your own, which needs another name."
        )
    return data


# ------------------------------------------------------------------------------------------------ npz
def _npz_path(name: str) -> Path | None:
    """The npz file behind a name, or None where it is not one."""
    if name.startswith("npz:"):
        path = Path(name[4:]).expanduser()
        if not path.is_file():
            raise UserError(f"'{name}': no such file.")
        return path
    if "/" in name or name.startswith("."):
        return None
    path = data_root() / f"{name}.npz"
    return path if path.is_file() and name not in ("digits", "synthetic") else None


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path}: damaged or truncated, not readable as npz ({error}).") from None


def _header(archive: zipfile.ZipFile, path: Path, name: str) -> tuple[int, ...]:
    """The shape of a member, its values unread."""
    try:
        with archive.open(f"{name}.npy") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            return read(stream)[0]
    except KeyError:
        raise UserError(_no_array(archive, path, name)) from None
    except (ValueError, zlib.error, zipfile.BadZipFile, EOFError, OSError) as error:
        raise UserError(f"{path}: array '{name}' is damaged ({error}).") from None


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> NDArray[Any]:
    try:
        with archive.open(f"{name}.npy") as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except KeyError:
        raise UserError(_no_array(archive, path, name)) from None
    except (ValueError, zlib.error, zipfile.BadZipFile, EOFError, OSError) as error:
        raise UserError(f"{path}: array '{name}' is damaged ({error}).") from None


def _no_array(archive: zipfile.ZipFile, path: Path, name: str) -> str:
    held = ", ".join(sorted(Path(n).stem for n in archive.namelist())) or "nothing"
    return f"{path}: array '{name}' is missing; the file holds {held}, and needs train_x, train_y, test_x, test_y."


def _read_npz(path: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    with _open(path) as archive:
        names = ("train_x", "train_y", "test_x", "test_y")
        train_x, train_y, test_x, test_y = (_member(archive, path, name) for name in names)
    return train_x, train_y, test_x, test_y


# ------------------------------------------------------------------------------------------------ sources
def _digits() -> tuple[NDArray[Any], ...]:
    """scikit-learn's copy of the UCI handwritten digits; every fifth sample of a class is a test sample."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, y = bunch.images.astype(np.uint8), bunch.target.astype(np.int64)
    place = np.empty(len(y), np.int64)
    for c in range(10):
        place[y == c] = np.arange((y == c).sum())
    test = place % 5 == 4
    return x[~test], y[~test], x[test], y[test]


def _synthetic(spec: SyntheticData) -> tuple[NDArray[Any], ...]:
    """Gaussian classes; values rounded to 1/1024, so that a last bit of a logarithm cannot change the data set."""
    generator = Generator(spec.seed, "synthetic")

    def normal(rows: int) -> NDArray[np.float64]:
        return generator.normal(rows * spec.features).reshape(rows, spec.features)

    means = normal(spec.classes) * (spec.separation / np.sqrt(2.0 * spec.features))
    parts = []
    for per_class in (spec.train_per_class, spec.test_per_class):
        y = np.repeat(np.arange(spec.classes, dtype=np.int64), per_class)
        x = np.rint((means[y] + normal(len(y))) * 1024) / 1024
        parts += [x.astype(np.float32), y]
    return tuple(parts)


def _can_download(host: str) -> bool:
    """Whether the publisher's server answers, asked for half a second at most."""
    if os.environ.get("CLBENCH_OFFLINE", "") not in ("", "0"):
        return False
    if urllib.request.getproxies():
        return True  # the proxy decides, when torchvision asks it
    try:
        with socket.create_connection((host, 443 if host.startswith("ossci") else 80), timeout=0.5):
            return True
    except OSError:
        return False


def _missing(name: str, known: _Known) -> str:
    root = data_root()
    return (
        f"data set '{name}' is not in {root} and cannot be downloaded from here. Put {name}.npz (train_x, train_y, "
        f"test_x, test_y) or torchvision's folder {known.folder} into a folder and set CLBENCH_DATA to it."
    )


def _read_torchvision(name: str) -> tuple[NDArray[Any], ...]:
    known, root = DATASETS[name], data_root()
    check_torchvision()
    from torchvision import datasets

    loader = getattr(datasets, str(known.torchvision))
    local = (root / str(known.folder)).is_dir()
    arrays: list[NDArray[Any]] = []
    for train in (True, False):
        try:
            part = loader(str(root), train=train, download=not local and _can_download(str(known.host)))
        except Exception as error:  # torchvision's readers raise whatever the bytes lead them to, assertions included
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            if local:
                folder = root / str(known.folder)
                raise UserError(f"{folder}: incomplete or damaged, torchvision cannot read it ({reason}).") from None
            raise UserError(f"{_missing(name, known)} ({reason})") from None
        arrays += [np.asarray(part.data), np.asarray(part.targets, np.int64)]
    return tuple(arrays)


def check_torchvision() -> None:
    """torch and torchvision must come from one place; a CPU build beside a CUDA build imports and then breaks.

    Raises:
        UserError: they do not match.
    """
    import torch

    if importlib.util.find_spec("torchvision") is None:
        raise UserError("torchvision is not installed; install it from the same place as torch.")
    try:
        import torchvision
    except (RuntimeError, ImportError, OSError) as error:
        from importlib.metadata import version

        raise UserError(
            f"torch {torch.__version__} and torchvision {version('torchvision')} do not match ({error}). "
            "Install both from the same place, both for the CPU or both for the same CUDA version."
        ) from None
    del torchvision


# ------------------------------------------------------------------------------------------------ checks
def _finish(
    name: str,
    train_x: NDArray[Any],
    train_y: NDArray[Any],
    test_x: NDArray[Any],
    test_y: NDArray[Any],
    *,
    origin: str,
    top: float | None = None,
) -> DataSet:
    """Checks the four arrays and brings them to the stored layout."""
    for part, x, y in (("train", train_x, train_y), ("test", test_x, test_y)):
        problem = _problem(part, x, y)
        if problem:
            raise UserError(f"{origin}: {problem}.")
    if train_x.shape[1:] != test_x.shape[1:]:
        raise UserError(f"{origin}: train_x has samples of {train_x.shape[1:]}, test_x of {test_x.shape[1:]}.")
    problem = _class_problem(train_y)
    if problem:
        raise UserError(f"{origin}: {problem}.")
    known, tested = set(np.unique(train_y).tolist()), set(np.unique(test_y).tolist())
    classes = len(known)
    for found, said in ((tested - known, "is in test_y, but not in train_y"), (known - tested, "has no test sample")):
        if found:
            raise UserError(f"{origin}: class {', '.join(map(str, sorted(found)[:5]))} {said}.")
    train, test = _layout(train_x), _layout(test_x)
    labels, test_labels = train_y.astype(np.int64), test_y.astype(np.int64)
    scale = top or (255.0 if train.dtype == np.uint8 else 1.0)
    mean, std = _moments(train, scale)
    return DataSet(
        name=name, train_x=train, train_y=labels, test_x=test, test_y=test_labels, classes=classes, top=scale,
        mean=mean, std=std, shape=train.shape[1:], sha256=_digest(train, labels, test, test_labels), origin=origin,
    )  # fmt: skip


def _label_problem(part: str, y: NDArray[Any], samples: int) -> str | None:
    if y.ndim != 1 or y.dtype.kind not in "iu":
        return f"{part}_y must hold one integer a sample, and is {y.dtype} of shape {y.shape}"
    if samples != len(y):
        return f"{part}_x has {samples} samples, {part}_y has {len(y)}"
    if len(y) == 0:
        return f"{part}_x is empty"
    if y.min() < 0:
        return f"{part}_y holds the class {y.min()}; classes count from 0"
    return None


def _class_problem(y: NDArray[Any]) -> str | None:
    """Whether 0..C-1 all occur."""
    found = np.unique(y)
    gap = np.flatnonzero(found != np.arange(len(found)))
    return f"class {gap[0]} has no training sample" if len(gap) else None


def _problem(part: str, x: NDArray[Any], y: NDArray[Any]) -> str | None:
    if problem := _label_problem(part, y, len(x) if x.ndim else 0):
        return problem
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        return f"{part}_x must be uint8 or floats, and is {x.dtype}"
    if not 2 <= x.ndim <= 4:
        return f"{part}_x must be (N, F), (N, H, W) or (N, H, W, C), and has the shape {x.shape}"
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        return f"{part}_x holds NaN or infinity, first in sample {int(np.argwhere(~np.isfinite(x))[0][0])}"
    return None


def _layout(x: NDArray[Any]) -> NDArray[Any]:
    """(N, H, W) and (N, H, W, C) to (N, C, H, W); floats to float32."""
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4:
        x = x.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(x, dtype=np.uint8 if x.dtype == np.uint8 else np.float32)


def _moments(x: NDArray[Any], top: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel; from exact integer counts for uint8, so equal on every machine."""
    channels = [x[:, c] for c in range(x.shape[1])] if x.ndim == 4 else [x]
    mean, std = [], []
    for values in channels:
        if x.dtype == np.uint8:
            counts = np.bincount(values.ravel(), minlength=256)
            levels = [int(v) for v in range(256)]
            total = int(counts.sum())
            first = sum(int(n) * v for n, v in zip(counts, levels, strict=True)) / total
            second = sum(int(n) * v * v for n, v in zip(counts, levels, strict=True)) / total
        else:
            first = float(values.mean(dtype=np.float64))
            second = float(np.square(values, dtype=np.float64).mean())
        mean.append(first / top)
        std.append(max(second - first * first, 0.0) ** 0.5 / top or 1.0)
    return tuple(mean), tuple(std)


def _digest(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()
