"""A recipe: how the settings of a run's optimisers and of its loss go with the position in the stream.

Before each update learning rates are set to `lr x rate of the part x factor of the schedule`. They are a function of
the position alone and not of earlier rates, so that optimisers may be made anew, kept, or restored at any moment.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from clbench.config.optimizers import Optimizer
from clbench.config.schedules import Clip
from clbench.config.training import Training
from clbench.errors import UserError
from clbench.stream import Stream
from clbench.training import schedules
from clbench.training.imports import imported
from clbench.training.optimizers import optimizer, settings_of
from clbench.training.rates import Parameters, Rates

Maker = Callable[[Any], torch.optim.Optimizer]

_CLIPS: weakref.WeakKeyDictionary[torch.optim.Optimizer, Callable[[], Clip | None]] = weakref.WeakKeyDictionary()
"""What limits the gradients of an optimiser now. Not in a closure: a hosted strategy's parts are searched for state."""

_KEY = -1
"""Of the hook that clips."""


class Recipe:
    """The recipe of a run.

    Args:
        training: its settings.
        stream: the experiences.
        budgets: updates in each experience, (V,).
        replacement: the strategy's optimiser, which takes the place of all of the benchmark's.
        fused: see `numerics.fused`.

    Raises:
        UserError: a schedule that is longer than an experience, or settings of an experience that is not there.
    """

    def __init__(
        self,
        training: Training,
        stream: Stream,
        budgets: tuple[int, ...],
        replacement: Optimizer | None = None,
        fused: bool = False,
    ) -> None:
        self._positions = schedules.Positions(training, stream, budgets)
        if problems := schedules.check(training, self._positions):
            raise UserError(*problems)
        self._blocks = [training.of_block(n) for n in range(len(self._positions.blocks))]
        self._replacement, self._fused = replacement, fused
        self._clips = any(block.clip is not None for block in self._blocks)
        self._sets_rates = any(
            block.schedule is not None or block.optimizer != training.optimizer for block in self._blocks
        )
        self._block = 0
        self._adopted: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()
        self._settings_of: weakref.WeakKeyDictionary[torch.optim.Optimizer, int] = weakref.WeakKeyDictionary()
        """Of optimisers of the benchmark: the task block whose settings they have."""

    def enter(self, number: int) -> None:
        """Begins an experience: optimisers that are made from now on have its settings."""
        self._block = self._positions.block_of[number]

    def label_smoothing(self) -> float:
        """That of the current experience."""
        return self._blocks[self._block].label_smoothing

    def make_optimizer(self, rates: Rates) -> Maker:
        """The factory of the benchmark's optimisers, over parameters with or without their names."""

        def make(parameters: Parameters) -> torch.optim.Optimizer:
            made = optimizer(self._optimizer(), rates.groups(parameters), self._fused)
            self._adopt(made)
            self._settings_of[made] = self._block
            return made

        return make

    def adapt(self, make: Maker, rates: Rates) -> Maker:
        """A factory of a strategy's, likewise; it is called with parameters or groups, without names."""

        def adapted(parameters: Parameters) -> torch.optim.Optimizer:
            made = make(rates.groups(parameters))
            self._adopt(made)
            return made

        return adapted

    def before_update(self, strategy: Any, number: int, done: int) -> None:
        """Sets what depends on the position.

        Args:
            strategy: whose optimiser is set, beside all that were made by the recipe.
            number: of the experience.
            done: updates done in it.
        """
        if not (self._sets_rates or self._clips):
            return
        optimizer_now = getattr(strategy, "optimizer", None)
        if isinstance(optimizer_now, torch.optim.Optimizer):
            self._adopt(optimizer_now)
        if not self._sets_rates:
            return
        schedule = self._blocks[self._block].schedule
        factor = 1.0 if schedule is None else schedules.factor(schedule, *self._positions(schedule, number, done))
        for each in list(self._adopted):
            if self._settings_of.get(each, self._block) != self._block:
                self._take_over(each)
            for group in each.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * group.get("scale", 1.0) * factor

    def _optimizer(self) -> Optimizer:
        return self._replacement or self._blocks[self._block].optimizer

    def _adopt(self, made: torch.optim.Optimizer) -> None:
        if made in self._adopted:
            return
        self._adopted.add(made)
        if self._clips:
            _CLIPS[made] = self._clip
            # By a key of its own, as those of `register_step_pre_hook` differ from process to process and a hosted
            # strategy's optimiser is saved with its hooks.
            made._optimizer_step_pre_hooks[_KEY] = _clip
        for group in made.param_groups:
            if "initial_lr" not in group and (self._sets_rates or "rate" in group):
                group["lr"] = group["initial_lr"] = group["lr"] * group.get("rate", 1.0)

    def _take_over(self, kept: torch.optim.Optimizer) -> None:
        """Gives an optimiser that is kept from an earlier experience the settings of the current one."""
        self._settings_of[kept] = self._block
        settings = settings_of(self._optimizer())
        for group in kept.param_groups:
            group.update({key: value for key, value in settings.items() if key in group})
            group["initial_lr"] = settings["lr"] * group.get("rate", 1.0)

    def _clip(self) -> Clip | None:
        return self._blocks[self._block].clip


def _clip(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Clips the gradients of an optimiser's parameters; called before its step."""
    clip = _CLIPS[optimizer]()
    if clip is None:
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if clip.norm is not None:
        nn.utils.clip_grad_norm_(parameters, clip.norm)
    elif clip.value is not None:
        nn.utils.clip_grad_value_(parameters, clip.value)


def import_parts(training: Training, replacement: Optimizer | None = None) -> None:
    """Imports what a recipe names by import path, before anything is seeded: a module may draw when it is imported.

    Raises:
        UserError: it does not import, or cannot be called.
    """
    for settings in training.every_settings:
        if (schedule := settings.schedule) is not None and schedule.name == "imported":
            imported(schedule.function, "training.schedule.function")
        if settings.optimizer is not None and settings.optimizer.name == "imported" and replacement is None:
            imported(settings.optimizer.factory, "training.optimizer.factory")
    if replacement is not None and replacement.name == "imported":
        imported(replacement.factory, "strategy.optimizer.factory")
