"""A-GEM: no step may increase the average loss on a memory of the past, to first order.

Reference: Chaudhry, Ranzato, Rohrbach and Elhoseiny 2019, ICLR, "Efficient lifelong learning with A-GEM", equation 11.

    g~ = g - (g . r / r . r) r   where g . r < 0,   else g~ = g

g is the gradient of an update, r that of the loss on a random batch from the memory. With other methods
(`[agem, ewc]`) g is the gradient of the whole objective. What an optimiser adds (weight decay, moments) is not
projected, as in the authors' code. `er_agem` is experience replay with this projection; `[er, agem]` is something else:
the constraint is then an independent batch of a second memory.

Differs from the paper:

1. The memory is filled at the end of each experience, so that the reference is of past experiences alone; the authors'
   code keeps the last samples as they come and leaves the current task out. `fill: online` with `buffer: reservoir` is
   the variant for streams without boundaries ("A-GEM-R", Buzzega et al. 2020).
2. The reference has as many samples as the batch unless `replay_batch` is given (256 in the authors' code).
3. Classes share the memory; in the authors' code each class of each task has its own.

Batch normalisation, where there is one, is in training mode in the pass that makes r, and counts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from clbench.lazy import torch
from clbench.strategies.shared.replay import FillConfig, Replaying
from clbench.strategy import Batch, Setup, Strategy

if TYPE_CHECKING:
    from torch import Tensor, nn


class ReferenceConfig(FillConfig):
    """Hyper-parameters of A-GEM."""

    buffer: Literal["reservoir", "class_balanced", "task_balanced", "ring", "task_ring"] = "class_balanced"
    """A uniform sample of all data so far; equal shares for the classes or tasks so far, of each a uniform sample or
    (`ring`) the last samples."""
    fill: Literal["online", "after"] = "after"
    """Samples are offered to the buffer after each update, or all at the end of their experience."""


def projected(g: Tensor, r: Tensor) -> Tensor | None:
    """The nearest vector to g that does not point against r; None where g does not.

    Args:
        g: gradient of the update, (P,).
        r: reference gradient, (P,).

    >>> projected(torch.tensor([1.0, -1.0]), torch.tensor([0.0, 2.0])).tolist()
    [1.0, 0.0]
    >>> projected(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 2.0])) is None
    True
    """
    product = torch.dot(g, r)
    return g - product / torch.dot(r, r) * r if product < 0 else None


def loss_gradient(strategy: Strategy, x: Tensor, y: Tensor, task: Tensor) -> Tensor:
    """The gradient of the loss on samples, (P,); `.grad` of the parameters is unchanged.

    Args:
        strategy: whose model and criterion.
        x, y, task: of the samples, (N, ...), (N,) and (N,).
    """
    parameters = learning(strategy.model)
    with strategy.setup.autocast():
        loss = strategy.criterion(strategy.model(x), y, task)
    return flat(parameters, torch.autograd.grad(loss, parameters, allow_unused=True))


def learning(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that require gradients."""
    return [p for p in model.parameters() if p.requires_grad]


def flat(parameters: list[nn.Parameter], gradients: Iterable[Tensor | None]) -> Tensor:
    """Gradients as one vector, (P,), zero where there is none."""
    pairs = zip(parameters, gradients, strict=True)
    return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in pairs])


def put(parameters: list[nn.Parameter], gradient: Tensor) -> None:
    """Sets `.grad` of the parameters from a vector (P,)."""
    for p, piece in zip(parameters, torch.split(gradient, [p.numel() for p in parameters]), strict=True):
        p.grad = piece.view_as(p)


class Projections:
    """Counts of constrained and of projected updates."""

    def __init__(self) -> None:
        self.counts = {"constrained_updates": 0, "projected_updates": 0}

    def apply(self, model: nn.Module, projection: Callable[[Tensor], Tensor | None]) -> None:
        """Changes `.grad` of a model's parameters.

        Args:
            model: whose.
            projection: gradient (P,) to what it becomes, or None where it stays.
        """
        self.counts["constrained_updates"] += 1
        parameters = learning(model)
        gradient = projection(flat(parameters, [p.grad for p in parameters]))
        if gradient is not None:
            self.counts["projected_updates"] += 1
            put(parameters, gradient)

    def report(self) -> dict[str, float]:
        """Numbers of constrained and of projected updates."""
        return {name: float(n) for name, n in self.counts.items()}


class AveragedGradientMemory(Replaying):
    """A-GEM: projects the gradient of each update where it points against that of a batch from the memory."""

    regresses = True

    Config = ReferenceConfig
    differentiates_outputs = True

    def __init__(self, config: ReferenceConfig, setup: Setup) -> None:
        self.config: ReferenceConfig = config
        super().__init__(config, setup)
        self._projections = Projections()

    def before_update(self, batch: Batch) -> None:
        if len(self.buffer):
            r = loss_gradient(self, *self.fetch(self.buffer.slots(self.config.replay_batch or len(batch.y))))
            self._projections.apply(self.model, lambda g: projected(g, r))

    def report(self) -> dict[str, float]:
        return self._projections.report()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "projections": dict(self._projections.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._projections.counts = dict(state["projections"])
