"""Data sets as streams of pairs, (features, label), such as river's data sets and generators, in their order.

Features are a mapping name -> number; labels are texts, numbers or truth values. A generator of river has no end, so a
function of the user's takes as many samples as it wants; where its drift has positions, the blocks between them are
tasks:

    from river.datasets import synth

    from clbench.streams.datasets.pairs import first


    def sea():
        before, after = synth.SEA(seed=1, variant=0), synth.SEA(seed=1, variant=1)
        return first(synth.ConceptDriftStream(before, after, position=2000, width=50, seed=1), 4000)
"""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from clbench.errors import UserError, shown
from clbench.streams.datasets.sources import Arrays, split


def first(
    stream: Iterable[tuple[Mapping[Any, Any], Any]], n: int | None, blocks: Sequence[int] | None = None
) -> Arrays:
    """The first samples of a stream of pairs; every fifth of a class, of a class in a task, is for testing.

    Inputs are float32 (N, D), features in the order of the first sample; classes are the labels, sorted.

    Args:
        stream: pairs of features and label, the same features in each.
        n: how many; None for all of a stream that ends.
        blocks: positions in 1..n-1 at which a new task begins, ascending; by default those below n of the `position`
            of the stream, a number or several, where it has one.

    Raises:
        UserError: no end, fewer samples, features that differ or are no finite numbers, labels of several kinds, or a
            class with fewer than five samples in a task.
    """
    where = f"data set {type(stream).__name__}"
    if n is None and getattr(stream, "n_samples", 0) is None:
        raise UserError(f"{where}: has no end; name a function of yours that returns first(..., n), see {__name__}.")
    rows: list[list[float]] = []
    labels: list[Any] = []
    names: list[Any] = []
    for number, (features, label) in enumerate(itertools.islice(stream, n)):
        names = names or list(features)
        if features.keys() != set(names):
            own, others = ([str(name) for name in of] for of in (features, names))
            raise UserError(f"{where}: sample {number} has the features {shown(own)}, the first {shown(others)}.")
        rows.append([_number(features[name], f"{where}: feature '{name}' of sample {number}") for name in names])
        labels.append(_label(label, f"{where}: the label of sample {number}"))
    if n is not None and len(rows) < n:
        raise UserError(f"{where}: ends after {len(rows)} samples, before the {n} asked for.")
    if len({isinstance(label, str) for label in labels}) > 1:
        raise UserError(f"{where}: some labels are texts and some are numbers.")
    position = getattr(stream, "position", ()) if blocks is None else blocks
    starts = [int(p) for p in (position if isinstance(position, Sequence) else (position,))]
    if blocks is None:
        starts = [start for start in starts if start < len(rows)]
    if starts != sorted(set(starts)) or any(not 0 < start < len(rows) for start in starts):
        raise UserError(f"{where}: tasks begin at {shown(starts)}. Allowed: ascending, from 1 to {len(rows) - 1}.")
    classes = sorted(set(labels))
    place = {label: number for number, label in enumerate(classes)}
    x = np.array(rows, np.float32).reshape(len(rows), len(names))
    y = np.array([place[label] for label in labels], np.int64)
    task = np.searchsorted(np.array(starts), np.arange(len(rows)), side="right") if starts else None
    return split(x, y, task, where, class_names=tuple(map(str, classes)))


def _number(value: Any, where: str) -> float:
    if not isinstance(value, numbers.Real) or not np.isfinite(float(value)):
        raise UserError(f"{where} is {shown(value)}. Allowed: finite numbers.")
    return float(value)


def _label(value: Any, where: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, (str, bool, int)):
        raise UserError(f"{where} is {shown(value)}. Allowed: a text, a whole number, true or false.")
    return value
