"""PASS: prototype augmentation and self-supervision.

Of a past class one mean feature is kept. The last layer learns it again under Gaussian noise; the front learns images
in four orientations, each a class of its own, and is held by feature distillation.

    L     = CE(h(f(x)) / t, R y + k) + 10 CE(h(p~) / t, R c) + 10 |f(x) - f_old(x)|,   t = 0.1
    p~    = mu_c + r e,   e ~ N(0, I),   c uniform over past classes, as many as the batch has samples
    r^2   = mean over the classes of the first task block of tr(Cov_c) / F

x is turned by k quarter turns, k = 0..R - 1 and R = 4; predictions are by the units of k = 0. |.| is the Euclidean norm
over the features of the whole batch.

Reference: Zhu, Zhang, Wang, Yin and Liu 2021 (CVPR).

Differs from the authors' code: (1) learning rates fall as the benchmark says (they: x 0.1 every 45 epochs, as
`cifar100_b50_t10-v2` has it); (2) all outputs exist from
the start, and `training.active_outputs: seen` activates those of seen classes, as a growing head does;
(3) means and r are of samples as they are stored (they: augmented ones, without a last smaller batch); (4) what is
past, recurs or comes in pieces: see `clbench.strategies.shared.prototypes.PrototypeReplay`; classes with one sample
have no part in r; (5) vectors and images that are not square are not turned, R = 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from clbench.lazy import torch
from clbench.strategies.shared.prototypes import Moments, PrototypeConfig, PrototypeReplay, rotated
from clbench.strategy import Batch, Setup

if TYPE_CHECKING:
    from torch import Tensor, nn


class PassConfig(PrototypeConfig):
    """Hyper-parameters of PASS."""

    radius: Annotated[float, Field(ge=0)] | None = None
    """r, the deviation of the noise around prototypes; default: estimated in the first experience."""


def radius(variance: Tensor) -> float:
    """r of the mean variances of the features of each class, (C,); NaN is ignored.

    >>> radius(torch.tensor([3.0, float("nan"), 5.0]))
    2.0
    """
    known = variance[~variance.isnan()]
    return float(known.mean().sqrt()) if len(known) else 0.0


class Pass(PrototypeReplay):
    """Trains on images in four orientations, and on past prototypes with noise."""

    Config = PassConfig
    of_orientations = False

    def __init__(self, config: PassConfig, setup: Setup) -> None:
        def head(linear: nn.Linear) -> Any:
            from clbench.strategies.shared.prototype_heads import Rotated

            return Rotated(linear, self.rotations, setup.generator)

        super().__init__(config, setup, head)
        self.radius = config.radius

    def loss(self, batch: Batch) -> Tensor:
        x, y = rotated(batch.x, batch.y, self.rotations)
        task = batch.task if isinstance(batch.task, int) else batch.task.repeat_interleave(self.rotations)
        features = self.front(x)
        loss = self.criterion(self.head.logits(features) / self.config.temperature, y, task)
        if len(self.past) and self.config.prototype_weight:
            loss = loss + self.config.prototype_weight * self._prototype_loss(len(batch.y))
        if self.old is not None and self.config.distillation_weight:
            loss = loss + self.config.distillation_weight * self.distance(features, x)
        return loss

    def _prototype_loss(self, n: int) -> Tensor:
        c = self.some_past(n)
        augmented = self.prototypes[self.rotations * c]
        if self.radius:
            noise = torch.from_numpy(self.setup.generator.normal(augmented.numel())).to(augmented)
            augmented = augmented + self.radius * noise.view_as(augmented)
        logits = self.head.logits(augmented) / self.config.temperature
        return self.criterion(logits, self.rotations * c, self._task_of[c])

    def end_task_block(self, block: Moments) -> None:
        super().end_task_block(block)
        if self.radius is None:
            self.radius = radius(block.variance())

    def report(self) -> dict[str, float]:
        return {**super().report(), "radius": self.radius or 0.0}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "radius": self.radius}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.radius = state["radius"]
