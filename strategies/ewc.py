"""Elastic weight consolidation: a quadratic penalty anchors the weights by their importance for earlier tasks.

Reference: Kirkpatrick et al. 2017 (PNAS 114; Eq. 3), one anchor for each experience; online: Schwarz et al. 2018
("Progress & Compress", Eq. 9) and Huszar 2018. On the kinds of Fisher information: van de Ven 2025 (arXiv 2502.11756).

    L = L_new + strength/2 sum_k sum_i F_k,i (w_i - w_k,i)^2     w_k the weights, F_k the Fisher, after experience k
    F_k = 1/N sum_n E_y[(d log p(y | x_n, w_k) / d w)^2]         over the N samples of experience k
    online: one anchor w_k, and F <- decay F + F_k

p is the likelihood of the training loss: a softmax over the active logits (of an experience, with
`active_outputs: batch`), or a Gaussian of unit variance for squared error. The kinds of F differ in y:

    exact      the expectation over the model's p: as many backward passes as active logits
    sampled    one y drawn from p for each sample; unbiased
    empirical  the true label
    batched    squared gradients of the mean loss of batches of `fisher_batch` samples with true labels, averaged over
               batches: no Fisher information, and smaller by up to that size; many libraries compute it

The first three do not depend on how samples are batched. The network is in evaluation mode for all: of batch
normalisation the running statistics are used.

A sum of quadratic penalties is one: with A = sum_k F_k and the weighted mean m = sum_k F_k w_k / A,

    sum_k F_k (w - w_k)^2 = A (w - m)^2 + sum_k F_k (w_k - m)^2,

so that `separate` keeps A, m and the constant instead of all F_k and w_k, at a constant cost for any number of
experiences. m is a running mean in double precision, rounded to float32 for use: for the gradient A (w - m) that is
equivalent to moving a weight by up to half a unit in its last place.

Differs from the papers:
1. The Fisher of an experience is that of the loss trained on, without the prior that Kirkpatrick et al. derive it from.
2. Buffers of batch normalisation are not anchored, only weights.
3. Online: Schwarz et al. multiply F by `decay` in the penalty too (Eq. 9). With a decay below 1 their strength is this
   one divided by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import Field

from clbench.config.training import Parameters
from clbench.lazy import F, torch
from clbench.schema import mistake
from clbench.strategies.shared.importance import Anchored, sum_over_samples, without_cudnn
from clbench.strategy import Experience, Memory, Setup, evaluating

if TYPE_CHECKING:
    from torch import Tensor, nn

Kind = Literal["exact", "sampled", "empirical"]


class EwcConfig(Parameters):
    """Hyper-parameters of elastic weight consolidation."""

    strength: Annotated[float, Field(ge=0)] = 10.0
    """lambda of the paper; the penalty is lambda/2 times the weighted squared distances. Values do not carry over from
    one kind of Fisher information to another. Under SGD a value above about 2 / (lr F) diverges."""
    fisher: Literal["exact", "sampled", "empirical", "batched"] = "exact"
    """Expectation over the model's labels, one of them drawn, the true ones; or squared gradients of whole batches."""
    fisher_samples: Annotated[int, Field(ge=1)] | None = None
    """Number of samples of an experience for the estimate, redrawn each time; null: all."""
    fisher_batch: Annotated[int, Field(ge=1)] | None = None
    """Batch size of `batched`; default 128. 1 is `empirical`."""
    mode: Literal["separate", "online"] = "separate"
    """One anchor for each experience, or one for all at the latest weights."""
    decay: Annotated[float, Field(ge=0, le=1)] | None = None
    """Of the older Fisher information in the mode `online`; default 1."""

    @pydantic.model_validator(mode="after")
    def _used(self) -> EwcConfig:
        if self.fisher_batch is not None and self.fisher != "batched":
            raise mistake(f"'fisher_batch' has no effect with 'fisher: {self.fisher}'", "fisher_batch")
        if self.decay is not None and self.mode != "online":
            raise mistake("'decay' needs 'mode: online'", "decay")
        return self


def score_vectors(
    logits: Tensor, kind: Kind, y: Tensor, allowed: Tensor, draws: Tensor, gaussian: bool = False
) -> Iterator[Tensor]:
    """Vectors v_k such that the Fisher information of sample n is sum_k (J_n^T v_kn)^2, J_n that of its logits.

    Args:
        logits: (N, C).
        kind: whose labels.
        y: true labels, int64 (N,).
        allowed: active logits, bool (N, C).
        draws: what `sampled` draws from: uniform in [0, 1), float64 (N, 1); for a Gaussian standard normal (N, C).
        gaussian: whether the loss is half the squared distance from the one-hot label, not cross-entropy.

    Yields:
        (N, C), once for each active logit where the kind is `exact`, else once.

    With p = (0.8, 0.2) it is sqrt(p_c) (p - e_c) for each class c; a label drawn with 0.9 is the second:

    >>> z, all_, u = torch.tensor([[4.0, 1.0]]).log(), torch.tensor([[True, True]]), torch.tensor([[0.9]])
    >>> [[round(float(i), 4) for i in v[0]] for v in score_vectors(z, "exact", torch.tensor([0]), all_, u)]
    [[-0.1789, 0.1789], [0.3578, -0.3578]]
    >>> [[round(float(i), 4) for i in v[0]] for v in score_vectors(z, "sampled", torch.tensor([0]), all_, u)]
    [[0.8, -0.8]]
    """
    if gaussian:
        if kind == "exact":  # E[(J^T noise)^2] over standard normal noise
            for c in allowed.any(0).nonzero().flatten().tolist():
                yield F.one_hot(torch.full_like(y, c), logits.shape[1]) * allowed.to(logits.dtype)
        else:
            yield (draws.to(logits.dtype) if kind == "sampled" else logits - F.one_hot(y, logits.shape[1])) * allowed
        return
    p = logits.masked_fill(~allowed, float("-inf")).softmax(1)
    if kind == "exact":
        for c in allowed.any(0).nonzero().flatten().tolist():
            yield p[:, c : c + 1].sqrt() * (p - F.one_hot(torch.full_like(y, c), logits.shape[1]))
        return
    if kind == "sampled":
        cumulative = p.double().cumsum(1)
        y = (cumulative / cumulative[:, -1:] <= draws).sum(1)
    yield p - F.one_hot(y, logits.shape[1])


def fisher_diagonal(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor, Tensor, Tensor]],
    kind: Kind = "exact",
    gaussian: bool = False,
    together: bool | None = None,
) -> list[Tensor]:
    """F = 1/N sum_n E_y[(d log p(y | x_n) / d w)^2], tensors of the parameters' shapes.

    Args:
        model: in evaluation mode.
        batches: inputs, true labels, active logits and draws (see `score_vectors`), all of N' samples.
        kind: whose labels.
        gaussian: see `score_vectors`.
        together: see `sum_over_samples`.
    """
    total, samples = [torch.zeros_like(p) for p in model.parameters()], 0
    for x, y, allowed, draws in batches:
        vectors = partial(score_vectors, kind=kind, y=y, allowed=allowed, draws=draws, gaussian=gaussian)
        torch._foreach_add_(total, sum_over_samples(model, x, vectors, torch.square, together))
        samples += len(y)
    torch._foreach_div_(total, samples)
    return total


def fold(
    mean: Sequence[Tensor], importance: Sequence[Tensor], weights: Sequence[Tensor], fisher: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor], float]:
    """Two quadratic penalties as one: the weighted mean, the sum of importances, and the remaining constant.

    Args:
        mean: float64.
        importance: of the mean.
        weights: the second anchor.
        fisher: its importance.

    >>> fold([torch.tensor([0.0]).double()], [torch.tensor([1.0])], [torch.tensor([4.0])], [torch.tensor([3.0])])
    ([tensor([3.], dtype=torch.float64)], [tensor([4.])], 12.0)
    """
    means, sums, constant = [], [], 0.0
    for m, a, w, f in zip(mean, importance, weights, fisher, strict=True):
        share = torch.where(a + f > 0, f.double() / (a.double() + f), 1.0)
        constant += float((a * share * (w - m).square()).sum())
        means.append(m + share * (w - m))
        sums.append(a + f)
    return means, sums, constant


class EWC(Anchored):
    """Estimates the Fisher information at the end of every experience."""

    Config = EwcConfig
    differentiates_outputs = True

    def __init__(self, config: EwcConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config: EwcConfig = config
        self.factor = config.strength / 2
        self.mean: list[Tensor] = []
        """m of the mode `separate`, float64; `anchor` is it in float32."""
        self.constant = 0.0
        """sum_k sum_i F_k (w_k - m)^2 of the mode `separate`; the penalty of anchors that disagree."""

    def penalty(self) -> Tensor | None:
        penalty = super().penalty()
        return penalty if penalty is None else penalty + self.factor * self.constant

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        if self.config.fisher != "batched":
            self.try_single_samples(experience, "Set fisher: batched, or choose another network.")

    def end_experience(self, experience: Experience) -> None:
        weights, fisher = self.weights(), self._fisher(experience)
        if self.config.mode == "online":
            decay = 1.0 if self.config.decay is None else self.config.decay
            older = self.importance or [torch.zeros_like(f) for f in fisher]
            self.importance = [decay * old + new for old, new in zip(older, fisher, strict=True)]
            self.anchor = weights
        elif not self.anchor:
            self.mean, self.anchor, self.importance = [w.double() for w in weights], weights, fisher
        else:
            self.mean, self.importance, more = fold(self.mean, self.importance, weights, fisher)
            self.anchor = [m.to(w.dtype) for m, w in zip(self.mean, weights, strict=True)]
            self.constant += more

    def memory(self) -> Memory:
        held = super().memory()
        return Memory(held.samples, (held.bytes or 0) + sum(m.nbytes for m in self.mean))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "mean": self.mean, "constant": self.constant}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.mean, self.constant = state["mean"], state["constant"]

    def _fisher(self, experience: Experience) -> list[Tensor]:
        experience = self.drawn(experience, self.config.fisher_samples)
        with evaluating(self.model), without_cudnn(self.model):
            if self.config.fisher == "batched":
                return self._batched(experience)
            gaussian = self.setup.training.loss == "squared_error"
            batches = self._with_draws(experience, gaussian)
            return fisher_diagonal(self.model, batches, self.config.fisher, gaussian, self.together)

    def _with_draws(self, experience: Experience, gaussian: bool) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        for x, y, task in self.batches(experience):
            n, drawn = len(y), np.zeros((len(y), 1))
            if self.config.fisher == "sampled" and gaussian:
                drawn = self.setup.generator.normal(n * self.setup.outputs).reshape(n, -1)
            elif self.config.fisher == "sampled":
                drawn = self.setup.generator.uniform(n)[:, None]
            yield x, y, self.active(experience, task), torch.from_numpy(drawn).to(x.device)

    def _batched(self, experience: Experience) -> list[Tensor]:
        weights = list(self.model.parameters())
        learnt = [w for w in weights if w.requires_grad]
        total, batches = {w: torch.zeros_like(w) for w in weights}, 0
        for x, y, task in self.plain_batches(experience, self.config.fisher_batch or 128):
            loss = self.criterion(self.model(x), y, task)
            for w, g in zip(learnt, torch.autograd.grad(loss, learnt, materialize_grads=True), strict=True):
                total[w] += g.square()
            batches += 1
        return [t / batches for t in total.values()]
