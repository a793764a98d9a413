"""Models of the `training:` section, and the base of a strategy's hyper-parameters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from clbench.config.augmentation import Augmentation
from clbench.config.optimizers import Optimizer
from clbench.schema import Model, one_of


class Parameters(Model):
    """Hyper-parameters of a strategy; the base of every built-in one's."""

    optimizer: Optimizer | None = None
    """Replaces the benchmark's, for a method-specific learning rate as in papers; the benchmark stays the same."""

    @pydantic.model_serializer(mode="wrap")
    def _without_default(self, serialise: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omits `optimizer` where it is the benchmark's: ids from before the key existed stay the same."""
        values: dict[str, Any] = serialise(self)
        return values if self.optimizer is not None else {k: v for k, v in values.items() if k != "optimizer"}


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

    @pydantic.model_validator(mode="after")
    def _one_budget(self) -> Training:
        one_of(self, "epochs", "iterations")
        return self
