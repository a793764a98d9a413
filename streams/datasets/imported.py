"""Data sets by import path, `package.module:Name`: a function that returns arrays, or a data set class of PyTorch.

A function without required arguments returns a mapping with arrays named as in an npz file, of either layout, or a
tuple (train_x, train_y, test_x, test_y).

A class that derives from `torch.utils.data.Dataset`, such as those of `torchvision.datasets` and
`avalanche.benchmarks.datasets`, is called with what its signature has: `root` (the data root), `train` True and False
or else `split` "train" and "test", and `download` unless CLBENCH_OFFLINE forbids it. Where it has neither `train` nor
`split`, every fifth sample of a class is for testing. Its arrays are taken whole where its items are nothing else;
else its items are gone through: PIL images, NumPy arrays (H, W), (H, W, C) or (F,), or tensors with channels first.

`lazy:package.module:Name` leaves inputs where they are: items are read whenever their samples are asked for. Name is
such a class, or a function without required arguments that returns a data set, or one for training and one for testing.
Labels are `targets` (or `labels`) where the first and the last item say the same; else each start goes through all
items.
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
"""Before an import path: its inputs stay on the disk."""

_PROBES = 64
"""Items of a part, evenly spaced, that tell whether it changed since it was read through."""


def is_import_path(name: str) -> bool:
    """Whether a name is meant as an import path; no other name runs code of the user's own."""
    return ":" in name and not name.startswith(("npz:", "npy:"))


def check(name: str) -> None:
    """Whether the path leads somewhere, told without importing it.

    Raises:
        UserError: it does not.
    """
    try:
        import_paths.check(name.removeprefix(LAZY))
    except UserError as error:
        raise UserError(f"data set {error}") from None


def load(name: str) -> Arrays:
    """The arrays behind an import path. Global generators are seeded the same each time, and put back.

    Raises:
        UserError: it does not import, raises, or is or returns something else.
    """
    check(name)
    with fenced(), redirect_stdout(sys.stderr):  # stdout may be the JSON of a run
        Chance(0).seed_globals("stream")
        with _told(name, "does not import"), warnings.catch_warnings():
            # Of qpsolvers, which Avalanche imports.
            warnings.filterwarnings("ignore", "no QP solver found", UserWarning)
            found = _found(name.removeprefix(LAZY))
        if name.startswith(LAZY):
            return _left(name, found)
        if _is_dataset(found):
            return _together(name, [_read(name, part) for part in _parts(name, found)])
        return _of_function(name, found)


def _found(name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module_name), attribute)
    if inspect.isfunction(found) and found.__module__ == "avalanche.benchmarks.datasets.torchvision_wrapper":
        from torchvision import datasets  # Avalanche wraps these classes in functions (*args, **kwargs)

        return getattr(datasets, attribute, found)
    return found


@contextmanager
def _told(name: str, what: str) -> Iterator[None]:
    """Whatever is raised inside becomes one sentence."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # code of the user's own may do anything
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
        place = f"{frames[-1].filename}, line {frames[-1].lineno}: " if len(frames) > 1 else ""
        reason = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}").rstrip(": .")
        raise UserError(f"data set '{name}' {what}: {place}{reason}.") from error


# ------------------------------------------------------------------------------------------------ functions
def _of_function(name: str, found: Any) -> Arrays:
    allowed = "a function without required arguments, or a class that derives from torch.utils.data.Dataset"
    if not callable(found):
        raise UserError(f"data set '{name}': is of type {type(found).__name__}. Allowed: {allowed}.")
    with _told(name, "fails"):
        needed = _required(found)
        if needed:
            raise UserError(f"data set '{name}': needs the argument {', '.join(needed)}. Allowed: {allowed}.")
        result = found()
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


def _required(found: Any) -> list[str]:
    """Arguments that a call must give."""
    try:
        parameters = inspect.signature(found).parameters.values()
    except ValueError:  # some built-in ones do not tell
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [f"'{p.name}'" for p in parameters if p.default is p.empty and p.kind not in variable]


def _array(value: Any) -> NDArray[Any]:
    """An array of anything array-like, tensors of any device included."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


# ------------------------------------------------------------------------------------------------ data set classes
def _is_dataset(found: Any) -> bool:
    """Whether it derives from torch's Dataset; without torch imported it cannot."""
    data = sys.modules.get("torch.utils.data")
    return data is not None and isinstance(found, type) and issubclass(found, data.Dataset)


def _parts(name: str, found: type) -> list[Any]:
    """The data sets of a class: for training and for testing, or one."""
    with _told(name, "fails"):
        accepted, required = _accepted(found), _required(found)
    given: dict[str, Any] = {}
    if "root" in accepted:
        given["root"] = str(data_root())
    if "download" in accepted:
        given["download"] = not offline()
    parts: list[dict[str, Any]] = [{}]
    if "train" in accepted:
        parts = [{"train": True}, {"train": False}]
    elif "split" in accepted:
        parts = [{"split": "train"}, {"split": "test"}]
    needed = [n for n in required if n.strip("'") not in {*given, *parts[0]}]
    if needed:
        returned = _RETURNED if name.startswith(LAZY) else f"the arrays {', '.join(DIVIDED)}"
        raise UserError(
            f"data set '{name}': needs the argument {', '.join(needed)}; name a function of your own that gives it and "
            f"returns {returned}."
        )
    made: list[Any] = []
    for part in parts:
        said = ", ".join(f"{key}={value!r}" for key, value in part.items())
        why = " (CLBENCH_OFFLINE forbids downloads)" if given.get("download") is False else ""
        with _told(name, (f"fails with {said}" if said else "fails") + why):
            made.append(found(**given, **part))
    return made


def _together(name: str, parts: Sequence[tuple[Stored, NDArray[Any]]]) -> Arrays:
    """Inputs and labels of the two parts, or of one that is to be divided."""
    if len(parts) == 1:
        return split(*parts[0], None, name)
    (train_x, train_y), (test_x, test_y) = parts
    return Arrays(train_x=train_x, train_y=train_y, test_x=test_x, test_y=test_y, origin=name)


def _accepted(found: type) -> set[str]:
    """Keywords that a constructor takes, those that it hands on to its bases by **kwargs included."""
    names: set[str] = set()
    for base in found.__mro__:
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
    """Arrays `data` and `targets` (or `labels`) where the first and the last item are what stands there; else None."""
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


def _left(name: str, found: Any) -> Arrays:
    """A data set whose items stay where they are."""
    made = _parts(name, found) if _is_dataset(found) else _returned(name, found)
    parts: list[tuple[OnDisk, NDArray[np.int64]]] = []
    for dataset in made:
        with _told(name, "fails"):
            samples, ends = _ends(name, dataset)
            for i, (image, _) in ends.items():
                again, _ = _item(name, dataset, i)
                if not np.array_equal(image, again, equal_nan=image.dtype.kind == "f"):
                    raise UserError(
                        f"data set '{name}': item {i} is another each time it is asked for; random changes belong to "
                        "training.augmentation."
                    )
            _, y = _whole(dataset, samples, ends)
            if y is None:
                y = np.array([_item(name, dataset, i)[1] for i in range(samples)], np.int64)
        parts.append((OnDisk(Items(partial(_image, name, dataset), samples, name)), y))
    files = {getattr(sys.modules.get(of), "__file__", None) for of in _modules(found, *made)}

    def stamp() -> Any:
        code = outline_cache.stamps(*(Path(file) for file in sorted(filter(None, files))))
        return [name, code, *(_probed(x, y) for x, y in parts)]

    return replace(_together(name, parts), stamp=stamp)


def _returned(name: str, found: Any) -> list[Any]:
    """What a function gives."""
    if not callable(found):
        raise UserError(
            f"data set '{name}': is of type {type(found).__name__}. Allowed: a class that derives from "
            f"torch.utils.data.Dataset, or a function without required arguments that returns {_RETURNED}."
        )
    with _told(name, "fails"):
        needed = _required(found)
        if needed:
            raise UserError(f"data set '{name}': needs the argument {', '.join(needed)}. Allowed: none.")
        result = found()
    made = list(result) if isinstance(result, (tuple, list)) else [result]
    if len(made) > 2 or not all(hasattr(d, "__len__") and hasattr(d, "__getitem__") for d in made) or not made:
        length = f" with {len(made)} members" if isinstance(result, (tuple, list)) else ""
        raise UserError(f"data set '{name}': returned type {type(result).__name__}{length}. Allowed: {_RETURNED}.")
    return made


def _image(name: str, dataset: Any, i: int) -> NDArray[Any]:
    with _told(name, f"fails at item {i}"):
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
