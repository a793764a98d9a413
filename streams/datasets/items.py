"""Items of data sets of PyTorch: the inputs and labels that `__getitem__` gives, which are what is learnt.

`data`, `targets` and `labels` are raw: transforms apply in `__getitem__` alone. They are taken for the items in
torchvision's own classes, where its code says that items are nothing else; no attribute of another class is trusted.
"""

from __future__ import annotations

import hashlib
import operator
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.errors import UserError, shown
from clbench.on_disk import Items, OnDisk
from clbench.streams.datasets import outline_cache
from clbench.streams.datasets.sources import looks_channels_first

PROBES = 64
"""Number of evenly spaced items of a part that detect a change since it was read."""

_READ_AGAIN = 1024
"""Number of evenly spaced items in memory that are read twice."""

_AT_ONCE = 256
"""Labels read at a time."""

_ARRAYS = {
    "MNIST": "targets", "FashionMNIST": "targets", "KMNIST": "targets", "EMNIST": "targets", "USPS": "targets",
    "CIFAR10": "targets", "CIFAR100": "targets", "SVHN": "labels", "STL10": "labels", "SEMEION": "labels",
}  # fmt: skip
"""torchvision's classes whose items are `data[i]` and this attribute's."""

_FOLDERS = ("DatasetFolder", "ImageFolder", "ImageNet", "EuroSAT")
"""torchvision's classes whose labels are those of `samples`. (A changed `targets` changes no item.)"""


@contextmanager
def as_user_error(name: str, what: str) -> Iterator[None]:
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


def to_array(value: Any) -> NDArray[Any]:
    """An array of anything array-like, tensors of any device included; of Python objects where sizes differ."""
    value = value.detach().cpu() if hasattr(value, "detach") else value
    try:
        return np.asarray(value)
    except ValueError:  # samples of different sizes
        objects = np.empty(len(value), object)
        for place, member in enumerate(value):
            objects[place] = member
        return objects


def count(name: str, dataset: Any) -> int:
    """Number of items, >= 1."""
    with as_user_error(name, "fails"):
        samples = len(dataset)
    if not samples:
        raise UserError(f"data set '{name}': holds no sample.")
    return samples


def item(name: str, dataset: Any, i: int) -> tuple[NDArray[Any], int]:
    """Input, channels last, and label of an item.

    Raises:
        UserError: it raises, is no tuple, or its label is no whole number.
    """
    with as_user_error(name, f"fails at item {i}"):
        held = dataset[i]
        if not isinstance(held, (tuple, list)) or len(held) < 2:
            kind = type(held).__name__
            raise UserError(f"data set '{name}': item {i} is of type {kind}, not a tuple (input, label).")
        value, label = held[:2]
        if hasattr(value, "getbands") and value.mode in ("1", "P"):  # a PIL image of bits, or of a palette
            value = value.convert("L" if value.mode == "1" else "RGB")
        image = to_array(value)
        if image.ndim == 3:
            image = _channels_last(name, i, image, tensor=hasattr(value, "detach"))
        return image, _whole_number(name, i, label)


def _whole_number(name: str, i: int, label: Any) -> int:
    """The label of an item.

    Raises:
        UserError: it is no whole number.
    """
    array = to_array(label)
    if array.ndim == 0 and array.dtype.kind in "iu":
        return operator.index(array.item())
    text = shown(array.item() if array.ndim == 0 else array.tolist())
    remedy = "np.unique(y, return_inverse=True)[1] numbers those of all items"
    if array.ndim == 1 and array.dtype.kind in "iufb" and sorted(array.tolist()) == [*[0] * (len(array) - 1), 1]:
        remedy = "of one that is one-hot, y.argmax()"
    raise UserError(
        f"data set '{name}': the label of item {i} is {text}, not a whole number; labels are whole numbers 0 to C-1: "
        f"{remedy}."
    )


def _channels_last(name: str, i: int, image: NDArray[Any], tensor: bool) -> NDArray[Any]:
    """An image (H, W, C) of an array of that layout, or of a tensor (C, H, W).

    Raises:
        UserError: it looks like the other layout.
    """
    where, shape = f"data set '{name}': item {i} is", image.shape
    kinds = "arrays are (H, W, C), tensors (C, H, W)"
    if not tensor and looks_channels_first(shape):
        raise UserError(
            f"{where} an array of shape {shape}, which looks like channels first; {kinds}: x.transpose(1, 2, 0). (If "
            f"the {shape[0]} are rows: x.transpose(1, 0, 2) swaps rows and columns)."
        )
    if tensor and looks_channels_first(shape[::-1]):
        raise UserError(
            f"{where} a tensor of shape {shape}, which looks like channels last; {kinds}: x.permute(2, 0, 1). (If the "
            f"{shape[2]} are columns: x.permute(0, 2, 1) swaps rows and columns)."
        )
    return image.transpose(1, 2, 0) if tensor else image


def read(name: str, dataset: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Inputs with channels last and labels of all items, in memory.

    Raises:
        UserError: items are not alike, or differ each time they are read.
    """
    samples = count(name, dataset)
    ends = {i: item(name, dataset, i) for i in (0, samples - 1)}
    held, first = _inputs(dataset, samples, ends), ends[0][0]
    labels = known_labels(dataset)
    if held is not None and labels is not None:
        return held, labels
    x, y = np.empty((samples, *first.shape), first.dtype), np.empty(samples, np.int64)
    for i in range(samples):
        image, y[i] = item(name, dataset, i)
        if (image.shape, image.dtype) != (first.shape, first.dtype):
            raise UserError(
                f"data set '{name}': item 0 is {first.dtype} of shape {first.shape}, item {i} {image.dtype} of shape "
                f"{image.shape}; all must be alike."
            )
        x[i] = image
    for i in _spread(samples, _READ_AGAIN):
        _check_repeats(name, dataset, i, x[i], int(y[i]))
    return x, y


def probe(name: str, dataset: Any, samples: int) -> str:
    """A digest of some items, each of which is read twice.

    Raises:
        UserError: one differs each time it is read.
    """
    digest = hashlib.sha256()
    for i in _spread(samples, PROBES):
        image, label = item(name, dataset, i)
        _check_repeats(name, dataset, i, image, label)
        digest.update(f"{image.dtype.str}{image.shape}{label}".encode())
        digest.update(np.ascontiguousarray(image).view(np.uint8).data)
    return digest.hexdigest()


def labels_of(name: str, dataset: Any, samples: int, seen: Any) -> NDArray[np.int64]:
    """The labels of all items, int64 (N,).

    They are read item by item where torchvision's code does not tell them. Where the data set declares labels
    (`targets` or `labels`), what was read is remembered until these, `seen` or a probe change.

    Args:
        name: of the data set, for messages.
        dataset: a data set of PyTorch.
        samples: N.
        seen: JSON values that change with the code and the probes.
    """
    known = known_labels(dataset)
    if known is not None:
        return known
    declared = _declared(dataset, samples)
    if declared is None:
        return _read_labels(name, dataset, samples)
    key = outline_cache.key("labels", seen, hashlib.sha256(declared.tobytes()).hexdigest())
    labels = outline_cache.recall_labels(key)
    if labels is None or len(labels) != samples:
        labels = _read_labels(name, dataset, samples)
        outline_cache.keep_labels(key, labels)
    return labels


def known_labels(dataset: Any) -> NDArray[np.int64] | None:
    """The labels of all items where the code of torch or torchvision tells them without reading the items."""
    kind = type(dataset)
    if kind.__module__ == "torch.utils.data.dataset" and kind.__name__ == "Subset":
        whole = known_labels(dataset.dataset)
        return None if whole is None else whole[np.asarray(dataset.indices, np.int64)]
    if kind.__module__ == "torch.utils.data.dataset" and kind.__name__ == "ConcatDataset":
        parts = [known_labels(part) for part in dataset.datasets]
        return None if any(part is None for part in parts) else np.concatenate([p for p in parts if p is not None])
    if getattr(dataset, "target_transform", None) is not None or not _of_torchvision(kind):
        return None
    if kind.__name__ in _FOLDERS:
        return np.array([label for _, label in dataset.samples], np.int64)
    labels = getattr(dataset, _ARRAYS[kind.__name__], None) if kind.__name__ in _ARRAYS else None
    return None if labels is None else to_array(labels).astype(np.int64)


def _of_torchvision(kind: type) -> bool:
    return kind.__module__.startswith("torchvision.datasets.") and kind.__module__ in sys.modules


def _inputs(dataset: Any, samples: int, ends: dict[int, tuple[NDArray[Any], int]]) -> NDArray[Any] | None:
    """The array `data` of torchvision's own class, channels last, where no transform changes it."""
    kind = type(dataset)
    changed = any(getattr(dataset, name, None) is not None for name in ("transform", "transforms"))
    if changed or kind.__name__ not in _ARRAYS or not _of_torchvision(kind) or len(dataset.data) != samples:
        return None
    held = to_array(dataset.data)
    layouts = [held, held.transpose(0, 2, 3, 1)] if held.ndim == 4 else [held]
    for layout in layouts:
        if all(layout.dtype == image.dtype and np.array_equal(layout[i], image) for i, (image, _) in ends.items()):
            return layout
    return None


def _declared(dataset: Any, samples: int) -> NDArray[np.int64] | None:
    """Whole numbers in `targets` or `labels`, one an item: a sign of change, not the labels."""
    for attribute in ("targets", "labels"):
        value = getattr(dataset, attribute, None)
        if value is not None and hasattr(value, "__len__") and len(value) == samples:
            array = to_array(value)
            if array.ndim == 1 and array.dtype.kind in "iu":
                return array.astype(np.int64)
    return None


def _read_labels(name: str, dataset: Any, samples: int) -> NDArray[np.int64]:
    """The labels of all items, in worker processes where there are any."""
    labels = OnDisk(Items(partial(_label, name, dataset), samples, name))
    lists = (np.arange(start, min(start + _AT_ONCE, samples)) for start in range(0, samples, _AT_ONCE))
    return np.concatenate(list(labels.in_turn(lists, through=True)))


def _label(name: str, dataset: Any, i: int) -> NDArray[Any]:
    return np.array(item(name, dataset, i)[1], np.int64)


def image(name: str, dataset: Any, i: int) -> NDArray[Any]:
    """The input of an item."""
    return item(name, dataset, i)[0]


def _spread(samples: int, most: int) -> list[int]:
    """Numbers of evenly spaced items, the first and the last included."""
    return [int(i) for i in np.unique(np.linspace(0, samples - 1, most).astype(np.int64))]


def _check_repeats(name: str, dataset: Any, i: int, before: NDArray[Any], label: int) -> None:
    """Checks that an item is what it was when it was read before."""
    again, label_again = item(name, dataset, i)
    floats = before.dtype.kind == again.dtype.kind == "f"
    if not np.array_equal(before, again, equal_nan=floats):
        raise UserError(
            f"data set '{name}': item {i} differs each time it is read; random changes belong to training.augmentation."
        )
    if label != label_again:
        raise UserError(
            f"data set '{name}': the label of item {i} differs each time it is read, {label} and {label_again}; wrong "
            "labels belong to stream.supervision.noise."
        )
