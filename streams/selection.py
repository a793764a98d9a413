"""Selection: the stream that hyper-parameters are chosen on, its first experiences alone, tested on training samples.

No test sample is seen, and none of what comes later. Tested is on samples that the learner is told a label of, with
that label; they are left out of training. What a benchmark fixes beforehand stays as it is: the number of outputs, and
under `normalise: standard` mean and deviation of all training inputs.
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
from clbench.stream import Layout, Rows, Task, Timetable, Visit


class Selection(Model):
    """The stream that hyper-parameters are chosen on: its first experiences alone, tested on a share of their training
    samples, which are left out of training. No test sample is seen."""

    experiences: Count
    """How many of the first."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of each class's training samples, rounded; at least one, and one stays."""


@dataclass(frozen=True)
class Selected:
    """What is left of a stream.

    Attributes:
        data: whose test part is what was put aside.
        layout, timetable: with the tasks that come, under ids from 0 on in their old order.
        held_out: rows of the training set that were put aside, int64, ascending: the test part.
    """

    data: Outline
    layout: Layout
    timetable: Timetable
    held_out: Rows


def select(
    config: Selection, data: Outline, labels: Rows, layout: Layout, timetable: Timetable, generator: Generator
) -> Selected:
    """The first experiences of a stream, and a share of their training samples to test on.

    Args:
        config: how many, and how large a share.
        data: the data set, perhaps without inputs.
        labels: class of each training row as the learner is told it, -1 for none.
        layout, timetable: the whole stream's.
        generator: of what is put aside: the same share of each class (of each class in each task of the data's own).

    Raises:
        UserError: the stream has fewer experiences.
    """
    origins = list(dict.fromkeys(v.origin for v in timetable.visits))
    if config.experiences > len(origins):
        raise UserError(
            f"stream.selection.experiences: got {config.experiences}. Allowed: an integer from 1 to {len(origins)}, "
            "the stream's experiences."
        )
    visits = [v for v in timetable.visits if v.origin in set(origins[: config.experiences])]
    aside = _put_aside(data, labels, visits, config.held_out, layout.task_labels_given, generator)
    kept_tasks = _tasks_in(visits, layout.tasks, timetable.variants)
    number = {old: new for new, old in enumerate(kept_tasks)}
    tasks = tuple(replace(layout.tasks[old], id=new) for old, new in number.items())
    used = sorted({t for v in visits for t, _ in (*v.parts, *v.unlabelled)} - set(number))
    number |= {old: len(tasks) + i for i, old in enumerate(used)}
    variants = []
    for old in used:
        variant = timetable.variants[old - len(layout.tasks)]
        assert variant.stands_for is not None
        variants.append(replace(variant, id=number[old], stands_for=number[variant.stands_for]))

    def renamed(parts: tuple[tuple[int, Rows], ...]) -> tuple[tuple[int, Rows], ...]:
        left = [(number[t], rows[~aside[rows]]) for t, rows in parts]
        return tuple((t, rows) for t, rows in left if len(rows))

    made = [Visit(renamed(v.parts), tuple(number[t] for t in v.tasks), v.origin, renamed(v.unlabelled)) for v in visits]
    made = _all_visited(_without_empty(made), len(tasks))
    held = np.flatnonzero(aside)
    own = None if data.train_task is None else data.train_task[held]
    if layout.task_labels_given and own is not None:
        own = np.array([number.get(t, -1) for t in own.tolist()], np.int64)
    data = replace(data, test_y=labels[held], test_task=own)
    if hasattr(data, "train_x"):
        x = data.train_x
        data = replace(data, test_x=x[aside] if isinstance(x, np.ndarray) else x.only(aside))  # type: ignore[call-arg]
    _check_tested(data, tasks, layout.task_labels_given)
    return Selected(
        data,
        replace(layout, tasks=tasks),
        replace(timetable, visits=made, variants=tuple(variants)),
        held,
    )


def _check_tested(data: Outline, tasks: Sequence[Task], task_labels_given: bool) -> None:
    """A class of which nothing could be put aside is not tested; a whole task must not be."""
    for task in tasks:
        found = np.isin(data.test_y, task.classes)
        if task_labels_given and data.test_task is not None:
            found &= data.test_task == task.id
        if not found.any():
            raise UserError(
                f"stream.selection: task {task.id} has one labelled sample of each class in these experiences, "
                "and none to spare for testing."
            )


def _put_aside(
    data: Outline, labels: Rows, visits: Sequence[Visit], share: float, task_labels_given: bool, generator: Generator
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which rows are tested on, bool (N,): at least one of each class that has two, and never all of one."""
    come = np.zeros(len(labels), np.bool_)
    for visit in visits:
        for _, rows in visit.parts:
            come[rows] = True
    groups = labels * 1
    if task_labels_given and data.train_task is not None:
        groups = labels + data.classes * data.train_task
    aside = np.zeros(len(labels), np.bool_)
    for group in np.unique(groups[come]).tolist():
        rows = np.flatnonzero(come & (groups == group))
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        aside[rows[generator.permutation(len(rows))[:count]]] = True
    return aside


def _tasks_in(visits: Sequence[Visit], tasks: tuple[Task, ...], variants: tuple[Task, ...]) -> list[int]:
    """Tasks that an experience is about, has samples of, or has a variant of; ascending."""
    found = {t for v in visits for t in v.tasks}
    for visit in visits:
        for t, _ in (*visit.parts, *visit.unlabelled):
            stands_for = variants[t - len(tasks)].stands_for if t >= len(tasks) else t
            found.add(t if stands_for is None else stands_for)
    return sorted(found)


def _without_empty(visits: list[Visit]) -> list[Visit]:
    """Pieces of an online stream whose only samples were put aside go; origins are counted anew."""
    left = [v for v in visits if v.parts]
    first: dict[int, int] = {}
    return [replace(v, origin=first.setdefault(v.origin, i)) for i, v in enumerate(left)]


def _all_visited(visits: list[Visit], tasks: int) -> list[Visit]:
    """Where only a few samples of a task come along, as around a blurred boundary, these are its visit."""
    for t in sorted(set(range(tasks)) - {t for v in visits for t in v.tasks}):
        at = next(i for i, v in enumerate(visits) if t in dict(v.parts))
        both = tuple(sorted({*visits[at].tasks, t}))
        visits = [replace(v, tasks=both) if v.origin == visits[at].origin else v for v in visits]
    return visits
