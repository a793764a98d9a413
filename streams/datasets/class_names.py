"""Names of classes, where a data set of PyTorch says them by `classes` or `class_to_idx`.

Folders that are missing, empty or hidden in one part of the data renumber the classes after them, so that one number
means two classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from clbench.errors import UserError, shown

Names = tuple[str, ...]
"""Names of classes 0, 1, ..."""


def names_of(name: str, parts: Sequence[Any]) -> Names:
    """The names of a data set's classes; none where no part says them.

    Args:
        name: of the data set, for messages.
        parts: data sets of PyTorch: for training and for testing, or one.

    Raises:
        UserError: parts, or the data sets that a part consists of, differ in names or their order.
    """
    labels = ("the training part", "the test part") if len(parts) == 2 else ("the data set",)
    every = [entry for label, part in zip(labels, parts, strict=True) for entry in _named(label, part)]
    for label, names in every[1:]:
        if names != every[0][1]:
            raise UserError(
                f"data set '{name}': {_difference(*every[0], label, names)}. A label must mean one class: use one list "
                "of classes in the same order (with folders, the same folders) in all parts."
            )
    return every[0][1] if every else ()


def moved(one: Names, other: Names) -> str | None:
    """The first name that both have under another number, or None."""
    numbers = {name: number for number, name in enumerate(other)}
    return next((name for c, name in enumerate(one) if numbers.get(name, c) != c), None)


def _named(label: str, dataset: Any) -> Iterator[tuple[str, Names]]:
    """A data set, or those that it consists of, in words, and the names that each says."""
    kind = type(dataset)
    if kind.__module__ == "torch.utils.data.dataset" and kind.__name__ == "Subset":
        yield from _named(label, dataset.dataset)
    elif kind.__module__ == "torch.utils.data.dataset" and kind.__name__ == "ConcatDataset":
        for number, part in enumerate(dataset.datasets):
            yield from _named(f"member {number} of {label}", part)
    elif getattr(dataset, "target_transform", None) is None:  # which numbers classes anew
        names = _listed(getattr(dataset, "class_to_idx", None)) or _listed(getattr(dataset, "classes", None))
        if names:
            yield label, names


def _listed(value: Any) -> Names:
    """Names in the order of their numbers; none of anything else."""
    if isinstance(value, Mapping):
        numbers = list(value.values())
        if not all(isinstance(n, (int, np.integer)) for n in numbers) or sorted(numbers) != list(range(len(numbers))):
            return ()
        return tuple(str(name) for name, _ in sorted(value.items(), key=lambda pair: int(pair[1])))
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    return tuple(map(str, value)) if isinstance(value, (list, tuple)) else ()


def _difference(one: str, names: Names, other: str, others: Names) -> str:
    """The difference between two lists of names."""
    sentences = []
    for absent, place in ((set(names) - set(others), other), (set(others) - set(names), one)):
        listed = ", ".join(shown(name) for name in sorted(absent)[:5])
        if absent:
            more = f" and {len(absent) - 5:,} more" if len(absent) > 5 else ""
            sentences.append(f"{listed}{more} {'is' if len(absent) == 1 else 'are'} missing from {place}")
    if name := moved(names, others):
        sentences.append(f"{shown(name)} is class {names.index(name)} in {one} and {others.index(name)} in {other}")
    if not sentences:  # a name is listed twice
        sentences.append(f"{one} lists {len(names):,} classes and {other} {len(others):,}")
    return "; ".join(sentences)
