"""ACIL: ridge regression on a random projection of fixed features, updated recursively: no matrix is solved anew.

    h = max(0, P f(x)),   P (M, F) drawn once, uniform in +-1 / sqrt(F)
    R = (sum h h^T + gamma I)^-1,   W = (sum y h^T) R,   y one-hot;   predict argmax_c (W h)_c

and with the samples of a batch as the rows of H and Y, by the matrix inversion lemma (the paper's equations 9 and 10)

    K = I + H R H^T,   R <- R - R H^T K^-1 H R,   W <- W + (Y - H W^T)^T K^-1 H R    (the R of before)

from R = I / gamma and W = 0. So W is that of joint ridge regression on all samples so far after every update, whatever
their order and chunking; a class that comes again adds its samples to those of before.

Reference: Zhuang et al. 2022 (NeurIPS, "ACIL: Analytic class-incremental learning with absolute memorization and
privacy protection"). By batches and for classes that come again it is their G-ACIL (2024, arXiv 2403.15706); their code
is the same for both.

Rounding: R and W are in double precision, features and their projection in single precision, as the network's. The
recursion rounds in each update; against the weights from the sums in one solution the difference stays within double
precision times the condition of sum h h^T + gamma I times a small factor.

Differs from the paper and its code: (1) M is 2,000 by default, the code's 8,192: R alone has 8 M^2 bytes; (2) the
first task block trains the front by the benchmark's recipe, or nothing (`extractor: frozen`); (3) P and h are in single
precision, in the code in double; (4) a class that has not come is not predicted, in the code it has no output; (5) W is
updated through K^-1 H R, which is (R H^T)^T after the update, so that the product is not computed twice; (6) a batch of
more than 512 samples is taken in parts, which changes nothing but rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from clbench.config.training import Parameters
from clbench.lazy import F, torch
from clbench.strategies.shared.statistics import Statistical
from clbench.strategy import Memory, Setup

if TYPE_CHECKING:
    from torch import Tensor, nn

_ROWS = 512


class AcilConfig(Parameters):
    """Hyper-parameters of ACIL."""

    extractor: Literal["first_experience", "frozen"] = "first_experience"
    """Feature extractor: trained in the first experience and then frozen; or frozen from the start (see
    `model.weights`)."""
    projections: Annotated[int, Field(ge=1)] | None = 2000
    """M, random projections. null: none, ridge regression on the features as they are."""
    penalty: Annotated[float, Field(gt=0)] = 0.1
    """gamma, weight of the squared coefficients, beside a sum over samples."""


def recursion(inverse: Tensor, weights: Tensor, h: Tensor, y: Tensor) -> None:
    """Adds samples to recursive ridge regression, in place.

    Args:
        inverse: R, double (M, M).
        weights: W, double (C, M).
        h: double (N, M).
        y: one-hot, double (N, C).
    """
    projected = h @ inverse
    small = projected @ h.T
    small.diagonal().add_(1)
    factor = torch.linalg.cholesky(small)
    root = torch.linalg.solve_triangular(factor, projected, upper=False)
    weights.addmm_(torch.linalg.solve_triangular(factor, y - h @ weights.T, upper=False).T, root)
    inverse.addmm_(root.T, root, alpha=-1)


class Acil(Statistical):
    """Recursive ridge regression on a random projection of fixed features."""

    Config = AcilConfig

    def __init__(self, config: AcilConfig, setup: Setup) -> None:
        def head(linear: nn.Linear) -> Any:
            from clbench.strategies.shared.prototype_heads import LinearRule

            if config.projections is None:
                return LinearRule(linear)
            drawn = (
                2 * setup.generator.uniform(config.projections * linear.in_features) - 1
            ) * linear.in_features**-0.5
            return LinearRule(linear, torch.from_numpy(drawn).view(config.projections, -1))

        super().__init__(config, setup, head)
        width, device = self.head.width, setup.device
        self.inverse = torch.eye(width, dtype=torch.float64, device=device) / config.penalty
        self.weights = torch.zeros((setup.outputs, width), dtype=torch.float64, device=device)

    def add(self, features: Tensor, y: Tensor) -> None:
        h = self.head.expand(features).to(torch.float64)
        one_hot = F.one_hot(y, self.setup.outputs).to(torch.float64)
        for part, of in zip(torch.split(h, _ROWS), torch.split(one_hot, _ROWS), strict=True):
            recursion(self.inverse, self.weights, part, of)

    def solve(self) -> None:
        self.head.rule.copy_(self.weights)

    def memory(self) -> Memory:
        """R and the projection; the weights are the network's last layer."""
        projection = self.head.projection
        return Memory(0, self.inverse.nbytes + (0 if projection is None else projection.nbytes))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "inverse": self.inverse.clone(), "weights": self.weights.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.inverse.copy_(state["inverse"])
        self.weights.copy_(state["weights"])
