"""Data sets by import path, `package.module:Name`: a function that returns arrays, or a data set class of PyTorch.

A function without required arguments returns a mapping with arrays named as in an npz file, of either layout, or a
tuple (train_x, train_y, test_x, test_y).

A class that derives from `torch.utils.data.Dataset`, such as those of `torchvision.datasets` and
`avalanche.benchmarks.datasets`, is called with its parameters: `root` (the data root), `train` True and False or else
`split` "train" and "test", and `download` unless CLBENCH_OFFLINE forbids it. Where it has neither `train` nor `split`,
every fifth sample of a class is for testing. What its items are is learnt (`clbench.streams.datasets.items`): PIL
images, NumPy arrays (H, W), (H, W, C) or (F,), or tensors with channels first, the same at each access.

`lazy:package.module:Name` leaves inputs on the disk: items are read on demand. Name is such a class, or a function
without required arguments that returns a data set, or one for training and one for testing.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench import import_paths
from clbench.dataset import FILE_KINDS
from clbench.errors import UserError
from clbench.on_disk import Items, OnDisk, Stored
from clbench.rng import Chance, fenced
from clbench.streams.datasets import items, outline_cache
from clbench.streams.datasets.class_names import names_of
from clbench.streams.datasets.items import as_user_error, to_array
from clbench.streams.datasets.sources import DIVIDED, WHOLE, Arrays, arrange, data_root, offline, split

LAZY = "lazy:"
"""Prefix of an import path whose inputs stay on the disk."""


def is_import_path(name: str) -> bool:
    """True if a name is an import path; no other name runs user-defined code."""
    return ":" in name and not name.startswith(FILE_KINDS)


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
        with as_user_error(name, "does not import"), warnings.catch_warnings():
            # Of qpsolvers, which Avalanche imports.
            warnings.filterwarnings("ignore", "no QP solver found", UserWarning)
            target = _imported(name.removeprefix(LAZY))
        if name.startswith(LAZY):
            return _on_disk(name, target)
        if _is_dataset(target):
            datasets = _parts(name, target)
            return _together(name, datasets, [items.read(name, part) for part in datasets])
        return _of_function(name, target)


def _imported(name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    target = getattr(importlib.import_module(module_name), attribute)
    if inspect.isfunction(target) and target.__module__ == "avalanche.benchmarks.datasets.torchvision_wrapper":
        from torchvision import datasets  # Avalanche wraps these classes in functions (*args, **kwargs)

        return getattr(datasets, attribute, target)
    return target


# ------------------------------------------------------------------------------------------------ functions
def _of_function(name: str, function: Any) -> Arrays:
    allowed = "a function without required arguments, or a class that derives from torch.utils.data.Dataset"
    if not callable(function):
        raise UserError(f"data set '{name}': is of type {type(function).__name__}. Allowed: {allowed}.")
    with as_user_error(name, "fails"):
        needed = _required(function)
        if needed:
            raise UserError(f"data set '{name}': needs the argument {', '.join(needed)}. Allowed: {allowed}.")
        result = function()
        if isinstance(result, Mapping):
            held = [str(key) for key in result]
            return arrange(held, lambda key: to_array(result[key]), name, "the mapping")
        if isinstance(result, (tuple, list)) and len(result) == 4:
            return arrange(
                DIVIDED, lambda key: to_array(result[DIVIDED.index(key)]), name, "the tuple"
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


# ------------------------------------------------------------------------------------------------ data set classes
def _is_dataset(target: Any) -> bool:
    """True if it derives from torch's Dataset; without torch imported it cannot."""
    data = sys.modules.get("torch.utils.data")
    return data is not None and isinstance(target, type) and issubclass(target, data.Dataset)


def _parts(name: str, dataset: type) -> list[Any]:
    """The data sets of a class: for training and for testing, or one."""
    with as_user_error(name, "fails"):
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
        with as_user_error(name, (f"fails with {arguments}" if arguments else "fails") + why):
            datasets.append(dataset(**common, **part))
    return datasets


def _together(name: str, datasets: Sequence[Any], parts: Sequence[tuple[Stored, NDArray[Any]]]) -> Arrays:
    """Inputs and labels of the two parts, or of one part to be divided."""
    with as_user_error(name, "fails"):
        names = names_of(name, datasets)
    if len(parts) == 1:
        return split(*parts[0], None, name, class_names=names)
    (train_x, train_y), (test_x, test_y) = parts
    return Arrays(train_x=train_x, train_y=train_y, test_x=test_x, test_y=test_y, origin=name, class_names=names)


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


# ------------------------------------------------------------------------------------------------ left on the disk
_RETURNED = "a data set of PyTorch with __len__ and __getitem__, or a pair of them for training and testing"


def _on_disk(name: str, target: Any) -> Arrays:
    """A data set whose items stay on the disk."""
    datasets = _parts(name, target) if _is_dataset(target) else _returned(name, target)
    files = {getattr(sys.modules.get(of), "__file__", None) for of in _modules(target, *datasets)}

    def code() -> list[list[Any]]:
        return outline_cache.stamps(*(Path(file) for file in sorted(filter(None, files))))

    parts: list[tuple[OnDisk, NDArray[np.int64]]] = []
    for number, dataset in enumerate(datasets):
        samples = items.count(name, dataset)
        probed = items.probe(name, dataset, samples)
        y = items.labels_of(name, dataset, samples, [name, number, code(), probed])
        parts.append((OnDisk(Items(partial(items.image, name, dataset), samples, name)), y))

    def stamp() -> Any:
        return [name, code(), *(_probed(x, y) for x, y in parts)]

    return replace(_together(name, datasets, parts), stamp=stamp)


def _returned(name: str, function: Any) -> list[Any]:
    """Data sets returned by a function."""
    if not callable(function):
        raise UserError(
            f"data set '{name}': is of type {type(function).__name__}. Allowed: a class that derives from "
            f"torch.utils.data.Dataset, or a function without required arguments that returns {_RETURNED}."
        )
    with as_user_error(name, "fails"):
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


def _modules(*things: Any) -> set[str]:
    """The names of the modules that define things or their classes."""
    return {getattr(thing, "__module__", type(thing).__module__) for thing in things}


def _probed(x: OnDisk, y: NDArray[Any]) -> list[Any]:
    """Shape, dtype, and a digest of the labels and of some items."""
    digest = hashlib.sha256(np.asarray(y, "<i8").tobytes())
    rows = np.unique(np.linspace(0, len(x) - 1, items.PROBES).astype(np.int64))
    digest.update(x.read(rows).tobytes())
    return [list(x.shape), x.dtype.str, digest.hexdigest()]
