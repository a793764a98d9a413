"""Data sets by import path, `package.module:Name`: a function that returns arrays, or a data set class of PyTorch.

A function without required arguments returns a mapping with arrays named as in an npz file, of either layout, or a
tuple (train_x, train_y, test_x, test_y).

A class that derives from `torch.utils.data.Dataset`, such as those of `torchvision.datasets` and
`avalanche.benchmarks.datasets`, is called with its parameters: `root` (the data root), `train` True and False or else
`split` "train" and "test", and `download` unless CLBENCH_OFFLINE forbids it. Where it has neither `train` nor `split`,
every fifth sample of a class is for testing. Its arrays are taken whole where they agree with its items; else its items
are read: PIL images, NumPy arrays (H, W), (H, W, C) or (F,), or tensors with channels first.

`lazy:package.module:Name` leaves inputs on the disk: items are read on demand. Name is such a class, or a function
without required arguments that returns a data set, or one for training and one for testing. Labels are `targets` (or
`labels`) where the first and the last item agree with them; else each start reads all items.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import operator
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench import import_paths
from clbench.errors import UserError
from clbench.on_disk import Items, OnDisk, Stored
from clbench.rng import Chance, fenced
from clbench.streams.datasets import outline_cache
from clbench.streams.datasets.sources import DIVIDED, WHOLE, Arrays, arrange, data_root, offline, split

LAZY = "lazy:"
"""Prefix of an import path whose inputs stay on the disk."""

_PROBES = 64
"""Number of evenly spaced items of a part that detect a change since it was read."""


def is_import_path(name: str) -> bool:
    """True if a name is an import path; no other name runs user-defined code."""
    return ":" in name and not name.startswith(("npz:", "npy:"))


def check(name: str) -> None:
    """Checks that the path exists, without importing it.

    Raises:
        UserError: it does not exist.
    """
    try:
        import_paths.check(name.removeprefix(LAZY))
    except UserError as error:
        raise UserError(f"data set {error}") from None


def load(name: str) -> Arrays:
    """The arrays behind an import path. Global generators are seeded the same each time, and restored.

    Raises:
        UserError: it does not import, raises, or is or returns something else.
    """
    check(name)
    with fenced(), redirect_stdout(sys.stderr):  # stdout may be the JSON of a run
        Chance(0).seed_globals("stream")
        with _as_user_error(name, "does not import"), warnings.catch_warnings():
            # Of qpsolvers, which Avalanche imports.
            warnings.filterwarnings("ignore", "no QP solver found", UserWarning)
            target = _imported(name.removeprefix(LAZY))
        if name.startswith(LAZY):
            return _on_disk(name, target)
        if _is_dataset(target):
            return _together(name, [_read(name, part) for part in _parts(name, target)])
        return _of_function(name, target)


def _imported(name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    target = getattr(importlib.import_module(module_name), attribute)
    if inspect.isfunction(target) and target.__module__ == "avalanche.benchmarks.datasets.torchvision_wrapper":
        from torchvision import datasets  # Avalanche wraps these classes in functions (*args, **kwargs)

        return getattr(datasets, attribute, target)
    return target


@contextmanager
def _as_user_error(name: str, what: str) -> Iterator[None]:
    """Turns any exception inside into one sentence."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # user-defined code may raise anything
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
        place = f"{frames[-1].filename}, line {frames[-1].lineno}: " if len(frames) > 1 else ""
        reason = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}").rstrip(": .")
        raise UserError(f"data set '{name}' {what}: {place}{reason}.") from error


# ------------------------------------------------------------------------------------------------ functions
def _of_function(name: str, function: Any) -> Arrays:
    allowed = "a function without required arguments, or a class that derives from torch.utils.data.Dataset"
    if not callable(function):
        raise UserError(f"data set '{name}': is of type {type(function).__name__}. Allowed: {allowed}.")
    with _as_user_error(name, "fails"):
        needed = _required(function)
        if needed:
            raise UserError(f"data set '{name}': needs the argument {', '.join(needed)}. Allowed: {allowed}.")
        result = function()
        if isinstance(result, Mapping):
            held = [str(key) for key in result]
            return arrange(held, lambda key: _array(result[key]), name, "the mapping")
        if isinstance(result, (tuple, list)) and len(result) == 4:
            return arrange(
                DIVIDED, lambda key: _array(result[DIVIDED.index(key)]), name, "the tuple"
            )  # fmt: skip
    length = f" with {len(result)} members" if isinstance(result, (tuple, list)) else ""
    raise UserError(
        f"data set '{name}': returned type {type(result).__name__}{length}. Allowed: a mapping with "
        f"{', '.join(DIVIDED)} or with {', '.join(WHOLE)}, or a tuple ({', '.join(DIVIDED)})."
    )


def _required(function: Any) -> list[str]:
    """Required arguments of a call."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some built-in functions have no signature
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [f"'{p.name}'" for p in parameters if p.default is p.empty and p.kind not in variable]


def _array(value: Any) -> NDArray[Any]:
    """An array of anything array-like, tensors of any device included."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


# ------------------------------------------------------------------------------------------------ data set classes
def _is_dataset(target: Any) -> bool:
    """True if it derives from torch's Dataset; without torch imported it cannot."""
    data = sys.modules.get("torch.utils.data")
    return data is not None and isinstance(target, type) and issubclass(target, data.Dataset)


def _parts(name: str, dataset: type) -> list[Any]:
    """The data sets of a class: for training and for testing, or one."""
    with _as_user_error(name, "fails"):
        accepted, required = _accepted(dataset), _required(dataset)
    common: dict[str, Any] = {}
    if "root" in accepted:
        common["root"] = str(data_root())
    if "download" in accepted:
        common["download"] = not offline()
    parts: list[dict[str, Any]] = [{}]
    if "train" in accepted:
        parts = [{"train": True}, {"train": False}]
    elif "split" in accepted:
        parts = [{"split": "train"}, {"split": "test"}]
    needed = [n for n in required if n.strip("'") not in {*common, *parts[0]}]
    if needed:
        returned = _RETURNED if name.startswith(LAZY) else f"the arrays {', '.join(DIVIDED)}"
        raise UserError(
            f"data set '{name}': needs the argument {', '.join(needed)}; name a user-defined function that passes it "
            f"and returns {returned}."
        )
    datasets: list[Any] = []
    for part in parts:
        arguments = ", ".join(f"{key}={value!r}" for key, value in part.items())
        why = " (CLBENCH_OFFLINE forbids downloads)" if common.get("download") is False else ""
        with _as_user_error(name, (f"fails with {arguments}" if arguments else "fails") + why):
            datasets.append(dataset(**common, **part))
    return datasets


def _together(name: str, parts: Sequence[tuple[Stored, NDArray[Any]]]) -> Arrays:
    """Inputs and labels of the two parts, or of one part to be divided."""
    if len(parts) == 1:
        return split(*parts[0], None, name)
    (train_x, train_y), (test_x, test_y) = parts
    return Arrays(train_x=train_x, train_y=train_y, test_x=test_x, test_y=test_y, origin=name)


def _accepted(dataset: type) -> set[str]:
    """Keywords of a constructor, those that it passes to its bases by **kwargs included."""
    names: set[str] = set()
    for base in dataset.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names


def _ends(name: str, dataset: Any) -> tuple[int, dict[int, tuple[NDArray[Any], int]]]:
    """Number of items; the first and the last."""
    samples = len(dataset)
    if not samples:
        raise UserError(f"data set '{name}': holds no sample.")
    return samples, {i: _item(name, dataset, i) for i in (0, samples - 1)}


def _read(name: str, dataset: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Inputs with channels last and labels of a data set."""
    samples, ends = _ends(name, dataset)
    x, y = _whole(dataset, samples, ends)
    if x is not None and y is not None:
        return x, y
    first, _ = ends[0]
    x, y = np.empty((samples, *first.shape), first.dtype), np.empty(samples, np.int64)
    for i in range(samples):
        image, y[i] = _item(name, dataset, i)
        if (image.shape, image.dtype) != (first.shape, first.dtype):
            raise UserError(
                f"data set '{name}': item 0 is {first.dtype} of shape {first.shape}, item {i} {image.dtype} of shape "
                f"{image.shape}; all must be alike."
            )
        x[i] = image
    return x, y


def _item(name: str, dataset: Any, i: int) -> tuple[NDArray[Any], int]:
    item = dataset[i]
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise UserError(f"data set '{name}': item {i} is of type {type(item).__name__}, not a tuple (input, label).")
    value, label = item[:2]
    if hasattr(value, "getbands") and value.mode in ("1", "P"):  # a PIL image of bits, or of a palette
        value = value.convert("L" if value.mode == "1" else "RGB")
    image = _array(value)
    if hasattr(value, "detach") and image.ndim == 3:
        image = image.transpose(1, 2, 0)
    try:
        return image, operator.index(label)
    except TypeError:
        raise UserError(f"data set '{name}': the label of item {i} is {label!r}, not a whole number.") from None


def _whole(
    dataset: Any, samples: int, ends: dict[int, tuple[NDArray[Any], int]]
) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    """Arrays `data` and `targets` (or `labels`) where the first and the last item agree with them; else None."""
    data: Any = getattr(dataset, "data", None)
    x = None
    if len(getattr(data, "shape", ())) > 1 and len(data) == samples:
        held = _array(data)
        layouts = [held, held.transpose(0, 2, 3, 1)] if held.ndim == 4 else [held]
        for layout in layouts:
            if all(layout.dtype == image.dtype and np.array_equal(layout[i], image) for i, (image, _) in ends.items()):
                x = layout
                break
    for attribute in ("targets", "labels"):
        value = getattr(dataset, attribute, None)
        if value is None or not hasattr(value, "__len__") or len(value) != samples:
            continue
        y = _array(value)
        if y.ndim == 1 and y.dtype.kind in "iu" and all(int(y[i]) == label for i, (_, label) in ends.items()):
            return x, y
    return x, None


# ------------------------------------------------------------------------------------------------ left on the disk
_RETURNED = "a data set of PyTorch with __len__ and __getitem__, or a pair of them for training and testing"


def _on_disk(name: str, target: Any) -> Arrays:
    """A data set whose items stay on the disk."""
    datasets = _parts(name, target) if _is_dataset(target) else _returned(name, target)
    parts: list[tuple[OnDisk, NDArray[np.int64]]] = []
    for dataset in datasets:
        with _as_user_error(name, "fails"):
            samples, ends = _ends(name, dataset)
            for i, (image, _) in ends.items():
                again, _ = _item(name, dataset, i)
                if not np.array_equal(image, again, equal_nan=image.dtype.kind == "f"):
                    raise UserError(
                        f"data set '{name}': item {i} differs each time it is read; random changes belong to "
                        "training.augmentation."
                    )
            _, y = _whole(dataset, samples, ends)
            if y is None:
                y = np.array([_item(name, dataset, i)[1] for i in range(samples)], np.int64)
        parts.append((OnDisk(Items(partial(_image, name, dataset), samples, name)), y))
    files = {getattr(sys.modules.get(of), "__file__", None) for of in _modules(target, *datasets)}

    def stamp() -> Any:
        code = outline_cache.stamps(*(Path(file) for file in sorted(filter(None, files))))
        return [name, code, *(_probed(x, y) for x, y in parts)]

    return replace(_together(name, parts), stamp=stamp)


def _returned(name: str, function: Any) -> list[Any]:
    """Data sets returned by a function."""
    if not callable(function):
        raise UserError(
            f"data set '{name}': is of type {type(function).__name__}. Allowed: a class that derives from "
            f"torch.utils.data.Dataset, or a function without required arguments that returns {_RETURNED}."
        )
    with _as_user_error(name, "fails"):
        needed = _required(function)
        if needed:
            raise UserError(f"data set '{name}': needs the argument {', '.join(needed)}. Allowed: none.")
        result = function()
    datasets = list(result) if isinstance(result, (tuple, list)) else [result]
    if (
        len(datasets) > 2
        or not all(hasattr(d, "__len__") and hasattr(d, "__getitem__") for d in datasets)
        or not datasets
    ):
        length = f" with {len(datasets)} members" if isinstance(result, (tuple, list)) else ""
        raise UserError(f"data set '{name}': returned type {type(result).__name__}{length}. Allowed: {_RETURNED}.")
    return datasets


def _image(name: str, dataset: Any, i: int) -> NDArray[Any]:
    with _as_user_error(name, f"fails at item {i}"):
        return _item(name, dataset, i)[0]


def _modules(*things: Any) -> set[str]:
    """The names of the modules that define things or their classes."""
    return {getattr(thing, "__module__", type(thing).__module__) for thing in things}


def _probed(x: OnDisk, y: NDArray[Any]) -> list[Any]:
    """Shape, dtype, and a digest of the labels and of some items."""
    digest = hashlib.sha256(np.asarray(y, "<i8").tobytes())
    rows = np.unique(np.linspace(0, len(x) - 1, _PROBES).astype(np.int64))
    digest.update(x.read(rows).tobytes())
    return [list(x.shape), x.dtype.str, digest.hexdigest()]
