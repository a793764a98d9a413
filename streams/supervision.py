"""Supervision: number of samples, and their labels. Long tail, then shots, then missing and wrong labels.

Long tail: exponential (Cui et al. 2019), Pareto (Liu et al. 2019), step (Buda et al. 2018). Symmetric and asymmetric
noise: van Rooyen et al. 2015, Patrini et al. 2017; confined to the classes of a sample's task, which are the ones that
its annotator knows. Numbers of samples are exact: a share is rounded, and then that many are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field

from clbench.dataset import Outline
from clbench.errors import UserError
from clbench.rng import Generator
from clbench.schema import ClassNumber, Count, Mistake, Model, Share, mistake, name_classes, unique_classes
from clbench.stream import Rows, Task
from clbench.streams.families import Combination, TaskFamily
from clbench.streams.schedules.draws import pick, rounded


class LongTail(Model):
    """Classes of unequal size: that of rank i = 0..C-1 keeps a share of its samples, from 1 down to 1 / ratio."""

    shape: Literal["exponential", "pareto", "step"] = "exponential"
    """ratio^(-i / (C - 1)); (i + 1)^(-a) that ends at 1 / ratio; or 1 for the first half of classes and 1 / ratio."""
    ratio: Annotated[float, Field(ge=1)]
    """Largest class to smallest."""
    order: Literal["seed", "natural", "entry"] = "seed"
    """Ranks: drawn by the stream seed, 0..C-1, or in the order in which classes enter the stream."""


class LabelNoise(Model):
    """Some training labels are wrong; a wrong label is one of the same task."""

    kind: Literal["symmetric", "asymmetric"] = "symmetric"
    """Any other class with equal probability; or each class's successor in its task, or its partner in `pairs`."""
    rate: Annotated[float, Field(gt=0, lt=1)]
    """Share of each class's samples, rounded."""
    pairs: (
        Annotated[list[Annotated[list[ClassNumber], Field(min_length=2, max_length=2)]], Field(min_length=1)] | None
    ) = None
    """Asymmetric: [class, wrong class]; other classes keep their labels."""

    @pydantic.field_validator("pairs")
    @classmethod
    def _one_partner(cls, pairs: list[list[int]] | None) -> list[list[int]] | None:
        unique_classes([a for a, _ in pairs or []])
        itself = [a for a, b in pairs or [] if a == b]
        if itself:
            raise mistake(f"{name_classes(itself)} paired with itself")
        return pairs

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> LabelNoise:
        if self.pairs is not None and self.kind == "symmetric":
            raise mistake("is for the kind 'asymmetric', not for 'symmetric'", "pairs")
        return self

    def data_mistakes(self, name: str, classes: int) -> Iterator[Mistake]:
        """Classes that the data set does not have."""
        beyond = sorted({c for pair in self.pairs or [] for c in pair if c >= classes})
        if beyond:
            yield ["pairs"], f"{name_classes(beyond)} not in '{name}', which has classes 0 to {classes - 1}."


class Supervision(Model):
    """Amount of data, and quality of its labels. Applied in the order of these keys."""

    long_tail: LongTail | None = None
    """Classes of unequal size."""
    shots: Count | None = None
    """Training samples of each class in each task after the first `base` ones, drawn by the stream seed."""
    base: Annotated[int, Field(ge=0)] = 1
    """Tasks at the start that keep all of their samples where `shots` is given."""
    labelled: Share = 1.0
    """Share of labelled samples of each class in each task, at least one sample; the others are unlabelled."""
    noise: LabelNoise | None = None
    """Wrong labels."""

    def combination_mistakes(self, tasks: TaskFamily, drift: bool) -> Iterator[Combination]:
        """Conflicts between keys, or with the tasks."""
        if self.base != 1 and self.shots is None:
            yield "supervision.base", "is for few shots; give 'shots', or leave it out"
        if self.shots is not None and self.labelled < 1:
            yield "supervision.labelled", "leave it out; shots are labelled samples already"
        if self.shots is not None and drift:
            sentence = "a drift distributes one training set, and has no shots per task"
            yield "supervision.shots", sentence
        if self.shots is not None and tasks.in_parts:
            yield "supervision.shots", f"shots are counted in whole tasks, and tasks by {tasks.by} come in parts"


Lessons = tuple[tuple[int, Rows], ...]


def supervise(
    config: Supervision, data: Outline, tasks: tuple[Task, ...], lessons: Lessons, seed: int
) -> tuple[Lessons, Rows]:
    """The samples of the stream, and the training label of each row (-1: unlabelled).

    Args:
        config: the settings.
        data: gives the true classes.
        tasks: their classes, in order of entry.
        lessons: (task, rows).
        seed: seed "stream"; each step has a separate generator.

    Raises:
        UserError: a class has fewer samples than shots, or no other class to be confused with.
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
    """Joins the parts of a task: shares are of a task's samples, and those of small parts would round to 0."""
    parts: dict[int, list[Rows]] = {}
    for t, rows in lessons:
        parts.setdefault(t, []).append(rows)
    return tuple((t, mine[0] if len(mine) == 1 else np.sort(np.concatenate(mine))) for t, mine in parts.items())


def shares(config: LongTail, classes: int) -> list[float]:
    """Share of samples that the class of each rank keeps, from 1 down to 1 / ratio.

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
    """Mask of the rows that a long tail keeps, bool (N,): numbers rounded down as by Cui et al., at least 1 a class."""
    entry = list(dict.fromkeys(c for t in tasks for c in t.classes))
    order = {"entry": entry, "natural": sorted(entry), "seed": [entry[i] for i in generator.permutation(len(entry))]}
    kept = np.zeros(len(data.train_y), np.bool_)
    for c, share in zip(order[config.order], shares(config, len(entry)), strict=True):
        rows = np.flatnonzero(data.train_y == c)
        kept[pick(generator, rows, max(1, math.floor(round(share * len(rows), 6))))] = True
    return kept


def _shots(shots: int, task: int, rows: Rows, data: Outline, generator: Generator) -> Rows:
    drawn = []
    for c in np.unique(data.train_y[rows]).tolist():
        mine = rows[data.train_y[rows] == c]
        if len(mine) < shots:
            raise UserError(
                f"stream.supervision.shots: got {shots}, but class {data.named(c)} has {len(mine)} training samples in "
                f"task {task}."
            )
        drawn.append(pick(generator, mine, shots))
    return np.sort(np.concatenate(drawn))


def _hidden(labels: Rows, share: float, lessons: Lessons, data: Outline, generator: Generator) -> Rows:
    """Labels, -1 for unlabelled samples. A sample of several tasks is labelled in all of them, or in none."""
    labels, decided = labels.copy(), np.zeros(len(labels), np.bool_)
    for _, lesson in lessons:
        rows = lesson[~decided[lesson]]
        decided[rows] = True
        for c in np.unique(data.train_y[rows]).tolist():
            mine = rows[data.train_y[rows] == c]
            labelled = pick(generator, mine, max(1, rounded(share * len(mine))))
            labels[np.setdiff1d(mine, labelled, assume_unique=True)] = -1
    return labels


def _noisy(
    labels: Rows, config: LabelNoise, tasks: tuple[Task, ...], lessons: Lessons, data: Outline, generator: Generator
) -> Rows:
    """Labels with a share of each class's wrong; unlabelled samples stay unlabelled."""
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
            mine = mine[data.train_y[mine] == c]  # not samples that have just received this label
            wrong = pick(generator, mine, rounded(config.rate * len(mine)))
            if config.kind == "symmetric":
                others = np.array([m for m in members if m != c], np.int64)
                labels[wrong] = others[generator.below(len(others), len(wrong))]
            elif config.pairs is None:
                labels[wrong] = members[(place + 1) % len(members)]
            elif c in partner:
                if partner[c] not in members:
                    raise UserError(
                        f"stream.supervision.noise.pairs: class {data.named(c)} is in task {t}, and class "
                        f"{data.named(partner[c])} is not."
                    )
                labels[wrong] = partner[c]
    return labels
