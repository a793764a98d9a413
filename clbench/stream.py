"""A stream: tasks, their order and their samples, as index lists; and the values passed between compilation steps.

`streams/compile.py` makes a `Stream` of a definition and a seed. Nothing here knows models, and nothing here imports
torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from clbench import moved
from clbench.dataset import DataSet, Outline

Rows = NDArray[np.int64]

if not TYPE_CHECKING:
    __getattr__ = moved.attributes(__name__)


@dataclass(frozen=True)
class Domain:
    """One input transform; its parts apply in the order of these attributes.

    Attributes:
        degrees: counter-clockwise rotation about the centre.
        permutation: output pixel i is input pixel permutation[i], over H*W positions, shape (H*W,).
        invert: whether 1 - x takes the place of x.
        brightness: factor; images of whole numbers are then cut off at 1.
        noise: deviation of Gaussian noise, in units of the largest stored value.
    """

    degrees: float = 0.0
    permutation: NDArray[np.int64] | None = None
    invert: bool = False
    brightness: float = 1.0
    noise: float = 0.0

    @property
    def kind(self) -> Literal["identity", "permutation", "rotation"]:
        """Transform of the pixel positions."""
        if self.permutation is not None:
            return "permutation"
        return "rotation" if self.degrees else "identity"


@dataclass(frozen=True)
class Task:
    """A set of classes under one domain.

    Attributes:
        id: 0..T-1 of a task, T and more of a variant; never changes.
        domain: index into `Stream.domains`.
        classes: the data set's classes, in their order of entry.
        targets: output unit of each of `classes`.
        stands_for: of a variant, which is trained on but not evaluated: the task that it is counted to.
    """

    id: int
    domain: int
    classes: tuple[int, ...]
    targets: tuple[int, ...]
    stands_for: int | None = None


@dataclass(frozen=True)
class StreamExperience:
    """One experience of a compiled stream: its training samples, and the task of each.

    `clbench.strategy.Experience` is the part of it that a strategy is told under the protocol.

    Index lists are joined when they are asked for: thousands of experiences that share a task's list share its memory.

    Attributes:
        parts: for each task (or variant) in it, by ascending id: the id, and rows of the training set, int64 (n,).
        tasks: ids of the tasks that the experience is about, ascending. Samples of others may come along (rehearsal,
            blurred boundaries), which does not visit their task.
        origin: the experience that it was cut from; neighbours that share it are one task block. Its own number where
            it is whole.
        unlabelled: as `parts`: samples without a label.
    """

    parts: tuple[tuple[int, Rows], ...]
    tasks: tuple[int, ...]
    origin: int
    unlabelled: tuple[tuple[int, Rows], ...] = ()

    @property
    def samples(self) -> int:
        """Number of labelled samples, N."""
        return sum(len(rows) for _, rows in self.parts)

    @property
    def index(self) -> Rows:
        """Rows of the training set, int64 (N,), in the order of `parts`."""
        return joined(self.parts)[0]

    @property
    def task(self) -> Rows:
        """The task (or variant) of each row, int64 (N,)."""
        return joined(self.parts)[1]


def joined(parts: Iterable[tuple[int, Rows]]) -> tuple[Rows, Rows]:
    """Rows and the task of each, int64 (N,), of lists by task."""
    parts = list(parts)
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    sizes = [len(rows) for _, rows in parts]
    return np.concatenate([rows for _, rows in parts]), np.repeat(np.array([t for t, _ in parts], np.int64), sizes)


@moved.old_keywords
@dataclass(frozen=True)
class Stream:
    """A compiled stream.

    Attributes:
        data: the data set; an outline of it, without images, where the stream is only looked at.
        labels: training label of each row, int64; -1 for unlabelled rows.
        setting: "class", "task" or "domain".
        domains: the input transforms.
        tasks: T tasks.
        variants: trained on but not evaluated, under ids from T on: the steps of a drift.
        experiences: in order, V of them.
        outputs: number of output units that a model needs.
        definition_hash: SHA-256 over the definition without the seed.
        seed: of the axis "stream".
        normalise: see `StreamConfig.normalise`.
        task_labels_given: whether the data set labels each sample with its task; else a sample belongs to each task
            that has its class.
        held_out: rows of the training set that the test part consists of, where hyper-parameters are chosen on it.
        instance_hash: SHA-256 over data, domains, tasks, labels and index lists.
        own_outputs: whether each task has output units of its own, which alone compete in any view: a multi head.
    """

    data: DataSet
    labels: Rows
    setting: Literal["class", "task", "domain"]
    domains: tuple[Domain, ...]
    tasks: tuple[Task, ...]
    variants: tuple[Task, ...]
    experiences: tuple[StreamExperience, ...]
    outputs: int
    definition_hash: str
    seed: int
    normalise: str
    task_labels_given: bool = False
    held_out: Rows | None = None
    instance_hash: str = field(default="")
    own_outputs: bool = False
    visits = moved.OldAttribute()

    def __repr__(self) -> str:
        samples = sum(experience.samples for experience in self.experiences)
        sizes = {"tasks": len(self.tasks), "experiences": len(self.experiences), "samples": samples}
        counted = ", ".join(f"{number} {word}" for word, number in sizes.items())
        return f"Stream of {self.data.name}: {counted}, setting {self.setting}, seed {self.seed}"

    @property
    def all_tasks(self) -> tuple[Task, ...]:
        """Tasks and variants: entry i has the id i."""
        return self.tasks + self.variants

    def targets(self, labels: NDArray[np.int64], task: int) -> NDArray[np.int64]:
        """Output units of classes within a task or variant; -1 for a class it does not have, and for no label."""
        table = np.full(self.data.classes + 1, -1, np.int64)
        member = self.all_tasks[task]
        table[list(member.classes)] = member.targets
        return table[labels]

    def origins(self) -> NDArray[np.int32]:
        """The origin of each experience, (V,)."""
        return np.array([v.origin for v in self.experiences], np.int32)

    def visit_matrix(self) -> NDArray[np.bool_]:
        """Which experience visits which task, (V, T)."""
        matrix = np.zeros((len(self.experiences), len(self.tasks)), np.bool_)
        for v, experience in enumerate(self.experiences):
            matrix[v, list(experience.tasks)] = True
        return matrix

    def present(self, experience: StreamExperience) -> tuple[int, ...]:
        """Tasks that an experience is about or has samples of, ascending; a variant counts as its task."""
        tasks = set(experience.tasks)
        for t, _ in experience.parts:
            stands_for = self.all_tasks[t].stands_for
            tasks.add(t if stands_for is None else stands_for)
        return tuple(sorted(tasks))

    def to_avalanche(self) -> Any:
        """Deprecated: `clbench.avalanche.benchmark` of this stream."""
        return moved.resolve("clbench.stream:Stream.to_avalanche")(self)

    @cached_property
    def test_rows(self) -> tuple[tuple[Rows, ...], ...]:
        """Rows of the test set: for each task, for each of its classes, int64 ascending."""
        data = self.data
        of_class = [np.flatnonzero(data.test_y == c) for c in range(data.classes)]
        if not self.task_labels_given:
            return tuple(tuple(of_class[c] for c in t.classes) for t in self.tasks)
        assert data.test_task is not None
        return tuple(tuple(of_class[c][data.test_task[of_class[c]] == t.id] for c in t.classes) for t in self.tasks)


# ------------------------------------------------------------------------------------------------ steps of compilation
@dataclass(frozen=True)
class Layout:
    """Result of a family of tasks.

    Attributes:
        tasks, domains: see `Stream`.
        lessons: (task, rows) in order, where a task's samples come in parts; None: each task is one lesson with all
            training samples of its classes.
        task_labels_given: whether the data set labels each sample with its task; else a sample belongs to each task
            that has its class.
    """

    tasks: tuple[Task, ...]
    domains: tuple[Domain, ...]
    lessons: tuple[tuple[int, Rows], ...] | None = None
    task_labels_given: bool = False


@dataclass(frozen=True)
class Plan:
    """Input of a schedule.

    Attributes:
        data: the data set, perhaps without images.
        tasks, domains: see `Stream`.
        lessons: (task, rows) in their natural order. Every task is there; in parts only for the sequential schedule.
    """

    data: Outline
    tasks: tuple[Task, ...]
    domains: tuple[Domain, ...]
    lessons: tuple[tuple[int, Rows], ...]

    @property
    def pools(self) -> list[Rows]:
        """Rows of each task that comes in one piece, T arrays."""
        return [rows for _, rows in self.lessons]


@moved.old_keywords
@dataclass(frozen=True)
class Timetable:
    """Result of a schedule.

    Attributes:
        experiences: in order.
        variants, domains: variants of tasks to train on, and the input transforms that they add.
    """

    experiences: list[StreamExperience]
    variants: tuple[Task, ...] = ()
    domains: tuple[Domain, ...] = ()
    visits = moved.OldAttribute()
