"""Hosting: any Avalanche strategy, or a factory of one, runs unmodified under our runner.

It keeps its training loop; a plugin at the end of its list calls our watcher, and our evaluator predicts through a twin
of its model.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from avalanche.core import BasePlugin, SupervisedPlugin
from avalanche.training.supervised import Cumulative, JointTraining
from avalanche.training.templates.base import BaseTemplate
from torch import Tensor, nn

from clbench.avalanche.batches import gathered
from clbench.avalanche.benchmark import to_avalanche
from clbench.avalanche.construction import NEEDS, OURS, build, invoke, parameters_of, split
from clbench.avalanche.predictions import scores
from clbench.avalanche.quiet import SilentEvaluator, hushed
from clbench.avalanche.state import Parts
from clbench.avalanche.tasks import TargetTasks
from clbench.config.benchmark import StrategyConfig
from clbench.config.training import Training
from clbench.errors import RunFailed, UserError, nearest
from clbench.strategy import Experience, Memory, SelfDrivenLearner, Setup, Watcher, smoothed_cross_entropy
from clbench.stream import Stream
from clbench.training.budget import task_blocks
from clbench.training.training_set import TrainingSet


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
            raise RunFailed(
                "over_budget", "the strategy continues after the last update that training.iterations allows"
            )
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
        reduction: as of torch's losses; a strategy that compares samples sets it for a while (MIR).
        label_smoothing: of the current experience.
    """

    transient = ("_mask",)

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.seen: frozenset[int] = frozenset()
        self.reduction = "mean"
        self.label_smoothing = 0.0
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
        masked = out.masked_fill(~active, float("-inf"))
        if self.label_smoothing:
            return smoothed_cross_entropy(masked, y, self.label_smoothing, self.reduction)
        return nn.functional.cross_entropy(masked, y, reduction=self.reduction)

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

    transient = ("_experiences", "_data", "_parts")

    def __init__(self, hosted: Any, config: StrategyConfig, setup: Setup, stream: Stream, criterion: Any) -> None:
        super().__init__(config, setup)
        self.hosted = hosted
        self.experiences = 0
        self._criterion = criterion
        self._calls = _Calls()
        hosted.plugins.append(self._calls)
        self._by_task = stream.setting == "task"
        self._blocks = task_blocks(stream)
        if isinstance(hosted, Cumulative):
            self.access = "past"
        assert isinstance(setup.samples, TrainingSet)  # Avalanche reads it as a data set too
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
        self._settings()
        self._parts = Parts(hosted, [self._calls, criterion, *_shared_parts(self._experiences)], self._data[0])

    @property
    def model(self) -> nn.Module:  # type: ignore[override]
        """The hosted strategy's current model; it may have replaced the original one."""
        model: nn.Module = self.hosted.model
        return model

    @property
    def optimizer(self) -> torch.optim.Optimizer:  # type: ignore[override]
        """The hosted strategy's current optimiser."""
        optimizer: torch.optim.Optimizer = self.hosted.optimizer
        return optimizer

    def fit(self, experience: Experience, iterations: int, watcher: Watcher) -> None:
        self.experiences += 1
        training = self._settings()
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
        with hushed(), gathered(), target_tasks or contextlib.nullcontext():
            if training.optimizer_state == "reset" and experience.part and self.hosted.optimizer is not None:
                self.hosted.make_optimizer(reset_optimizer_state=True)  # it does so itself at a whole experience
            self.hosted.train(self._experiences[experience.number], eval_streams=[], **options)
        self._calls.leave()
        for name, value in vars(self.hosted).items():
            if isinstance(value, Tensor) and not value.is_leaf:  # of its last batch (ER-ACE)
                setattr(self.hosted, name, value.detach())

    def _settings(self) -> Training:
        """Those of the current experience, which the criterion takes over."""
        training = self.setup.training.of_block(self._blocks[max(self.experiences - 1, 0)])
        if isinstance(self._criterion, (nn.CrossEntropyLoss, _ActiveCrossEntropy)):
            self._criterion.label_smoothing = training.label_smoothing
        return training

    def predict(self, model: nn.Module, x: Tensor, task: Tensor | None) -> Tensor | None:
        number = max(self.experiences - 1, 0)
        return scores(self.hosted, model, x, task if self._by_task else None, self._experiences[number])

    def state_dict(self) -> dict[str, Any]:
        """State of the hosted strategy between two experiences; see `clbench.avalanche.state`.

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
        self._settings()
        for n, data in self._parts.load_state_dict(state["hosted"]).items():
            self._experiences[n].dataset = data

    def memory(self) -> Memory:
        """Samples in the storage policies of its plugins; unknown where a plugin stores them differently."""
        policies = [getattr(p, "storage_policy", None) for p in [self.hosted, *self.hosted.plugins]]
        held = sum(len(p.buffer) for p in policies if p is not None)
        if not any(p is not None for p in policies):
            return Memory(None, None)
        return Memory(held, held * self.setup.samples.sample_bytes)


def _shared_parts(experiences: Any) -> list[Any]:
    """Parts of a stream's experiences, which a strategy may refer to and does not change."""
    data = experiences[0].dataset
    targets = [part for of in (data.targets, data.targets_task_labels) for part in getattr(of.data, "_datasets", [])]
    whole = {id(e): e for e in (getattr(e, "origin_experience", None) for e in experiences) if e is not None}
    scenario = experiences[0].benchmark
    return [*data._flat_data._datasets, *targets, *experiences, *whole.values(), experiences, scenario]


def _has_recipe(training: Training) -> bool:
    return bool(training.schedule or training.clip or training.rates or training.experiences)


def needs(stream: Stream) -> frozenset[str]:
    """Information that any hosted strategy receives: it is called at each experience, and samples have task labels."""
    return frozenset({"boundaries", "task_in_training"} if stream.setting == "task" else {"boundaries"})


def host(constructor: Any, config: StrategyConfig, setup: Setup, stream: Stream) -> Hosted:
    """An Avalanche strategy, from its class or a factory, ready to run.

    It is called with those of `model`, `optimizer`, `criterion`, `train_mb_size`, `train_epochs`, `eval_mb_size`,
    `device`, `evaluator`, `eval_every`, `feature_extractor` and `classifier` that it has parameters for, and with
    the keys beside `name` in the configuration. A value of the form `{name: package.module:Class, ...}`, alone or in
    a list, is built first (plugins, for example). A default criterion other than cross-entropy is kept.

    Raises:
        UserError: it does not accept these arguments, or is no Avalanche strategy; the message names what it accepts.
    """
    where = f"strategy '{config.name}'"
    if not callable(constructor):
        raise UserError(f"{where}: expected a class or a function, found {type(constructor).__name__}.")
    criterion: Any = nn.CrossEntropyLoss()
    if setup.training.active_outputs not in (None, "all"):
        criterion = _ActiveCrossEntropy(setup)
    offered: dict[str, Any] = {
        "model": lambda: setup.model,
        "optimizer": lambda: setup.make_optimizer(setup.model.named_parameters()),
        "criterion": lambda: criterion,
        "train_mb_size": lambda: setup.training.batch_size,
        "train_epochs": lambda: setup.training.epochs or 1,
        "eval_mb_size": lambda: setup.training.batch_size,
        "device": lambda: setup.device,
        "evaluator": SilentEvaluator,
        "eval_every": lambda: -1,
        "feature_extractor": lambda: split(setup.model, where)[0],
        "classifier": lambda: split(setup.model, where)[1],
    }
    accepted, open_ended = parameters_of(constructor)
    if not (accepted.keys() & offered.keys()):  # a configuration does not call arbitrary functions
        names = ", ".join(offered)
        raise UserError(f"{where}: neither a strategy nor a factory of one, which would take some of {names}.")
    for key in config.parameters:
        if key in OURS:
            decided = f"; set {OURS[key]} instead" if OURS[key] else ""
            raise UserError(f"{where}: '{key}' is decided by the benchmark{decided}.")
        if key not in accepted and not open_ended:
            free = [k for k in accepted if k not in offered]
            guess = nearest(key, free)
            hint = f" Did you mean '{guess}'?" if guess else ""
            raise UserError(f"{where}: unknown key '{key}'.{hint} Allowed: {', '.join(free) or 'none'}.")
    passed = accepted.keys() & (offered.keys() | config.parameters.keys())
    absent = [k for k, default in accepted.items() if default is inspect.Parameter.empty and k not in passed]
    if absent:
        raise UserError(f"{where}: needs {', '.join(absent)}; give it beside 'name' in the configuration.")
    if not isinstance(accepted.get("criterion"), (nn.CrossEntropyLoss, type(inspect.Parameter.empty))):
        del offered["criterion"]
    active = setup.training.active_outputs
    if active in ("seen", "batch") and ("criterion" not in offered or "criterion" in config.parameters):
        raise UserError(f"{where}: has its own criterion, so training.active_outputs '{active}' has no effect on it.")
    for single in setup.training.every_settings:
        if single.label_smoothing and ("criterion" not in offered or "criterion" in config.parameters):
            raise UserError(f"{where}: has its own criterion, so training.label_smoothing has no effect on it.")
        if single.optimizer is not None and single.optimizer.name != setup.training.optimizer.name:
            raise UserError(
                f"{where}: keeps its optimiser, so training.experiences cannot change its kind from "
                f"'{setup.training.optimizer.name}' to '{single.optimizer.name}'."
            )
    if "optimizer" not in accepted and _has_recipe(setup.training):
        raise UserError(
            f"{where}: makes its own optimiser, so training.schedule, clip, rates and experiences have no effect on it."
        )
    with hushed():
        arguments = {k: build(v, f"{where}: {k}") for k, v in config.parameters.items()}
        for key, default in accepted.items():
            if key in arguments:
                continue
            if key in offered:
                arguments[key] = offered[key]()
            elif isinstance(default, (BasePlugin, nn.Module)):  # one for all strategies of the process otherwise
                arguments[key] = copy.deepcopy(default)
        hosted = invoke(constructor, arguments, where, spare=offered.keys() - config.parameters.keys())
    if isinstance(hosted, JointTraining):
        raise UserError(
            f"{where}: it is trained once, on a whole stream, and refuses a second experience; use 'joint'."
        )
    if not isinstance(hosted, BaseTemplate):
        raise UserError(
            f"{where}: gave {type(hosted).__name__}, which is no Avalanche strategy and no clbench Strategy."
        )
    for part in (hosted, *hosted.plugins):
        for of, (what, available) in NEEDS.items():
            if isinstance(part, of) and not available():
                raise UserError(f"{where}: {type(part).__name__} needs {what}.")
    return Hosted(hosted, config, setup, stream, criterion)
