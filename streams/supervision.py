"""Supervision: which samples come, and with which labels. Long tail, then shots, then missing and wrong labels.

Long tail: exponential (Cui et al. 2019), Pareto (Liu et al. 2019), step (Buda et al. 2018). Symmetric and asymmetric
noise: van Rooyen et al. 2015, Patrini et al. 2017; confined to the classes of a sample's task, which are the ones that
its annotator knows. Numbers of samples are exact: a share is rounded, and then that many are drawn.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from clbench.chance import Generator
from clbench.errors import UserError
from clbench.grammar import LabelNoise, LongTail, Supervision
from clbench.schema import name_classes
from clbench.stream import Rows, Task
from streams.datasets import Outline
from streams.weights import pick, rounded

Lessons = tuple[tuple[int, Rows], ...]


def supervise(
    config: Supervision, data: Outline, tasks: tuple[Task, ...], lessons: Lessons, seed: int
) -> tuple[Lessons, Rows]:
    """The samples that come, and the class of each training row as the learner is told it (-1: not told).

    Args:
        config: what is asked for.
        data: gives the true classes.
        tasks: their classes, in order of entry.
        lessons: (task, rows).
        seed: of the axis "stream"; each step draws from a generator of its own.

    Raises:
        UserError: a class has fewer samples than shots are asked for, or no other class to be confused with.
    """
    if config.long_tail is not None:
        kept = tail(config.long_tail, data, tasks, Generator(seed, "stream", "long tail"))
        lessons = tuple((t, rows[kept[rows]]) for t, rows in lessons)
    if config.shots is not None:
        generator = Generator(seed, "stream", "shots")
        lessons = tuple(
            (t, rows if t < config.base else _shots(config.shots, t, rows, data, generator)) for t, rows in lessons
        )
    labels, whole = data.train_y, _whole(lessons)
    if config.labelled < 1:
        labels = _hidden(labels, config.labelled, whole, data, Generator(seed, "stream", "labelled"))
    if config.noise is not None:
        labels = _noisy(labels, config.noise, tasks, whole, data, Generator(seed, "stream", "noise"))
    return lessons, labels


def _whole(lessons: Lessons) -> Lessons:
    """Tasks that come in parts put together: shares are of a task's samples, and those of small parts round to 0."""
    parts: dict[int, list[Rows]] = {}
    for t, rows in lessons:
        parts.setdefault(t, []).append(rows)
    return tuple((t, mine[0] if len(mine) == 1 else np.sort(np.concatenate(mine))) for t, mine in parts.items())


def shares(config: LongTail, classes: int) -> list[float]:
    """What the class of each rank keeps, from 1 down to 1 / ratio.

    >>> shares(LongTail(shape="exponential", ratio=100), 3), shares(LongTail(shape="step", ratio=10), 4)
    ([1.0, 0.1, 0.01], [1.0, 1.0, 0.1, 0.1])
    """
    ranks, last = range(classes), max(classes - 1, 1)
    if config.shape == "step":
        return [1.0 if i < (classes + 1) // 2 else 1 / config.ratio for i in ranks]
    if config.shape == "pareto":
        power = math.log(config.ratio) / math.log(max(classes, 2))
        return [float((i + 1) ** -power) for i in ranks]
    return [float(config.ratio ** (-i / last)) for i in ranks]


def tail(config: LongTail, data: Outline, tasks: tuple[Task, ...], generator: Generator) -> NDArray[np.bool_]:
    """Which training rows a long tail keeps, bool (N,): numbers rounded down as by Cui et al., at least one a class."""
    entry = list(dict.fromkeys(c for t in tasks for c in t.classes))
    order = {"entry": entry, "natural": sorted(entry), "seed": [entry[i] for i in generator.permutation(len(entry))]}
    kept = np.zeros(len(data.train_y), np.bool_)
    for c, share in zip(order[config.order], shares(config, len(entry)), strict=True):
        rows = np.flatnonzero(data.train_y == c)
        kept[pick(generator, rows, max(1, math.floor(round(share * len(rows), 6))))] = True
    return kept


def _shots(shots: int, task: int, rows: Rows, data: Outline, generator: Generator) -> Rows:
    chosen = []
    for c in np.unique(data.train_y[rows]).tolist():
        mine = rows[data.train_y[rows] == c]
        if len(mine) < shots:
            raise UserError(
                f"stream.supervision.shots: got {shots}, but class {c} has {len(mine)} training samples in task {task}."
            )
        chosen.append(pick(generator, mine, shots))
    return np.sort(np.concatenate(chosen))


def _hidden(labels: Rows, share: float, lessons: Lessons, data: Outline, generator: Generator) -> Rows:
    """Labels, -1 where they are not told. A sample that several tasks have is told in all of them, or in none."""
    labels, decided = labels.copy(), np.zeros(len(labels), np.bool_)
    for _, lesson in lessons:
        rows = lesson[~decided[lesson]]
        decided[rows] = True
        for c in np.unique(data.train_y[rows]).tolist():
            mine = rows[data.train_y[rows] == c]
            told = pick(generator, mine, max(1, rounded(share * len(mine))))
            labels[np.setdiff1d(mine, told, assume_unique=True)] = -1
    return labels


def _noisy(
    labels: Rows, config: LabelNoise, tasks: tuple[Task, ...], lessons: Lessons, data: Outline, generator: Generator
) -> Rows:
    """Labels with a share of each class's wrong; those not told stay so."""
    labels, decided = labels.copy(), np.zeros(len(labels), np.bool_)
    partner = {c: taken_for for c, taken_for in config.pairs or []}
    nowhere = sorted(partner.keys() - {c for t in tasks for c in t.classes})
    if nowhere:
        raise UserError(f"stream.supervision.noise.pairs: {name_classes(nowhere)} in no task.")
    for t, lesson in lessons:
        members = tasks[t].classes
        if len(members) < 2:
            raise UserError(f"stream.supervision.noise: task {t} has one class, so that no label of it can be wrong.")
        rows = lesson[~decided[lesson]]
        decided[rows] = True
        for place, c in enumerate(members):
            mine = rows[labels[rows] == c]
            mine = mine[data.train_y[mine] == c]  # not what has just been given this label
            wrong = pick(generator, mine, rounded(config.rate * len(mine)))
            if config.kind == "symmetric":
                others = np.array([m for m in members if m != c], np.int64)
                labels[wrong] = others[generator.below(len(others), len(wrong))]
            elif config.pairs is None:
                labels[wrong] = members[(place + 1) % len(members)]
            elif c in partner:
                if partner[c] not in members:
                    raise UserError(
                        f"stream.supervision.noise.pairs: class {c} is in task {t}, and class {partner[c]} is not."
                    )
                labels[wrong] = partner[c]
    return labels
