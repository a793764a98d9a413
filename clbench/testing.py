"""Checks for the tests of this suite and of anybody's own strategy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clbench.stream import Rows, Stream, Visit, _instance_hash
from clbench.trace import Phase, Trace


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Whether two states are equal bit for bit: nested dictionaries and lists of tensors, arrays and plain values.

    Args:
        a, b: the states, such as two `state_dict()`.
        where: what they are called in the message.

    Raises:
        AssertionError: they differ; the message is the path to the first difference.
    """
    assert type(a) is type(b), where
    if isinstance(a, (torch.Tensor, np.ndarray)):
        one, other = (np.asarray(v.detach().cpu() if isinstance(v, torch.Tensor) else v) for v in (a, b))
        assert one.dtype == other.dtype, where
        assert one.shape == other.shape, where
        assert one.tobytes() == other.tobytes(), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


# ------------------------------------------------------------------------------------------------ streams
def check_stream(stream: Stream) -> None:
    """Whether a stream of one's own keeps what everything that reads streams relies on. An outline will do.

    Tasks, variants and domains name each other rightly; every experience has labelled samples, rows of the training
    set, once in each task, of classes that the task has; parts of one visit follow each other; every task is visited
    and each of its classes is learnt and tested; the instance hash is that of the content.

    Not checked: whether another compilation gives the same stream, whether global generators were drawn from, whether
    the law of a schedule is kept, and anything about inputs. A schedule that may leave a task out, such as random
    subsets with few experiences, makes streams that pass with one seed and not with another.

    Args:
        stream: a compiled stream, or one put together by hand.

    Raises:
        AssertionError: the first thing that is wrong, in one sentence.
    """
    _check_tasks(stream)
    _check_labels(stream)
    met = np.zeros((len(stream.tasks), stream.data.classes), np.bool_)
    _require(len(stream.visits) > 0, "the stream has no experience")
    for v, visit in enumerate(stream.visits):
        _check_visit(stream, v, visit)
        for t, rows in visit.parts:
            stands_for = stream.all_tasks[t].stands_for
            met[t if stands_for is None else stands_for, stream.data.train_y[rows]] = True
    visited = {t for visit in stream.visits for t in visit.tasks}
    for task, of_task in zip(stream.tasks, stream.test_rows, strict=True):
        _require(task.id in visited, f"task {task.id} is visited by no experience")
        for c, rows in zip(task.classes, of_task, strict=True):
            _require(bool(met[task.id, c]), f"class {c} of task {task.id} has no labelled sample in any experience")
            _require(len(rows) > 0, f"class {c} of task {task.id} has no test sample")
    hashed = _instance_hash(stream)
    _require(
        stream.instance_hash == hashed,
        f"instance_hash is '{stream.instance_hash}', and the stream's content hashes to '{hashed}'",
    )


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise AssertionError(f"{sentence}.")


def _first(values: Sequence[int] | NDArray[np.int64]) -> int | None:
    return int(values[0]) if len(values) else None


def _check_tasks(stream: Stream) -> None:
    _require(len(stream.tasks) > 0, "the stream has no task")
    classes = stream.data.classes
    for i, task in enumerate(stream.all_tasks):
        kind, mark = ("task", None) if i < len(stream.tasks) else ("variant", task.stands_for)
        name = f"{kind} {i}"
        _require(task.id == i, f"{name} has the id {task.id}; tasks are numbered from 0, variants after them")
        if kind == "task":
            _require(task.stands_for is None, f"{name} stands for task {task.stands_for}, as only a variant may")
        else:
            _require(mark is not None and 0 <= mark < len(stream.tasks), f"{name} stands for no task (got {mark})")
        _require(
            0 <= task.domain < len(stream.domains), f"{name} has domain {task.domain} of {len(stream.domains)} domains"
        )
        _require(len(task.classes) > 0, f"{name} has no class")
        _require(len(set(task.classes)) == len(task.classes), f"{name} has a class twice")
        beyond = [c for c in task.classes if not 0 <= c < classes]
        _require(not beyond, f"{name} has class {_first(beyond)}, and the data set has classes 0 to {classes - 1}")
        _require(
            len(task.targets) == len(task.classes),
            f"{name} has {len(task.classes)} classes and {len(task.targets)} targets",
        )
        beyond = [o for o in task.targets if not 0 <= o < stream.outputs]
        _require(not beyond, f"{name} has target {_first(beyond)}, and there are outputs 0 to {stream.outputs - 1}")


def _check_labels(stream: Stream) -> None:
    labels, truth, classes = stream.labels, stream.data.train_y, stream.data.classes
    _require(labels.dtype == np.int64, f"labels are {labels.dtype}, not int64")
    _require(labels.shape == truth.shape, f"there are {labels.shape} labels for {truth.shape} training samples")
    beyond = np.flatnonzero((labels < -1) | (labels >= classes))
    if len(beyond):
        raise AssertionError(
            f"row {beyond[0]} has label {labels[beyond[0]]}; allowed are classes 0 to {classes - 1}, and -1 for none."
        )


def _check_visit(stream: Stream, v: int, visit: Visit) -> None:
    where, tasks = f"experience {v}", len(stream.tasks)
    _require(visit.samples > 0, f"{where} has no labelled sample")
    _require(len(visit.tasks) > 0, f"{where} is about no task")
    _require(
        list(visit.tasks) == sorted(set(visit.tasks)),
        f"{where} is about tasks {visit.tasks}, which do not ascend",
    )
    unknown = [t for t in visit.tasks if not 0 <= t < tasks]
    _require(not unknown, f"{where} visits task {_first(unknown)}, and the stream has tasks 0 to {tasks - 1}")
    before = stream.visits[v - 1] if v else None
    _require(
        visit.origin == v or (before is not None and visit.origin == before.origin),
        f"{where} has origin {visit.origin}; allowed are its own number and the origin of the experience before it",
    )
    if before is not None and visit.origin == before.origin:
        _require(visit.tasks == before.tasks, f"{where} and the one before are parts of one visit to different tasks")
    come: dict[int, list[Rows]] = {}
    for parts, labelled in ((visit.parts, True), (visit.unlabelled, False)):
        kind = "parts" if labelled else "unlabelled"
        ids = [t for t, _ in parts]
        _require(ids == sorted(set(ids)), f"{where} has {kind} of tasks {ids}, which do not ascend")
        unknown = [t for t in ids if not 0 <= t < len(stream.all_tasks)]
        _require(not unknown, f"{where} has samples of task {_first(unknown)}, which the stream does not have")
        for t, rows in parts:
            _check_rows(stream, f"{where}, task {t}", t, rows, labelled)
            come.setdefault(t, []).append(rows)
    for t, lists in come.items():
        found, times = np.unique(np.concatenate(lists), return_counts=True)
        _require(bool((times == 1).all()), f"{where}, task {t}: row {found[times.argmax()]} comes twice")


def _check_rows(stream: Stream, where: str, task: int, rows: Rows, labelled: bool) -> None:
    data = stream.data
    is_list = isinstance(rows, np.ndarray) and rows.dtype == np.int64 and rows.ndim == 1
    _require(is_list, f"{where}: rows are {getattr(rows, 'dtype', type(rows).__name__)}, not a list of int64")
    _require(len(rows) > 0, f"{where}: there are no rows; leave the part out")
    n = len(data.train_y)
    beyond = rows[(rows < 0) | (rows >= n)]
    _require(not len(beyond), f"{where}: row {_first(beyond)} is not among the training rows 0 to {n - 1}")
    own = np.zeros(data.classes + 1, np.bool_)
    own[list(stream.all_tasks[task].classes)] = True
    wrong = rows[~own[data.train_y[rows]]]
    if len(wrong):
        raise AssertionError(
            f"{where}: row {wrong[0]} is of class {data.train_y[wrong[0]]}, which the task does not have."
        )
    if stream.given and data.train_task is not None:
        of = stream.all_tasks[task].stands_for
        wrong = rows[data.train_task[rows] != (task if of is None else of)]
        _require(not len(wrong), f"{where}: row {_first(wrong)} belongs to another task, as the data set says")
    told = stream.labels[rows]
    if labelled:
        wrong = rows[~own[told]]
        if len(wrong):
            raise AssertionError(
                f"{where}: row {wrong[0]} has label {stream.labels[wrong[0]]}, which the task does not have."
            )
    else:
        wrong = rows[told >= 0]
        _require(not len(wrong), f"{where}: row {_first(wrong)} comes without a label, and 'labels' tells it")


# ------------------------------------------------------------------------------------------------ traces
def make_trace(
    accuracy: NDArray[np.float64],
    visits: NDArray[np.bool_] | None = None,
    *,
    size: int = 1000,
    every: int = 1,
    origin: NDArray[np.int32] | None = None,
    view: str = "class",
) -> Trace:
    """A trace with given accuracies, to try a metric on: tasks of one cell, experiences of equal length.

    Args:
        accuracy: (V, P, T) in [0, 1]: in each experience one evaluation before the first update, P - 2 after an
            update each, `every` iterations apart, and one at the end. NaN is not evaluated.
        visits: (V, T); task v in experience v where not given.
        size: test samples of a task; accuracies are rounded to it.
        every: iterations between evaluations.
        origin: (V,); every experience its own where not given.
        view: name of the view.

    The bits have the first `count` samples of a task right.
    """
    experiences, per, tasks = accuracy.shape
    flat = accuracy.reshape(-1, tasks)
    counts = np.where(np.isnan(flat), -1, np.rint(np.nan_to_num(flat) * size)).astype(np.int32)
    last = (per - 2) * every
    within = np.array([*range(0, last + 1, every), last])
    right = np.arange(size) < np.maximum(counts, 0)[:, :, None]
    return Trace(
        correct={view: counts},
        cell_domain=np.zeros(tasks, np.int32),
        cell_class=np.arange(tasks, dtype=np.int32),
        cell_size=np.full(tasks, size, np.int32),
        cell_population=np.full(tasks, size, np.int32),
        task_cells=np.eye(tasks, dtype=bool),
        visits=np.eye(experiences, tasks, dtype=bool) if visits is None else visits,
        origin=np.arange(experiences, dtype=np.int32) if origin is None else origin,
        iteration=np.concatenate([within + v * last for v in range(experiences)]).astype(np.int64),
        experience=np.repeat(np.arange(experiences), per).astype(np.int32),
        phase=np.tile([Phase.BEFORE, *[Phase.ITERATION] * (per - 2), Phase.END], experiences).astype(np.int8),
        loss=np.zeros(experiences * last, np.float32),
        every=every,
        dense=0,
        rows=np.arange(tasks * size, dtype=np.int64),
        bits={view: np.packbits(right.reshape(len(flat), -1), axis=1)},
    )
