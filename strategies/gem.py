"""GEM: no step may increase the loss on the memory of any past task, to first order.

Reference: Lopez-Paz and Ranzato 2017, NeurIPS 30, "Gradient episodic memory for continual learning", equations 8 to 11.

    min_g~ 1/2 ||g~ - g||^2   subject to   G g~ >= 0            G (K, P): a gradient for each past task, on its memory
    min_v  1/2 v' G G' v + g' G' v   subject to   v >= s        its dual; then g~ = G' v + g

s is the memory strength: 0 in the equations, above 0 it pulls towards the past. Nothing is projected where G g >= 0. As
in the authors' code, 1e-3 is added to the diagonal of G G'. The dual is a least-squares problem with bounds, which
`scipy.optimize.nnls` solves exactly (Lawson and Hanson 1974): with v = s + u, L L' = G G' + 1e-3 I and
c = G g + s L L' 1, it is min_{u >= 0} ||L' u + L^-1 c||.

All memory of every past task goes through the network in every update, as in the paper: the cost grows with the tasks.

Differs from the paper: nothing known where tasks come once and samples too (with several epochs the memory is offered
each sample several times, and may hold it so). A task that comes again does not constrain itself. Where a
batch mixes tasks, its current task is the one that most of its samples come from. `per: experience` needs no tasks:
each experience (before the cut into online sub-experiences) is a separate task, whichever classes it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import Field

from clbench.config.optimizers import NonNegative
from clbench.config.training import Parameters
from clbench.lazy import torch
from clbench.schema import mistake
from clbench.strategies.agem import Projections, loss_gradient
from clbench.strategies.shared.buffers import Buffer, Integers
from clbench.strategies.shared.replay import Replaying, refuse_less_than_one_each
from clbench.strategy import Batch, Experience, Knowledge, Setup

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_RIDGE = 1e-3
_LOST = 1e-12
"""Of the trace of G G': less on its diagonal would not keep it positive definite in double precision."""


class EpisodicConfig(Parameters):
    """Hyper-parameters of GEM."""

    strength: NonNegative = 0.5
    """s, the least of each dual variable; `memory_strength` in the authors' code."""
    per: Literal["task", "experience"] = "task"
    """Unit with a separate memory and constraint."""
    memory_each: Annotated[int, Field(ge=1)] | None = None
    """Samples stored of each task (or experience); default, without `memory`, 256."""
    memory: Annotated[int, Field(ge=1)] | None = None
    """Samples stored in total, shared by the tasks so far, instead of `memory_each`."""
    keep: Literal["last", "random"] = "last"
    """Of each task the last samples, as in the paper, or a uniform sample."""

    @pydantic.model_validator(mode="after")
    def _one_size(self) -> EpisodicConfig:
        if self.memory is not None and self.memory_each is not None:
            raise mistake("give either 'memory' or 'memory_each'")
        if self.memory is not None and self.per == "experience":
            raise mistake("'per: experience' needs 'memory_each': how many experiences will share is not known")
        return self


def multipliers(gram: NDArray[np.float64], products: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """The v >= strength that minimises 1/2 v' gram v + products' v, (K,).

    Args:
        gram: symmetric and positive definite, (K, K).
        products: (K,).
        strength: the least of each v, >= 0.

    >>> multipliers(np.eye(2), np.array([-3.0, 4.0]), 0.5).round(12).tolist()
    [3.0, 0.5]
    """
    from scipy.optimize import nnls  # takes a while to import

    lower = np.linalg.cholesky(gram)
    u, _ = nnls(lower.T, -np.linalg.solve(lower, products + strength * gram.sum(1)))
    return np.asarray(strength + u)


def projected(g: Tensor, constraints: Tensor, strength: float, ridge: float = _RIDGE) -> Tensor | None:
    """The projected gradient; None where it violates no constraint.

    Args:
        g: gradient of the update, (P,).
        constraints: G, the gradients of the past tasks, (K, P).
        strength: s >= 0.
        ridge: what is added to the diagonal of G G'; more where that would be lost in rounding.

    >>> projected(torch.tensor([1.0, -2.0]), torch.tensor([[0.0, 1.0]]), 0.0, 0.0).tolist()
    [1.0, 0.0]
    """
    if not (constraints @ g < 0).any():
        return None
    wide = constraints.double()
    gram, products = (v.cpu().numpy() for v in (wide @ wide.T, wide @ g.double()))
    added = max(ridge, _LOST * np.trace(gram)) if ridge else 0.0
    v = torch.from_numpy(multipliers(gram + added * np.eye(len(gram)), products, strength))
    return g + (v.to(wide.device) @ wide).to(g.dtype)


class GradientEpisodicMemory(Replaying):
    """GEM: projects the gradient of each update onto those that increase no past task's loss on its memory."""

    regresses = True

    Config = EpisodicConfig
    differentiates_outputs = True

    @classmethod
    def needs(cls, config: EpisodicConfig) -> frozenset[Knowledge]:
        """Tasks, or boundaries of experiences."""
        return frozenset({"task_in_training" if config.per == "task" else "boundaries"})

    def __init__(self, config: EpisodicConfig, setup: Setup) -> None:
        self.config: EpisodicConfig = config
        super().__init__(config, setup)
        self._projections = Projections()
        self._origin = 0

    def make_buffer(self) -> Buffer:
        config = self.config
        if config.memory is None:
            return Buffer(self.setup.generator, per_group=config.memory_each or 256, keep=config.keep)
        refuse_less_than_one_each(config.memory, "task", self.setup)
        return Buffer(self.setup.generator, capacity=config.memory, keep=config.keep)

    def group_of(self, index: Integers, task: Integers) -> Integers:
        return task if self.config.per == "task" else np.full_like(index, self._origin)

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        self._origin = experience.number - experience.part

    def before_update(self, batch: Batch) -> None:
        now = self._current(batch)
        past = [group for group in self.buffer.groups if group != now]
        if past:
            gradients = [loss_gradient(self, *self.fetch(self.buffer.slots_of(group))) for group in past]
            constraints = torch.stack(gradients)
            self._projections.apply(self.model, lambda g: projected(g, constraints, self.config.strength))

    def _current(self, batch: Batch) -> int:
        """The current group."""
        if self.config.per == "experience":
            return self._origin
        return batch.task if isinstance(batch.task, int) else int(torch.bincount(batch.task).argmax())

    def report(self) -> dict[str, float]:
        return self._projections.report()

    def state_dict(self) -> dict[str, Any]:
        fields = {"projections": dict(self._projections.counts), "origin": self._origin}
        return {**super().state_dict(), **fields}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._projections.counts, self._origin = dict(state["projections"]), state["origin"]
