"""Check of the invariants of a stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clbench.stream import Rows, Stream, StreamExperience
from clbench.streams.compile import instance_hash
from clbench.testing.states import require


def check_stream(stream: Stream) -> None:
    """Checks the invariants of a user-defined stream. An outline suffices.

    Tasks, variants and domains refer to each other correctly; every experience has labelled samples, rows of the
    training set, once in each task, of the task's classes; sub-experiences of one experience are adjacent; every task
    is visited and each of its classes is trained and tested; the instance hash is that of the content.

    Not checked: repeatable compilation, draws from global generators, the law of a schedule, and inputs. A schedule
    that may leave a task out, such as random subsets with few experiences, makes streams that pass with one seed and
    fail with another.

    Args:
        stream: a compiled stream, or one put together by hand.

    Raises:
        AssertionError: the first violation, in one sentence.
    """
    _check_tasks(stream)
    _check_labels(stream)
    met = np.zeros((len(stream.tasks), stream.data.classes), np.bool_)
    require(len(stream.experiences) > 0, "the stream has no experience")
    for v, experience in enumerate(stream.experiences):
        _check_experience(stream, v, experience)
        for t, rows in experience.parts:
            stands_for = stream.all_tasks[t].stands_for
            met[t if stands_for is None else stands_for, stream.data.train_y[rows]] = True
    visited = {t for experience in stream.experiences for t in experience.tasks}
    for task, of_task in zip(stream.tasks, stream.test_rows, strict=True):
        require(task.id in visited, f"task {task.id} is visited by no experience")
        for c, rows in zip(task.classes, of_task, strict=True):
            require(bool(met[task.id, c]), f"class {c} of task {task.id} has no labelled sample in any experience")
            require(len(rows) > 0, f"class {c} of task {task.id} has no test sample")
    hashed = instance_hash(stream)
    require(
        stream.instance_hash == hashed,
        f"instance_hash is '{stream.instance_hash}', and the stream's content hashes to '{hashed}'",
    )


def _first(values: Sequence[int] | NDArray[np.int64]) -> int | None:
    return int(values[0]) if len(values) else None


def _check_tasks(stream: Stream) -> None:
    require(len(stream.tasks) > 0, "the stream has no task")
    classes = stream.data.classes
    for i, task in enumerate(stream.all_tasks):
        kind, mark = ("task", None) if i < len(stream.tasks) else ("variant", task.stands_for)
        name = f"{kind} {i}"
        require(task.id == i, f"{name} has the id {task.id}; tasks are numbered from 0, variants after them")
        if kind == "task":
            require(task.stands_for is None, f"{name} stands for task {task.stands_for}, as only a variant may")
        else:
            require(mark is not None and 0 <= mark < len(stream.tasks), f"{name} stands for no task (got {mark})")
        require(
            0 <= task.domain < len(stream.domains), f"{name} has domain {task.domain} of {len(stream.domains)} domains"
        )
        require(len(task.classes) > 0, f"{name} has no class")
        require(len(set(task.classes)) == len(task.classes), f"{name} has a class twice")
        beyond = [c for c in task.classes if not 0 <= c < classes]
        require(not beyond, f"{name} has class {_first(beyond)}, and the data set has classes 0 to {classes - 1}")
        require(
            len(task.targets) == len(task.classes),
            f"{name} has {len(task.classes)} classes and {len(task.targets)} targets",
        )
        beyond = [o for o in task.targets if not 0 <= o < stream.outputs]
        require(not beyond, f"{name} has target {_first(beyond)}, and there are outputs 0 to {stream.outputs - 1}")


def _check_labels(stream: Stream) -> None:
    labels, truth, classes = stream.labels, stream.data.train_y, stream.data.classes
    require(labels.dtype == np.int64, f"labels are {labels.dtype}, not int64")
    require(labels.shape == truth.shape, f"there are {labels.shape} labels for {truth.shape} training samples")
    beyond = np.flatnonzero((labels < -1) | (labels >= classes))
    if len(beyond):
        raise AssertionError(
            f"row {beyond[0]} has label {labels[beyond[0]]}; allowed are classes 0 to {classes - 1}, and -1 for none."
        )


def _check_experience(stream: Stream, v: int, experience: StreamExperience) -> None:
    where, tasks = f"experience {v}", len(stream.tasks)
    require(experience.samples > 0, f"{where} has no labelled sample")
    require(len(experience.tasks) > 0, f"{where} is about no task")
    require(
        list(experience.tasks) == sorted(set(experience.tasks)),
        f"{where} is about tasks {experience.tasks}, which do not ascend",
    )
    unknown = [t for t in experience.tasks if not 0 <= t < tasks]
    require(not unknown, f"{where} visits task {_first(unknown)}, and the stream has tasks 0 to {tasks - 1}")
    before = stream.experiences[v - 1] if v else None
    require(
        experience.origin == v or (before is not None and experience.origin == before.origin),
        f"{where} has origin {experience.origin}; allowed are its own number and the "
        "origin of the experience before it",
    )
    if before is not None and experience.origin == before.origin:
        require(
            experience.tasks == before.tasks,
            f"{where} and the one before are parts of one task block and have different tasks",
        )
    come: dict[int, list[Rows]] = {}
    for parts, labelled in ((experience.parts, True), (experience.unlabelled, False)):
        kind = "parts" if labelled else "unlabelled"
        ids = [t for t, _ in parts]
        require(ids == sorted(set(ids)), f"{where} has {kind} of tasks {ids}, which do not ascend")
        unknown = [t for t in ids if not 0 <= t < len(stream.all_tasks)]
        require(not unknown, f"{where} has samples of task {_first(unknown)}, which the stream does not have")
        for t, rows in parts:
            _check_rows(stream, f"{where}, task {t}", t, rows, labelled)
            come.setdefault(t, []).append(rows)
    for t, lists in come.items():
        unique_rows, times = np.unique(np.concatenate(lists), return_counts=True)
        require(bool((times == 1).all()), f"{where}, task {t}: row {unique_rows[times.argmax()]} comes twice")


def _check_rows(stream: Stream, where: str, task: int, rows: Rows, labelled: bool) -> None:
    data = stream.data
    is_list = isinstance(rows, np.ndarray) and rows.dtype == np.int64 and rows.ndim == 1
    require(is_list, f"{where}: rows are {getattr(rows, 'dtype', type(rows).__name__)}, not a list of int64")
    require(len(rows) > 0, f"{where}: there are no rows; leave the part out")
    n = len(data.train_y)
    beyond = rows[(rows < 0) | (rows >= n)]
    require(not len(beyond), f"{where}: row {_first(beyond)} is not among the training rows 0 to {n - 1}")
    of_task = np.zeros(data.classes + 1, np.bool_)
    of_task[list(stream.all_tasks[task].classes)] = True
    wrong = rows[~of_task[data.train_y[rows]]]
    if len(wrong):
        raise AssertionError(
            f"{where}: row {wrong[0]} is of class {data.train_y[wrong[0]]}, which the task does not have."
        )
    if stream.task_labels_given and data.train_task is not None:
        of = stream.all_tasks[task].stands_for
        wrong = rows[data.train_task[rows] != (task if of is None else of)]
        require(not len(wrong), f"{where}: row {_first(wrong)} belongs to another task, as the data set says")
    labels = stream.labels[rows]
    if labelled:
        wrong = rows[~of_task[labels]]
        if len(wrong):
            raise AssertionError(
                f"{where}: row {wrong[0]} has label {stream.labels[wrong[0]]}, which the task does not have."
            )
    else:
        wrong = rows[labels >= 0]
        require(not len(wrong), f"{where}: row {_first(wrong)} comes without a label, and 'labels' tells it")
