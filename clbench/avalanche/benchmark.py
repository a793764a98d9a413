"""A compiled stream as an ordinary Avalanche benchmark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks import CLScenario, DatasetExperience, EagerCLStream, OnlineCLExperience
from avalanche.benchmarks.utils import ConstantSequence, DataAttribute
from avalanche.benchmarks.utils.classification_dataset import TaskAwareSupervisedClassificationDataset
from avalanche.benchmarks.utils.data import _FlatDataWithTransform
from avalanche.benchmarks.utils.flat_data import FlatData
from numpy.typing import NDArray
from torch import Tensor

from clbench.avalanche.batches import Inputs, Rows
from clbench.avalanche.tasks import TargetTasks
from clbench.errors import UserError
from clbench.evaluation.cells import lay_out_cells
from clbench.stream import Stream, joined
from clbench.training.inputs import InputTransform, StoredInputs
from clbench.training.training_set import TrainingSet


class _Experience(DatasetExperience[Any]):  # type: ignore[misc]
    """An experience whose data a strategy may replace, as in Avalanche's older benchmarks (BiC does).

    Attributes:
        test_experiences: numbers of its test experiences (tasks); masked in training and evaluation.
    """

    def about(self, tasks: tuple[int, ...]) -> None:
        self.test_experiences = tasks
        self._as_attributes("test_experiences")

    @property
    def dataset(self) -> Any:
        return self._dataset

    @dataset.setter
    def dataset(self, dataset: Any) -> None:
        self._dataset = dataset


class _SubExperience(_Experience, OnlineCLExperience[Any]):  # type: ignore[misc]
    """A sub-experience."""


def benchmark(
    stream: Stream, device: str | torch.device = "cpu", *, access_task_boundaries: bool = False
) -> CLScenario[Any]:
    """A stream as an ordinary Avalanche benchmark, for any script.

    `train_stream` has one experience for each of ours, `test_stream` one for each task (none for a drift's steps). Both
    are lists. Inputs are those of our runs, computed at the first use of an experience and then kept in memory; targets
    are output units, noisy labels in training included, and true ones in the test. Unlabelled samples are left out: an
    experience of Avalanche's has no place for them. Test samples are in order of class within their task.

    Task labels are the task's id in the task setting and 0 otherwise, as in Avalanche's own benchmarks. An experience
    that mixes tasks has several, and no `task_label`; a `MultiHeadClassifier` then needs `masking=False`.

    Experiences know their classes (`classes_in_this_experience`, `previous_classes`, `classes_seen_so_far`,
    `future_classes`) from their samples; a class is a future one wherever a later experience has it, known or not.
    Sub-experiences (online, blurry, drift) are `OnlineCLExperience`s.

    Args:
        stream: the stream, with its data.
        device: where inputs are computed; they are handed out on the host.
        access_task_boundaries: whether a strategy may see in training which sub-experiences are the first and the last,
            and grows its heads for the whole experience; else loggers alone see it.

    Raises:
        UserError: the stream was compiled from an outline, without inputs.
    """
    if not hasattr(stream.data, "train_x"):
        raise UserError(
            f"stream: '{stream.data.name}' is an outline without inputs; compile the stream from the data set itself."
        )
    device = torch.device(device)
    transform = InputTransform(stream, device)
    samples = TrainingSet(stream, transform, device)
    scenario = to_avalanche(stream, samples, device, transform, access_task_boundaries)
    scenario.clbench_stream = stream  # by which the plugin recognises it
    return scenario


def to_avalanche(
    stream: Stream,
    samples: TrainingSet,
    device: torch.device,
    transform: InputTransform | None = None,
    access_task_boundaries: bool = True,
    augmented: bool = False,
    target_tasks: TargetTasks | None = None,
) -> CLScenario[Any]:
    """See `benchmark`, over existing training samples, perhaps with a fence.

    Args:
        stream: the stream.
        samples: its training samples.
        device: where they are.
        transform: stored samples to inputs; without it there is no test stream.
        access_task_boundaries: see `benchmark`.
        augmented: whether samples are augmented at each fetch.
        target_tasks: table in which the tasks of each training batch's targets are recorded; None for none.
    """

    def fetch(index: Tensor, task: Tensor | int, plain: bool) -> Tensor:
        return samples.fetch(index, task, plain=True)[0] if plain else samples.fetch(index, task)[0]

    inputs = Inputs(fetch, len(stream.labels), device, augmented, target_tasks)
    data = _training_data(stream, inputs)
    numbers = stream.origins()
    starts = [v for v, _ in enumerate(numbers) if not v or numbers[v] != numbers[v - 1]]
    whole: list[_Experience] = []
    parts: list[_Experience] = []
    if len(starts) == len(numbers):
        parts += [_Experience(dataset=data(v, v + 1)) for v, _ in enumerate(stream.experiences)]
    else:
        for a, b in zip(starts, [*starts[1:], len(numbers)], strict=True):
            whole.append(_Experience(dataset=data(a, b)))
            for v in range(a, b):
                part = _SubExperience(
                    dataset=data(v, v + 1),
                    origin_experience=whole[-1],
                    is_first_subexp=v == a,
                    is_last_subexp=v == b - 1,
                    sub_stream_length=b - a,
                    access_task_boundaries=access_task_boundaries,
                )
                parts.append(part)
    streams = [_stream("train", parts)]
    if transform is not None:
        streams.append(_stream("test", [_Experience(dataset=d) for d in _test_data(stream, transform, device)]))
    scenario = CLScenario(streams)
    _add_order_of_classes(scenario, stream)
    for v, part in enumerate(parts):
        part.about(stream.experiences[v].tasks)
    for v, block in zip(starts, whole, strict=False):
        block.about(stream.experiences[v].tasks)
    for each in (*streams, _stream("train", whole)):
        each.benchmark = scenario
        for experience in each:
            experience.benchmark = scenario
    return scenario


def _training_data(stream: Stream, inputs: Inputs) -> Callable[[int, int], Any]:
    """Factory of the data of a range of experiences."""
    index, task = joined(part for experience in stream.experiences for part in experience.parts)
    targets = np.empty(len(index), np.int64)
    for t in np.unique(task).tolist():
        targets[task == t] = stream.targets(stream.labels[index[task == t]], t)
    starts = np.cumsum([0, *(experience.samples for experience in stream.experiences)])
    return _spans(stream, Rows(inputs, np.stack([index, task, targets]), starts.tolist()), _mixes_labels(stream))


def _test_data(stream: Stream, transform: InputTransform, device: torch.device) -> list[Any]:
    """The test samples of each task, in the order of the evaluator's cells."""
    stored = StoredInputs(stream.data.test_x, device)

    def fetch(index: Tensor, task: Tensor | int, plain: bool) -> Tensor:
        return transform(stored(index.to(device)), task, index, "test")

    cells = lay_out_cells(stream)
    task, target = (np.repeat(of, cells.size) for of in (cells.task, cells.target))
    rows = Rows(
        Inputs(fetch, len(stream.data.test_y), device), np.stack([cells.rows, task, target]), cells.start.tolist()
    )
    data = _spans(stream, rows, False)
    return [data(t, t + 1) for t, _ in enumerate(stream.tasks)]


def _task_labels(stream: Stream) -> NDArray[np.int64]:
    """Avalanche's label of each task and variant."""
    tasks = [t.id if t.stands_for is None else t.stands_for for t in stream.all_tasks]
    return np.array(tasks if stream.setting == "task" else [0] * len(tasks), np.int64)


def _mixes_labels(stream: Stream) -> bool:
    """True if any experience has samples of several tasks with different labels."""
    labels, label_of_origin = _task_labels(stream), dict[int, int]()
    return any(
        label_of_origin.setdefault(v.origin, int(labels[t])) != labels[t]
        for v in stream.experiences
        for t, _ in v.parts
    )


def _spans(stream: Stream, rows: Rows, mixed: bool) -> Callable[[int, int], Any]:
    """Factory of data with a target and a task label for each sample, of a range of parts.

    All are subsets of the same rows, which Avalanche joins by their indices alone. Its own data has a constant sequence
    for labels, and iCaRL joins no other; but lists and constant sequences cannot be joined, so all have lists where any
    part mixes labels.
    """
    targets, labels = rows.places[2].tolist(), _task_labels(stream)[rows.places[1]]
    listed = labels.tolist() if mixed else []

    def data(a: int, b: int) -> Any:
        where = range(rows.starts[a], rows.starts[b])
        span = slice(where.start, where.stop)
        target = DataAttribute(FlatData([targets], indices=where), "targets")
        target._uniques = set(targets[span])  # which it would find one by one
        same = ConstantSequence(int(labels[span].max(initial=0)), len(where))
        label = FlatData([listed], indices=where) if mixed else same
        return TaskAwareSupervisedClassificationDataset(
            [_FlatDataWithTransform([rows], indices=where)],
            data_attributes=[target, DataAttribute(label, "targets_task_labels", use_in_getitem=True)],
        )

    return data


def _stream(name: str, experiences: list[_Experience]) -> Any:
    """A list of experiences with their task labels and their past and future classes.

    Avalanche's `with_classes_timeline` takes classes that return for past ones. Equal sets are shared, so that
    thousands of experiences over thousands of classes take little.
    """
    seen: frozenset[int] = frozenset()
    for experience in experiences:
        classes = experience.dataset.targets.uniques
        experience.classes_in_this_experience = sorted(classes)  # heads index with it
        experience.previous_classes = seen
        seen = seen if seen.issuperset(classes) else seen | classes
        experience.classes_seen_so_far = seen
        experience.task_labels = sorted(experience.dataset.targets_task_labels.uniques)
        if len(experience.task_labels) == 1:
            experience.task_label = experience.task_labels[0]
    later: frozenset[int] = frozenset()
    for experience in reversed(experiences):
        experience.future_classes = later
        classes = experience.classes_in_this_experience
        later = later if later.issuperset(classes) else later.union(classes)
    return EagerCLStream(name, experiences)


def _add_order_of_classes(scenario: CLScenario[Any], stream: Stream) -> None:
    """Adds attributes of the older class-incremental benchmark, for some of Avalanche's methods (iCaRL)."""
    order: dict[int, None] = {}
    entered = []
    for experience, converted in zip(stream.experiences, scenario.train_stream, strict=True):
        before, classes = len(order), set(converted.classes_in_this_experience)
        order.update((o, None) for t, _ in experience.parts for o in stream.all_tasks[t].targets if o in classes)
        entered.append(len(order) - before)
    scenario.n_classes_per_exp = entered
    scenario.classes_order = list(order)
    scenario.n_classes = stream.outputs
