"""Mistakes in labels and in tasks, with the line of NumPy that mends each.

Labels are whole numbers 0 to C-1, tasks 0 to T-1, each with a sample; nothing else is guessed to be meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.dataset import with_names

_LISTED = 8
"""Most values in a message."""

_KINDS = {"O": "Python objects", "U": "strings", "S": "strings", "T": "strings", "f": "floats", "b": "true and false"}
"""Values of a NumPy kind, in words."""


def label_problem(x_name: str, y_name: str, y: NDArray[Any], samples: int) -> str | None:
    """Mistake in labels alone."""
    problem = _type_problem(y_name, y)
    if problem:
        return problem
    if samples != len(y):
        return f"{x_name} has {samples} samples, {y_name} has {len(y)}"
    if len(y) == 0:
        return f"{x_name} is empty"
    return _range_problem(y_name, y) if y.min() < 0 else None


def target_problem(name: str, target: NDArray[Any], samples: int) -> str | None:
    """Mistake in the numbers that a regression predicts, (N,) or (N, D)."""
    if target.dtype.kind not in "fiu":
        return f"{name} holds {_KINDS.get(target.dtype.kind, str(target.dtype))}; a regression needs numbers"
    if target.ndim not in (1, 2) or (target.ndim == 2 and not target.shape[1]):
        return f"{name} has the shape {target.shape}; allowed: (N,) or (N, D)"
    if len(target) != samples:
        return f"{name} has {len(target)} rows, for {samples} samples"
    finite = np.isfinite(target.astype(np.float32)).reshape(len(target), -1).all(1)
    return None if finite.all() else f"{name}[{int(np.flatnonzero(~finite)[0])}] is not finite"


def class_problem(y_name: str, y: NDArray[Any], names: Sequence[str] = ()) -> str | None:
    """Mistake if one of 0..C-1 does not occur.

    Args:
        y_name: of the array.
        y: integers >= 0, (N,).
        names: of classes 0, 1, ..., where there are any: then numbers are right, and a class is missing.
    """
    if names:
        labels = np.unique(y)
        gap = np.flatnonzero(labels != np.arange(len(labels)))
        what = "sample" if y_name == "y" else "training sample"
        return f"class {with_names([int(gap[0])], names)} has no {what}" if len(gap) else None
    return _range_problem(y_name, y)


def parts_problem(train_y: NDArray[Any], test_y: NDArray[Any], names: Sequence[str] = ()) -> str | None:
    """Mistake if the parts differ in their classes, or one of 0..C-1 does not occur; arguments as above."""
    known, tested = set(np.unique(train_y).tolist()), set(np.unique(test_y).tolist())
    if tested - known:
        return f"class {with_names(sorted(tested - known)[:5], names)} is in test_y, but not in train_y"
    problem = class_problem("train_y", train_y, names)
    if problem is None and known - tested:
        return f"class {with_names(sorted(known - tested)[:5], names)} has no test sample"
    return problem


def task_problem(name: str, task: NDArray[Any], samples: int) -> str | None:
    """Mistake in tasks alone."""
    problem = _type_problem(name, task)
    if problem is None and len(task) != samples:
        return f"{name} must hold one integer a sample ({samples}), and is {task.dtype} of shape {task.shape}"
    return problem or _range_problem(name, task)


def tasks_problem(
    train_y: NDArray[Any], train_task: NDArray[Any], test_y: NDArray[Any], test_task: NDArray[Any],
    names: Sequence[str] = (),
) -> str | None:  # fmt: skip
    """Mistake if training and test parts differ in the classes of a task."""
    problem = task_problem("train_task", train_task, len(train_y)) or task_problem("test_task", test_task, len(test_y))
    if problem:
        return problem
    tasks, tested = int(train_task.max()) + 1, int(test_task.max()) + 1
    if tasks != tested:
        return f"train_task holds {tasks} tasks, test_task holds {tested}"
    classes = int(max(train_y.max(), test_y.max())) + 1
    train = np.unique(train_task.astype(np.int64) * classes + train_y.astype(np.int64))
    test = np.unique(test_task.astype(np.int64) * classes + test_y.astype(np.int64))
    for more, less, has, misses in ((train, test, "training", "test"), (test, train, "test", "training")):
        alone = np.setdiff1d(more, less)
        if len(alone):
            task, c = divmod(int(alone[0]), classes)
            return f"class {with_names([c], names)} has {has} samples in task {task}, but no {misses} sample there"
    return None


def object_problem(name: str) -> str:
    """Mistake of an array of Python objects, which is never unpickled.

    >>> object_problem("y")
    'y holds Python objects; labels are whole numbers 0 to C-1: y = np.unique(y, return_inverse=True)[1]'
    """
    if name.endswith("x"):
        return (
            f"{name} holds Python objects, such as samples of different sizes; samples are one array of uint8 or "
            f"floats, all of one shape: np.stack(list({name}))"
        )
    return f"{name} holds Python objects; {_rule(name)}: {_renumbered(name)}"


def _rule(name: str, number: int | None = None) -> str:
    kind, last = ("tasks", "T-1") if name.endswith("task") else ("labels", "C-1")
    return f"{kind} are whole numbers 0 to {last if number is None else number - 1}"


def _renumbered(name: str) -> str:
    """The line that numbers the values of an array, those of both parts alike."""
    part, _, stem = name.rpartition("_")
    if not part:
        return f"{name} = np.unique({name}, return_inverse=True)[1]"
    both = f"np.concatenate([train_{stem}, test_{stem}])"
    numbered = f"np.unique({both}, return_inverse=True)[1]"
    return f"train_{stem}, test_{stem} = np.split({numbered}, [len(train_{stem})])"


def _applied(name: str, method: str) -> str:
    """A line that applies a method to an array, of both parts alike."""
    part, _, stem = name.rpartition("_")
    names = [f"train_{stem}", f"test_{stem}"] if part else [name]
    return f"{', '.join(names)} = {', '.join(f'{n}.{method}' for n in names)}"


def _type_problem(name: str, array: NDArray[Any]) -> str | None:
    """Mistake in shape or type."""
    kind = array.dtype.kind
    if array.dtype.hasobject and array.ndim == 1:
        return object_problem(name)
    if array.ndim == 2 and array.shape[1] == 1:
        return f"{name} has the shape {array.shape}; {_rule(name)}, (N,): {_applied(name, 'ravel()')}"
    if array.ndim == 2 and kind in "iufb" and len(array) and _is_one_hot(array):
        return f"{name} is one-hot, of shape {array.shape}; {_rule(name)}, (N,): {_applied(name, 'argmax(1)')}"
    if array.ndim == 1 and kind == "f" and np.isnan(array).any():
        return f"{name} holds NaN, first in sample {int(np.flatnonzero(np.isnan(array))[0])}; {_rule(name)}"
    if array.ndim == 1 and kind in _KINDS:
        return f"{name} holds {_KINDS[kind]} ({array.dtype}); {_rule(name)}: {_renumbered(name)}"
    if array.ndim != 1 or kind not in "iu":
        return f"{name} must hold one integer a sample, and is {array.dtype} of shape {array.shape}; {_rule(name)}"
    return None


def _is_one_hot(array: NDArray[Any]) -> bool:
    return bool(np.isin(array, (0, 1)).all() and (array.sum(1) == 1).all())


def _range_problem(name: str, array: NDArray[Any]) -> str | None:
    """Mistake if integers are not 0 to the number of different ones less 1."""
    values = np.unique(array)
    gap = np.flatnonzero(values != np.arange(len(values)))
    if not len(gap):
        return None
    listed = ", ".join(map(str, values[:_LISTED].tolist()))
    if len(values) > _LISTED:
        listed += f", ... ({len(values):,} in all)"
    kind = "tasks" if name.endswith("task") else "labels"
    absent = "" if values[0] < 0 else f", and none is {gap[0]}"
    return f"{name} holds the {kind} {listed}{absent}; {_rule(name, len(values))}: {_renumbered(name)}"
