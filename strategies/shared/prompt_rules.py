"""The equations of methods with prompts: similarities, choices, weighted sums, penalties.

Letters: N samples, M components of a pool, F features (the encoder's width), L tokens, B blocks of the encoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clbench.lazy import F, torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from clbench.training.transformers import Prefix


def similarity(query: Tensor, keys: Tensor) -> Tensor:
    """cos(q_n, k_m), (N, M), of queries (N, F) and keys (M, F).

    >>> similarity(torch.tensor([[3.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])).tolist()
    [[1.0, 0.0, -1.0]]
    """
    return F.normalize(query) @ F.normalize(keys).T


def closest(similarities: Tensor, k: int) -> Tensor:
    """The k most similar components of each sample, int64 (N, k), best first.

    >>> closest(torch.tensor([[0.1, 0.3, 0.2]]), 2).tolist()
    [[1, 2]]
    """
    return similarities.topk(k, 1).indices


def majority(chosen: Tensor, components: int) -> Tensor:
    """The k components that most samples of a batch chose, for each sample, int64 (N, k); of equals the first.

    Args:
        chosen: int64 (N, k).
        components: M.

    >>> majority(torch.tensor([[0, 2], [2, 3], [3, 2]]), 4).tolist()
    [[2, 3], [2, 3], [2, 3]]
    """
    votes = torch.bincount(chosen.flatten(), minlength=components)
    most = votes.argsort(descending=True, stable=True)[: chosen.shape[1]]
    return most.expand_as(chosen)


def pull(similarities: Tensor, chosen: Tensor) -> Tensor:
    """mean_n sum_s (1 - cos(q_n, k_s)) over the components s that sample n chose, a scalar.

    Args:
        similarities: (N, M).
        chosen: int64 (N, k).

    >>> round(pull(torch.tensor([[0.5, 1.0, 0.0], [0.0, 0.0, 0.25]]), torch.tensor([[0, 1], [2, 0]])).item(), 4)
    1.125
    """
    return (1 - similarities.gather(1, chosen)).sum(1).mean()


def attention(query: Tensor, a: Tensor, keys: Tensor) -> Tensor:
    """alpha_nm = cos(q_n * a_m, k_m), (..., N, M), without the (N, M, F) products.

    Args:
        query: q, (N, F).
        a: attention vectors, (..., M, F).
        keys: (..., M, F).

    Reference: Smith et al. 2023.

    >>> cosines = attention(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.ones(2, 2))
    >>> cosines.double().round(decimals=4).tolist()
    [[0.7071, 0.9899]]
    """
    length = (query.square() @ a.square().mT).clamp_min(1e-24).sqrt()
    return (query @ (a * F.normalize(keys, dim=-1)).mT) / length


def assembled(weights: Tensor, components: Tensor) -> Tensor:
    """sum_m alpha_nm P_m, (..., N, L, F).

    Args:
        weights: (..., N, M).
        components: (..., M, L, F).

    >>> assembled(torch.tensor([[1.0, -2.0]]), torch.tensor([[[1.0, 2.0]], [[0.5, 0.0]]])).tolist()
    [[[0.0, 2.0]]]
    """
    flat = weights @ components.flatten(-2)
    return flat.view(*flat.shape[:-1], *components.shape[-2:])


def orthogonality(rows: Tensor) -> Tensor:
    """||R R^T - I||^2, a scalar; of several matrices (..., M, F) the sum.

    >>> orthogonality(torch.tensor([[1.0, 0.0], [1.0, 2.0]])).item()
    18.0
    """
    return (rows @ rows.mT - torch.eye(rows.shape[-2], dtype=rows.dtype, device=rows.device)).square().sum()


def orthonormal(drawn: Tensor, older: Tensor) -> Tensor:
    """Rows of length 1, orthogonal to each other and to older ones; where that many do not exist, of length 1 alone.

    Args:
        drawn: directions to begin from, (m, F).
        older: (M, F).

    >>> orthonormal(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0]])).abs().tolist()
    [[0.0, 1.0]]
    """
    if len(drawn) + len(older) > drawn.shape[1]:
        return F.normalize(drawn)
    span = torch.linalg.qr(older.T)[0]
    for _ in range(2):  # the second time removes what rounding left
        drawn = drawn - drawn @ span @ span.T
    rows: Tensor = torch.linalg.qr(drawn.T)[0].T
    return rows


def prefixes_of(stacked: Tensor, blocks: Sequence[int]) -> dict[int, Prefix]:
    """Keys from the first half of the tokens and values from the second, of each block.

    Args:
        stacked: (B, N, L, F), or (B, L, F) for all samples.
        blocks: numbers of these B blocks.
    """
    keys, values = stacked.chunk(2, -2)
    return {block: (keys[i], values[i]) for i, block in enumerate(blocks)}
