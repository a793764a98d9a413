"""Whether a definition fits its data set: what its models cannot tell without the data's facts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from clbench.config import Augmentation, ColorJitter
from clbench.grammar import (
    BlurrySchedule,
    ClassTasks,
    DriftSchedule,
    ExplicitSchedule,
    GivenTasks,
    InstanceTasks,
    LabelNoise,
    RandomSubsetsSchedule,
    RecurrenceSchedule,
    RepetitionSchedule,
    RotationTasks,
    StreamConfig,
    TransformTasks,
)
from clbench.schema import name_classes

Mistake = tuple[list[str | int], str]
"""A key path below `stream` (of `augmentation_mistakes`: below `training`), and a sentence."""


def mistakes(stream: StreamConfig, name: str, classes: int, image: bool, tasks: int | None) -> list[Mistake]:
    """What a definition asks of a data set that does not hold it.

    Args:
        stream: the definition.
        name: of the data set, for sentences.
        classes: their number.
        image: whether samples are images.
        tasks: number of tasks that the data set itself says; None where it says none.
    """
    found = list(_of_tasks(stream, name, classes, image, tasks))
    count = _count(stream, tasks)
    if count is not None and not found:
        found += _of_schedule(stream, count)
        supervision = stream.supervision
        if supervision.shots is not None and supervision.base >= count:
            found.append(
                (["supervision", "base"], f"got {supervision.base}, which leaves none of {count} tasks for shots.")
            )
    if stream.supervision.noise is not None:
        found += _of_noise(stream.supervision.noise, name, classes)
    return found


def augmentation_mistakes(
    parts: Sequence[Augmentation], data: str, image: bool, channels: int | None = None
) -> list[Mistake]:
    """What an augmentation asks of data that cannot give it.

    Args:
        parts: `training.augmentation`.
        data: what sentences call the data set.
        image: whether samples are images.
        channels: of an image; None where that is not known yet.
    """
    if not image:
        return [(["augmentation"], f"needs images, and {data} holds vectors.")] if parts else []
    found: list[Mistake] = []
    for i, part in enumerate(parts):
        if not isinstance(part, ColorJitter) or channels in (None, 3):
            continue
        if channels != 1:
            found.append((["augmentation", i], f"needs images of 1 or 3 channels, and {data} has {channels}."))
            continue
        for key in ("saturation", "hue"):  # torchvision leaves grey images as they are, without a word
            if getattr(part, key):
                found.append((["augmentation", i, key], f"needs images of 3 channels, and {data} has 1."))
    return found


def _count(stream: StreamConfig, given: int | None) -> int | None:
    """Number of tasks."""
    tasks = stream.tasks
    if isinstance(tasks, ClassTasks):
        return len(tasks.blocks) if tasks.blocks is not None else tasks.count
    if isinstance(tasks, GivenTasks):
        return given
    return 1 if isinstance(tasks, InstanceTasks) else len(stream.domains_listed()) or getattr(tasks, "count", None)


def _of_tasks(stream: StreamConfig, name: str, classes: int, image: bool, given: int | None) -> Iterator[Mistake]:
    tasks = stream.tasks
    if isinstance(tasks, ClassTasks):
        for key, sentence in _of_blocks(tasks, name, classes):
            yield ["tasks", key], sentence
    elif isinstance(tasks, RotationTasks) and not image:
        yield ["tasks", "by"], f"rotations need images, and '{name}' holds vectors."
    elif isinstance(tasks, TransformTasks) and not image:
        for i, transform in enumerate(tasks.transforms):
            for key in ("rotation", "invert"):
                if getattr(transform, key):
                    yield ["tasks", "transforms", i, key], f"needs images, and '{name}' holds vectors."
    elif isinstance(tasks, GivenTasks) and given is None:
        yield ["tasks", "by"], f"got 'given', but '{name}' says no tasks; a file says them by train_task and test_task."
    if stream.size is not None and not image:
        yield ["size"], f"is for images, and '{name}' holds vectors."


def _of_blocks(tasks: ClassTasks, name: str, classes: int) -> Iterator[tuple[str, str]]:
    if tasks.count is not None and tasks.count > classes:
        yield "count", f"{tasks.count} tasks, but '{name}' has {classes} classes."
    elif tasks.first is not None and tasks.count is not None and classes - tasks.first < tasks.count - 1:
        left = max(0, classes - tasks.first)
        yield "first", f"{tasks.first} of {classes} classes leave {left} for {tasks.count - 1} other tasks."
    key, listed = tasks.listed() or ("", [])
    beyond = sorted({c for c in listed if c >= classes})
    if beyond:
        yield key, f"{name_classes(beyond)} not in '{name}', which has classes 0 to {classes - 1}."
    absent = sorted(set(range(classes)) - set(listed))
    if key == "order" and absent:
        yield key, f"{name_classes(absent)} missing."
    if tasks.labels == "within_task":
        if len({len(b) for b in tasks.blocks or []}) > 1:
            yield "blocks", "labels within the task need blocks of one size."
        if tasks.first is not None:
            yield "first", "labels within the task need blocks of one size."
        elif tasks.count is not None and classes % tasks.count:
            sentence = f"labels within the task need blocks of one size, and {classes} classes"
            yield "count", f"{sentence} do not divide by {tasks.count}."


def _of_schedule(stream: StreamConfig, tasks: int) -> Iterator[Mistake]:
    schedule: Any = stream.schedule
    if isinstance(schedule, RecurrenceSchedule | BlurrySchedule) and tasks < 2:
        yield ["schedule", "by"], f"got '{schedule.by}', which needs two tasks or more."
    if isinstance(schedule, RandomSubsetsSchedule):
        if schedule.size > tasks:
            yield ["schedule", "size"], f"got {schedule.size}, but there are {tasks} tasks."
        if schedule.entropy_decrease and schedule.factor * (tasks - 1) >= 1:
            yield (
                ["schedule", "factor"],
                f"got {schedule.factor:g}. Allowed with {tasks} tasks: below {1 / (tasks - 1):g}.",
            )
    if isinstance(schedule, RepetitionSchedule):
        if schedule.experiences < tasks and schedule.first == "even":
            yield ["schedule", "experiences"], f"got {schedule.experiences}, fewer than the {tasks} tasks."
        if schedule.samples is not None and schedule.samples < tasks:
            yield (
                ["schedule", "samples"],
                f"got {schedule.samples}, too few for an experience in which all {tasks} tasks meet.",
            )
        if schedule.probabilities is not None and len(schedule.probabilities) != tasks:
            yield ["schedule", "probabilities"], f"got {len(schedule.probabilities)}, but there are {tasks} tasks."
    if isinstance(schedule, BlurrySchedule | DriftSchedule) and schedule.experiences < tasks:
        yield ["schedule", "experiences"], f"got {schedule.experiences}, fewer than the {tasks} tasks."
    if isinstance(schedule, ExplicitSchedule):
        named: set[int] = set()
        for i, lesson in enumerate(schedule.experiences):
            beyond = sorted({t for t in lesson.tasks if t >= tasks})
            key: list[str | int] = ["schedule", "experiences", i, "tasks"]
            if beyond:
                yield key, f"{name_classes(beyond, 'task')} not there; the stream has tasks 0 to {tasks - 1}."
            if len(set(lesson.tasks)) < len(lesson.tasks):
                yield key, "a task is listed twice."
            named.update(lesson.tasks)
        absent = sorted(set(range(tasks)) - named)
        if absent:
            yield ["schedule", "experiences"], f"{name_classes(absent, 'task')} in no experience."


def _of_noise(noise: LabelNoise, name: str, classes: int) -> Iterator[Mistake]:
    beyond = sorted({c for pair in noise.pairs or [] for c in pair if c >= classes})
    if beyond:
        yield (
            ["supervision", "noise", "pairs"],
            f"{name_classes(beyond)} not in '{name}', which has classes 0 to {classes - 1}.",
        )
