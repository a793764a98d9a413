"""RanPAC: ridge regression on a random projection of fixed features, from sums that grow with the samples.

    h = max(0, P f(x)),   P (M, F) drawn once, standard normal
    G = sum h h^T,   Q = sum h y^T,   y one-hot
    W = Q^T (G + lambda I)^-1;   predict argmax_c (W h)_c

G and Q do not depend on the order of the samples, so neither does W: it is that of joint ridge regression on all
samples so far. Past classes need no samples, and a class that comes again adds its samples to those of before.

Reference: McDonnell, Gong, Parvaneh, Abbasnejad and van den Hengel 2023 (NeurIPS, arXiv 2307.02251).

lambda is selected at the end of each task block, before which four of five of its samples, in the order in which they
came, add to one pair of sums and the fifth to another:

    lambda = argmin over 10^-8, 10^-7, ..., 10^8 of the squared error on the fifth
             of the W(lambda) that is fitted to the four of five of this task block alone

and W is then that of all samples so far with this lambda. `penalty` fixes it instead.

Rounding: sums and solutions are in double precision, features and their projection in single precision, as the
network's. So W is that of joint regression on the same h up to the rounding of double precision times the condition of
G + lambda I; a different chunking may also change h by the last bits of single precision. With `products: float32` the
products that are summed up to 4,096 samples at a time are rounded to single precision, which halves the time: then the
same holds for a G off by up to 4096 x 2^-24 of itself, entry by entry (h is not negative), and where lambda is small
beside that the solution is noise. A lambda at which G + lambda I is not positive definite in its rounding is not
selected; if it is fixed, negative eigenvalues of G count as 0.

Differs from the paper and its code: (1) M is 2,000 by default, the paper's 10,000: G has 8 M^2 bytes, and where lambda
is selected there are three of them; (2) the first task block trains the whole front by the benchmark's recipe, or
nothing (`extractor: frozen`); the paper trains adapters, prompts or scales in it; (3) the fifth is every fifth sample
that comes, in the code the last fifth of a shuffled pass, and the error on it is computed from sums, so that no feature
is kept; (4) within a task block predictions use the lambda of the last selection, and before the first one the mean of
G's diagonal: the code predicts at the ends of tasks alone; (5) sums are in double precision, in the code in single; (6)
a class that has not come is not predicted, in the code it has no output; (7) the code's factor of all outputs
(`sigma`), which changes no prediction, is left out.
In an online stream the selection is made once for the pieces of one experience; without boundaries at the end alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from clbench.config.training import Parameters
from clbench.lazy import torch
from clbench.strategies.shared.ridge import RidgeSums, ridge, squared_error
from clbench.strategies.shared.statistics import Statistical, mirrored
from clbench.strategy import Memory, Setup

if TYPE_CHECKING:
    from torch import Tensor, nn

PENALTIES = tuple(10.0**k for k in range(-8, 9))
"""Values of lambda that are tried."""

_FOLDS = 5


class RanpacConfig(Parameters):
    """Hyper-parameters of RanPAC."""

    extractor: Literal["first_experience", "frozen"] = "first_experience"
    """Feature extractor: trained in the first experience and then frozen; or frozen from the start (see
    `model.weights`)."""
    projections: Annotated[int, Field(ge=1)] | None = 2000
    """M, random projections. null: none, ridge regression on the features as they are."""
    penalty: Annotated[float, Field(gt=0)] | None = None
    """lambda. Default: selected at the end of each task block on a fifth of its samples."""
    products: Literal["float64", "float32"] = "float64"
    """Precision in which products of features are summed, over up to 4,096 samples; their sums are in double."""


def selected(fit: RidgeSums, held_out: RidgeSums) -> float | None:
    """The lambda of `PENALTIES` with the least squared error on held-out samples, the smallest of several.

    Args:
        fit: sums of the samples that weights are fitted to.
        held_out: sums of the samples that they are judged by.

    Returns:
        None where one of them is empty, or no lambda has a solution.
    """
    if not fit.count or not held_out.count:
        return None
    # Weights of a class that is in neither are 0, and so is its part of the error.
    present = ((fit.cross != 0) | (held_out.cross != 0)).any(1)
    gram, of = mirrored(fit.gram), mirrored(held_out.gram)
    errors = []
    for penalty in PENALTIES:
        weights = ridge(gram, fit.cross[present], penalty)
        if weights is not None:
            errors.append((squared_error(weights, of, held_out.cross[present], held_out.count), penalty))
    return min(errors, default=(0.0, None))[1]


class Ranpac(Statistical):
    """Ridge regression on a random projection of fixed features."""

    Config = RanpacConfig

    def __init__(self, config: RanpacConfig, setup: Setup) -> None:
        def head(linear: nn.Linear) -> Any:
            from clbench.strategies.shared.prototype_heads import LinearRule

            if config.projections is None:
                return LinearRule(linear)
            drawn = setup.generator.normal(config.projections * linear.in_features)
            return LinearRule(linear, torch.from_numpy(drawn).view(config.projections, -1))

        super().__init__(config, setup, head)
        fixed = config.penalty is not None
        self.sums, *rest = (RidgeSums(self.head.width, setup.outputs, setup.device) for _ in range(1 if fixed else 3))
        self.block: tuple[RidgeSums, RidgeSums] | None = None if fixed else (rest[0], rest[1])
        """Sums of the samples of this task block that lambda is fitted to, and of those it is judged by."""
        self.selected = config.penalty

    def add(self, features: Tensor, y: Tensor) -> None:
        h = self.head.expand(features)
        if self.config.products == "float64":
            h = h.to(torch.float64)
        if self.block is None:
            self.sums.add(h, y)
            return
        fit, held_out = self.block
        came = fit.count + held_out.count + torch.arange(len(y), device=y.device)
        fifth = came % _FOLDS == _FOLDS - 1
        fit.add(h[~fifth], y[~fifth])
        held_out.add(h[fifth], y[fifth])

    def end_task_block(self) -> None:
        if self.block is not None:
            self.selected = selected(*self.block) or self.selected
            for part in self.block:
                self.sums.merge(part)
                part.clear()

    def solve(self) -> None:
        total = RidgeSums(self.head.width, self.setup.outputs, self.setup.device)
        for part in (self.sums, *(self.block or ())):
            total.merge(part)
        penalty = self.selected or float(total.gram.diagonal().mean())
        self.head.rule.copy_(total.solution(penalty) if penalty else total.cross)

    def memory(self) -> Memory:
        """Sums and the projection; the weights are the network's last layer."""
        projection = self.head.projection
        held = sum(part.nbytes for part in (self.sums, *(self.block or ())))
        return Memory(0, held + (0 if projection is None else projection.nbytes))

    def report(self) -> dict[str, float]:
        """The last lambda."""
        return {} if self.selected is None else {"penalty": self.selected}

    def state_dict(self) -> dict[str, Any]:
        sums = {"sums": self.sums.state_dict(), "block": [part.state_dict() for part in self.block or ()]}
        return {**super().state_dict(), **sums, "penalty": self.selected}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.sums.load_state_dict(state["sums"])
        for part, its_state in zip(self.block or (), state["block"], strict=True):
            part.load_state_dict(its_state)
        self.selected = state["penalty"]
