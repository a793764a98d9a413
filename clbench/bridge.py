"""The bridge to Avalanche: this module, `bridge_batches` and `bridge_state` alone import it.

Hosting: any Avalanche strategy, or a factory of one, runs unmodified under our runner. It keeps its own training
loop; a plugin at the end of its list calls our watcher, and our evaluator predicts through a twin of its model.

The other way: `ContinualEvaluation` is a plugin for somebody's own Avalanche script, and `benchmark` turns one of our
streams into an ordinary Avalanche benchmark.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import inspect
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Set
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import MultiStepLR

from clbench import import_paths
from clbench.cells import Cells, lay_out_cells
from clbench.chance import fenced
from clbench.config import StrategyConfig
from clbench.errors import RunFailed, UserError, nearest
from clbench.evaluator import Evaluation, Evaluator
from clbench.recorder import Recorder
from clbench.store import InputTransform, StoredInputs, TrainingSet
from clbench.strategy import Experience, Memory, SelfDrivenLearner, Setup, Watcher
from clbench.stream import Stream, joined
from clbench.trace import Phase, Trace

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "no QP solver found|higher not found", UserWarning)  # told when one is needed
    warnings.simplefilter("ignore", DeprecationWarning)  # of what its dependencies import (JAXopt on Python 3.13)
    import avalanche
    from avalanche.benchmarks import CLExperience, CLScenario, DatasetExperience, EagerCLStream, OnlineCLExperience
    from avalanche.benchmarks.utils import ConstantSequence, DataAttribute
    from avalanche.benchmarks.utils.classification_dataset import TaskAwareSupervisedClassificationDataset
    from avalanche.benchmarks.utils.data import _FlatDataWithTransform
    from avalanche.benchmarks.utils.flat_data import FlatData
    from avalanche.core import BasePlugin, SupervisedPlugin
    from avalanche.logging import BaseLogger
    from avalanche.models import MultiTaskModule, NCMClassifier
    from avalanche.models.utils import is_multi_task_module
    from avalanche.training.plugins import BiCPlugin, EvaluationPlugin, GEMPlugin
    from avalanche.training.supervised import Cumulative, JointTraining
    from avalanche.training.supervised.lamaml import LaMAML
    from avalanche.training.templates.base import BaseTemplate, PositionalArgumentsDeprecatedWarning

    from clbench.bridge_batches import Inputs, Rows, gathered
    from clbench.bridge_state import Parts
    from clbench.bridge_tasks import TargetTasks


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Avalanche's notices about its own code and habits are dropped, and what it prints goes to stderr.

    Each of its deprecated functions puts a filter in front of all others, so that no filter reaches its warnings;
    they are recognised where they are shown. The filters are as before afterwards.
    """
    home = os.path.dirname(avalanche.__file__)
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        show = warnings.showwarning

        def selected(message: Warning | str, category: type[Warning], filename: str, *rest: Any, **named: Any) -> None:
            deprecated = issubclass(category, (DeprecationWarning, PositionalArgumentsDeprecatedWarning))
            of_avalanche = filename.startswith(home) or re.match(r"Call to deprecated (function|class) ", str(message))
            if not (deprecated and of_avalanche) and not str(message).startswith("No loggers specified"):
                show(message, category, filename, *rest, **named)

        warnings.showwarning = selected
        yield


# ------------------------------------------------------------------------------------------------ streams, outwards
class _Experience(DatasetExperience[Any]):  # type: ignore[misc]
    """One whose data a strategy may replace, as Avalanche's older benchmarks let it (BiC does).

    Attributes:
        test_experiences: numbers of the test experiences (tasks) that it is about; masked in training and evaluation.
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
    """A part of one visit."""


def benchmark(
    stream: Stream, device: str | torch.device = "cpu", *, access_task_boundaries: bool = False
) -> CLScenario[Any]:
    """A stream as an ordinary Avalanche benchmark, for anybody's script.

    `train_stream` has one experience for each of ours, `test_stream` one for each task (none for a drift's steps). Both
    are lists. Inputs are those that our runs train and are evaluated on, made at the first use of an experience and
    then kept in memory; targets are output units, as the learner is told them in training (with label noise: wrongly)
    and as they are in the test. Samples without a label are left out: an experience of Avalanche's has no place for
    them. Test samples are in order of class within their task.

    Task labels are the task's id in the task setting and 0 otherwise, as in Avalanche's own benchmarks. An experience
    that mixes tasks has several, and no `task_label`; a `MultiHeadClassifier` then needs `masking=False`.

    Experiences know their classes (`classes_in_this_experience`, `previous_classes`, `classes_seen_so_far`,
    `future_classes`) by the samples that they bring; a class is to come wherever a later experience brings it, known
    or not. Where visits come in parts (online, blurry, drift), each part is an `OnlineCLExperience`.

    Args:
        stream: the stream, with its data.
        device: where inputs are computed; they are handed out on the host.
        access_task_boundaries: whether a strategy may see in training which parts are the first and the last of their
            visit, and grows its heads for the whole of it; else loggers alone see it.

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
    return to_avalanche(stream, samples, device, transform, access_task_boundaries)


def to_avalanche(
    stream: Stream,
    samples: TrainingSet,
    device: torch.device,
    transform: InputTransform | None = None,
    access_task_boundaries: bool = True,
    augmented: bool = False,
    target_tasks: TargetTasks | None = None,
) -> CLScenario[Any]:
    """What `benchmark` describes, over training samples that exist already and may have a fence.

    Args:
        stream: the stream.
        samples: its training samples.
        device: where they are.
        transform: stored samples to inputs; gives the test stream, which there is none of without it.
        access_task_boundaries: see `benchmark`.
        augmented: whether samples come out differently each time they are fetched.
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
        parts += [_Experience(dataset=data(v, v + 1)) for v, _ in enumerate(stream.visits)]
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
        part.about(stream.visits[v].tasks)
    for v, of_visit in zip(starts, whole, strict=False):
        of_visit.about(stream.visits[v].tasks)
    for each in (*streams, _stream("train", whole)):
        each.benchmark = scenario
        for experience in each:
            experience.benchmark = scenario
    return scenario


def _training_data(stream: Stream, inputs: Inputs) -> Callable[[int, int], Any]:
    """The data of the visits from one on and up to another."""
    index, task = joined(part for visit in stream.visits for part in visit.parts)
    targets = np.empty(len(index), np.int64)
    for t in np.unique(task).tolist():
        targets[task == t] = stream.targets(stream.labels[index[task == t]], t)
    starts = np.cumsum([0, *(visit.samples for visit in stream.visits)])
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
    own = [t.id if t.stands_for is None else t.stands_for for t in stream.all_tasks]
    return np.array(own if stream.setting == "task" else [0] * len(own), np.int64)


def _mixes_labels(stream: Stream) -> bool:
    """Whether any visit has samples of several tasks, and tasks have labels of their own."""
    labels, met = _task_labels(stream), dict[int, int]()
    return any(met.setdefault(v.origin, int(labels[t])) != labels[t] for v in stream.visits for t, _ in v.parts)


def _spans(stream: Stream, rows: Rows, mixed: bool) -> Callable[[int, int], Any]:
    """Data with a target and a task label for each sample, of the parts from one on and up to another.

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
    """A list of experiences that know their task labels, and which classes come when.

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
    """What some of Avalanche's methods (iCaRL) read of the older class-incremental benchmark."""
    order: dict[int, None] = {}
    entered = []
    for visit, experience in zip(stream.visits, scenario.train_stream, strict=True):
        before, there = len(order), set(experience.classes_in_this_experience)
        order.update((o, None) for t, _ in visit.parts for o in stream.all_tasks[t].targets if o in there)
        entered.append(len(order) - before)
    scenario.n_classes_per_exp = entered
    scenario.classes_order = list(order)
    scenario.n_classes = stream.outputs


# ------------------------------------------------------------------------------------------------ predictions
def scores(strategy: Any, model: nn.Module, x: Tensor, labels: Tensor | None, experience: Any) -> Tensor | None:
    """What the evaluation loop of an Avalanche strategy would compute; None while it has nothing to predict with.

    The loop runs on a shallow copy of the strategy, which has no labels to look at: the forward pass, and then what
    plugins make of its output (BiC corrects it, CoPE looks for the nearest prototype). Plugins that keep account of
    a whole evaluation measure, and are left out. A network that is told the task sees one task at a time.

    Args:
        strategy: stays as it is.
        model: to be used in place of the strategy's, in evaluation mode.
        x: inputs (N, ...).
        labels: Avalanche task labels (N,), for models with a head for each task; None stands for 0.
        experience: the experience that is trained or was trained last.

    Raises:
        RunFailed: what comes out is no tensor.
    """
    if labels is not None and is_multi_task_module(model) and bool((labels != labels[0]).any()):
        parts = {
            t: scores(strategy, model, x[labels == t], labels[labels == t], experience) for t in set(labels.tolist())
        }
        width = max(0 if p is None else p.shape[1] for p in parts.values())
        joined = x.new_full((len(x), width), float("-inf"))
        for t, part in parts.items():
            if part is None:
                return None
            joined[labels == t, : part.shape[1]] = part
        return joined
    for module in model.modules():
        if isinstance(module, NCMClassifier) and not module.class_means_dict:
            return None
        known = module.known_train_tasks_labels if isinstance(module, MultiTaskModule) else None
        if known and not known.issuperset([0] if labels is None else labels.tolist()):
            return None
    nothing = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    loop = copy.copy(strategy)
    loop.model, loop.is_training, loop.experience = model, False, experience
    loop.mbatch = [x, nothing, nothing if labels is None else labels]
    loop.mb_output = loop.forward()
    plugins = [p for p in strategy.plugins if isinstance(p, BasePlugin)]
    for event in ("after_eval_forward", "after_eval_iteration"):
        for plugin in plugins:
            if _overrides(plugin, event) and not (
                _overrides(plugin, "before_eval") or _overrides(plugin, "after_eval")
            ):
                getattr(copy.copy(plugin), event)(loop)
    if not isinstance(loop.mb_output, Tensor):
        raise RunFailed("no_scores", f"its evaluation gives {type(loop.mb_output).__name__}, and not scores of classes")
    return loop.mb_output


def _overrides(plugin: Any, event: str) -> bool:
    return getattr(type(plugin), event, None) is not getattr(SupervisedPlugin, event)


# ------------------------------------------------------------------------------------------------ hosting
_OURS = {
    "train_mb_size": "training.batch_size",
    "train_epochs": "training.epochs or training.iterations",
    "eval_mb_size": "evaluation.batch_size",
    "optimizer": "training.optimizer",
    "device": "--device",
    "model": "model",
    "evaluator": None,
    "eval_every": "evaluation.every",
}
"""Arguments of Avalanche's strategies that the benchmark decides, and the key that decides each."""
_GIVEN = ("criterion", "feature_extractor", "classifier")
"""Arguments that are given too, unless the configuration says another."""


_NEEDS: dict[type, tuple[str, Callable[[], bool]]] = {
    GEMPlugin: ("the package quadprog, which is not installed", lambda: _installed("quadprog")),
    LaMAML: ("the package higher, which is not installed", lambda: _installed("higher")),
    BiCPlugin: ("torch < 2.7, whose MultiStepLR takes 'verbose'", lambda: "verbose" in _parameters(MultiStepLR)[0]),
}
"""What parts of Avalanche's need and miss in the midst of training only, and whether it is there."""


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


class _Evaluator(EvaluationPlugin):  # type: ignore[misc]
    """Avalanche's evaluator, which says nothing, not even that it says nothing.

    Avalanche's own takes part in every event of an iteration, and changes the strategy's experience to and fro for it.
    This one does so from the moment on that somebody gives it a metric or a logger.
    """

    def __init__(self) -> None:
        super().__init__(loggers=[_NOBODY])

    def __getattribute__(self, name: str) -> Any:
        if name.startswith(("before_", "after_")):
            own = object.__getattribute__(self, "__dict__")
            if not own["metrics"] and own["loggers"] == [_NOBODY]:
                raise AttributeError(name)
        return super().__getattribute__(name)


_NOBODY = BaseLogger()


class _Budgeted:
    """A data loader that ends with the budget, for training loops that do not look at `stop_training`."""

    def __init__(self, loader: Any, more: Callable[[], bool]) -> None:
        self._loader, self._more = loader, more

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            if not self._more():
                return
            yield batch


class _Calls(SupervisedPlugin[Any]):  # type: ignore[misc]
    """The last plugin of a hosted strategy: passes its events on to a watcher."""

    def __init__(self) -> None:
        super().__init__()
        self.enter(Watcher(), False)

    def enter(self, watcher: Watcher, limited: bool) -> None:
        self._watcher, self._limited = watcher, limited
        self._first = self._more = True

    def leave(self) -> None:
        self.enter(Watcher(), False)

    def before_training_epoch(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        if self._limited and not isinstance(strategy.dataloader, _Budgeted):
            strategy.dataloader = _Budgeted(strategy.dataloader, lambda: self._more)

    def before_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        if self._first:
            self._watcher.before_first_update()
            self._first = False

    def after_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        if not self._more:
            raise RunFailed("over_budget", "the strategy goes on after the last update that training.iterations allows")
        more = self._watcher.after_iteration(strategy.loss.detach().reshape(()))
        if self._limited and not more:
            self._more = False
            strategy.stop_training()


class _ActiveCrossEntropy:
    """Cross-entropy over the active outputs; see `training.active_outputs`.

    These are the outputs of the sample's task, of all tasks seen so far and the sample's, or of the classes in the
    batch that the strategy passes, replayed samples included. A sample whose task is unknown (a generated one) counts
    to all tasks that have its target.

    Attributes:
        seen: outputs of the experiences so far.
        target_tasks: tasks of the targets in the strategy's batches; None where the target alone determines them.
        labelled: the hosted strategy, where its task labels are tasks.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.seen: frozenset[int] = frozenset()
        by_target: dict[int, set[tuple[int, ...]]] = {}
        for outputs in setup.task_outputs:
            for target in outputs:
                by_target.setdefault(target, set()).add(outputs)
        # Tasks that share a target and have the same outputs have the same loss.
        shared = setup.training.active_outputs != "batch" and any(len(of) > 1 for of in by_target.values())
        self.target_tasks = TargetTasks() if shared else None
        self.labelled: Any = None
        self._by_target = {target: set().union(*of) for target, of in by_target.items()}
        self._mask: tuple[frozenset[int], Tensor] | None = None

    def __call__(self, out: Tensor, y: Tensor) -> Tensor:
        if self._setup.training.active_outputs == "batch":
            active = torch.zeros(out.shape[1], dtype=torch.bool, device=out.device)
            active[y] = True
        else:
            active = self._active(out.device)[self._rows(y)][:, : out.shape[1]]
        return nn.functional.cross_entropy(out.masked_fill(~active, float("-inf")), y)

    def _rows(self, y: Tensor) -> Tensor:
        """Rows of `_active` for some targets: that of the sample's task, or of its target where it is unknown."""
        tasks = None if self.target_tasks is None else self._tasks(y)
        of_target = len(self._setup.task_outputs) + y
        return of_target if tasks is None else torch.where(tasks < 0, of_target, tasks)

    def _tasks(self, y: Tensor) -> Tensor | None:
        assert self.target_tasks is not None
        tasks = self.target_tasks.of(y)
        batch = None if self.labelled is None else self.labelled.mbatch
        if tasks is None and batch is not None and y is batch[1]:
            labels: Tensor = batch[-1]
            return labels
        return tasks

    def _active(self, device: torch.device) -> Tensor:
        """Active outputs for each task and then for each target, bool (T + outputs, outputs)."""
        if self._mask is None or self._mask[0] is not self.seen:
            tasks, outputs = self._setup.task_outputs, self._setup.outputs
            also = self.seen if self._setup.training.active_outputs == "seen" else frozenset()
            active = torch.zeros((len(tasks) + outputs, outputs), dtype=torch.bool)
            for row, of_task in enumerate(tasks):
                active[row, sorted({*of_task, *also})] = True
            for target, of_target in self._by_target.items():
                active[len(tasks) + target, sorted(of_target | also)] = True
            self._mask = self.seen, active.to(device)
        return self._mask[1]


class Hosted(SelfDrivenLearner):
    """An Avalanche strategy under our runner."""

    def __init__(self, hosted: Any, config: StrategyConfig, setup: Setup, stream: Stream, criterion: Any) -> None:
        super().__init__(config, setup)
        self.hosted = hosted
        self.experiences = 0
        self._criterion = criterion
        self._calls = _Calls()
        hosted.plugins.append(self._calls)
        self._by_task = stream.setting == "task"
        if isinstance(hosted, Cumulative):
            self.access = "past"
        target_tasks = None
        if isinstance(criterion, _ActiveCrossEntropy):
            target_tasks, criterion.labelled = criterion.target_tasks, hosted if self._by_task else None
        self._experiences = to_avalanche(
            stream,
            setup.samples,
            setup.device,
            augmented=bool(setup.training.augmentation),
            target_tasks=target_tasks,
        ).train_stream
        self._data = [experience.dataset for experience in self._experiences]
        self._parts = Parts(hosted, [self._calls, criterion, *_given(self._experiences)], self._data[0])

    @property
    def model(self) -> nn.Module:  # type: ignore[override]
        """The hosted strategy's present model; it may have replaced the one it was given."""
        model: nn.Module = self.hosted.model
        return model

    def fit(self, experience: Experience, iterations: int, watcher: Watcher) -> None:
        training, self.experiences = self.setup.training, self.experiences + 1
        target_tasks: TargetTasks | None = None
        if isinstance(self._criterion, _ActiveCrossEntropy):
            self._criterion.seen |= set(experience.outputs)
            target_tasks = self._criterion.target_tasks
        self._calls.enter(watcher, limited=training.iterations is not None)
        # An epoch has at least one update, so as many epochs as updates are enough; the plugin stops it in time.
        self.hosted.train_epochs = iterations if training.epochs is None else training.epochs
        options = {}
        if training.optimizer_state == "reset":
            options["reset_optimizer_state"] = True
        if training.drop_last and len(experience.index) >= training.batch_size:
            options["drop_last"] = True
        with _hushed(), gathered(), target_tasks or contextlib.nullcontext():
            if training.optimizer_state == "reset" and experience.part and self.hosted.optimizer is not None:
                self.hosted.make_optimizer(reset_optimizer_state=True)  # which it does itself where a visit begins
            self.hosted.train(self._experiences[experience.number], eval_streams=[], **options)
        self._calls.leave()
        for name, value in vars(self.hosted).items():
            if isinstance(value, Tensor) and not value.is_leaf:  # of its last batch (ER-ACE)
                setattr(self.hosted, name, value.detach())

    def predict(self, model: nn.Module, x: Tensor, task: Tensor | None) -> Tensor | None:
        number = max(self.experiences - 1, 0)
        return scores(self.hosted, model, x, task if self._by_task else None, self._experiences[number])

    def state_dict(self) -> dict[str, Any]:
        """All that the hosted strategy consists of, between two experiences; see `bridge_state`.

        Raises:
            Unsaveable: something in it cannot be saved.
        """
        pairs = zip(self._experiences, self._data, strict=True)
        replaced = {n: e.dataset for n, (e, data) in enumerate(pairs) if e.dataset is not data}
        seen = sorted(self._criterion.seen) if isinstance(self._criterion, _ActiveCrossEntropy) else []
        return {"experiences": self.experiences, "seen": seen, "hosted": self._parts.state_dict(replaced)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.experiences = state["experiences"]
        if isinstance(self._criterion, _ActiveCrossEntropy):
            self._criterion.seen = frozenset(state["seen"])
        for n, data in self._parts.load_state_dict(state["hosted"]).items():
            self._experiences[n].dataset = data

    def memory(self) -> Memory:
        """Samples in the storage policies of its plugins; unknown where a plugin keeps them in its own way."""
        policies = [getattr(p, "storage_policy", None) for p in [self.hosted, *self.hosted.plugins]]
        held = sum(len(p.buffer) for p in policies if p is not None)
        if not any(p is not None for p in policies):
            return Memory(None, None)
        return Memory(held, held * self.setup.samples.sample_bytes)


def _given(experiences: Any) -> list[Any]:
    """What a stream's experiences are made of, which a strategy may refer to and does not change."""
    data = experiences[0].dataset
    targets = [part for of in (data.targets, data.targets_task_labels) for part in getattr(of.data, "_datasets", [])]
    whole = {id(e): e for e in (getattr(e, "origin_experience", None) for e in experiences) if e is not None}
    scenario = experiences[0].benchmark
    return [*data._flat_data._datasets, *targets, *experiences, *whole.values(), experiences, scenario]


def needs(stream: Stream) -> frozenset[str]:
    """What any hosted strategy is told: it is called at each experience, and task labels come with the samples."""
    return frozenset({"boundaries", "task_in_training"} if stream.setting == "task" else {"boundaries"})


def host(found: Any, chosen: StrategyConfig, setup: Setup, stream: Stream) -> Hosted:
    """An Avalanche strategy, or a factory that returns one, ready to be run.

    It is called with those of `model`, `optimizer`, `criterion`, `train_mb_size`, `train_epochs`, `eval_mb_size`,
    `device`, `evaluator`, `eval_every`, `feature_extractor` and `classifier` that it has parameters for, and with
    the keys beside `name` in the configuration. A value of the form `{name: package.module:Class, ...}`, alone or in
    a list, is built first (plugins, for example). A criterion that it has as a default and that is no cross-entropy
    is left to it.

    Raises:
        UserError: what was named cannot be called so, or is no Avalanche strategy; the message says what it accepts.
    """
    where = f"strategy '{chosen.name}'"
    if not callable(found):
        raise UserError(f"{where}: expected a class or a function, found {type(found).__name__}.")
    criterion: Any = nn.CrossEntropyLoss()
    if setup.training.active_outputs not in (None, "all"):
        criterion = _ActiveCrossEntropy(setup)
    offered: dict[str, Any] = {
        "model": lambda: setup.model,
        "optimizer": lambda: setup.make_optimizer(setup.model.parameters()),
        "criterion": lambda: criterion,
        "train_mb_size": lambda: setup.training.batch_size,
        "train_epochs": lambda: setup.training.epochs or 1,
        "eval_mb_size": lambda: setup.training.batch_size,
        "device": lambda: setup.device,
        "evaluator": _Evaluator,
        "eval_every": lambda: -1,
        "feature_extractor": lambda: _split(setup.model, where)[0],
        "classifier": lambda: _split(setup.model, where)[1],
    }
    accepted, open_ended = _parameters(found)
    if not (accepted.keys() & offered.keys()):  # a file of settings does not call whatever is importable
        known = ", ".join(offered)
        raise UserError(f"{where}: neither a strategy nor a factory of one, which would take some of {known}.")
    for key in chosen.parameters:
        if key in _OURS:
            decided = f"; set {_OURS[key]} instead" if _OURS[key] else ""
            raise UserError(f"{where}: '{key}' is decided by the benchmark{decided}.")
        if key not in accepted and not open_ended:
            free = [k for k in accepted if k not in offered]
            guess = nearest(key, free)
            hint = f" Did you mean '{guess}'?" if guess else ""
            raise UserError(f"{where}: unknown key '{key}'.{hint} Allowed: {', '.join(free) or 'none'}.")
    given = accepted.keys() & (offered.keys() | chosen.parameters.keys())
    absent = [k for k, default in accepted.items() if default is inspect.Parameter.empty and k not in given]
    if absent:
        raise UserError(f"{where}: needs {', '.join(absent)}; give it beside 'name' in the configuration.")
    if not isinstance(accepted.get("criterion"), (nn.CrossEntropyLoss, type(inspect.Parameter.empty))):
        del offered["criterion"]
    active = setup.training.active_outputs
    if active in ("seen", "batch") and ("criterion" not in offered or "criterion" in chosen.parameters):
        raise UserError(
            f"{where}: has a criterion of its own, so training.active_outputs '{active}' has no effect on it."
        )
    with _hushed():
        arguments = {k: _build(v, f"{where}: {k}") for k, v in chosen.parameters.items()}
        for key, default in accepted.items():
            if key in arguments:
                continue
            if key in offered:
                arguments[key] = offered[key]()
            elif isinstance(default, (BasePlugin, nn.Module)):  # one for all strategies of the process otherwise
                arguments[key] = copy.deepcopy(default)
        hosted = _call(found, arguments, where, spare=offered.keys() - chosen.parameters.keys())
    if isinstance(hosted, JointTraining):
        raise UserError(
            f"{where}: it is trained once, on a whole stream, and refuses a second experience; use 'joint'."
        )
    if not isinstance(hosted, BaseTemplate):
        raise UserError(
            f"{where}: gave {type(hosted).__name__}, which is no Avalanche strategy and no clbench Strategy."
        )
    for part in (hosted, *hosted.plugins):
        for of, (what, there) in _NEEDS.items():
            if isinstance(part, of) and not there():
                raise UserError(f"{where}: {type(part).__name__} needs {what}.")
    return Hosted(hosted, chosen, setup, stream, criterion)


def _call(found: Callable[..., Any], arguments: dict[str, Any], where: str, spare: Set[str] = frozenset()) -> Any:
    """What somebody else's constructor makes; whatever it raises is told in one sentence.

    A spare argument is left out where the constructor gives it to its base itself (StreamingLDA and `model`).
    """
    try:
        return found(**arguments)
    except UserError:
        raise
    except Exception as error:
        # Python 3.11 says it with a KeyError at times.
        twice = re.search(r"(?:multiple values for (?:keyword )?argument |^)'(\w+)'$", str(error))
        if twice and twice[1] in arguments.keys() & spare:
            return _call(found, {k: v for k, v in arguments.items() if k != twice[1]}, where, spare)
        said = str(error).rstrip(".") or type(error).__name__
        raise UserError(f"{where}: cannot be built: {said}.") from error


def keywords(found: Callable[..., Any]) -> dict[str, Any]:
    """What a strategy's constructor or factory takes that a benchmark does not give (see `host`), with the defaults.

    Raises:
        ValueError: its signature cannot be told (some built-in functions).
    """
    return {key: default for key, default in _parameters(found)[0].items() if key not in {*_OURS, *_GIVEN}}


def _parameters(found: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """Keyword parameters of a callable (name -> default), `**kwargs` of constructors followed to their bases."""
    accepted: dict[str, Any] = {}
    chain = [vars(c)["__init__"] for c in found.__mro__ if "__init__" in vars(c)] if inspect.isclass(found) else [found]
    for function in chain:
        parameters = list(inspect.signature(function).parameters.values())
        for p in parameters[1:] if inspect.isclass(found) else parameters:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                accepted.setdefault(p.name, p.default)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return accepted, False
    return accepted, not inspect.isclass(found)


def import_parts(value: Any) -> None:
    """Imports what a configuration value names, so that no module is first imported in the middle of a run."""
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
        import_parts(part)
    if isinstance(value, dict) and ":" in str(value.get("name", "")):
        with contextlib.suppress(ImportError):  # told where it is built
            importlib.import_module(value["name"].partition(":")[0])


def _build(value: Any, where: str) -> Any:
    """Objects named by import path inside a configuration value."""
    if isinstance(value, list):
        return [_build(v, where) for v in value]
    if not isinstance(value, dict) or ":" not in str(value.get("name", "")):
        return value
    path = value["name"]
    try:
        import_paths.check(path)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    module, _, attribute = path.partition(":")
    part = getattr(importlib.import_module(module), attribute)
    known = inspect.isclass(part) and (
        issubclass(part, (BasePlugin, nn.Module)) or part.__module__.startswith("avalanche.")
    )
    if not known:  # a file of settings builds parts of a method; it does not call whatever is importable
        raise UserError(f"{where}: '{path}' is no plugin, no network module and no class of Avalanche's.")
    arguments = {k: _build(v, where) for k, v in value.items() if k != "name"}
    return _call(part, arguments, f"{where}: '{path}'")


def _split(model: nn.Module, where: str) -> tuple[nn.Module, nn.Module]:
    """A network as feature extractor and classifier: everything but the last layer, and the last layer."""
    if not isinstance(model, nn.Sequential):
        raise UserError(
            f"{where}: this model cannot be cut into feature extractor and classifier; use one of the suite's own."
        )
    return model[:-1], model[-1]


# ------------------------------------------------------------------------------------------------ our evaluator, there
class _Watched:
    """An Avalanche strategy in the midst of an experience, as the evaluator sees one."""

    def __init__(self, strategy: Any, labels: Tensor) -> None:
        self._strategy, self._labels = strategy, labels

    @property
    def model(self) -> nn.Module:
        model: nn.Module = self._strategy.model
        return model

    def predict(self, model: nn.Module, x: Tensor, task: Tensor | None) -> Tensor | None:
        return scores(self._strategy, model, x, self._labels[task], self._strategy.experience)


class ContinualEvaluation(SupervisedPlugin[Any]):  # type: ignore[misc]
    """Our evaluator as a plugin of an Avalanche strategy: evaluates every `every` iterations, changes nothing.

    Args:
        test_stream: the experiences to evaluate on; number i of it belongs to number i of the training stream, or a
            single one to all; those of `benchmark` know theirs. Each has one task label, which models with a head for
            each task are given.
        setting: "class", "task" or "domain": which outputs compete, see `Evaluator`. In Avalanche's own evaluation
            it is all outputs that the model has, as in "domain".
        outputs: number of output units; the largest class + 1 where not given.
        every: period in iterations within an experience, >= 0; 0 evaluates around experiences only.
        batch_size: samples per forward pass.
        device: where the model is.

    Put it last in the list of plugins. Afterwards `trace()` gives the record and `clbench.metrics.compute` every
    metric. Test data is read once, here, in evaluation transforms. Experiences of an online stream that come from
    one experience are one visit to it.

    Raises:
        UserError: a wrong setting or period, an experience that mixes task labels; in training, an experience that
            has none in the test stream.
    """

    supports_distributed = False

    def __init__(
        self,
        test_stream: Iterable[CLExperience],
        *,
        setting: str = "class",
        outputs: int | None = None,
        every: int = 1,
        batch_size: int = 1000,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        if setting not in ("class", "task", "domain"):
            raise UserError(f"ContinualEvaluation: setting '{setting}'. Allowed: class, task, domain.")
        if every < 0:
            raise UserError(f"ContinualEvaluation: every {every}. Allowed: 0 and more.")
        self._device = torch.device(device)
        with fenced(self._device.type == "cuda"):
            x, y, task, labels = _materialise(test_stream)
        cells = _cells(y, task, setting, outputs)
        self._labels = torch.tensor(labels, device=self._device)
        self._evaluator = Evaluator(
            cells,
            x[torch.from_numpy(cells.rows)].to(self._device),
            views=(setting,),
            device=self._device,
            batch_size=batch_size,
            tell_task=True,
        )
        self._recorder = Recorder(self._device, strict=False)  # a NaN is the script's affair
        self._every = every
        self._visits: list[tuple[int, ...]] = []
        self._seen: set[int] = set()
        self._origin: Any = None
        self._end: Evaluation | None = None
        self._iterations = self._within = 0

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self._record_end()
        experience = strategy.experience.logging()
        origin = getattr(experience, "origin_experience", None)
        again = origin is not None and origin is self._origin
        self._origin = origin
        self._evaluator.renew()
        if again:
            return
        tests = self._evaluator.cells.tasks
        number = int((origin or experience).current_experience)
        about = (0,) if tests == 1 else getattr(origin or experience, "test_experiences", (number,))
        if max(about) >= tests:
            raise UserError(
                f"ContinualEvaluation: training experience {max(about)}, but test_stream ends at {tests - 1}."
            )
        self._visits.append(about)
        self._seen.update(about)
        self._within = 0
        self._record(self._counts(strategy, range(tests)), Phase.BEFORE)

    def after_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self._iterations += 1
        self._within += 1
        self._recorder.add_loss(strategy.loss.detach().reshape(()))
        if self._every and self._within % self._every == 0:
            self._record(self._counts(strategy, self._seen), Phase.ITERATION)

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self._evaluator.renew()
        self._end = self._counts(strategy, self._seen)

    def after_training(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        if self._end is not None:  # some strategies (SCR) are not ready before all their plugins are
            self.after_training_exp(strategy)
        self._record_end()

    def _record_end(self) -> None:
        if self._end is not None:
            self._record(self._end, Phase.END)
        self._end = None

    def _counts(self, strategy: Any, scope: Iterable[int]) -> Evaluation:
        return self._evaluator.evaluate(_Watched(strategy, self._labels), set(scope), self._seen)

    def _record(self, found: Evaluation, phase: Phase) -> None:
        self._recorder.add(found, self._iterations, len(self._visits) - 1, phase)

    def trace(self) -> Trace:
        """The record so far.

        Raises:
            UserError: nothing was trained.
        """
        if not self._visits:
            raise UserError("ContinualEvaluation: no experience was trained with this plugin, so there is no trace.")
        self._record_end()
        self._recorder.chunk()
        visits = np.zeros((len(self._visits), self._evaluator.cells.tasks), np.bool_)
        for v, about in enumerate(self._visits):
            visits[v, list(about)] = True
        origin = np.arange(len(self._visits), dtype=np.int32)
        return self._recorder.trace(self._evaluator.cells, visits, origin, self._every, 0)


def _materialise(
    test_stream: Iterable[CLExperience],
) -> tuple[Tensor, NDArray[np.int64], NDArray[np.int64], list[int]]:
    """All test samples: inputs, targets, the experience of each; and the task label of each experience."""
    x, y, task = [], [], []
    labels: list[int] = []
    for number, experience in enumerate(test_stream):
        found: set[int] = set()
        for item in experience.dataset.eval():
            x.append(torch.as_tensor(item[0]))
            y.append(int(item[1]))
            task.append(number)
            found.add(int(item[2]) if len(item) > 2 else 0)
        if len(found) != 1:
            what = f"mixes task labels {', '.join(map(str, sorted(found)))}" if found else "is empty"
            raise UserError(f"ContinualEvaluation: test experience {number} {what}; each needs samples of one task.")
        labels += found
    return torch.stack(x), np.array(y, np.int64), np.array(task, np.int64), labels


def _cells(y: NDArray[np.int64], task: NDArray[np.int64], setting: str, outputs: int | None) -> Cells:
    """One cell for each class of each experience."""
    pairs = np.unique(np.stack([task, y], 1), axis=0)
    size = np.array([((task == t) & (y == c)).sum() for t, c in pairs], np.int32)
    return Cells(
        domain=(pairs[:, 0] if setting == "domain" else np.zeros(len(pairs))).astype(np.int32),
        label=pairs[:, 1].astype(np.int32),
        size=size,
        population=size,
        task=pairs[:, 0].astype(np.int64),
        target=pairs[:, 1].astype(np.int64),
        outputs=outputs or int(y.max()) + 1,
        rows=np.lexsort((y, task)).astype(np.int64),
    )
