"""Several data sets as the tasks of one: images of one size and number of channels, or vectors, with label spaces.

A *label space* is a set of classes that members of the list share: class c of one is class c of the others. Without a
word all members share one; `own` gives each a space of its own; or a list names the space of each member. The classes
of the spaces follow each other, in the order in which the spaces first occur.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clbench.dataset import DataSet
from clbench.errors import UserError
from clbench.streams.datasets.class_names import moved
from clbench.streams.datasets.moments import moments_of

Labels = Literal["own"] | Sequence[str] | None
"""Label spaces: one for each member, the name of each member's, or, by default, one for all."""


@dataclass(frozen=True)
class Spaces:
    """The label spaces of a list.

    Attributes:
        of: the space of each member, as the number of its first occurrence.
        names: of the spaces; empty where all members share one without a name.
    """

    of: tuple[int, ...]
    names: tuple[str, ...] = ()

    def offsets(self, classes: Sequence[int]) -> list[int]:
        """The first class of each member, with their number after them.

        Args:
            classes: number of classes of each member; equal within a space.

        >>> Spaces((0, 1, 0)).offsets([10, 3, 10])
        [0, 10, 0, 13]
        """
        sizes = [0] * (max(self.of) + 1)
        for space, number in zip(self.of, classes, strict=True):
            sizes[space] = number
        starts = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        return [*(starts[space] for space in self.of), starts[-1]]


def spaces(names: Sequence[str], labels: Labels) -> Spaces:
    """The label spaces of data sets.

    Args:
        names: of the data sets.
        labels: see `Labels`.

    Raises:
        UserError: a list of another length.

    >>> spaces(["mnist", "usps", "npz:/data/blood.npz"], ["digits", "digits", "cells"])
    Spaces(of=(0, 0, 1), names=('digits', 'cells'))
    >>> spaces(["mnist", "mnist", "npz:/data/blood.npz"], "own").names
    ('mnist', 'mnist 2', 'blood')
    """
    if labels is None:
        return Spaces((0,) * len(names))
    if labels == "own":
        short = [Path(name[4:]).stem if name.startswith(("npz:", "npy:")) else name for name in names]
        earlier = [short[:i].count(name) for i, name in enumerate(short)]
        own = tuple(f"{name} {n + 1}" if n else name for name, n in zip(short, earlier, strict=True))
        return Spaces(tuple(range(len(names))), own)
    if len(labels) != len(names):
        raise UserError(f"{len(labels)} names of label spaces for {len(names)} data sets; each data set needs one.")
    different = tuple(dict.fromkeys(labels))
    return Spaces(tuple(different.index(name) for name in labels), different)


def same_classes(names: Sequence[str], classes: Sequence[int | None], of: Spaces) -> None:
    """Checks that the data sets of a space have as many classes, as far as these are known.

    Raises:
        UserError: they differ.
    """
    for space in sorted(set(of.of)):
        members = [(name, n) for name, n, s in zip(names, classes, of.of, strict=True) if s == space and n is not None]
        if len({n for _, n in members}) > 1:
            counts = ", ".join(f"'{name}' has {n}" for name, n in dict.fromkeys(members))
            remedy = "the data sets of a list need the same number of classes"
            if of.names:
                remedy = f"the data sets of the label space '{of.names[space]}' need the same number of classes"
            raise UserError(f"{remedy}: {counts}.")


def joined(name: str, members: Sequence[DataSet], digests: Sequence[str], of: Spaces) -> DataSet:
    """The data sets as one, whose tasks they are.

    Args:
        name: of the result.
        members: images, uint8, of one height and width and of the top 255; or vectors, of the same features.
        digests: SHA-256 of each before it was resized.
        of: their label spaces.

    Raises:
        UserError: members of a space with other classes, numbers of channels that do not go together, or vectors of
            other lengths.
    """
    counts = [m.classes for m in members]
    for space in sorted(set(of.of)):
        _same_names([m for m, s in zip(members, of.of, strict=True) if s == space])
    digest = hashlib.sha256("".join(f"{each}\n" for each in digests).encode())
    if len(members[0].shape) == 1:
        top = 1.0
        stacked: Callable[[str], NDArray[Any]] = partial(_vectors, members)
    else:
        top, stacked = 255.0, partial(_stacked, members)
        digest.update("{}x{}".format(*members[0].shape[1:]).encode())
    *first, classes = of.offsets(counts)
    if of.names:
        digest.update(f"{first}".encode())
    sizes = [len(m.train_y) for m in members], [len(m.test_y) for m in members]
    train_task, test_task = (np.repeat(np.arange(len(members), dtype=np.int64), n) for n in sizes)
    train_y, test_y = (
        np.concatenate([getattr(m, y) + start for m, start in zip(members, first, strict=True)])
        for y in ("train_y", "test_y")
    )
    train_x, test_x = (stacked(x) for x in ("train_x", "test_x"))
    mean, std = moments_of(train_x, top)
    return DataSet(
        name=name, train_x=train_x, train_y=train_y, train_task=train_task, test_x=test_x, test_y=test_y,
        test_task=test_task, classes=classes, shape=train_x.shape[1:], sha256=digest.hexdigest(),
        origin=", ".join(dict.fromkeys(m.origin for m in members)), top=top, mean=mean, std=std,
        class_names=_class_names(members, of),
    )  # fmt: skip


def _class_names(members: Sequence[DataSet], of: Spaces) -> tuple[str, ...]:
    """Names of the classes: `space/class`, or those of a member where all share one space."""
    of_space: dict[int, list[str]] = {}
    for member, space in zip(members, of.of, strict=True):
        of_space[space] = of_space.get(space) or list(member.class_names)
    if not of.names:
        return tuple(of_space[0])
    return tuple(
        f"{of.names[space]}/{of_space[space][c] if of_space[space] else c}"
        for space in sorted(of_space)
        for c in range(next(m.classes for m, s in zip(members, of.of, strict=True) if s == space))
    )


def _same_names(members: Sequence[DataSet]) -> None:
    """Checks that no class of one member has another number in the next that names its classes."""
    named = [m for m in members if m.class_names]
    for one, other in combinations(named, 2):
        if name := moved(one.class_names, other.class_names):
            numbers = (m.class_names.index(name) for m in (one, other))
            places = " and ".join(f"class {c} in '{m.name}'" for c, m in zip(numbers, (one, other), strict=True))
            raise UserError(f"the data sets of a list need the same classes: '{name}' is {places}.")


def _stacked(members: Sequence[DataSet], part: str) -> NDArray[np.uint8]:
    """Images one after the other, grey ones repeated in every channel."""
    depths = {m.shape[0] for m in members}
    channels = max(depths)
    if depths - {1, channels}:
        held = ", ".join(f"'{m.name}' has {m.shape[0]}" for m in members)
        raise UserError(f"the data sets of a list need one channel, or as many as the others: {held}.")
    several = [getattr(m, part) for m in members]
    out = np.empty((sum(map(len, several)), channels, *several[0].shape[2:]), np.uint8)
    start = 0
    for x in several:
        out[start : start + len(x)] = x
        start += len(x)
    return out


def _vectors(members: Sequence[DataSet], part: str) -> NDArray[np.float32]:
    """Vectors one after the other, in units of each member's top."""
    if len({m.shape for m in members}) > 1:
        held = ", ".join(f"'{m.name}' has {m.shape[0]}" for m in members)
        raise UserError(f"the data sets of a list need vectors of the same number of features: {held}.")
    return np.concatenate([getattr(m, part).astype(np.float32) / np.float32(m.top) for m in members])
