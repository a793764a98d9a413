"""Sources of data sets: files of the data root.

A source returns arrays as stored; `clbench.streams.datasets.load` checks them and converts them to one layout.
Nothing is unpickled except CIFAR's official archives, whose bytes torchvision checks against their published MD5 first.
"""

from __future__ import annotations

import lzma
import os
import zipfile
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from clbench.dataset import Facts, with_names
from clbench.errors import UserError
from clbench.on_disk import Map, OnDisk, Stored
from clbench.streams.datasets.decompressed import Decompressed
from clbench.streams.datasets.labels import (
    class_problem,
    label_problem,
    object_problem,
    parts_problem,
    target_problem,
    task_problem,
)

DIVIDED = ("train_x", "train_y", "test_x", "test_y")
"""Arrays of a data set with a test part; `train_task` and `test_task` are optional."""

REGRESSION = ("train_x", "train_target", "test_x", "test_target")
"""Arrays of a data set with numbers to predict; `train_task` and `test_task` are optional."""

WHOLE = ("x", "y")
"""Arrays of a data set without a test part: every fifth sample of a class is for testing. `task` is optional."""

_TAKEN = (
    "digits", "digits_inverted", "digits_parity", "synthetic", "glyphs", "gapminder", "concepts", "link_load",
    "grid_load",
)  # fmt: skip
"""Names that no file of the data root replaces."""
MEDMNIST = {
    "train_x": "train_images", "train_y": "train_labels", "test_x": "test_images", "test_y": "test_labels",
}  # fmt: skip
"""Names of these arrays in the files of MedMNIST, with labels (N, 1); `val_images` and `val_labels` stay unread."""

EMBEDDED = ("digits", "digits_inverted", "digits_parity", "synthetic")
"""Names that are no files: data sets inside packages, and generated ones; see `clbench.streams.datasets.embedded`."""

_COLOURS = 4
"""Most channels of ordinary images: red, green, blue, opacity."""


_DAMAGED = (KeyError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, EOFError, OSError)
"""Errors of a member of a damaged npz file."""


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """A data set from its source, unchecked.

    Attributes:
        train_x: (N, F), (N, H, W) or (N, H, W, C).
        train_y: integers (N,).
        test_x, test_y: the same for the test part.
        train_task, test_task: integers (N,), or None where the source defines no tasks.
        top: the stored value that stands for 1.0; None for the usual one of the dtype.
        origin: the file or package, with which messages begin.
        stamp: of inputs on the disk: returns JSON values that change with the contents, so that these need not be read
            at each start.
        class_names: see `Outline`.
        train_target, test_target: numbers to predict, (N, D), of a regression, whose labels are all 0; else None.
        target_names: see `Outline`.
        fresh: whether nobody else has the inputs, so that their memory may be reused.
        basis: number of first training samples whose mean and deviation standardise all; None for all of them.
    """

    train_x: Stored
    train_y: NDArray[Any]
    test_x: Stored
    test_y: NDArray[Any]
    train_task: NDArray[Any] | None = None
    test_task: NDArray[Any] | None = None
    top: float | None = None
    origin: str
    stamp: Callable[[], Any] | None = None
    class_names: tuple[str, ...] = ()
    train_target: NDArray[Any] | None = None
    test_target: NDArray[Any] | None = None
    target_names: tuple[str, ...] = ()
    fresh: bool = False
    basis: int | None = None


def data_root() -> Path:
    """`CLBENCH_DATA`, else the user's cache folder."""
    setting = os.environ.get("CLBENCH_DATA")
    return Path(setting).expanduser() if setting else cache_folder()


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/clbench`, by default `~/.cache/clbench`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clbench"


def offline() -> bool:
    """True if downloads are forbidden."""
    return os.environ.get("CLBENCH_OFFLINE", "") not in ("", "0")


def is_whole(held: Collection[str], where: str, holder: str) -> bool:
    """True if the arrays are those of an undivided data set.

    Args:
        held: the names of the arrays; further ones are ignored.
        where: the beginning of a message.
        holder: the container of the arrays, in words.

    Raises:
        UserError: one is missing, or both layouts are mixed.
    """
    divided = [n for n in (*DIVIDED, "train_task", "test_task") if n in held]
    whole = [n for n in (*WHOLE, "task") if n in held]
    if divided and whole:
        raise UserError(
            f"{where}: {holder} holds {', '.join(divided + whole)}. Allowed are either {', '.join(DIVIDED)} (with "
            "train_task, test_task) or x, y (with task), not both."
        )
    needed = list(WHOLE if whole else DIVIDED)
    if "train_task" in divided or "test_task" in divided:
        needed += ["train_task", "test_task"]
    for name in needed:
        if name not in held:
            content = ", ".join(sorted(held)) or "nothing"
            other = "" if divided or whole else ", or x and y"
            raise UserError(
                f"{where}: array '{name}' is missing; {holder} holds {content}, and needs {', '.join(needed)}{other}."
            )
    return bool(whole)


def arrange(held: Collection[str], read: Callable[[str], Any], where: str, holder: str) -> Arrays:
    """Arrays by name, of either layout, to a training and a test part."""

    def inputs(name: str) -> Any:
        x = read(name)
        if problem := layout_problem(name, x.shape):
            raise UserError(f"{where}: {problem}.")
        return x

    if is_regression(held, where, holder):
        return _regression(held, inputs, read, where)
    if is_whole(held, where, holder):
        return split(inputs("x"), read("y"), read("task") if "task" in held else None, where)
    train_task, test_task = (read(n) if n in held else None for n in ("train_task", "test_task"))
    train_x, train_y, test_x, test_y = inputs("train_x"), read("train_y"), inputs("test_x"), read("test_y")
    return Arrays(
        train_x=train_x, train_y=train_y, test_x=test_x, test_y=test_y, train_task=train_task, test_task=test_task,
        origin=where,
    )  # fmt: skip


def is_regression(held: Collection[str], where: str, holder: str) -> bool:
    """True if the arrays are those of a data set with numbers to predict; arguments as for `is_whole`.

    Raises:
        UserError: one is missing, or there are labels too.
    """
    if "train_target" not in held and "test_target" not in held:
        return False
    labels = [name for name in ("train_y", "test_y", "x", "y") if name in held]
    if labels:
        raise UserError(
            f"{where}: {holder} holds {labels[0]} and targets. Allowed are labels or {', '.join(REGRESSION)}, not both."
        )
    needed = [*REGRESSION, *(("train_task", "test_task") if "train_task" in held or "test_task" in held else ())]
    for name in needed:
        if name not in held:
            raise UserError(f"{where}: array '{name}' is missing; a regression needs {', '.join(needed)}.")
    return True


def _regression(held: Collection[str], inputs: Callable[[str], Any], read: Callable[[str], Any], where: str) -> Arrays:
    train_x, test_x, train_target, test_target = (
        inputs("train_x"), inputs("test_x"), read("train_target"), read("test_target")
    )  # fmt: skip
    train_task, test_task = (read(n) if n in held else None for n in ("train_task", "test_task"))
    for part, x, target in (("train", train_x, train_target), ("test", test_x, test_target)):
        if problem := target_problem(f"{part}_target", target, len(x) if x.ndim else 0):
            raise UserError(f"{where}: {problem}.")
    return Arrays(
        train_x=train_x, train_y=np.zeros(len(train_target), np.int64), test_x=test_x,
        test_y=np.zeros(len(test_target), np.int64), train_task=train_task, test_task=test_task, origin=where,
        train_target=train_target, test_target=test_target,
    )  # fmt: skip


def split(
    x: Stored,
    y: NDArray[Any],
    task: NDArray[Any] | None,
    where: str,
    top: float | None = None,
    class_names: tuple[str, ...] = (),
) -> Arrays:
    """Every fifth sample of each class (of each class in each task), in the order given, is a test sample.

    Raises:
        UserError: inputs of another shape or dtype, labels or tasks that are no integers 0, 1, ..., or a class with
            fewer than five samples in a task.
    """
    problem = (
        label_problem("x", "y", y, len(x) if x.ndim else 0)
        or input_problem("x", x)
        or class_problem("y", y, class_names)
        or (task_problem("task", task, len(y)) if task is not None else None)
    )
    if problem:
        raise UserError(f"{where}: {problem}.")
    test = fifths(y, task, where, class_names)
    train_task, test_task = (None, None) if task is None else (task[~test], task[test])
    train_x, test_x = (x.only(part) if isinstance(x, OnDisk) else x[part] for part in (~test, test))
    return Arrays(
        train_x=train_x, train_y=y[~test], test_x=test_x, test_y=y[test], train_task=train_task, test_task=test_task,
        top=top, origin=where, class_names=class_names,
    )  # fmt: skip


def fifths(
    y: NDArray[Any], task: NDArray[Any] | None, where: str, class_names: tuple[str, ...] = ()
) -> NDArray[np.bool_]:
    """A mask of every fifth sample of each class (of each class in each task), bool (N,).

    Raises:
        UserError: a class with fewer than five samples in a task.
    """
    cells = y.astype(np.int64) if task is None else task.astype(np.int64) * (int(y.max()) + 1) + y.astype(np.int64)
    _, first, counts = np.unique(cells, return_index=True, return_counts=True)
    if len(few := np.flatnonzero(counts < 5)):
        at, count = first[few[0]], int(counts[few[0]])
        named = with_names([int(y[at])], class_names)
        place, each = ("", "") if task is None else (f" in task {task[at]}", " in each of its tasks")
        raise UserError(
            f"{where}: class {named} has {count} sample{'s' * (count > 1)}{place}; every fifth of a class is for "
            f"testing, so it needs at least 5{each}."
        )
    order = np.argsort(cells, kind="stable")
    rank = np.arange(len(cells)) - np.repeat(np.cumsum(counts) - counts, counts)
    test = np.empty(len(cells), np.bool_)
    test[order] = rank % 5 == 4
    return test


def input_problem(name: str, x: Stored) -> str | None:
    """Mistake in inputs alone. The values of those on the disk are checked when they are read."""
    if x.dtype.hasobject:
        return object_problem(name)
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        return f"{name} must be uint8 or floats, and is {x.dtype}"
    if not 2 <= x.ndim <= 4:
        return f"{name} must be (N, F), (N, H, W) or (N, H, W, C), and has the shape {x.shape}"
    return None if isinstance(x, OnDisk) else finite_problem(name, range(len(x)), x)


def layout_problem(name: str, shape: tuple[int, ...]) -> str | None:
    """Mistake if images (N, H, W, C) look like (N, C, H, W).

    >>> layout_problem("x", (9, 32, 32, 3)), layout_problem("x", (9, 4, 4, 512)), layout_problem("x", (9, 128, 1, 6))
    (None, None, None)
    """
    if len(shape) != 4 or not looks_channels_first(shape[1:]):
        return None
    return (
        f"{name} has the shape {shape}, which looks like channels first; images are (N, H, W, C): "
        f"{name}.transpose(0, 2, 3, 1). (If the {shape[1]} are rows: {name}.transpose(0, 2, 1, 3) swaps rows and "
        "columns)"
    )


def looks_channels_first(shape: tuple[int, ...]) -> bool:
    """True of (H, W, C) with few rows, or with as many columns as channels, and with many channels."""
    rows, columns, channels = shape
    return min(columns, channels) > _COLOURS and (rows <= _COLOURS or columns == channels != rows)


def finite_problem(name: str, rows: Sequence[int] | NDArray[np.int64], x: NDArray[Any]) -> str | None:
    """Mistake if floats are not finite; `rows` are the numbers of the samples, (N,)."""
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        return f"{name} holds NaN or infinity, first in sample {int(rows[int(np.argwhere(~np.isfinite(x))[0][0])])}"
    return None


def npz_path(name: str) -> Path | None:
    """The npz file behind a name, or None where it is not one."""
    if name.startswith("npz:"):
        path = Path(name[4:]).expanduser()
        if not path.is_file():
            raise UserError(f"'{name}': no such file.")
        return path
    if "/" in name or name.startswith(".") or ":" in name:
        return None
    path = data_root() / f"{name}.npz"
    return path if path.is_file() and name not in _TAKEN else None


def read_npz(path: Path) -> Arrays:
    """The arrays of a file, of either layout."""
    with _open(path) as archive:
        copies = Decompressed(archive, lambda: cache_folder() / "arrays")
        held = _called(_names(archive))
        arrays = arrange(held, lambda name: _array(archive, path, name, held[name], copies), str(path), "the file")
        if arrays.train_target is None:
            arrays = replace(arrays, class_names=_texts(archive, path, "class_names", held, np.unique(arrays.train_y)))
        else:
            arrays = replace(arrays, target_names=_texts(archive, path, "target_names", held, arrays.train_target[0]))
    return replace(arrays, fresh=True)


def npz_facts(path: Path) -> Facts:
    """Facts of a file: labels are read, inputs are not."""
    with _open(path) as archive:
        held = _called(_names(archive))
        return _facts(
            held, lambda name: _array(archive, path, name, held[name]),
            lambda name: _header(archive, path, held[name]), str(path), "the file",
        )  # fmt: skip


def _called(held: Sequence[str]) -> dict[str, str]:
    """The arrays of a file by our names: as they are called there, or as MedMNIST calls them."""
    if set(MEDMNIST.values()) <= set(held) and not {*DIVIDED, *WHOLE} & set(held):
        return MEDMNIST
    return {name: name for name in held}


def _array(
    archive: zipfile.ZipFile, path: Path, name: str, called: str, copies: Decompressed | None = None
) -> NDArray[Any]:
    array = _member(archive, path, called, copies)
    if name == called or not name.endswith("_y") or array.ndim != 2:
        return array
    if array.shape[1] != 1:
        raise UserError(
            f"{path}: {called} has the shape {array.shape}, several labels a sample, as of ChestMNIST; a sample needs "
            "one, (N, 1)."
        )
    return array[:, 0]


def _texts(archive: zipfile.ZipFile, path: Path, name: str, held: Collection[str], of: Any) -> tuple[str, ...]:
    """Names in a file, one for each in `of`; none where there is no such array, or it is no list of texts."""
    array = _member(archive, path, name) if name in held else None
    if array is None or array.ndim != 1 or array.dtype.kind != "U":
        return ()
    if len(array) != np.size(of):
        raise UserError(f"{path}: {name} has {len(array)} names; the data have {np.size(of)}.")
    return tuple(map(str, array))


def _facts(
    held: Collection[str],
    read: Callable[[str], NDArray[Any]],
    shape_of: Callable[[str], tuple[int, ...]],
    where: str,
    holder: str,
) -> Facts:
    if is_regression(held, where, holder):
        task = read("train_task") if "train_task" in held else None
        image = len(shape_of("train_x")) > 2
        return Facts(1, image, tasks=None if task is None else int(task.max()) + 1, numbers=True)
    whole = is_whole(held, where, holder)
    x_name, y_name, task_name = ("x", "y", "task") if whole else ("train_x", "train_y", "train_task")
    y, shape = read(y_name), shape_of(x_name)
    problem = layout_problem(x_name, shape) or label_problem(x_name, y_name, y, shape[0] if shape else 0)
    if not whole and problem is None:
        test_y, test_shape = read("test_y"), shape_of("test_x")
        problem = layout_problem("test_x", test_shape)
        problem = problem or label_problem("test_x", "test_y", test_y, test_shape[0] if test_shape else 0)
        problem = problem or parts_problem(y, test_y)
    problem = problem or class_problem(y_name, y)
    task = read(task_name) if task_name in held else None
    if task is not None:
        problem = problem or task_problem(task_name, task, len(y))
    if problem:
        raise UserError(f"{where}: {problem}.")
    return Facts(int(y.max()) + 1, len(shape) > 2, tasks=None if task is None else int(task.max()) + 1)


def _open(path: Path) -> zipfile.ZipFile:
    try:
        with path.open("rb") as file:
            single = file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX
        if single:
            raise UserError(
                f"{path}: a single array, as np.save writes it; an npz has several: np.savez(path, x=x, y=y)."
            )
        return zipfile.ZipFile(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except zipfile.BadZipFile as error:
        raise UserError(f"{path}: damaged or truncated, not readable as npz ({error}).") from None


def _names(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist()]


def _shape(stream: IO[bytes], path: Path, name: str) -> tuple[int, ...]:
    """The shape of an array in a file, its values unread.

    Raises:
        UserError: it holds Python objects.
        ValueError: damaged.
    """
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise UserError(f"{path}: {object_problem(name)}.")
    return shape


def _header(archive: zipfile.ZipFile, path: Path, name: str) -> tuple[int, ...]:
    """See `_shape`."""
    try:
        with archive.open(f"{name}.npy") as stream:
            return _shape(stream, path, name)
    except _DAMAGED as error:
        raise UserError(f"{path}: array '{name}' is damaged ({error}).") from None


def _member(archive: zipfile.ZipFile, path: Path, name: str, copies: Decompressed | None = None) -> NDArray[Any]:
    _header(archive, path, name)
    try:
        if copies is not None and (array := copies.read(f"{name}.npy")) is not None:
            return array
        with archive.open(f"{name}.npy") as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except _DAMAGED as error:
        raise UserError(f"{path}: array '{name}' is damaged ({error}).") from None


def npy_folder(name: str) -> Path | None:
    """The folder of npy files behind a name, or None where it is not one."""
    if not name.startswith("npy:"):
        return None
    folder = Path(name[4:]).expanduser()
    if not folder.is_dir():
        raise UserError(f"'{name}': no such folder.")
    return folder


def read_npy(folder: Path) -> Arrays:
    """The arrays of a folder, of either layout; inputs are memory-mapped."""

    def read(name: str) -> Stored:
        return OnDisk(_map(folder, name)) if name in ("x", "train_x", "test_x") else _whole(folder, name)

    return arrange(sorted(path.stem for path in folder.glob("*.npy")), read, str(folder), "the folder")


def npy_facts(folder: Path) -> Facts:
    """As `npz_facts`."""
    held = sorted(path.stem for path in folder.glob("*.npy"))
    return _facts(
        held, lambda name: _whole(folder, name), lambda name: _map(folder, name).shape, str(folder),
        "the folder",
    )  # fmt: skip


def _map(folder: Path, name: str) -> Map:
    _peek(folder / f"{name}.npy", name)
    return Map(folder / f"{name}.npy")


def _peek(path: Path, name: str) -> None:
    """Checks that a file is an array, and not of Python objects."""
    try:
        with path.open("rb") as stream:
            _shape(stream, path, name)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: damaged or truncated, not readable as npy ({error}).") from None


def _whole(folder: Path, name: str) -> NDArray[Any]:
    path = folder / f"{name}.npy"
    _peek(path, name)
    try:
        with path.open("rb") as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: damaged or truncated, not readable as npy ({error}).") from None
