"""Shared by methods that fit a rule to statistics of fixed features: each sample adds to them once, and the rule is
computed when a prediction is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from clbench.lazy import F, torch
from clbench.strategies.shared.prototypes import Extractor
from clbench.strategy import Batch, Experience, Knowledge, Setup

if TYPE_CHECKING:
    from torch import Tensor, nn

_COLUMNS = 256
"""Columns of a block of a symmetric product."""


def add_gram(gram: Tensor, h: Tensor) -> None:
    """Adds h^T h to the upper triangle of a symmetric matrix, in its dtype and in place; what is below is undefined.

    Blocks below the diagonal are left out, which halves the work.

    Args:
        gram: (M, M).
        h: (N, M); in single precision into a double matrix, the products are summed in single precision first.
    """
    for a in range(0, h.shape[1], _COLUMNS):
        left, right, block = h[:, a : a + _COLUMNS].T, h[:, a:], gram[a : a + _COLUMNS, a:]
        if h.dtype == gram.dtype:
            block.addmm_(left, right)
        else:
            block += left @ right


def mirrored(upper: Tensor) -> Tensor:
    """The symmetric matrix of an upper triangle, a copy.

    >>> mirrored(torch.tensor([[1, 2], [7, 3]])).tolist()
    [[1, 2], [2, 3]]
    """
    return upper.triu() + upper.triu(1).T


class Statistical(Extractor):
    """A method whose rule is a function of sums over the features of all samples so far.

    Each sample counts once for each experience that brings it, as it is stored, not augmented: in the first batch that
    has it, and at the end of the experience where no batch had. So the sums grow during the first pass, and at the end
    of an experience they are those of all its samples. Without boundaries every draw counts as a sample.

    With `extractor: first_experience` the features of the first task block are taken at its end (in an online stream
    those of each piece at the piece's end, as they are then), and nothing is predicted before.

    The head's buffer `known` marks the classes that have come.

    A subclass adds to its sums in `add`, and computes its rule in `solve`.
    """

    @classmethod
    def needs(cls, config: Any) -> frozenset[Knowledge]:
        """Boundaries: the end of the first experience."""
        return frozenset({"boundaries"} if config.extractor == "first_experience" else ())

    def __init__(self, config: Any, setup: Setup, make_head: Callable[[nn.Linear], Any]) -> None:
        super().__init__(config, setup, make_head)
        self._keys, self._met = np.zeros(0, np.int64), np.zeros(0, np.bool_)
        self._begun = self._stale = False

    def add(self, features: Tensor, y: Tensor) -> None:
        """Adds samples to the sums.

        Args:
            features: float32 (N, F).
            y: classes, (N,).
        """
        raise NotImplementedError

    def solve(self) -> None:
        """Writes the rule that follows from the sums into the head."""
        raise NotImplementedError

    def end_task_block(self) -> None:
        """Called when the sums hold all samples of a task block, before the rule is computed."""

    def _key(self, index: Any, task: Any) -> Any:
        return index * len(self.setup.task_outputs) + task

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        self._keys = np.sort(self._key(experience.index, experience.task))
        self._met = np.zeros(len(self._keys), np.bool_)

    def after_update(self, batch: Batch) -> None:
        if self.settling or (len(self._met) and self._met.all()):
            return
        x, y = batch.x, batch.y
        if self.setup.training.augmentation:
            x, _ = self.setup.samples.fetch(batch.index, batch.task, plain=True)
        if len(self._keys):
            at = np.searchsorted(self._keys, self._key(batch.index, batch.task).cpu().numpy())
            new = ~self._met[at]
            self._met[at] = True
            if not new.all():
                rows = torch.from_numpy(np.flatnonzero(new)).to(y.device)
                x, y = x[rows], y[rows]
        self._take(x, y)

    def _take(self, x: Tensor, y: Tensor) -> None:
        if len(y):
            self.add(self.features(x), y)
            self.head.known[y] = True
            self._begun = self._stale = True

    def end_experience(self, experience: Experience) -> None:
        super().end_experience(experience)
        if len(self._keys):
            at = np.searchsorted(self._keys, self._key(experience.index, experience.task))
            left = ~self._met[at]
            rest = replace(experience, index=experience.index[left], task=experience.task[left])
            for x, y, _ in self.plain_batches(rest):
                self._take(x, y)
            self._met[:] = True
        if experience.part == experience.parts - 1:
            self.end_task_block()
            self.refresh()

    def available(self) -> bool:
        return self._begun and not self.settling

    def refresh(self) -> None:
        if self._stale and self.available():
            with torch.no_grad():
                self.solve()
            self._stale = False

    def state_dict(self) -> dict[str, Any]:
        self.refresh()
        fields = {"keys": self._keys, "met": self._met, "begun": self._begun, "stale": self._stale}
        return {**super().state_dict(), **fields}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._keys, self._met = np.asarray(state["keys"], np.int64), np.asarray(state["met"], np.bool_)
        self._begun, self._stale = state["begun"], state["stale"]


class Scatter:
    """Mean of each class, and the sum of squared deviations from it, in double precision: of each class, or in all.

        S_c = sum over the samples i of class c of (f_i - mu_c)(f_i - mu_c)^T,   S = sum_c S_c

    Samples are added batch by batch. Two sets a and b of samples of a class are merged exactly,

        S_ab = S_a + S_b + n_a n_b / (n_a + n_b) (mu_a - mu_b)(mu_a - mu_b)^T,

    so that a shift of all features changes nothing but their rounding.

    Args:
        classes: C.
        features: F.
        device: where they are.
        per_class: whether each class has its matrix, or one is kept of all.

    Attributes:
        count: (C,).
        mean: (C, F), 0 for a class not seen yet.
        matrices: upper triangles (F, F), by class; under -1 that of all.
    """

    def __init__(self, classes: int, features: int, device: torch.device, per_class: bool) -> None:
        self.count = torch.zeros(classes, dtype=torch.float64, device=device)
        self.mean = torch.zeros((classes, features), dtype=torch.float64, device=device)
        self.matrices: dict[int, Tensor] = {}
        self._per_class = per_class

    def add(self, features: Tensor, y: Tensor) -> None:
        """Adds features (N, F) of the classes (N,)."""
        x, of = features.to(torch.float64), F.one_hot(y, len(self.count)).to(torch.float64).T
        n = of.sum(1)
        classes = torch.nonzero(n).flatten()
        n_new, n_old = n[classes], self.count[classes]
        mean = of[classes] @ x / n_new[:, None]
        apart = mean - self.mean[classes]
        between = apart * (n_old * n_new / (n_old + n_new)).sqrt()[:, None]
        place = torch.zeros_like(self.count, dtype=torch.int64)
        place[classes] = torch.arange(len(classes), device=y.device)
        within = x - mean[place[y]]
        if self._per_class:
            for k, c in enumerate(classes.tolist()):
                add_gram(self._matrix(c), torch.cat([within[y == c], between[k : k + 1]]))
        else:
            add_gram(self._matrix(-1), torch.cat([within, between]))
        self.mean[classes] += apart * (n_new / (n_old + n_new))[:, None]
        self.count += n

    def _matrix(self, c: int) -> Tensor:
        if c not in self.matrices:
            self.matrices[c] = self.mean.new_zeros((self.mean.shape[1],) * 2)
        return self.matrices[c]

    def whole(self, c: int = -1) -> Tensor:
        """S_c of a class, or S, symmetric (F, F)."""
        return mirrored(self._matrix(c))

    @property
    def nbytes(self) -> int:
        """Bytes of the classes so far."""
        means = int((self.count > 0).sum()) * 8 * (1 + self.mean.shape[1])
        return means + sum(matrix.nbytes for matrix in self.matrices.values())

    def state_dict(self) -> dict[str, Any]:
        """The sums, as copies."""
        matrices = {str(c): matrix.clone() for c, matrix in self.matrices.items()}
        return {"count": self.count.clone(), "mean": self.mean.clone(), "matrices": matrices}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.count.copy_(state["count"])
        self.mean.copy_(state["mean"])
        self.matrices = {int(c): matrix.to(self.mean.device) for c, matrix in state["matrices"].items()}
