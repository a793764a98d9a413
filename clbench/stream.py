"""A stream: what is learnt, when, and from how much, as index lists.

A definition (configuration without a seed) and a seed compile to a `Stream`: tasks, domains, and one index list for
each experience. Nothing here knows models, and nothing here imports torch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from clbench import registry
from clbench.chance import Generator
from clbench.config import StreamConfig, content_hash, definition

if TYPE_CHECKING:
    from streams.datasets import DataSet


@dataclass(frozen=True)
class Domain:
    """One input transform.

    Attributes:
        kind: how inputs are changed.
        permutation: for "permutation": output pixel i is input pixel permutation[i], over H*W positions, shape (H*W,).
        degrees: for "rotation": counter-clockwise angle.
    """

    kind: Literal["identity", "permutation", "rotation"]
    permutation: NDArray[np.int64] | None = None
    degrees: float = 0.0


@dataclass(frozen=True)
class Task:
    """What is to be learnt: a set of classes under one domain.

    Attributes:
        id: 0..T-1; never changes.
        domain: index into `Stream.domains`.
        classes: the data set's classes, in their order of entry.
        targets: what is predicted for each of `classes` (output units).
    """

    id: int
    domain: int
    classes: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True)
class Visit:
    """One experience of the stream: which training samples come, and from which task each is.

    Attributes:
        index: rows of the training set, int64 (N,), ascending within a task.
        task: the task of each row, int64 (N,).
        tasks: the ids that the experience is about, ascending.
        origin: the experience that it was cut from; neighbours that share it are parts of one visit. Its own number
            where it is whole.
    """

    index: NDArray[np.int64]
    task: NDArray[np.int64]
    tasks: tuple[int, ...]
    origin: int


@dataclass(frozen=True)
class Stream:
    """A compiled stream.

    Attributes:
        data: the data set.
        setting: "class", "task" or "domain".
        domains: the input transforms.
        tasks: what is to be learnt, T of them.
        visits: the experiences in order, V of them.
        outputs: number of output units that a model needs.
        definition_hash: SHA-256 over the definition without the seed.
        instance_hash: SHA-256 over data, domains, tasks and index lists.
    """

    data: DataSet
    setting: Literal["class", "task", "domain"]
    domains: tuple[Domain, ...]
    tasks: tuple[Task, ...]
    visits: tuple[Visit, ...]
    outputs: int
    definition_hash: str
    instance_hash: str = field(default="")

    def targets(self, labels: NDArray[np.int64], task: int) -> NDArray[np.int64]:
        """Output units of classes within a task; -1 for a class the task does not have."""
        table = np.full(self.data.classes, -1, np.int64)
        table[list(self.tasks[task].classes)] = self.tasks[task].targets
        return table[labels]

    def origins(self) -> NDArray[np.int32]:
        """The origin of each experience, (V,)."""
        return np.array([v.origin for v in self.visits], np.int32)

    def visit_matrix(self) -> NDArray[np.bool_]:
        """Which experience visits which task, (V, T)."""
        matrix = np.zeros((len(self.visits), len(self.tasks)), np.bool_)
        for v, visit in enumerate(self.visits):
            matrix[v, list(visit.tasks)] = True
        return matrix


@dataclass(frozen=True)
class Layout:
    """What a family of tasks returns: the tasks and the domains they are under."""

    tasks: tuple[Task, ...]
    domains: tuple[Domain, ...]


def definition_hash(config: StreamConfig) -> str:
    """SHA-256 of a stream's canonical form; independent of seeds and of the order of keys."""
    return content_hash(definition(config))


def compile_stream(config: StreamConfig, seed: int, data: DataSet | None = None) -> Stream:
    """A definition and a seed to index lists.

    Args:
        config: the definition.
        seed: seed of the axis "stream".
        data: the data set, where it is loaded already.

    Raises:
        UserError: the data set cannot be had or is damaged.
    """
    if data is None:
        data = registry.datasets().load(config.data, config.synthetic)
    layout: Layout = registry.compile_tasks(config.tasks.by)(config, data, Generator(seed, "stream", config.tasks.by))
    visits = tuple(_sequential(layout, data))
    stream = Stream(
        data=data,
        setting=config.setting,
        domains=layout.domains,
        tasks=layout.tasks,
        visits=visits,
        outputs=max(max(t.targets) for t in layout.tasks) + 1,
        definition_hash=definition_hash(config),
    )
    object.__setattr__(stream, "instance_hash", _instance_hash(stream))
    return stream


def _sequential(layout: Layout, data: DataSet) -> list[Visit]:
    """Every task once, in order, with every training sample of its classes."""
    visits = []
    for v, task in enumerate(layout.tasks):
        index = np.flatnonzero(np.isin(data.train_y, task.classes)).astype(np.int64)
        visits.append(Visit(index=index, task=np.full(len(index), task.id, np.int64), tasks=(task.id,), origin=v))
    return visits


def _instance_hash(stream: Stream) -> str:
    digest = hashlib.sha256(stream.data.sha256.encode())

    def add(*values: Any) -> None:
        digest.update(repr(values).encode())

    for domain in stream.domains:
        add(domain.kind, domain.degrees)
        if domain.permutation is not None:
            digest.update(domain.permutation.astype("<i8").tobytes())
    for task in stream.tasks:
        add(task.id, task.domain, task.classes, task.targets)
    for v, visit in enumerate(stream.visits):
        add(len(visit.index), *([visit.origin] if visit.origin != v else []))
        digest.update(visit.index.astype("<i8").tobytes())
        digest.update(visit.task.astype("<i8").tobytes())
    return digest.hexdigest()
