"""Experience replay with the projection of A-GEM: both the objective and the optimisation path.

Reference: Hess, Tuytelaars and van de Ven 2023, "Two complementary perspectives to continual learning: ask not only
what to optimize, but also how" (PMLR 249); A-GEM: Chaudhry et al. 2019.

    g = gradient of the loss of experience replay on the new and the replayed batch
    r = gradient of the mean loss on the same replayed batch,   g~ = g - (g . r / r . r) r where g . r < 0

Differs from `[er, agem]`, which constrains by an independent batch from a second memory. Theirs is the weighted loss:
`loss: weighted, new_weight: share`, with `buffer: class_balanced, fill: after`.

Differs from the authors' code: there batch normalisation uses its running statistics in the pass that makes r; here it
is a further pass in training mode. Without batch normalisation it is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clbench.strategies.agem import Projections, loss_gradient, projected
from clbench.strategies.er import ExperienceReplay, ReplayConfig
from clbench.strategy import Batch, Setup

if TYPE_CHECKING:
    from torch import Tensor


class ProjectedReplay(ExperienceReplay):
    """Experience replay whose step does not point against the gradient of the replayed samples."""

    regresses = True

    def __init__(self, config: ReplayConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self._projections = Projections()
        self._replayed: tuple[Tensor, Tensor, Tensor] | None = None

    def replayed(self, n: int) -> tuple[Tensor, Tensor, Tensor] | None:
        self._replayed = super().replayed(n)
        return self._replayed

    def before_update(self, batch: Batch) -> None:
        if self._replayed is not None:
            r = loss_gradient(self, *self._replayed)
            self._projections.apply(self.model, lambda g: projected(g, r))
            self._replayed = None

    def report(self) -> dict[str, float]:
        return self._projections.report()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "projections": dict(self._projections.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._projections.counts = dict(state["projections"])
