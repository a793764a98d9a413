"""Experience replay: a small memory of past samples is replayed beside the new ones.

Reference: Ratcliff 1990; Robins 1995; as evaluated by Chaudhry et al. 2019 ("On Tiny Episodic Memories") and, with
the weighted loss, by van de Ven, Tuytelaars and Tolias 2022 (Nature Machine Intelligence 4).

    concatenated   L = CE(new and replayed samples together)
    weighted       L = w CE(new) + (1 - w) CE(replayed),   w fixed or 1/k in experience k = 1, 2, ...

Differs from the papers:

1. New and replayed samples go through the network in one pass, so that batch normalisation, where there is one, sees
   both together (van de Ven et al. use two passes; without batch normalisation the loss is the same).
2. The ring buffer of Chaudhry et al. has m / C samples of each of C classes from the start; here the classes met so far
   share the memory, and the oldest samples leave when another class comes. `memory_per_class` is theirs.
3. They make one pass over the data. In further epochs each sample is offered to the memory again (`fill: online`),
   which may then hold it more than once; so it is in other libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from clbench.lazy import torch
from clbench.strategies.shared.replay import FillConfig, Replaying
from clbench.strategy import Batch, Knowledge, Setup

if TYPE_CHECKING:
    from torch import Tensor


class ReplayConfig(FillConfig):
    """Hyper-parameters of experience replay."""

    loss: Literal["concatenated", "weighted"] = "concatenated"
    """One mean over new and replayed samples, or a weighted sum of the two means."""
    new_weight: Annotated[float, Field(ge=0, le=1)] | Literal["share"] = "share"
    """w of the weighted loss; `share` is 1/k in experience k, sub-experiences counted as one."""


def weighted_loss(new: Tensor, replayed: Tensor, new_weight: float) -> Tensor:
    """w L_new + (1 - w) L_replayed, for scalars.

    >>> float(weighted_loss(torch.tensor(1.0), torch.tensor(3.0), 0.25))
    2.5
    """
    return new_weight * new + (1.0 - new_weight) * replayed


class ExperienceReplay(Replaying):
    """Replays from a buffer at every iteration, once it is not empty."""

    regresses = True

    Config: ClassVar[type[ReplayConfig]] = ReplayConfig

    @classmethod
    def needs(cls, config: ReplayConfig) -> frozenset[Knowledge]:
        """Requirements of the memory, and boundaries where the weight depends on the number of experiences."""
        counts = config.loss == "weighted" and config.new_weight == "share"
        return super().needs(config) | frozenset({"boundaries"} if counts else ())

    def __init__(self, config: ReplayConfig, setup: Setup) -> None:
        self.config: ReplayConfig = config
        super().__init__(config, setup)

    def loss(self, batch: Batch) -> Tensor:
        n = len(batch.y)
        replayed = self.replayed(self.config.replay_batch or n)
        if replayed is None:
            return super().loss(batch)
        x, y, task = replayed
        logits = self.model(torch.cat([batch.x, x]))
        if self.config.loss == "concatenated":
            new_task = torch.full_like(batch.index, batch.task) if isinstance(batch.task, int) else batch.task
            return self.criterion(logits, torch.cat([batch.y, y]), torch.cat([new_task, task]))
        weight = 1.0 / self.task_blocks if self.config.new_weight == "share" else self.config.new_weight
        new = self.criterion(logits[:n], batch.y, batch.task)
        return weighted_loss(new, self.criterion(logits[n:], y, task), weight)

    def replayed(self, n: int) -> tuple[Tensor, Tensor, Tensor] | None:
        """Inputs, targets and tasks of up to n samples to replay; None where there are none."""
        return self.fetch(self.buffer.slots(n)) if len(self.buffer) else None
