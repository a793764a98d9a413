"""Experience replay: a small memory of past samples is learnt again beside the new ones.

Reference: Ratcliff 1990; Robins 1995; as evaluated by Chaudhry et al. 2019 ("On Tiny Episodic Memories") and, with
the weighted loss, by van de Ven, Tuytelaars and Tolias 2022 (Nature Machine Intelligence 4).

    concatenated   L = CE(new and replayed samples together)
    weighted       L = w CE(new) + (1 - w) CE(replayed),   w fixed or 1/k in experience k = 1, 2, ...

Differs from the papers: new and replayed samples go through the network in one pass, so that batch normalisation, where
there is one, sees both together (van de Ven et al. use two passes; without batch normalisation the loss is the same).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import Field

from clbench.config import Parameters
from clbench.lazy import torch
from clbench.strategy import Batch, Experience, Knowledge, Setup, Strategy
from strategies.buffers import Buffer

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class ReplayConfig(Parameters):
    """Hyper-parameters of experience replay."""

    memory: Annotated[int, Field(ge=1)] | None = None
    """Samples held in all; 1000 where neither this nor `memory_per_class` is given."""
    memory_per_class: Annotated[int, Field(ge=1)] | None = None
    """Samples held of each class, instead of `memory`; needs the buffer `class_balanced`."""
    buffer: Literal["reservoir", "class_balanced"] = "reservoir"
    """A uniform sample of all met, or equal shares for the classes met."""
    fill: Literal["online", "after"] = "online"
    """Samples are offered to the buffer after each update, or all at the end of their experience."""
    replay_batch: Annotated[int, Field(ge=1)] | None = None
    """Replayed samples an iteration; as many as new ones where not given."""
    loss: Literal["concatenated", "weighted"] = "concatenated"
    """One mean over new and replayed samples, or a weighted sum of the two means."""
    new_weight: Annotated[float, Field(ge=0, le=1)] | Literal["share"] = "share"
    """w of the weighted loss; `share` is 1/k in experience k."""

    @pydantic.model_validator(mode="after")
    def _one_size(self) -> ReplayConfig:
        if self.memory is not None and self.memory_per_class is not None:
            raise ValueError("give either 'memory' or 'memory_per_class'")
        if self.memory_per_class is not None and self.buffer != "class_balanced":
            raise ValueError("'memory_per_class' needs 'buffer: class_balanced'")
        return self


def weighted_loss(new: Tensor, replayed: Tensor, new_weight: float) -> Tensor:
    """w L_new + (1 - w) L_replayed, for scalars.

    >>> float(weighted_loss(torch.tensor(1.0), torch.tensor(3.0), 0.25))
    2.5
    """
    return new_weight * new + (1.0 - new_weight) * replayed


class ExperienceReplay(Strategy):
    """Replays from a buffer at every iteration in which it holds something."""

    Config = ReplayConfig

    @classmethod
    def needs(cls, config: ReplayConfig) -> frozenset[Knowledge]:
        """The number of experiences so far, or their ends."""
        counts = config.loss == "weighted" and config.new_weight == "share"
        return frozenset({"boundaries"} if counts or config.fill == "after" else ())

    def __init__(self, config: ReplayConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config: ReplayConfig = config
        per_class = config.memory_per_class
        self.buffer = Buffer(
            setup.generator, capacity=None if per_class else config.memory or 1000, per_group=per_class
        )

    def loss(self, batch: Batch) -> Tensor:
        if not len(self.buffer):
            return super().loss(batch)
        n = len(batch.y)
        x, y, task = self._replay(self.config.replay_batch or n)
        logits = self.model(torch.cat([batch.x, x]))
        if self.config.loss == "concatenated":
            new_task = torch.full_like(batch.y, batch.task) if isinstance(batch.task, int) else batch.task
            return self.criterion(logits, torch.cat([batch.y, y]), torch.cat([new_task, task]))
        weight = 1.0 / self.experiences if self.config.new_weight == "share" else self.config.new_weight
        new = self.criterion(logits[:n], batch.y, batch.task)
        return weighted_loss(new, self.criterion(logits[n:], y, task), weight)

    def after_update(self, batch: Batch) -> None:
        if self.config.fill == "online":
            index = batch.index.cpu().numpy()
            task = np.full(len(index), batch.task) if isinstance(batch.task, int) else batch.task.cpu().numpy()
            self._offer(index, task)

    def end_experience(self, experience: Experience) -> None:
        if self.config.fill == "after":
            self._offer(experience.index, experience.task)

    def held(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self.buffer.index, self.buffer.task

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "buffer": self.buffer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.buffer.load_state_dict(state["buffer"])

    def _replay(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        index, task = self.buffer.sample(n)
        device = self.setup.device
        on_device = torch.from_numpy(task).to(device)
        x, y = self.setup.samples.fetch(torch.from_numpy(index).to(device), on_device)
        return x, y, on_device

    def _offer(self, index: np.ndarray[Any, Any], task: np.ndarray[Any, Any]) -> None:
        one_group = self.config.buffer == "reservoir"
        self.buffer.add(index, task, np.zeros_like(index) if one_group else self.setup.samples.labels_of(index))
