"""Shared by replay methods: the memory, its updates and its lookup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import Field

from clbench.config.training import Parameters
from clbench.errors import UserError
from clbench.lazy import torch
from clbench.schema import mistake
from clbench.strategies.shared.buffers import Buffer, Integers
from clbench.strategy import Batch, Experience, Knowledge, Setup, Strategy

if TYPE_CHECKING:
    from torch import Tensor


class MemoryConfig(Parameters):
    """Hyper-parameters of the memory and of the replayed batch."""

    memory: Annotated[int, Field(ge=1)] | None = None
    """Samples stored in total; default, without `memory_per_class`, 1000."""
    memory_per_class: Annotated[int, Field(ge=1)] | None = None
    """Samples stored of each class, instead of `memory`; needs the buffer `class_balanced` or `ring`."""
    buffer: Literal["reservoir", "class_balanced", "task_balanced", "ring", "task_ring"] = "reservoir"
    """A uniform sample of all data so far; equal shares for the classes or tasks so far, of each a uniform sample or
    (`ring`) the last samples."""
    replay_batch: Annotated[int, Field(ge=1)] | None = None
    """Replayed samples an iteration; default: as many as new ones."""

    @pydantic.model_validator(mode="after")
    def _one_size(self) -> MemoryConfig:
        if self.memory is not None and self.memory_per_class is not None:
            raise mistake("give either 'memory' or 'memory_per_class'")
        if self.memory_per_class is not None and self.groups != "class":
            raise mistake("'memory_per_class' needs 'buffer: class_balanced' or 'buffer: ring'")
        return self

    @property
    def groups(self) -> Literal["class", "task"] | None:
        """Groups with equal shares of the memory."""
        return {"class_balanced": "class", "ring": "class", "task_balanced": "task", "task_ring": "task"}.get(
            self.buffer
        )  # type: ignore[return-value]


class FillConfig(MemoryConfig):
    """Hyper-parameters of the memory, with the time of its updates."""

    fill: Literal["online", "after"] = "online"
    """Samples are offered to the buffer after each update, or all at the end of their experience."""

    @pydantic.model_validator(mode="after")
    def _last_of_an_order(self) -> FillConfig:
        if self.fill == "after" and self.buffer in ("ring", "task_ring"):
            raise mistake(f"'buffer: {self.buffer}' keeps the last samples learnt from and needs 'fill: online'")
        return self


class Replaying(Strategy):
    """A strategy with a buffer of training samples.

    Attributes:
        buffer: rows and tasks of the samples held.
    """

    def __init__(self, config: Any, setup: Setup) -> None:
        super().__init__(config, setup)
        self.buffer = self.make_buffer()

    @classmethod
    def needs(cls, config: Any) -> frozenset[Knowledge]:
        after: set[Knowledge] = {"boundaries"} if _after(config) else set()
        return frozenset(after | ({"task_in_training"} if config.groups == "task" else set()))

    def make_buffer(self) -> Buffer:
        """An empty buffer.

        Raises:
            UserError: it is too small for all classes or tasks.
        """
        config, per_class = self.config, self.config.memory_per_class
        capacity = None if per_class else config.memory or 1000
        if capacity is not None and config.groups is not None:
            refuse_less_than_one_each(capacity, config.groups, self.setup)
        keep: Literal["random", "last"] = "last" if config.buffer in ("ring", "task_ring") else "random"
        return Buffer(self.setup.generator, capacity=capacity, per_group=per_class, keep=keep)

    def group_of(self, index: Integers, task: Integers) -> Integers:
        """Buffer group of each sample, (N,)."""
        if self.config.groups == "class":
            return self.setup.samples.labels_of(index)
        return task if self.config.groups == "task" else np.zeros_like(index)

    def kept(self, position: Integers, slot: Integers) -> None:
        """Called after each update with the positions in the batch of the stored samples, and their slots: further data
        of a sample can be stored by its slot."""

    def after_update(self, batch: Batch) -> None:
        if not _after(self.config):
            index = batch.index.cpu().numpy()
            task = np.full(len(index), batch.task) if isinstance(batch.task, int) else batch.task.cpu().numpy()
            self.kept(*self.buffer.add(index, task, self.group_of(index, task)))

    def end_experience(self, experience: Experience) -> None:
        if _after(self.config):
            self.buffer.add(experience.index, experience.task, self.group_of(experience.index, experience.task))

    def fetch(self, slots: Integers) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs, targets and tasks of the samples in slots of the buffer, (n, ...), (n,) and (n,)."""
        index, task = (
            torch.from_numpy(held[slots]).to(self.setup.device) for held in (self.buffer.index_of, self.buffer.task_of)
        )
        return *self.setup.samples.fetch(index, task), task

    def held(self) -> tuple[Integers, Integers]:
        return self.buffer.index, self.buffer.task

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "buffer": self.buffer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.buffer.load_state_dict(state["buffer"])


def refuse_less_than_one_each(capacity: int, groups: Literal["class", "task"], setup: Setup) -> None:
    """
    Raises:
        UserError: not one sample for each class or task of the stream.
    """
    number = setup.samples.classes if groups == "class" else len(setup.task_outputs)
    if capacity < number:
        raise UserError(
            f"strategy.memory: got {capacity}, which is less than a sample for each of the "
            f"{number} {'classes' if groups == 'class' else 'tasks'}. Allowed: {number} or more."
        )


def _after(config: Any) -> bool:
    return isinstance(config, FillConfig) and config.fill == "after"
