"""Shared by methods of ridge regression: its sums, and their solution.

    W = argmin  sum_i |W h_i - y_i|^2 + lambda |W|^2
      = Q^T (G + lambda I)^-1,   G = sum_i h_i h_i^T,   Q = sum_i h_i y_i^T

y one-hot over all outputs, no bias.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clbench.lazy import F, torch
from clbench.strategies.shared.statistics import add_gram, mirrored

if TYPE_CHECKING:
    from torch import Tensor

_ROWS = 4096
"""Most samples of a product; in single precision so many are summed before they are added in double precision."""


def ridge(gram: Tensor, cross: Tensor, penalty: float) -> Tensor | None:
    """The weights W of ridge regression, double (C, M); None where G + lambda I is not positive definite in its
    rounding.

    Args:
        gram: G, symmetric, double (M, M).
        cross: Q^T, double (C, M).
        penalty: lambda > 0.

    >>> gram, cross = torch.eye(2, dtype=torch.float64), torch.tensor([[4.0, 8.0]], dtype=torch.float64)
    >>> ridge(gram, cross, 3.0).tolist()
    [[1.0, 2.0]]
    """
    shifted = gram.clone()
    shifted.diagonal().add_(penalty)
    factor, failed = torch.linalg.cholesky_ex(shifted)
    return None if int(failed) else torch.cholesky_solve(cross.T, factor).T


def squared_error(weights: Tensor, gram: Tensor, cross: Tensor, count: int) -> float:
    """sum_i |W h_i - y_i|^2 of one-hot y, from the sums alone: tr(W G W^T) - 2 tr(W Q) + N.

    Args:
        weights: W, double (C, M).
        gram: G, symmetric, double (M, M).
        cross: Q^T, double (C, M).
        count: N.
    """
    return float(((weights @ gram - 2 * cross) * weights).sum() + count)


class RidgeSums:
    """G and Q, in double precision.

    Args:
        width: M.
        classes: C.
        device: where they are.

    Attributes:
        gram: G, upper triangle (M, M).
        cross: Q^T, (C, M).
        count: number of samples.
    """

    def __init__(self, width: int, classes: int, device: torch.device) -> None:
        self.gram = torch.zeros((width, width), dtype=torch.float64, device=device)
        self.cross = torch.zeros((classes, width), dtype=torch.float64, device=device)
        self.count = 0

    def add(self, h: Tensor, y: Tensor) -> None:
        """Adds samples.

        Args:
            h: (N, M); in single precision products are summed in it over up to 4,096 samples, in double in double.
            y: (N,).
        """
        for part, of in zip(torch.split(h, _ROWS), torch.split(y, _ROWS), strict=True):
            add_gram(self.gram, part)
            self.cross += F.one_hot(of, len(self.cross)).to(part.dtype).T @ part
        self.count += len(y)

    def merge(self, other: RidgeSums) -> None:
        """Adds the sums of another instance."""
        self.gram += other.gram
        self.cross += other.cross
        self.count += other.count

    def clear(self) -> None:
        self.gram.zero_()
        self.cross.zero_()
        self.count = 0

    def solution(self, penalty: float) -> Tensor:
        """See `ridge`; negative eigenvalues of G, which are rounding, count as 0."""
        gram = mirrored(self.gram)
        weights = ridge(gram, self.cross, penalty)
        if weights is None:
            values, vectors = torch.linalg.eigh(gram)
            weights = self.cross @ vectors / (values.clamp_min(0) + penalty) @ vectors.T
        return weights

    @property
    def nbytes(self) -> int:
        """Bytes of G and Q."""
        return self.gram.nbytes + self.cross.nbytes

    def state_dict(self) -> dict[str, Any]:
        """The sums, as copies."""
        return {"gram": self.gram.clone(), "cross": self.cross.clone(), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.gram.copy_(state["gram"])
        self.cross.copy_(state["cross"])
        self.count = state["count"]
