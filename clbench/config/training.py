"""Models of the `training:` section, and the base of a strategy's hyper-parameters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from clbench.config.augmentation import Augmentation
from clbench.config.optimizers import NonNegative, Optimizer
from clbench.config.schedules import Clip, Schedule
from clbench.schema import Model, mistake, one_of


class Parameters(Model):
    """Hyper-parameters of a strategy; the base of every built-in one's."""

    optimizer: Optimizer | None = None
    """Replaces the benchmark's, for a method-specific learning rate as in papers; the benchmark stays the same."""

    @pydantic.model_serializer(mode="wrap")
    def _without_default(self, serialise: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omits `optimizer` where it is the benchmark's: ids from before the key existed stay the same."""
        values: dict[str, Any] = serialise(self)
        return values if self.optimizer is not None else {k: v for k, v in values.items() if k != "optimizer"}


class ExperienceSettings(Model):
    """Settings of one experience (task block); what is absent is the general setting."""

    epochs: Annotated[int, Field(ge=1)] | None = None
    """Instead of the general `epochs` or `iterations`."""
    iterations: Annotated[int, Field(ge=1)] | None = None
    """Instead of the general `epochs` or `iterations`."""
    optimizer: Optimizer | None = None
    """Of the same kind as the general one, unless `optimizer_state` is reset; an optimiser that is kept takes over its
    learning rate, momentum, weight decay and so on."""
    schedule: Schedule | None = None
    """Of the learning rate in this experience."""
    clip: Clip | None = None
    """Largest gradients in this experience."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Of this experience."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> ExperienceSettings:
        if self.epochs is not None and self.iterations is not None:
            one_of(self, "epochs", "iterations")
        if self.schedule is not None and self.schedule.over == "stream":
            raise mistake("got 'stream' for one experience. Allowed: experience", "schedule.over")
        return self


def _texts(value: Any) -> Any:
    """Numbers of experiences as texts, which keys are in YAML and JSON."""
    if not isinstance(value, dict):
        return value
    return {str(key) if type(key) is int else key: settings for key, settings in value.items()}


def _numbered(value: dict[str, ExperienceSettings]) -> dict[str, ExperienceSettings]:
    for key in value:
        if not (key.isascii() and key.isdigit() and str(int(key)) == key):
            raise mistake(f"got the key '{key}'. Allowed: numbers of experiences, from 0")
    return value


class Training(Model):
    """The training budget, the same for every strategy on a benchmark."""

    epochs: Annotated[int, Field(ge=1)] | None = None
    """Passes over the samples of each experience. Every strategy makes as many updates, also one that trains on more
    (`cumulative`, `joint`): it passes over its data less often."""
    iterations: Annotated[int, Field(ge=1)] | None = None
    """Updates in each experience, instead of `epochs`; the data are reshuffled after each pass."""
    budget: Literal["experience", "stream"] = "experience"
    """Scope of `epochs` or `iterations`: each experience, or the whole stream, whose updates (`epochs`: passes over its
    different samples) its experiences share in proportion to their samples."""
    batch_size: Annotated[int, Field(ge=1)]
    drop_last: bool = False
    """Drops the last batch of a pass if it is smaller than the others, such as a single sample, which a network with
    batch normalisation cannot learn from."""
    order: Literal["shuffled", "data"] = "shuffled"
    """Order of the samples within an experience: drawn for each pass, or that of the data, as a series needs. Hosted
    strategies of Avalanche keep their own."""
    optimizer: Optimizer
    optimizer_state: Literal["keep", "reset"] = "keep"
    """Treatment of the optimiser's state (moments) at the start of each experience."""
    loss: Literal["cross_entropy", "squared_error", "absolute_error"] = "cross_entropy"
    """Training loss: cross-entropy, or half the squared distance of the outputs from the one-hot label. Of a regression
    half the squared error or the absolute error, the mean over the outputs."""
    active_outputs: Literal["all", "seen", "task", "batch"] | None = None
    """Active logits of the training loss: all, those of classes seen so far, of the task, or of the batch's classes
    (group masking). Default: of the task in the task setting, else all."""
    augmentation: list[Augmentation] = []
    """Random changes of the stored training images, in this order, redrawn for each use of a sample."""
    schedule: Schedule | None = None
    """Factor on the learning rate, by the position in the experience or the stream. Default: none."""
    clip: Clip | None = None
    """Largest gradients; clipped before each step of the optimiser. Default: none."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each target that is spread evenly over the active outputs (Szegedy et al. 2016); of cross-entropy."""
    rates: dict[str, NonNegative] = {}
    """Multipliers on the learning rate of parts of the network: prefixes of parameters' names, the longest one that
    matches; `front` and `head` are all but the last linear layer and that layer; 0 freezes. Default: 1."""
    experiences: Annotated[
        dict[str, ExperienceSettings], pydantic.BeforeValidator(_texts), pydantic.AfterValidator(_numbered)
    ] = {}
    """Settings of single experiences by their number, from 0 (of task blocks, where experiences are cut into pieces),
    such as more epochs for the first."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Training:
        one_of(self, "epochs", "iterations")
        for at, smoothing in [("", self.label_smoothing), *self._of_experiences("label_smoothing")]:
            if smoothing and self.loss != "cross_entropy":
                raise mistake(f"is for cross_entropy, and training.loss is '{self.loss}'", f"{at}label_smoothing")
        for key in ("epochs", "iterations"):
            for at, _ in self._of_experiences(key):
                if self.budget == "stream":
                    raise mistake(f"got '{key}', and training.budget is 'stream', which all share", f"{at}{key}")
        for at, optimizer in self._of_experiences("optimizer"):
            changed = _state_of(optimizer) != _state_of(self.optimizer)
            if changed and self.optimizer_state == "keep":
                sentence = f"another kind than training.optimizer ('{self.optimizer.name}'), whose state cannot be kept"
                raise mistake(
                    f"got {sentence}. Allowed: the same kind, or training.optimizer_state: reset", f"{at}optimizer"
                )
        return self

    def _of_experiences(self, key: str) -> list[tuple[str, Any]]:
        """The values of a setting in single experiences, each with the path above it."""
        pairs = [(f"experiences.{at}.", getattr(settings, key)) for at, settings in self.experiences.items()]
        return [(at, value) for at, value in pairs if value is not None]

    @property
    def every_settings(self) -> list[Training | ExperienceSettings]:
        """The general settings, and those of single experiences."""
        return [self, *self.experiences.values()]

    def of_block(self, number: int) -> Training:
        """The settings of a task block: those of its number over the general ones.

        >>> training = Training(epochs=2, batch_size=8, optimizer={"name": "adam"}, experiences={0: {"iterations": 5}})
        >>> [(t.epochs, t.iterations) for t in (training.of_block(0), training.of_block(1))]
        [(None, 5), (2, None)]
        """
        settings = self.experiences.get(str(number))
        if settings is None:
            return self
        update = {key: value for key, value in settings if value is not None}
        if {"epochs", "iterations"} & update.keys():
            update = {"epochs": None, "iterations": None, **update}
        return self.model_copy(update=update)


def _state_of(optimizer: Any) -> Any:
    """What the state of an optimiser depends on: its kind; of an imported one also its options."""
    return (optimizer.name, *((optimizer.factory, optimizer.options) if optimizer.name == "imported" else ()))
