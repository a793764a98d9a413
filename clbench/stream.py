"""A stream: what is learnt, when, and from how much, as index lists.

A definition (configuration without a seed) and a seed compile to a `Stream`, in four steps that each have their files
in `streams/`: tasks, supervision, schedule, and the cut into sub-experiences. Nothing here knows models, and nothing
here imports torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from clbench import fits, mistakes, registry
from clbench.chance import Generator
from clbench.errors import UserError
from clbench.grammar import RecurrenceSchedule, StreamConfig
from clbench.schema import content_hash, definition, name_classes

if TYPE_CHECKING:
    from avalanche.benchmarks import CLScenario

    from streams.datasets import DataSet, Outline

Rows = NDArray[np.int64]


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
        """What is done to positions."""
        if self.permutation is not None:
            return "permutation"
        return "rotation" if self.degrees else "identity"


@dataclass(frozen=True)
class Task:
    """What is to be learnt: a set of classes under one domain.

    Attributes:
        id: 0..T-1 of a task, T and more of a variant; never changes.
        domain: index into `Stream.domains`.
        classes: the data set's classes, in their order of entry.
        targets: what is predicted for each of `classes` (output units).
        stands_for: of a variant, which is trained on but not evaluated: the task that it is counted to.
    """

    id: int
    domain: int
    classes: tuple[int, ...]
    targets: tuple[int, ...]
    stands_for: int | None = None


@dataclass(frozen=True)
class Visit:
    """One experience of the stream: which training samples come, and from which task each is.

    Index lists are joined when they are asked for: thousands of experiences that share a task's list share its memory.

    Attributes:
        parts: for each task (or variant) in it, by ascending id: the id, and rows of the training set, int64 (n,).
        tasks: ids of the tasks that the experience is about, ascending. Samples of others may come along (rehearsal,
            blurred boundaries), and are no visit to their task.
        origin: the experience that it was cut from; neighbours that share it are parts of one visit. Its own number
            where it is whole.
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


@dataclass(frozen=True)
class Stream:
    """A compiled stream.

    Attributes:
        data: the data set; an outline of it, without images, where the stream is only looked at.
        labels: class of each training row as the learner is told it, int64; -1 where it is told none.
        setting: "class", "task" or "domain".
        domains: the input transforms.
        tasks: what is to be learnt, T of them.
        variants: what is trained on beside them, under ids from T on: the steps of a drift.
        visits: the experiences in order, V of them.
        outputs: number of output units that a model needs.
        definition_hash: SHA-256 over the definition without the seed.
        seed: of the axis "stream".
        normalise: see `StreamConfig.normalise`.
        given: whether a sample belongs to the task that the data set says, and not to each that has its class.
        held_out: rows of the training set that the test part consists of, where hyper-parameters are chosen on it.
        instance_hash: SHA-256 over data, domains, tasks, labels and index lists.
    """

    data: DataSet
    labels: Rows
    setting: Literal["class", "task", "domain"]
    domains: tuple[Domain, ...]
    tasks: tuple[Task, ...]
    variants: tuple[Task, ...]
    visits: tuple[Visit, ...]
    outputs: int
    definition_hash: str
    seed: int
    normalise: str
    given: bool = False
    held_out: Rows | None = None
    instance_hash: str = field(default="")

    @property
    def all_tasks(self) -> tuple[Task, ...]:
        """Tasks and variants: entry i has the id i."""
        return self.tasks + self.variants

    def targets(self, labels: NDArray[np.int64], task: int) -> NDArray[np.int64]:
        """Output units of classes within a task or variant; -1 for a class it does not have, and for no label."""
        table = np.full(self.data.classes + 1, -1, np.int64)
        found = self.all_tasks[task]
        table[list(found.classes)] = found.targets
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

    def present(self, visit: Visit) -> tuple[int, ...]:
        """Tasks that an experience is about or has samples of, ascending; a variant counts as its task."""
        found = set(visit.tasks)
        for t, _ in visit.parts:
            stands_for = self.all_tasks[t].stands_for
            found.add(t if stands_for is None else stands_for)
        return tuple(sorted(found))

    @cached_property
    def test_rows(self) -> tuple[tuple[Rows, ...], ...]:
        """Rows of the test set: for each task, for each of its classes, int64 ascending."""
        data = self.data
        of_class = [np.flatnonzero(data.test_y == c) for c in range(data.classes)]
        if not self.given:
            return tuple(tuple(of_class[c] for c in t.classes) for t in self.tasks)
        assert data.test_task is not None
        return tuple(tuple(of_class[c][data.test_task[of_class[c]] == t.id] for c in t.classes) for t in self.tasks)

    def to_avalanche(self) -> CLScenario[Any]:
        """This stream as an ordinary Avalanche benchmark; see `clbench.bridge.benchmark`."""
        from clbench import bridge  # the only way to Avalanche, which takes seconds to import

        return bridge.benchmark(self)


# ------------------------------------------------------------------------------------------------ compiling
@dataclass(frozen=True)
class Layout:
    """What a family of tasks returns.

    Attributes:
        tasks, domains: see `Stream`.
        lessons: (task, rows) in order, where a task's samples come in parts; None: each task is one lesson with all
            training samples of its classes.
        given: whether a sample belongs to the task that the data set says, and not to each that has its class.
    """

    tasks: tuple[Task, ...]
    domains: tuple[Domain, ...]
    lessons: tuple[tuple[int, Rows], ...] | None = None
    given: bool = False


@dataclass(frozen=True)
class Plan:
    """What a schedule arranges.

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


@dataclass(frozen=True)
class Timetable:
    """What a schedule returns.

    Attributes:
        visits: the experiences.
        variants, domains: what is trained on beside the tasks, and the input transforms that this adds.
    """

    visits: list[Visit]
    variants: tuple[Task, ...] = ()
    domains: tuple[Domain, ...] = ()


def definition_hash(config: StreamConfig) -> str:
    """SHA-256 of a stream's canonical form; independent of seeds and of the order of keys."""
    return content_hash(definition(config))


def compile_stream(config: StreamConfig, seed: int, data: Outline | None = None) -> Stream:
    """A definition and a seed to index lists.

    Args:
        config: the definition.
        seed: seed of the axis "stream".
        data: the data set, where it is loaded already; an outline of it gives a stream that cannot be trained on.

    Raises:
        UserError: the data set cannot be had or is damaged, or the definition asks for what it does not hold.
    """
    if data is None:
        data = registry.datasets().load(config.data, config.synthetic, config.size)
    own = None if data.train_task is None else int(data.train_task.max()) + 1
    found = fits.mistakes(config, data.name, data.classes, len(data.shape) > 1, own)
    if found:
        raise UserError(*(f"stream.{mistakes.dotted(path)}: {sentence}" for path, sentence in found))
    layout: Layout = registry.stream_part("tasks", config.tasks.by)(
        config, data, Generator(seed, "stream", config.tasks.by)
    )
    lessons, labels = registry.stream_part("supervision")(
        config.supervision, data, layout.tasks, layout.lessons or _whole_tasks(layout, data), seed
    )
    plan = Plan(data, layout.tasks, layout.domains, lessons)
    schedule = registry.stream_part("schedules", config.schedule.by)
    # The laws of recurrence share their chance: what the controls take from the power law is that of the same seed.
    shared = "power_law" if isinstance(config.schedule, RecurrenceSchedule) else config.schedule.by
    timetable: Timetable = schedule(config, plan, Generator(seed, "stream", "schedule", shared))
    visits = timetable.visits
    if (labels < 0).any():
        visits = [_by_label(v, labels) for v in visits]
    if config.online is not None:
        cut = registry.stream_part("online")
        visits = cut(visits, config.online, Generator(seed, "stream", "online"))
    outputs = max(max(t.targets) for t in layout.tasks) + 1
    held_out = None
    if config.selection is not None:
        chosen = registry.stream_part("selection")(
            config.selection, data, labels, layout, replace(timetable, visits=visits),
            Generator(seed, "stream", "selection"),
        )  # fmt: skip
        data, layout, timetable = chosen.data, chosen.layout, chosen.timetable
        visits, held_out = timetable.visits, chosen.held_out
    _check_visits(visits, layout.tasks)
    stream = Stream(
        data=data,  # type: ignore[arg-type]  # an outline where nothing will be trained
        labels=labels,
        setting=config.setting,
        domains=layout.domains + timetable.domains,
        tasks=layout.tasks,
        variants=timetable.variants,
        visits=tuple(visits),
        outputs=outputs,
        definition_hash=definition_hash(config),
        seed=seed,
        normalise=config.normalise,
        given=layout.given,
        held_out=held_out,
    )
    return replace(stream, instance_hash=instance_hash(stream))


def _whole_tasks(layout: Layout, data: Outline) -> tuple[tuple[int, Rows], ...]:
    """One lesson a task, with all of its samples; tasks of the same classes share one list."""
    if layout.given:
        return tuple((t.id, np.flatnonzero(data.train_task == t.id)) for t in layout.tasks)
    lists: dict[tuple[int, ...], Rows] = {}
    for task in layout.tasks:
        if task.classes not in lists:
            wanted = np.zeros(data.classes, np.bool_)
            wanted[list(task.classes)] = True
            lists[task.classes] = np.flatnonzero(wanted[data.train_y]).astype(np.int64, copy=False)
    return tuple((t.id, lists[t.classes]) for t in layout.tasks)


def _by_label(visit: Visit, labels: Rows) -> Visit:
    """The samples without a label apart."""
    told = [(t, rows[labels[rows] >= 0]) for t, rows in visit.parts]
    untold = [(t, rows[labels[rows] < 0]) for t, rows in visit.parts]
    return Visit(
        tuple((t, rows) for t, rows in told if len(rows)),
        visit.tasks,
        visit.origin,
        tuple((t, rows) for t, rows in untold if len(rows)),
    )


def _check_visits(visits: list[Visit], tasks: tuple[Task, ...]) -> None:
    """Nothing is lost in silence: no experience is empty, and no task is left out by chance."""
    for v, visit in enumerate(visits):
        if not visit.samples:
            raise UserError(f"stream: experience {v} of {len(visits)} has no labelled training sample.")
    absent = sorted({t.id for t in tasks} - {t for visit in visits for t in visit.tasks})
    if absent:
        raise UserError(
            f"stream.schedule: {name_classes(absent, 'task')} in none of {len(visits)} experiences with this seed; "
            "give more experiences, or another seed."
        )


def instance_hash(stream: Stream) -> str:
    """SHA-256 over a stream's data, domains, tasks, labels and index lists."""
    digest = hashlib.sha256(stream.data.sha256.encode())

    def add(*values: Any) -> None:
        digest.update(repr(values).encode())

    for domain in stream.domains:
        add(domain.kind, domain.degrees)
        if (domain.invert, domain.brightness, domain.noise) != (False, 1.0, 0.0):
            add(domain.invert, domain.brightness, domain.noise)
        if domain.permutation is not None:
            digest.update(domain.permutation.astype("<i8").tobytes())
    for t in stream.all_tasks:
        add(t.id, t.domain, t.classes, t.targets, *([] if t.stands_for is None else [t.stands_for]))
    if any(d.noise for d in stream.domains):
        add("noise", stream.seed)
    if not np.array_equal(stream.labels, stream.data.train_y):
        digest.update(stream.labels.astype("<i8").tobytes())
    plain = all(v.tasks == tuple(t for t, _ in v.parts) for v in stream.visits)
    for v, visit in enumerate(stream.visits):
        index, task = joined(visit.parts)
        add(len(index), *([visit.origin] if visit.origin != v else []), *([] if plain else [visit.tasks]))
        digest.update(index.astype("<i8", copy=False).data)
        digest.update(task.astype("<i8", copy=False).data)
        if visit.unlabelled:
            for array in joined(visit.unlabelled):
                digest.update(array.astype("<i8", copy=False).data)
    if stream.held_out is not None:
        add("held out", len(stream.held_out))
        digest.update(stream.held_out.astype("<i8", copy=False).data)
    return digest.hexdigest()
