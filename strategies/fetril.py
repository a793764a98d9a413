"""FeTrIL: pseudo-features of past classes, features of new classes translated to the past means.

    pseudo-feature of a past class p   f(x) + mu_p - mu_n,   x of the new class n nearest to p

The feature extractor is frozen; of a past class only its mean is kept. A linear classifier is fitted to the features of
the new classes and the pseudo-features of all others.

Reference: Petit, Popescu, Schindler, Picard and Delezoide 2023 (WACV, arXiv 2211.13131). The authors' code chooses n by
Euclidean distance, the re-implementation in PyCIL by angle: `nearest`.

    svc   one support vector machine a class against all others (squared hinge, in the primal), on features of length 1,
          fitted at the end of each experience; its hyperplanes are the network's last layer, nothing else is kept
    fc    the last layer continues to learn by the benchmark's optimiser and loss, in the updates of the budget, from
          features and pseudo-features drawn uniformly (with replacement) from the set that `svc` would be fitted to

In the first experience the front is trained, and with it the linear head that predicts until then.

A class that is in an experience has its real features there, whether it is new or comes again; its mean is that of all
its samples so far. So recurring classes work, and where tasks share classes (domain-incremental) nothing is past, and
each fit sees the present domain alone. The means n is chosen by and moved from are those of the samples at hand.

Differs from the paper and the codes: (1) the front is trained by the benchmark's recipe at its resolution (the paper:
CIFAR at 224 x 224, 90 epochs and 290 more with AugMix and Lookahead; PyCIL: 200 epochs with a cosine schedule);
(2) all features have length 1 for `svc` (in the authors' code the first 512 have not);
(3) `fc` has the updates of the budget, as many features each as a batch has samples or `features_per_step`, and keeps
the benchmark's optimiser (PyCIL: 50 passes over the whole set by SGD 0.05 with a cosine schedule);
(4) features are of samples as they are stored, not augmented (as in the codes).
In the first task block of an online stream, `first_experience` takes the features of each piece as they were then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import Field

from clbench.config.training import Parameters
from clbench.lazy import F, torch
from clbench.schema import mistake
from clbench.strategies.shared.prototypes import Extractor, Moments
from clbench.strategy import Batch, Experience, Knowledge, Memory, Setup

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn


class FetrilConfig(Parameters):
    """Hyper-parameters of FeTrIL."""

    extractor: Literal["first_experience", "frozen"] = "first_experience"
    """The feature extractor: trained in the first experience and then frozen; or frozen from the start (see
    `model.weights`)."""
    nearest: Literal["euclidean", "cosine"] = "euclidean"
    """Criterion for the new class whose features are translated: distance of the means, or their angle."""
    classifier: Literal["svc", "fc"] = "svc"
    """Support vector machines, or a linear layer trained by the benchmark's optimiser."""
    c: Annotated[float, Field(gt=0)] = 1.0
    """C of the support vector machines: smaller is more regular."""
    tolerance: Annotated[float, Field(gt=0)] = 1e-4
    """Tolerance of their optimiser."""
    features_per_step: Annotated[int, Field(ge=1)] | None = None
    """Features and pseudo-features of an update of `fc`; default: the samples of the batch."""

    @pydantic.model_validator(mode="after")
    def _of_one_classifier(self) -> FetrilConfig:
        if self.features_per_step is not None and self.classifier != "fc":
            raise mistake("'features_per_step' needs 'classifier: fc'")
        return self


def nearest(past: Tensor, new: Tensor, by: str) -> Tensor:
    """The new class nearest to each past one, int64 (P,).

    Args:
        past: means, (P, F).
        new: means, (Q, F).
        by: "euclidean" or "cosine".

    >>> past, new = torch.tensor([[1.0, 1.0]]), torch.tensor([[9.0, 9.0], [1.0, 0.0]])
    >>> nearest(past, new, "euclidean").item(), nearest(past, new, "cosine").item()
    (1, 0)
    """
    if by == "cosine":
        return (F.normalize(past) @ F.normalize(new).T).argmax(1)
    return (past[:, None] - new).square().sum(2).argmin(1)


class PseudoFeatures:
    """Real features of the current classes, and pseudo-features of the other known classes, computed on demand.

    Args:
        features: float32 (N, F).
        y: their classes, (N,).
        means: of all classes, (C, F) double.
        known: which of these are means of samples, bool (C,).
        by: see `nearest`.

    Attributes:
        classes: known and current ones, ascending, (K,).
        source: the current class whose features each has, (K,); the class itself where it is current.
    """

    def __init__(self, features: Tensor, y: Tensor, means: Tensor, known: Tensor, by: str) -> None:
        current = Moments(len(known), features.shape[1], features.device)
        current.add(features, y)
        new = torch.nonzero(current.known).flatten()
        self.classes = torch.nonzero(current.known | known).flatten()
        current_means = current.mean()
        self.source = torch.where(
            current.known[self.classes], self.classes, new[nearest(means[self.classes], current_means[new], by)]
        )
        moved = (self.source != self.classes)[:, None]
        self._shift = ((means[self.classes] - current_means[self.source]) * moved).to(features.dtype)
        order = torch.argsort(y, stable=True)
        self._features = features[order]
        count = current.count.to(torch.int64)
        self._first = (count.cumsum(0) - count)[self.source]
        self._ends = count[self.source].cumsum(0)
        self._begins = self._ends - count[self.source]
        self._length = int(self._ends[-1])

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, F) and classes (n,) at positions 0..len-1, which are ordered by class."""
        k = torch.searchsorted(self._ends, position, right=True)
        row = self._first[k] + position - self._begins[k]
        return self._features[row] + self._shift[k], self.classes[k]


def separate(features: Tensor, y: Tensor, c: float, tolerance: float) -> tuple[NDArray[np.float64], ...]:
    """Hyperplanes of one support vector machine a class against all others.

        min_w,b  1/2 |w|^2 + b^2 / 2 + C sum_i max(0, 1 - s_i (w . f_i + b))^2,   s_i = 1 for the class, else -1

    Args:
        features: (N, F), brought to length 1 here.
        y: (N,).
        c: C > 0.
        tolerance: at which the optimiser stops.

    Returns:
        the K classes in y, ascending, and their (K, F) and (K,). One class alone has w = 0 and b = 1.

    Reference: Fan et al. 2008 (LIBLINEAR), solver 2, through scikit-learn.
    """
    from sklearn.svm import LinearSVC

    x = F.normalize(features.to(torch.float64)).cpu().numpy()
    classes, labels = np.unique(y.cpu().numpy(), return_inverse=True)
    if len(classes) == 1:
        return classes, np.zeros((1, x.shape[1])), np.ones(1)
    # The solver in the primal draws nothing; without a number scikit-learn would look at the global generator.
    machine = LinearSVC(penalty="l2", dual=False, C=c, tol=tolerance, random_state=0).fit(x, labels)
    weight, bias = machine.coef_, machine.intercept_
    if len(classes) == 2:  # one hyperplane; that of the other class is its mirror image
        weight, bias = np.concatenate([-weight, weight]), np.concatenate([-bias, bias])
    return classes, weight, bias


class Fetril(Extractor):
    """Fits a linear classifier to features and pseudo-features in every experience after the first."""

    Config = FetrilConfig

    @classmethod
    def needs(cls, config: FetrilConfig) -> frozenset[Knowledge]:
        """Boundaries: features are compared within an experience."""
        return frozenset({"boundaries"})

    def __init__(self, config: FetrilConfig, setup: Setup) -> None:
        def head(linear: nn.Linear) -> Any:
            from clbench.strategies.shared.prototype_heads import UnitLinear

            return UnitLinear(linear)

        super().__init__(config, setup, head)
        self.seen = self.moments()
        self._task_of = torch.zeros(setup.outputs, dtype=torch.int64, device=setup.device)
        self._fitted = not (self.frozen and config.classifier == "svc")
        self._rows: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
        self._here: tuple[Tensor, Tensor] | None = None
        self._set: PseudoFeatures | None = None

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        if self.frozen and self.config.classifier == "fc":
            self._rows = experience.index, experience.task
            self._prepare(experience)

    def loss(self, batch: Batch) -> Tensor:
        if self._set is None:
            return super().loss(batch)
        n = self.config.features_per_step or len(batch.y)
        drawn = self.setup.generator.below(len(self._set), n)
        features, y = self._set[torch.from_numpy(drawn).to(self.setup.device)]
        return self.criterion(self.head.logits(features), y, self._task_of[y])

    def end_experience(self, experience: Experience) -> None:
        super().end_experience(experience)
        if self._set is None:
            self._prepare(experience)
        if self.frozen and self.config.classifier == "svc":
            self._fit()
        assert self._here is not None
        self.seen.add(*self._here)
        self._rows = self._here = self._set = None

    def available(self) -> bool:
        return self._fitted

    def _prepare(self, experience: Experience) -> None:
        """Features of the experience, each sample once, and the pseudo-features."""
        parts = [(self.features(x), y, task) for x, y, task in self.plain_batches(experience)]
        features, y, task = (torch.cat(column) for column in zip(*parts, strict=True))
        self._task_of[y] = task
        self._here = features, y
        self._set = PseudoFeatures(features, y, self.seen.mean(), self.seen.known, self.config.nearest)

    def _fit(self) -> None:
        assert self._set is not None
        features, y = self._set[torch.arange(len(self._set), device=self.setup.device)]
        classes, weight, bias = separate(features, y, self.config.c, self.config.tolerance)
        with torch.no_grad():
            self.head.weight.zero_()
            # Below every score of a feature of length 1: a class never seen is never predicted.
            self.head.bias.fill_(-1.0 - float((np.linalg.norm(weight, axis=1) + np.abs(bias)).max()))
            self.head.weight[classes] = torch.from_numpy(weight).to(self.head.weight)
            self.head.bias[classes] = torch.from_numpy(bias).to(self.head.bias)
        self.head.unit = self._fitted = True

    def memory(self) -> Memory:
        return Memory(0, self.seen.nbytes)

    def state_dict(self) -> dict[str, Any]:
        rows = None if self._rows is None else list(self._rows)
        fields = {"seen": self.seen.state_dict(), "task_of": self._task_of.clone(), "rows": rows}
        return {**super().state_dict(), **fields, "fitted": self._fitted, "unit": self.head.unit}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.seen.load_state_dict(state["seen"])
        self._task_of = state["task_of"].to(self.setup.device)
        self._fitted, self.head.unit = state["fitted"], state["unit"]
        if state["rows"] is not None:
            index, task = self._rows = state["rows"][0], state["rows"][1]
            none = np.zeros(0, np.int64)
            self._prepare(Experience(0, (), (), index, task, 0, 1, none, none))
