"""The bridge to Avalanche, and the only module that imports it.

Hosting: any Avalanche strategy, or a factory of one, runs unmodified under our runner. It keeps its own training
loop; a plugin at the end of its list calls our watcher, and our evaluator predicts through a twin of its model.

The other way: `ContinualEvaluation` is a plugin for somebody's own Avalanche script, and `to_avalanche` turns one of
our streams into an ordinary Avalanche benchmark.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clbench import registry
from clbench.config import StrategyConfig
from clbench.errors import UserError, nearest
from clbench.evaluator import Cells, Evaluator
from clbench.recorder import Recorder
from clbench.store import TrainingSet
from clbench.strategy import Experience, Memory, SelfDriven, Setup, Watcher
from clbench.stream import Stream
from clbench.trace import Phase, Trace

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its dependencies warn about themselves at import
    from avalanche.benchmarks import CLExperience, CLScenario, benchmark_from_datasets, with_classes_timeline
    from avalanche.benchmarks.scenarios.task_aware import with_task_labels
    from avalanche.benchmarks.utils import DataAttribute
    from avalanche.benchmarks.utils.classification_dataset import TaskAwareSupervisedClassificationDataset
    from avalanche.core import SupervisedPlugin
    from avalanche.models import NCMClassifier, avalanche_forward
    from avalanche.models.utils import is_multi_task_module
    from avalanche.training.templates.base import BaseTemplate


# ------------------------------------------------------------------------------------------------ streams, outwards
class _Rows(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Training samples of one experience, fetched at first use and kept: Avalanche asks for them one by one."""

    def __init__(self, samples: TrainingSet, index: NDArray[np.int64], task: NDArray[np.int64], device: torch.device):
        self._samples, self._index, self._task, self._device = samples, index, task, device
        self._x: Tensor | None = None
        self._y: list[int] = []

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        if self._x is None:
            index, task = torch.from_numpy(self._index), torch.from_numpy(self._task)
            self._x, y = self._samples.fetch(index.to(self._device), task.to(self._device))
            self._y = y.tolist()
        return self._x[i], self._y[i]


def _dataset(rows: Any, targets: Sequence[int], task_label: int) -> TaskAwareSupervisedClassificationDataset[Any]:
    return TaskAwareSupervisedClassificationDataset(
        [rows],
        data_attributes=[
            DataAttribute(list(targets), "targets"),
            DataAttribute([task_label] * len(targets), "targets_task_labels", use_in_getitem=True),
        ],
    )


def to_avalanche(stream: Stream, samples: TrainingSet, device: torch.device) -> CLScenario[Any]:
    """One of our streams as an Avalanche benchmark with a training stream and a classes timeline.

    Task labels are the task's id in the task setting and 0 otherwise, as Avalanche's own benchmarks have them.
    """
    parts = []
    for visit in stream.visits:
        targets = np.empty(len(visit.index), np.int64)
        for t in visit.tasks:
            targets[visit.task == t] = stream.targets(stream.data.train_y[visit.index[visit.task == t]], t)
        label = visit.tasks[0] if stream.setting == "task" else 0
        parts.append(_dataset(_Rows(samples, visit.index, visit.task, device), targets.tolist(), label))
    benchmark = with_task_labels(with_classes_timeline(benchmark_from_datasets(train=parts)))
    # Some of Avalanche's methods (iCaRL) read these of the older class-incremental benchmark.
    order: list[int] = []
    per_experience = []
    for visit in stream.visits:
        new = [o for t in visit.tasks for o in stream.tasks[t].targets if o not in order]
        order += new
        per_experience.append(len(new))
    benchmark.n_classes_per_exp = per_experience
    benchmark.classes_order = order
    benchmark.n_classes = stream.outputs
    for experience in benchmark.train_stream:
        experience.benchmark = benchmark
    return benchmark


# ------------------------------------------------------------------------------------------------ predictions
def scores(model: nn.Module, x: Tensor, task_label: Tensor | None) -> Tensor | None:
    """What Avalanche's evaluation loop would ask of a model; None while its class means do not exist.

    Args:
        model: a model in evaluation mode.
        x: inputs (N, ...).
        task_label: Avalanche task labels (N,), for models with a head for each task; None stands for 0.
    """
    if any(isinstance(m, NCMClassifier) and not m.class_means_dict for m in model.modules()):
        return None
    if task_label is None and is_multi_task_module(model):
        task_label = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    out: Tensor = avalanche_forward(model, x, task_label)
    return out


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


class _Calls(SupervisedPlugin[Any]):
    """The last plugin of a hosted strategy: passes its events on to a watcher."""

    def __init__(self) -> None:
        super().__init__()
        self.watcher = Watcher()
        self.limited = False
        self._first = True

    def enter(self, watcher: Watcher, limited: bool) -> None:
        self.watcher, self.limited, self._first = watcher, limited, True

    def before_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        if self._first:
            self.watcher.before_first_update()
            self._first = False

    def after_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        more = self.watcher.after_iteration(strategy.loss.detach().reshape(()))
        if self.limited and not more:
            strategy.stop_training()


class _ActiveCrossEntropy:
    """Cross-entropy over the outputs of the sample's own task, or over all seen; see `training.active_outputs`."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.seen: set[int] = set()

    def __call__(self, out: Tensor, y: Tensor) -> Tensor:
        outputs = self._setup.outputs
        active = torch.zeros((outputs, outputs), dtype=torch.bool, device=out.device)
        for own in self._setup.task_outputs:
            also = self.seen if self._setup.training.active_outputs == "seen" else set()
            for target in own:
                active[target, sorted({*own, *also})] = True
        return nn.functional.cross_entropy(out.masked_fill(~active[y][:, : out.shape[1]], float("-inf")), y)


class Hosted(SelfDriven):
    """An Avalanche strategy under our runner."""

    def __init__(self, hosted: Any, setup: Setup, stream: Stream, criterion: Any) -> None:
        self.setup = setup
        self.hosted = hosted
        self.experiences = 0
        self._criterion = criterion
        self._calls = _Calls()
        hosted.plugins.append(self._calls)
        self._by_task = stream.setting == "task"
        self._experiences = to_avalanche(stream, setup.samples, setup.device).train_stream

    @property
    def model(self) -> nn.Module:  # type: ignore[override]
        """The hosted strategy's present model; it may have replaced the one it was given."""
        model: nn.Module = self.hosted.model
        return model

    def fit(self, experience: Experience, iterations: int, watcher: Watcher) -> None:
        training, self.experiences = self.setup.training, self.experiences + 1
        if isinstance(self._criterion, _ActiveCrossEntropy):
            self._criterion.seen.update(experience.outputs)
        self._calls.enter(watcher, limited=training.iterations is not None)
        # An epoch has at least one update, so as many epochs as updates are enough; the plugin stops it in time.
        self.hosted.train_epochs = iterations if training.epochs is None else training.epochs
        reset = {"reset_optimizer_state": True} if training.optimizer_state == "reset" else {}
        self.hosted.train(self._experiences[experience.number], eval_streams=[], **reset)

    def predict(self, model: nn.Module, x: Tensor, task: Tensor | None) -> Tensor | None:
        return scores(model, x, task if self._by_task else None)

    def state_dict(self) -> dict[str, Any]:
        """Model and optimiser; what plugins hold is theirs and is not saved."""
        return {"model": self.model.state_dict(), "optimizer": self.hosted.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.hosted.optimizer.load_state_dict(state["optimizer"])

    def memory(self) -> Memory:
        """Samples in the storage policies of its plugins; unknown where a plugin keeps them in its own way."""
        policies = [getattr(p, "storage_policy", None) for p in [self.hosted, *self.hosted.plugins]]
        held = sum(len(p.buffer) for p in policies if p is not None)
        if not any(p is not None for p in policies):
            return Memory(None, None)
        return Memory(held, held * self.setup.samples.sample_bytes)


def host(found: Any, chosen: StrategyConfig, setup: Setup, stream: Stream) -> Hosted:
    """An Avalanche strategy, or a factory that returns one, ready to be run.

    It is called with those of `model`, `optimizer`, `criterion`, `train_mb_size`, `train_epochs`, `eval_mb_size`,
    `device`, `evaluator`, `eval_every`, `feature_extractor` and `classifier` that it has parameters for, and with
    the keys beside `name` in the configuration. A value of the form `{name: package.module:Class, ...}`, alone or in
    a list, is built first (plugins, for example).

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
        "evaluator": lambda: None,
        "eval_every": lambda: -1,
        "feature_extractor": lambda: _split(setup.model, where)[0],
        "classifier": lambda: _split(setup.model, where)[1],
    }
    accepted, open_ended = _parameters(found)
    arguments = {k: _build(v, f"{where}: {k}") for k, v in chosen.parameters.items()}
    for key in arguments:
        if key in _OURS:
            decided = f"; set {_OURS[key]} instead" if _OURS[key] else ""
            raise UserError(f"{where}: '{key}' is decided by the benchmark{decided}.")
        if key not in accepted and not open_ended:
            free = [k for k in accepted if k not in offered]
            guess = nearest(key, free)
            hint = f" Did you mean '{guess}'?" if guess else ""
            raise UserError(f"{where}: unknown key '{key}'.{hint} Allowed: {', '.join(free) or 'none'}.")
    for key, make in offered.items():
        if key in accepted and key not in arguments:
            arguments[key] = make()
    absent = [k for k, required in accepted.items() if required and k not in arguments]
    if absent:
        raise UserError(f"{where}: needs {', '.join(absent)}; give it beside 'name' in the configuration.")
    try:
        hosted = found(**arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f"{where} cannot be built: {error}.") from error
    if not isinstance(hosted, BaseTemplate):
        raise UserError(
            f"{where}: gave {type(hosted).__name__}, which is no Avalanche strategy and no clbench Strategy."
        )
    return Hosted(hosted, setup, stream, criterion)


def _parameters(found: Callable[..., Any]) -> tuple[dict[str, bool], bool]:
    """Keyword parameters of a callable (name -> required), `**kwargs` of constructors followed to their bases."""
    accepted: dict[str, bool] = {}
    chain = [c.__init__ for c in found.__mro__ if "__init__" in vars(c)] if inspect.isclass(found) else [found]
    for function in chain:
        parameters = list(inspect.signature(function).parameters.values())
        for p in parameters[1:] if inspect.isclass(found) else parameters:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                accepted.setdefault(p.name, p.default is p.empty)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return accepted, False
    return accepted, not inspect.isclass(found)


def _build(value: Any, where: str) -> Any:
    """Objects named by import path inside a configuration value."""
    if isinstance(value, list):
        return [_build(v, where) for v in value]
    if not isinstance(value, dict) or ":" not in str(value.get("name", "")):
        return value
    path = value["name"]
    try:
        registry.check_import_path(path)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    module, _, attribute = path.partition(":")
    arguments = {k: _build(v, where) for k, v in value.items() if k != "name"}
    try:
        return getattr(importlib.import_module(module), attribute)(**arguments)
    except (TypeError, ValueError, AssertionError, ImportError) as error:
        raise UserError(f"{where}: '{path}' cannot be built: {error}.") from error


def _split(model: nn.Module, where: str) -> tuple[nn.Module, nn.Module]:
    """A network as feature extractor and classifier: everything but the last layer, and the last layer."""
    if not isinstance(model, nn.Sequential):
        raise UserError(
            f"{where}: this model cannot be cut into feature extractor and classifier; use mlp, linear or cnn."
        )
    return model[:-1], model[-1]


# ------------------------------------------------------------------------------------------------ our evaluator, there
class _Watched:
    """An Avalanche strategy as the evaluator sees one."""

    def __init__(self, strategy: Any) -> None:
        self._strategy = strategy

    @property
    def model(self) -> nn.Module:
        model: nn.Module = self._strategy.model
        return model

    def predict(self, model: nn.Module, x: Tensor, task: Tensor | None) -> Tensor | None:
        return scores(model, x, task)


class ContinualEvaluation(SupervisedPlugin[Any]):
    """Our evaluator as a plugin of an Avalanche strategy: evaluates every `every` iterations, changes nothing.

    Args:
        test_stream: the experiences to evaluate on; number i of it belongs to number i of the training stream.
        setting: "class", "task" or "domain": which outputs compete, see `Evaluator`.
        outputs: number of output units; the largest class + 1 where not given.
        every: period in iterations within an experience, >= 0; 0 evaluates around experiences only.
        batch_size: samples per forward pass.
        device: where the model is.

    Put it last in the list of plugins. Afterwards `trace()` gives the record and `clbench.metrics.compute` every
    metric. Test data is read once, here, in evaluation transforms.
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
        x, y, task = _materialise(test_stream)
        cells, order = _cells(y, task, setting, outputs)
        self._device = torch.device(device)
        self._evaluator = Evaluator(
            cells,
            x[torch.from_numpy(order)].to(self._device),
            views=(setting,),
            device=self._device,
            batch_size=batch_size,
            tell_task=setting == "task",
        )
        self._recorder = Recorder(self._evaluator.views, self._device)
        self._every = every
        self._seen: list[int] = []
        self._iterations = self._within = 0

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self._seen.append(int(strategy.experience.current_experience))
        self._within = 0
        self._evaluator.renew()
        self._evaluate(strategy, Phase.BEFORE)

    def after_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self._iterations += 1
        self._within += 1
        self._recorder.add_loss(strategy.loss.detach().reshape(()))
        if self._every and self._within % self._every == 0:
            self._evaluate(strategy, Phase.ITERATION)

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self._evaluator.renew()
        self._evaluate(strategy, Phase.END)

    def _evaluate(self, strategy: Any, phase: Phase) -> None:
        scope = range(self._evaluator.cells.tasks) if phase is Phase.BEFORE else set(self._seen)
        counts = self._evaluator.evaluate(_Watched(strategy), scope, set(self._seen))
        self._recorder.add(counts, self._iterations, len(self._seen) - 1, phase)

    def trace(self) -> Trace:
        """The record so far."""
        self._recorder.chunk()
        visits = np.zeros((len(self._seen), self._evaluator.cells.tasks), np.bool_)
        visits[np.arange(len(self._seen)), self._seen] = True
        return self._recorder.trace(self._evaluator.cells, visits, self._every)


def _materialise(test_stream: Iterable[CLExperience]) -> tuple[Tensor, NDArray[np.int64], NDArray[np.int64]]:
    """All test samples: inputs, targets, and the experience of each."""
    x, y, task = [], [], []
    for number, experience in enumerate(test_stream):
        for item in experience.dataset.eval():
            x.append(torch.as_tensor(item[0]))
            y.append(int(item[1]))
            task.append(number)
    return torch.stack(x), np.array(y, np.int64), np.array(task, np.int64)


def _cells(
    y: NDArray[np.int64], task: NDArray[np.int64], setting: str, outputs: int | None
) -> tuple[Cells, NDArray[np.int64]]:
    """One cell for each class of each experience, and the order that sorts samples by cell."""
    pairs = np.unique(np.stack([task, y], 1), axis=0)
    order = np.lexsort((y, task)).astype(np.int64)
    return (
        Cells(
            domain=(pairs[:, 0] if setting == "domain" else np.zeros(len(pairs))).astype(np.int32),
            label=pairs[:, 1].astype(np.int32),
            size=np.array([((task == t) & (y == c)).sum() for t, c in pairs], np.int32),
            task=pairs[:, 0].astype(np.int64),
            target=pairs[:, 1].astype(np.int64),
            outputs=outputs or int(y.max()) + 1,
        ),
        order,
    )
