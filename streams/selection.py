"""Selection: the stream for hyper-parameter tuning, its first experiences alone, tested on held-out training samples.

No test sample is seen, and no later experience. The held-out samples are labelled ones, tested with their training
labels and excluded from training. The number of outputs, and under `normalise: standard` mean and deviation of all
training inputs, stay those of the benchmark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from pydantic import Field

from clbench.dataset import Outline
from clbench.errors import UserError
from clbench.rng import Generator
from clbench.schema import Count, Model
from clbench.stream import Layout, Rows, StreamExperience, Task, Timetable


class Selection(Model):
    """The stream for hyper-parameter tuning: its first experiences alone, tested on a held-out share of their training
    samples. No test sample is seen."""

    experiences: Count
    """Number of first experiences."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of each class's training samples, rounded; at least one, and at least one stays in training. Drawn by the
    stream seed; with tasks by time the last ones."""


@dataclass(frozen=True)
class Selected:
    """The selected part of a stream.

    Attributes:
        data: with the held-out samples as its test part.
        layout, timetable: with the tasks that occur, renumbered from 0 on in their old order.
        held_out: held-out rows of the training set, int64, ascending: the test part.
    """

    data: Outline
    layout: Layout
    timetable: Timetable
    held_out: Rows


def select(
    config: Selection,
    data: Outline,
    labels: Rows,
    layout: Layout,
    timetable: Timetable,
    generator: Generator,
    in_order: bool = False,
) -> Selected:
    """The first experiences of a stream, with a held-out share of their training samples for testing.

    Args:
        config: number of experiences, and share.
        data: the data set, perhaps without inputs.
        labels: training label of each row, -1 for unlabelled rows.
        layout, timetable: the whole stream's.
        generator: draws the held-out samples: the same share of each class (of each class in each task of the data).
        in_order: whether the last ones are held out instead, as rows are in the order of time.

    Raises:
        UserError: the stream has fewer experiences.
    """
    origins = list(dict.fromkeys(v.origin for v in timetable.experiences))
    if config.experiences > len(origins):
        raise UserError(
            f"stream.selection.experiences: got {config.experiences}. Allowed: an integer from 1 to {len(origins)}, "
            "the stream's experiences."
        )
    experiences = [v for v in timetable.experiences if v.origin in set(origins[: config.experiences])]
    chance = None if in_order else generator
    aside = _hold_out(data, labels, experiences, config.held_out, layout.task_labels_given, chance)
    kept_tasks = _tasks_in(experiences, layout.tasks, timetable.variants)
    number = {old: new for new, old in enumerate(kept_tasks)}
    tasks = tuple(replace(layout.tasks[old], id=new) for old, new in number.items())
    used = sorted({t for v in experiences for t, _ in (*v.parts, *v.unlabelled)} - set(number))
    number |= {old: len(tasks) + i for i, old in enumerate(used)}
    variants = []
    for old in used:
        variant = timetable.variants[old - len(layout.tasks)]
        assert variant.stands_for is not None
        variants.append(replace(variant, id=number[old], stands_for=number[variant.stands_for]))

    def renamed(parts: tuple[tuple[int, Rows], ...]) -> tuple[tuple[int, Rows], ...]:
        left = [(number[t], rows[~aside[rows]]) for t, rows in parts]
        return tuple((t, rows) for t, rows in left if len(rows))

    selected = [
        StreamExperience(renamed(v.parts), tuple(number[t] for t in v.tasks), v.origin, renamed(v.unlabelled))
        for v in experiences
    ]
    selected = _all_visited(_without_empty(selected), len(tasks))
    held = np.flatnonzero(aside)
    task = None if data.train_task is None else data.train_task[held]
    if layout.task_labels_given and task is not None:
        task = np.array([number.get(t, -1) for t in task.tolist()], np.int64)
    target = None if data.train_target is None else data.train_target[held]
    data = replace(data, test_y=labels[held], test_task=task, test_target=target)
    if hasattr(data, "train_x"):
        x = data.train_x
        data = replace(data, test_x=x[aside] if isinstance(x, np.ndarray) else x.only(aside))  # type: ignore[call-arg]
    _check_tested(data, tasks, layout.task_labels_given)
    return Selected(
        data,
        replace(layout, tasks=tasks),
        replace(timetable, experiences=selected, variants=tuple(variants)),
        held,
    )


def _check_tested(data: Outline, tasks: Sequence[Task], task_labels_given: bool) -> None:
    """Checks that each task has held-out samples; a single class may have none."""
    for task in tasks:
        tested = np.isin(data.test_y, task.classes)
        if task_labels_given and data.test_task is not None:
            tested &= data.test_task == task.id
        if not tested.any():
            raise UserError(
                f"stream.selection: task {task.id} has one labelled sample of each class in these experiences, "
                "and none to spare for testing."
            )


def _hold_out(
    data: Outline,
    labels: Rows,
    experiences: Sequence[StreamExperience],
    share: float,
    task_labels_given: bool,
    generator: Generator | None,
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Mask of the held-out rows, bool (N,): at least one of each class that has two, and never all of one; without a
    generator the last ones."""
    come = np.zeros(len(labels), np.bool_)
    for experience in experiences:
        for _, rows in experience.parts:
            come[rows] = True
    groups = labels * 1
    if task_labels_given and data.train_task is not None:
        groups = labels + data.classes * data.train_task
    aside = np.zeros(len(labels), np.bool_)
    for group in np.unique(groups[come]).tolist():
        rows = np.flatnonzero(come & (groups == group))
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        chosen = rows[len(rows) - count :] if generator is None else rows[generator.permutation(len(rows))[:count]]
        aside[chosen] = True
    return aside


def _tasks_in(
    experiences: Sequence[StreamExperience], tasks: tuple[Task, ...], variants: tuple[Task, ...]
) -> list[int]:
    """Tasks that an experience visits, has samples of, or has a variant of; ascending."""
    ids = {t for v in experiences for t in v.tasks}
    for experience in experiences:
        for t, _ in (*experience.parts, *experience.unlabelled):
            stands_for = variants[t - len(tasks)].stands_for if t >= len(tasks) else t
            ids.add(t if stands_for is None else stands_for)
    return sorted(ids)


def _without_empty(experiences: list[StreamExperience]) -> list[StreamExperience]:
    """Drops pieces of an online stream whose samples were all held out; origins are renumbered."""
    left = [v for v in experiences if v.parts]
    first: dict[int, int] = {}
    return [replace(v, origin=first.setdefault(v.origin, i)) for i, v in enumerate(left)]


def _all_visited(experiences: list[StreamExperience], tasks: int) -> list[StreamExperience]:
    """Counts a few samples of a task, as around a blurred boundary, as its visit if it has no other."""
    for t in sorted(set(range(tasks)) - {t for v in experiences for t in v.tasks}):
        at = next(i for i, v in enumerate(experiences) if t in dict(v.parts))
        both = tuple(sorted({*experiences[at].tasks, t}))
        experiences = [replace(v, tasks=both) if v.origin == experiences[at].origin else v for v in experiences]
    return experiences
