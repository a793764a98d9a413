"""Heads whose predictions are not the logits of training.

Each replaces a network's linear layer and is a subclass of it, so that its inputs are the network's features for the
whole suite. Training uses `logits`, prediction `forward`. Rows are computed independently from parameters, buffers and
flags: the evaluator caches the features of a frozen feature extractor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.training.heads import require_linear

if TYPE_CHECKING:
    from clbench.rng import Generator


class _Head(nn.Linear):
    """Takes over the parameters of a linear layer (C, F); nothing is drawn."""

    def __init__(self, linear: nn.Linear) -> None:
        require_linear(linear)
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias

    def logits(self, features: Tensor) -> Tensor:
        """Logits of training."""
        return F.linear(features, self.weight, self.bias)


class NearestMean(_Head):
    """The class whose mean is nearest; a class without a mean has the score -inf.

        euclidean   s_c = f . mu_c - |mu_c|^2 / 2, which orders classes as -|f - mu_c|^2 does
        cosine      s_c = cos(f, mu_c)

    Means are in double precision, so that the evaluator does not use bfloat16: they jump from one update to the next,
    and rounding errors are only measured occasionally.

    Args:
        linear: the layer that it replaces; a head to train the feature extractor.
        cosine: selects the second score.
    """

    rowwise = True
    means: Tensor
    known: Tensor

    def __init__(self, linear: nn.Linear, cosine: bool) -> None:
        super().__init__(linear)
        self.cosine = cosine
        self.register_buffer("means", torch.zeros_like(linear.weight.detach(), dtype=torch.float64))
        self.register_buffer("known", torch.zeros(linear.out_features, dtype=torch.bool, device=linear.weight.device))

    def forward(self, features: Tensor) -> Tensor:
        features = features.to(torch.float64)
        if self.cosine:
            scores = F.normalize(features) @ F.normalize(self.means).T
        else:
            scores = F.linear(features, self.means, -0.5 * self.means.square().sum(1))
        return scores.masked_fill(~self.known, float("-inf"))


class UnitLinear(_Head):
    """A linear layer that first scales features to length 1 where `unit` is set."""

    rowwise = True

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        if "bias" not in dict(linear.named_parameters()):
            self.bias = nn.Parameter(torch.zeros_like(linear.weight[:, 0]))
        self.unit = False

    def forward(self, features: Tensor) -> Tensor:
        return self.logits(F.normalize(features) if self.unit else features)


class Rotated(_Head):
    """One unit for each class in each of R orientations, unit R c + r; prediction is by the units of orientation 0.

    Args:
        linear: (C, F); its weights are those of orientation 0.
        rotations: R.
        generator: draws the other units as PyTorch draws a linear layer's, uniform in +-1 / sqrt(F).
    """

    rowwise = True

    def __init__(self, linear: nn.Linear, rotations: int, generator: Generator) -> None:
        super().__init__(linear)
        self.rotations = rotations
        if rotations > 1:
            bound = linear.in_features**-0.5
            for name, parameter in list(linear.named_parameters()):
                drawn = torch.from_numpy((2 * generator.uniform(rotations * parameter.numel()) - 1) * bound)
                units = drawn.to(parameter).view(len(parameter), rotations, *parameter.shape[1:])
                units[:, 0] = parameter.detach()
                setattr(self, name, nn.Parameter(units.flatten(0, 1)))

    def forward(self, features: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias[:: self.rotations]
        return F.linear(features, self.weight[:: self.rotations], bias)


class CodingVectors(_Head):
    """A vector for each class in each of R orientations; the class whose vector of orientation 0 is nearest to the
    feature, both scaled to length 1, that is s_c = cos(f, v_c).

    Args:
        linear: the layer it takes the place of, (C, F).
        rotations: R.
        generator: draws the vectors, standard normal.
    """

    rowwise = True

    def __init__(self, linear: nn.Linear, rotations: int, generator: Generator) -> None:
        super().__init__(linear)
        self.rotations = rotations
        shape = (rotations * linear.out_features, linear.in_features)
        drawn = torch.from_numpy(generator.normal(shape[0] * shape[1])).to(linear.weight)
        self.weight = nn.Parameter(drawn.view(shape))
        self.register_parameter("bias", None)

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(features) @ F.normalize(self.weight[:: self.rotations]).T


class LinearRule(_Head):
    """A linear rule in double precision on features, or on a random projection of them; a class that is not known has
    the score -inf.

        s = W h + b,   h = max(0, P f)   or   h = f

    W and b are computed, not trained.

    Args:
        linear: the layer that it replaces; a head to train the feature extractor.
        projection: P, (M, F), which is brought to the dtype of the layer; None for none.
    """

    rowwise = True
    projection: Tensor | None
    rule: Tensor
    offset: Tensor
    known: Tensor

    def __init__(self, linear: nn.Linear, projection: Tensor | None = None) -> None:
        super().__init__(linear)
        device = linear.weight.device
        self.width = linear.in_features if projection is None else len(projection)
        self.register_buffer("projection", None if projection is None else projection.to(linear.weight.detach()))
        rule = torch.zeros((linear.out_features, self.width), dtype=torch.float64, device=device)
        self.register_buffer("rule", rule)
        self.register_buffer("offset", rule.new_zeros(linear.out_features))
        self.register_buffer("known", torch.zeros(linear.out_features, dtype=torch.bool, device=device))

    def expand(self, features: Tensor) -> Tensor:
        """h of features (N, F), (N, M)."""
        return features if self.projection is None else F.linear(features, self.projection).relu_()

    def forward(self, features: Tensor) -> Tensor:
        scores = F.linear(self.expand(features).to(torch.float64), self.rule, self.offset)
        return scores.masked_fill(~self.known, float("-inf"))


class Mahalanobis(_Head):
    """The class at the smallest Mahalanobis distance; a class that is not known has the score -inf.

        s_c = -|A_c^T (g(f) - m_c)|^2 / 2,   A_c A_c^T the inverse of the covariance of class c

    with g(f) = sgn(f) |f|^power, scaled to length 1 where `unit` is set.

    Args:
        linear: the layer that it replaces; a head to train the feature extractor.
        matrices: K, the number of covariances: one of each class; 1 for all; 0 for the identity.
        power: > 0.
        unit: whether transformed features have length 1.
    """

    rowwise = True
    means: Tensor
    factors: Tensor
    known: Tensor

    def __init__(self, linear: nn.Linear, matrices: int, power: float, unit: bool) -> None:
        super().__init__(linear)
        self.power, self.unit = power, unit
        like, f = linear.weight.detach(), linear.in_features
        self.register_buffer("means", torch.zeros_like(like, dtype=torch.float64))
        # Functions of the covariances, which are saved: large, so not twice, and in single precision where there are
        # many, as the products with them are the cost of a prediction.
        many = like.dtype if matrices > 1 else torch.float64
        factors = torch.zeros((matrices, f, f), dtype=many, device=like.device)
        self.register_buffer("factors", factors, persistent=False)
        self.register_buffer("known", torch.zeros(linear.out_features, dtype=torch.bool, device=like.device))

    def transform(self, features: Tensor) -> Tensor:
        """sgn(f) |f|^power, double."""
        features = features.to(torch.float64)
        return features if self.power == 1 else features.sign() * features.abs() ** self.power

    def scale(self, transformed: Tensor) -> Tensor:
        """Length 1 where `unit` is set."""
        return F.normalize(transformed) if self.unit else transformed

    def forward(self, features: Tensor) -> Tensor:
        x, means = self.scale(self.transform(features)), self.means
        if len(self.factors) <= 1:
            if len(self.factors):
                x, means = x @ self.factors[0], means @ self.factors[0]
            scores = F.linear(x, means, -0.5 * means.square().sum(1)) - 0.5 * x.square().sum(1, keepdim=True)
        else:
            scores = x.new_zeros((len(x), len(means)))
            for c in torch.nonzero(self.known).flatten().tolist():
                distance = ((x - means[c]).to(self.factors.dtype) @ self.factors[c]).square().sum(1)
                scores[:, c] = -0.5 * distance
        return scores.masked_fill(~self.known, float("-inf"))
