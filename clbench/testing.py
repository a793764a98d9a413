"""Checks for the tests of this suite and of anybody's own strategy."""

from __future__ import annotations

import random
import tempfile
from collections import deque
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clbench.budget import batches_in_a_pass
from clbench.chance import fenced
from clbench.checkpoint import Checkpoints
from clbench.errors import Unsaveable
from clbench.loop import train
from clbench.numerics import numerics
from clbench.observation import Observation, Position
from clbench.recorder import Recorder
from clbench.resolve import RunConfig
from clbench.strategy import SelfDriven, Strategy
from clbench.stream import Rows, Stream, Visit, _instance_hash, compile_stream
from clbench.trace import Phase, Trace
from clbench.workbench import Workbench, assemble, completed, imported


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


# ------------------------------------------------------------------------------------------------ strategies
def check_resume(run: RunConfig, at: Collection[int] | None = None, *, remade: Collection[str] = ()) -> None:
    """Whether a strategy's `state_dict` says all that a run which is stopped needs to end as if it had not been.

    The run is trained whole; then it is restored, from a checkpoint file into a strategy made anew, as it was after
    some updates, and continued. There, its attributes and its state must be those of the one that was not stopped,
    and so must its weights, losses and everything recorded at the end: bit for bit.

    Not noticed is what several strategies of one process share, such as attributes of the class.

    Args:
        run: a configuration of at least two experiences, better small, as `clbench.resolve.make_run` gives it.
        at: after which updates; by default the first, the last of the first experience (there also after
            `end_experience`), the first of the second, one in the middle of a second pass over the same samples where
            there is one, and the last but one. A strategy with a loop of its own can be stopped after experiences only.
        remade: attributes that need not be equal, such as caches, because they are made again where they are needed.

    Raises:
        AssertionError: something is not saved; the message names the attribute, or else what came out differently.
        RunFailed: the run fails even when it is not stopped.
    """
    with numerics(run.numerics), fenced(run.numerics.device == "cuda"), tempfile.TemporaryDirectory() as folder:
        run = completed(run, imported(run.strategy))
        stream = compile_stream(run.benchmark.stream, run.seed if run.seeds.stream is None else run.seeds.stream)
        undisturbed = _Resumable(run, stream)
        undisturbed.train()
        whole = _Resumable(run, stream)
        name = type(whole.bench.strategy).__name__
        whole.stops = set(_stops(whole.bench) if at is None else at)
        whole.folder = Path(folder)
        try:
            whole.train()
        except Unsaveable as error:
            raise AssertionError(f"{name}: {error}.") from None
        _require(bool(whole.met), f"{name}: the run was at none of the updates {sorted(whole.stops)}")
        _agree(undisturbed.outcome(), whole.outcome(), f"{name}: asked for its state_dict, it ends with")
        for position, before in whole.met.items():
            [(done, state)] = Checkpoints(_place(Path(folder), position)).read()
            assert isinstance(state, dict)
            again = _Resumable(run, stream)
            again.restore(state, position)
            after = _attributes(again.bench.strategy)
            forgot = [n for n in sorted(before.keys() | after.keys()) if n not in remade and _differ(before, after, n)]
            several = len(forgot) > 1
            _require(
                not forgot,
                f"{name}: attribute{'s' * several} {', '.join(map(repr, forgot))} {'are' if several else 'is'} another "
                f"than before load_state_dict, after update {done:,}; {'are they' if several else 'is it'} in "
                "state_dict? (What is made again where it is needed goes into `remade`)",
            )
            _agree(
                _content(state["strategy"]),
                _content(again.bench.strategy.state_dict()),
                f"{name}: restored after update {done:,}, state_dict has",
            )
            again.train(position)
            _agree(
                _tail(whole.outcome(), again.outcome()),
                again.outcome(),
                f"{name}: everything that can be compared was restored after update {done:,}, and yet it ends with",
            )


def _stops(bench: Workbench) -> set[int]:
    """Updates of every kind: see `check_resume`."""
    total, first = sum(bench.budgets), bench.budgets[0]
    found = {1, first, first + 1, total - 1}
    begin = 0
    for number, budget in enumerate(bench.budgets):
        one_pass = batches_in_a_pass(bench.stream.visits[number].samples, bench.run.benchmark.training)
        if bench.strategy.access == "experience" and budget > one_pass:
            found.add(begin + min(budget, one_pass + one_pass // 2 + 1))
            break
        begin += budget
    return {n for n in found if 1 <= n <= total}


class _Resumable:
    """One training that can be stopped and taken up again.

    Attributes:
        stops: updates after which a checkpoint is written, below `folder`.
        met: where that was, and the strategy's attributes there.
    """

    def __init__(self, run: RunConfig, stream: Stream) -> None:
        self.bench = assemble(run, stream)
        self._recorder = Recorder(self.bench.device)
        self._seen = Observation(self.bench, self._recorder, self._on_iteration)
        self.stops: set[int] = set()
        self.folder = Path()
        self.met: dict[Position, dict[str, Any]] = {}

    def train(self, start: Position | None = None) -> None:
        train(self.bench, self._seen, self._stop, start)
        self._recorder.chunk()

    def _on_iteration(self) -> None:
        if not isinstance(self.bench.strategy, SelfDriven):
            self._stop()

    def _stop(self) -> None:
        if self._seen.iterations not in self.stops:
            return
        state = {**self.bench.state_dict(), "observation": self._seen.state_dict()}
        Checkpoints(_place(self.folder, self._seen.position)).write(self._seen.iterations, state)
        self.met[self._seen.position] = _attributes(self.bench.strategy)

    def restore(self, state: dict[str, Any], position: Position) -> None:
        self.bench.load_state_dict(state, position.experience, within=bool(position.done))
        self._seen.load_state_dict(state["observation"], position)

    def outcome(self) -> dict[str, Any]:
        """State and record."""
        state = {"state_dict": _content(self.bench.strategy.state_dict())}
        return {**state, "model": _content(self.bench.strategy.model), **self._recorder.chunks[0]}


def _place(folder: Path, position: Position) -> Path:
    return folder / f"{position.experience}-{position.done}"


def _tail(whole: dict[str, Any], rest: dict[str, Any]) -> dict[str, Any]:
    """The whole outcome without the part of the record from before the rest."""
    return {n: v[len(v) - len(rest[n]) :] if isinstance(v, np.ndarray) and n in rest else v for n, v in whole.items()}


def _agree(a: Any, b: Any, sentence: str) -> None:
    try:
        assert_same(a, b)
    except AssertionError as error:
        raise AssertionError(f"{sentence} another {str(error).lstrip('.') or 'value'}.") from None


def _differ(a: dict[str, Any], b: dict[str, Any], name: str) -> bool:
    try:
        assert_same(a.get(name, _ABSENT), b.get(name, _ABSENT))
    except AssertionError:
        return True
    return False


_ABSENT = "not there"


def _attributes(strategy: Strategy) -> dict[str, Any]:
    """What can be compared of a strategy's own attributes, and its generator."""
    given = vars(strategy.setup)
    known = {id(v) for n, v in given.items() if n not in ("model", "generator")} | {id(strategy), id(strategy.config)}
    own = {n: v for n, v in vars(strategy).items() if n not in ("setup", "config")}
    return {n: _content(v, known) for n, v in own.items()} | {"setup.generator": _content(strategy.setup.generator)}


def _content(value: Any, known: Collection[int] = frozenset()) -> Any:
    """A copy of a value in terms of arrays, dictionaries, lists and plain values; None for what has no such terms.

    Args:
        value: anything.
        known: ids of objects that are left out.
    """
    if id(value) in known and isinstance(getattr(value, "__dict__", None), dict):
        return None
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone().numpy() if value.dtype != torch.bfloat16 else _content(value.float())
    if isinstance(value, (np.ndarray, np.generic)):
        return np.array(value)
    if isinstance(value, (bool, int, float, str, bytes)):
        return value if value == value else "nan"
    if isinstance(value, dict):
        return {k if isinstance(k, (int, str)) else repr(k): _content(v, known) for k, v in value.items()}
    if isinstance(value, (list, tuple, deque)):
        return [_content(v, known) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_content(v, known) for v in value), key=repr)
    if isinstance(value, torch.Generator):
        return _content(value.get_state())
    if isinstance(value, np.random.Generator):
        return _content(value.bit_generator.state)
    if isinstance(value, random.Random):
        return _content(value.getstate())
    if isinstance(value, nn.Module):
        modes = [m.training for m in value.modules()]
        learns = [p.requires_grad for p in value.parameters()]
        return {"state": _content(dict(value.state_dict())), "modes": modes, "learns": learns}
    if callable(getattr(value, "state_dict", None)) and not isinstance(value, type):
        return _content(value.state_dict(), known)
    if callable(value) or not isinstance(getattr(value, "__dict__", None), dict):
        return None
    return {n: _content(v, {*known, id(value)}) for n, v in vars(value).items()}


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
