"""Streaming linear discriminant analysis: class means and one covariance of fixed features, kept as samples come.

    Sigma = 1/N sum over all samples so far of (f_i - mu_{y_i})(f_i - mu_{y_i})^T,   mu_c the mean of class c
    A = (1 - epsilon) Sigma + epsilon I
    predict argmax_c  mu_c^T A^-1 f - 1/2 mu_c^T A^-1 mu_c

which is the Bayes rule for classes of equal priors and one covariance. Mean and covariance are those of all samples so
far, in whatever order and chunks they came, and a class that comes again adds its samples to those of before. A shift
of all features changes no prediction: the rule is computed for features relative to the mean of the class means, which
adds the same number to the scores of all classes.

Reference: Hayes and Kanan 2020 (CVPR Workshops, "Lifelong machine learning with deep streaming linear discriminant
analysis").

Rounding: sums and the rule are in double precision, features in single precision, as the network's.

Differs from the paper's code and from Avalanche's `StreamingLDA`, which agree: (1) their update of Sigma weighs a
sample's deviation from its class mean by t / (t + 1), with t the samples of all classes so far: the result depends on
the order, and the first sample of a class counts with its deviation from zero, so that a shift of the features changes
Sigma; here the samples of the class so far take the place of t (Welford's rule), and Sigma is that of the whole set,
with the denominator N; (2) they can start from the covariance of a base set with Oracle Approximating Shrinkage, and
can then hold it; here it starts from nothing and is always updated; (3) A is inverted by Cholesky in double precision,
there by a pseudo-inverse in single; (4) a class that has not come is not predicted; there it has the score 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from clbench.config.training import Parameters
from clbench.lazy import torch
from clbench.strategies.shared.statistics import Scatter, Statistical
from clbench.strategy import Memory, Setup

if TYPE_CHECKING:
    from torch import Tensor, nn


class SldaConfig(Parameters):
    """Hyper-parameters of streaming linear discriminant analysis."""

    extractor: Literal["first_experience", "frozen"] = "first_experience"
    """Feature extractor: trained in the first experience and then frozen; or frozen from the start (see
    `model.weights`)."""
    shrinkage: Annotated[float, Field(gt=0, le=1)] = 1e-4
    """epsilon, share of the identity in the covariance; 1 is the nearest class mean."""


def discriminants(means: Tensor, covariance: Tensor, shrinkage: float) -> tuple[Tensor, Tensor]:
    """The linear rule of classes with equal priors and one covariance.

    Args:
        means: (C, F), double.
        covariance: (F, F), double.
        shrinkage: epsilon, in (0, 1].

    Returns:
        weights (C, F) and offsets (C,): the scores are those of the formula less a number that all classes share.

    >>> means = torch.tensor([[0.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    >>> weights, offset = discriminants(means, torch.eye(2, dtype=torch.float64), 0.5)
    >>> (weights @ torch.tensor([1.0, 5.0], dtype=torch.float64) + offset).tolist()
    [-0.5, -0.5]
    """
    centre = means.mean(0)
    apart = means - centre
    regular = (1 - shrinkage) * covariance
    regular.diagonal().add_(shrinkage)
    weights = torch.cholesky_solve(apart.T, torch.linalg.cholesky(regular)).T
    return weights, -0.5 * (weights * apart).sum(1) - weights @ centre


class Slda(Statistical):
    """Linear discriminant analysis on fixed features."""

    Config = SldaConfig

    def __init__(self, config: SldaConfig, setup: Setup) -> None:
        def head(linear: nn.Linear) -> Any:
            from clbench.strategies.shared.prototype_heads import LinearRule

            return LinearRule(linear)

        super().__init__(config, setup, head)
        self.scatter = Scatter(setup.outputs, self.head.in_features, setup.device, per_class=False)

    def add(self, features: Tensor, y: Tensor) -> None:
        self.scatter.add(features, y)

    def solve(self) -> None:
        known = self.scatter.count > 0
        covariance = self.scatter.whole() / self.scatter.count.sum()
        weights, offset = discriminants(self.scatter.mean[known], covariance, self.config.shrinkage)
        self.head.rule[known], self.head.offset[known] = weights, offset

    def memory(self) -> Memory:
        return Memory(0, self.scatter.nbytes)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "scatter": self.scatter.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.scatter.load_state_dict(state["scatter"])
