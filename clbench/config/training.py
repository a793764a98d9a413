"""Models of the `training:` section, and the base of a strategy's hyper-parameters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from clbench.config.augmentation import Augmentation
from clbench.config.optimizers import Optimizer
from clbench.schema import Model as Model
from clbench.schema import one_of
from clbench.streams.definition import StreamConfig as StreamConfig


class Parameters(Model):
    """Hyper-parameters of a strategy; those of every strategy of the table."""

    optimizer: Optimizer | None = None
    """Instead of the benchmark's: a method's own learning rate, as papers have it; the benchmark stays the same."""

    @pydantic.model_serializer(mode="wrap")
    def _said(self, serialise: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `optimizer` where it is the benchmark's: ids from before there was the key stay what they are."""
        said: dict[str, Any] = serialise(self)
        return said if self.optimizer is not None else {k: v for k, v in said.items() if k != "optimizer"}


class Training(Model):
    """The budget of learning, the same for every strategy on a benchmark."""

    epochs: Annotated[int, Field(ge=1)] | None = None
    """Passes over the data of each experience."""
    iterations: Annotated[int, Field(ge=1)] | None = None
    """Updates in each experience, instead of `epochs`; the data is reshuffled whenever it has been seen."""
    budget: Literal["experience", "stream"] = "experience"
    """What `epochs` or `iterations` count: each experience, or the whole stream, whose updates (`epochs`: passes over
    its different samples) its experiences share in proportion to their samples."""
    batch_size: Annotated[int, Field(ge=1)]
    drop_last: bool = False
    """Whether the last batch of a pass is left out where it is smaller than the others."""
    optimizer: Optimizer
    optimizer_state: Literal["keep", "reset"] = "keep"
    """What happens to the optimiser's state (moments) at the start of each experience."""
    loss: Literal["cross_entropy", "squared_error"] = "cross_entropy"
    """Of the labels: cross-entropy, or half the squared distance of the outputs from the one-hot label."""
    active_outputs: Literal["all", "seen", "task", "batch"] | None = None
    """Outputs that take part in the training loss: all, those of classes seen, the task's own, or those that occur in
    the batch (group masking). Default: the task's own in the task setting, else all."""
    augmentation: list[Augmentation] = []
    """Random changes of training images as they are stored, in this order, drawn anew each time a sample comes."""

    @pydantic.model_validator(mode="after")
    def _one_budget(self) -> Training:
        one_of(self, "epochs", "iterations")
        return self
