"""Checks of a source's arrays, and their conversion to the stored layout of a data set."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.dataset import DataSet
from clbench.errors import UserError
from clbench.on_disk import OnDisk, Stored, layout, parts
from clbench.streams.datasets import labels, outline_cache, sources
from clbench.streams.datasets.moments import moments_for
from clbench.streams.datasets.sources import Arrays


def finish(name: str, arrays: Arrays) -> DataSet:
    """Checks the arrays and converts them to the stored layout."""
    train_x, train_y, test_x, test_y = arrays.train_x, arrays.train_y, arrays.test_x, arrays.test_y
    origin = arrays.origin
    for part, x, y in (("train", train_x, train_y), ("test", test_x, test_y)):
        problem = _problem(part, x, y)
        if problem:
            raise UserError(f"{origin}: {problem}.")
    if train_x.shape[1:] != test_x.shape[1:]:
        raise UserError(f"{origin}: train_x has samples of {train_x.shape[1:]}, test_x of {test_x.shape[1:]}.")
    problem = labels.parts_problem(train_y, test_y, arrays.class_names)
    if problem:
        raise UserError(f"{origin}: {problem}.")
    classes = len(np.unique(train_y))
    tasks: dict[str, Any] = {}
    if arrays.train_task is not None and arrays.test_task is not None:
        problem = labels.tasks_problem(train_y, arrays.train_task, test_y, arrays.test_task, arrays.class_names)
        if problem:
            raise UserError(f"{origin}: {problem}.")
        tasks = {
            "train_task": arrays.train_task.astype(np.int64), "test_task": arrays.test_task.astype(np.int64)
        }  # fmt: skip
    targets: dict[str, Any] = {}
    if arrays.train_target is not None and arrays.test_target is not None:
        targets = {"target_names": arrays.target_names}
        for part, t, x in (("train", arrays.train_target, train_x), ("test", arrays.test_target, test_x)):
            if problem := labels.target_problem(f"{part}_target", t, len(x)):
                raise UserError(f"{origin}: {problem}.")
            targets[f"{part}_target"] = t.astype(np.float32).reshape(len(t), -1)
        if (widths := {targets[name].shape[1] for name in ("train_target", "test_target")}) and len(widths) > 1:
            raise UserError(f"{origin}: train_target and test_target have {sorted(widths)} numbers a sample.")
    train, test = (_laid_out(x, arrays.fresh) for x in (train_x, test_x))
    scale = arrays.top or (255.0 if train.dtype == np.uint8 else 1.0)
    data = DataSet(
        name=name, train_x=train, train_y=train_y.astype(np.int64), test_x=test, test_y=test_y.astype(np.int64),
        **tasks, **targets, classes=classes, top=scale, mean=(), std=(), shape=train.shape[1:], sha256="",
        origin=origin, class_names=arrays.class_names,
    )  # fmt: skip
    if arrays.stamp is None:
        return read_through(data, arrays.basis)
    before = arrays.stamp()
    contents = outline_cache.recall(outline_cache.key("contents", before))
    if contents is not None:
        return replace(data, **contents)
    data = read_through(data)
    if arrays.stamp() == before:
        outline_cache.keep(outline_cache.key("contents", before), data.sha256, data.mean, data.std)
    return data


def _problem(part: str, x: Stored, y: NDArray[Any]) -> str | None:
    problem = labels.label_problem(f"{part}_x", f"{part}_y", y, len(x) if x.ndim else 0)
    return problem or sources.input_problem(f"{part}_x", x)


def _laid_out(x: Stored, reuse: bool) -> Stored:
    return replace(x, laid_out=True) if isinstance(x, OnDisk) else layout(x, reuse)


def read_through(data: DataSet, basis: int | None = None) -> DataSet:
    """Adds moments and digest, in one pass over all samples.

    Args:
        data: without them.
        basis: see `Arrays`.

    Raises:
        UserError: a float is not finite. (Arrays in memory were checked before.)
    """
    moments, digest = moments_for(data.train_x), hashlib.sha256()
    names = ("train_x", "train_y", "test_x", "test_y", "train_task", "test_task", "train_target", "test_target")
    for name in names:
        array: Stored | None = getattr(data, name)
        if array is None:
            continue
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        for start, part in parts(array):
            if isinstance(array, OnDisk) and part.dtype.kind == "f":
                problem = sources.finite_problem(*array.origin(name, start), part)
                if problem:
                    raise UserError(f"{data.origin}: {problem}.")
            digest.update(np.ascontiguousarray(part).view(np.uint8).data)
            if name == "train_x" and (basis is None or start < basis):
                moments.add(part if basis is None else part[: basis - start])
    if basis is not None:
        digest.update(f"moments of {basis}".encode())
    mean, std = moments.result(data.top)
    return replace(data, sha256=digest.hexdigest(), mean=mean, std=std)
