"""Shared by methods with prompts: queries, similarities, choices, penalties, and training of prompts and head alone.

    q(x) = f(x), the features by the frozen encoder without prompts, no gradient
    logits = head(f(x; prompts of q(x)))

The network is `nn.Sequential(Prompted(encoder, prompts), head)`: its parameters are named `0.encoder.`, `0.prompts.`
and `1.`. The encoder is frozen and in evaluation mode. Prediction chooses for each sample by itself.

Letters: N samples, M components of a pool, F features (the encoder's width), L tokens, B blocks of the encoder.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from clbench.config.training import Parameters
from clbench.errors import UserError
from clbench.lazy import F, torch
from clbench.strategy import Batch, Experience, Knowledge, Memory, Setup, Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from clbench.training.transformers import Prefix, PromptedEncoder


class PromptConfig(Parameters):
    """Hyper-parameters shared by methods with prompts."""

    local: bool = True
    """Local cross-entropy: in training only the classes of the experience compete; the logits of others are -inf."""


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

    Reference: Smith et al. 2023, equations 4 and 5.

    >>> attention(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.ones(2, 2)).tolist()
    [[0.7071067690849304, 0.9899494647979736]]
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


def check_blocks(key: str, blocks: Sequence[int], depth: int) -> None:
    """Checks numbers of blocks.

    Raises:
        UserError: one beyond the encoder's depth, or twice.
    """
    beyond = next((b for b in blocks if not 0 <= b < depth), None)
    if beyond is not None:
        raise UserError(f"strategy.{key}: got {beyond}, and the encoder has {depth} blocks. Allowed: 0 to {depth - 1}.")
    if len(set(blocks)) != len(blocks):
        raise UserError(f"strategy.{key}: got {list(blocks)}. Allowed: each block once.")


class Prompting(Strategy):
    """Trains prompts and head; the encoder stays as it is.

    Args:
        name: of the method, for messages.
        make: the encoder -> the module of prompts (see `prompt_pools`).

    Raises:
        UserError: a network without an encoder that takes prompts, or another loss than cross-entropy.
    """

    learns_by_outputs = False

    @classmethod
    def needs(cls, config: Any) -> frozenset[Knowledge]:
        """Boundaries, where only the classes of the experience compete."""
        return frozenset({"boundaries"} if config.local else ())

    def __init__(self, config: Any, setup: Setup, name: str, make: Callable[[PromptedEncoder], Any]) -> None:
        from clbench.strategies.shared.prompt_pools import Prompted
        from clbench.training.transformers import encoder_of

        if setup.training.loss != "cross_entropy":
            raise UserError(
                f"training.loss: got '{setup.training.loss}', and '{name}' is trained by cross-entropy. "
                "Allowed: cross_entropy."
            )
        encoder: Any = encoder_of(setup.model, name)
        self.prompts = make(encoder).to(setup.device)
        self.prompted = Prompted(encoder, self.prompts)
        self.head: Any = setup.model[-1]  # type: ignore[index]
        super().__init__(config, replace(setup, model=torch.nn.Sequential(self.prompted, self.head)))
        self._local = torch.ones(setup.outputs, dtype=torch.bool, device=setup.device)

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        if self.config.local:
            self._local.zero_()
            self._local[list(experience.outputs)] = True

    def choose(self, query: Tensor, batch: Batch) -> tuple[Tensor | None, Mapping[int, Prefix] | None, Tensor | None]:
        """Prompts and prefixes of a training batch, and a term of the loss."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> Tensor:
        prompts, prefixes, term = self.choose(self.prompted.query(batch.x), batch)
        logits = self.head(self.prompted.encoder(batch.x, prompts, prefixes))
        if self.config.local:
            logits = logits.masked_fill(~self._local, float("-inf"))
        loss = self.criterion(logits, batch.y, batch.task)
        return loss if term is None else loss + term

    def drawn(self, *shape: int, normal: bool = False) -> Tensor:
        """Numbers uniform in -1..1, or standard normal."""
        count = torch.Size(shape).numel()
        generator = self.setup.generator
        numbers = generator.normal(count) if normal else 2 * generator.uniform(count) - 1
        return torch.from_numpy(numbers).to(self.setup.device, torch.float32).view(shape)

    def memory(self) -> Memory:
        """Bytes of the whole pool."""
        return Memory(0, sum(p.nbytes for p in self.prompts.parameters()))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "local": self._local.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._local = state["local"].to(self.setup.device, copy=True)
