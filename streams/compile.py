"""Compilation of a stream: a definition (configuration without a seed) and a seed to index lists.

In five steps, each with its files: tasks, supervision, schedule, the cut into sub-experiences, and the selection of the
stream for hyper-parameter tuning.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np

from clbench import messages
from clbench.dataset import Outline, identity
from clbench.errors import UserError
from clbench.rng import Generator
from clbench.schema import content_hash, definition, name_classes
from clbench.stream import Layout, Plan, Rows, Stream, StreamExperience, Task, joined
from clbench.streams.datasets import load
from clbench.streams.definition import StreamConfig, unanswerable
from clbench.streams.online import cut
from clbench.streams.schedules.recurrence import RecurrenceSchedule
from clbench.streams.selection import select
from clbench.streams.supervision import supervise


def definition_hash(config: StreamConfig) -> str:
    """SHA-256 of a stream's canonical form; independent of seeds and of the order of keys."""
    return content_hash(definition(config))


def compile_stream(config: StreamConfig, seed: int, data: Outline | None = None) -> Stream:
    """A definition and a seed to index lists.

    Args:
        config: the definition.
        seed: seed "stream".
        data: the data set, if it is loaded already; an outline of it gives a stream without training inputs.

    Raises:
        UserError: the data set is unavailable or damaged, or does not meet the definition.
    """
    if data is None:
        data = load.load(config.data, size=config.size, **config.reading)
    tasks = None if data.train_task is None else int(data.train_task.max()) + 1
    problems = config.data_mistakes(data.name, data.classes, len(data.shape) > 1, tasks, data.train_target is not None)
    if problems:
        raise UserError(*(f"stream.{messages.dotted(path)}: {sentence}" for path, sentence in problems))
    layout = config.tasks.lay_out(data, Generator(seed, "stream", config.tasks.by))
    lessons, labels = supervise(
        config.supervision, data, layout.tasks, layout.lessons or _whole_tasks(layout, data), seed
    )
    plan = Plan(data, layout.tasks, layout.domains, lessons)
    # The laws of recurrence share one generator: the controls depend on the power law of the same seed.
    shared = "power_law" if isinstance(config.schedule, RecurrenceSchedule) else config.schedule.by
    timetable = config.schedule.arrange(config.tasks, plan, Generator(seed, "stream", "schedule", shared))
    experiences = timetable.experiences
    if (labels < 0).any():
        experiences = [_by_label(v, labels) for v in experiences]
    in_order = config.tasks.by == "time"
    if config.online is not None:
        experiences = cut(experiences, config.online, Generator(seed, "stream", "online"), in_order)
    outputs = max(max(t.targets) for t in layout.tasks) + 1
    if data.train_target is not None:
        outputs = data.train_target.shape[1]
    held_out = None
    if config.selection is not None:
        selected = select(
            config.selection, data, labels, layout, replace(timetable, experiences=experiences),
            Generator(seed, "stream", "selection"), in_order,
        )  # fmt: skip
        data, layout, timetable = selected.data, selected.layout, selected.timetable
        experiences, held_out = timetable.experiences, selected.held_out
    _check_experiences(experiences, layout.tasks)
    _check_answers(config, layout.tasks, data)
    stream = Stream(
        data=data,  # type: ignore[arg-type]  # an outline where nothing is trained
        labels=labels,
        setting=config.setting,
        domains=layout.domains + timetable.domains,
        tasks=layout.tasks,
        variants=timetable.variants,
        experiences=tuple(experiences),
        outputs=outputs,
        definition_hash=definition_hash(config),
        seed=seed,
        normalise=config.normalise,
        task_labels_given=layout.task_labels_given,
        held_out=held_out,
    )
    return replace(stream, instance_hash=instance_hash(stream))


def _whole_tasks(layout: Layout, data: Outline) -> tuple[tuple[int, Rows], ...]:
    """One lesson a task, with all of its samples; tasks of the same classes share one list."""
    if layout.task_labels_given:
        return tuple((t.id, np.flatnonzero(data.train_task == t.id)) for t in layout.tasks)
    lists: dict[tuple[int, ...], Rows] = {}
    for task in layout.tasks:
        if task.classes not in lists:
            wanted = np.zeros(data.classes, np.bool_)
            wanted[list(task.classes)] = True
            lists[task.classes] = np.flatnonzero(wanted[data.train_y]).astype(np.int64, copy=False)
    return tuple((t.id, lists[t.classes]) for t in layout.tasks)


def _by_label(experience: StreamExperience, labels: Rows) -> StreamExperience:
    """Separates the unlabelled samples."""
    labelled = [(t, rows[labels[rows] >= 0]) for t, rows in experience.parts]
    unlabelled = [(t, rows[labels[rows] < 0]) for t, rows in experience.parts]
    return StreamExperience(
        tuple((t, rows) for t, rows in labelled if len(rows)),
        experience.tasks,
        experience.origin,
        tuple((t, rows) for t, rows in unlabelled if len(rows)),
    )


def _check_experiences(experiences: list[StreamExperience], tasks: tuple[Task, ...]) -> None:
    """Checks that no experience is empty, and that every task occurs."""
    for v, experience in enumerate(experiences):
        if not experience.samples:
            raise UserError(f"stream: experience {v} of {len(experiences)} has no labelled training sample.")
    absent = sorted({t.id for t in tasks} - {t for experience in experiences for t in experience.tasks})
    if absent:
        raise UserError(
            f"stream.schedule: {name_classes(absent, 'task')} in none of {len(experiences)} experiences with this "
            "seed; give more experiences, or another seed."
        )


def _check_answers(config: StreamConfig, tasks: tuple[Task, ...], data: Outline) -> None:
    """Checks that answers can be wrong: two classes or more compete."""
    alone = [t.id for t in tasks if len(t.classes) < 2]
    if config.setting == "task" and (sentence := unanswerable("task", alone)):
        raise UserError(f"stream.setting: {sentence}")
    if data.train_target is not None or len({target for t in tasks for target in t.targets}) > 1:
        return
    where, more = "stream", ""
    if config.selection is not None:
        where, more = "stream.selection.experiences", f"got {config.selection.experiences}; "
    raise UserError(
        f"{where}: {more}all tasks have one class, {data.named(tasks[0].classes[0])}, so that no answer can be wrong."
    )


def instance_hash(stream: Stream) -> str:
    """SHA-256 over a stream's data, domains, tasks, labels and index lists; its own field is left out."""
    digest = hashlib.sha256(identity(stream.data, stream.normalise).encode())

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
    plain = all(v.tasks == tuple(t for t, _ in v.parts) for v in stream.experiences)
    for v, experience in enumerate(stream.experiences):
        index, task = joined(experience.parts)
        add(
            len(index), *([experience.origin] if experience.origin != v else []), *([] if plain else [experience.tasks])
        )
        digest.update(index.astype("<i8", copy=False).data)
        digest.update(task.astype("<i8", copy=False).data)
        if experience.unlabelled:
            for array in joined(experience.unlabelled):
                digest.update(array.astype("<i8", copy=False).data)
    if stream.held_out is not None:
        add("held out", len(stream.held_out))
        digest.update(stream.held_out.astype("<i8", copy=False).data)
    return digest.hexdigest()
