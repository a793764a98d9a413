"""Nearest class mean: predicts the class with the nearest mean feature.

    predict   argmin_c |f(x) - mu_c|   or   argmax_c cos(f(x), mu_c),   mu_c the mean of f over the samples of c

Reference: Mensink, Verbeek, Perronnin and Csurka 2013 (TPAMI 35); in continual learning Rebuffi et al. 2017 (iCaRL),
which takes the means over a memory. With true means, equal priors and one isotropic covariance it is the Bayes rule.
On a frozen feature extractor it is the baseline for methods without a memory.

Means are running ones: a class that comes again adds its samples to those of before. Each sample counts once for each
experience that brings it, as it is stored, not augmented. Between boundaries the means grow with the batches of the
first pass, so that an online stream is predicted on at any time; at the end of an experience they are exact.

    first_experience   the front is trained with a linear head in the first task block; nothing is predicted before
                       its end
    frozen             the front stays as it starts: random, or the weights of `model.weights`; nothing is trained
    trained            the front learns in every experience. Means of old classes are those of their time: the front has
                       moved since, and nothing corrects them

Differs from the papers: Mensink et al. learn the metric, here it is given. `cosine` compares with the mean of the
features (iCaRL's mean is over features of length 1). Without boundaries every draw counts as a sample. In the first
task block of an online stream, `first_experience` takes the features of each piece as they were then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from clbench.config.training import Parameters
from clbench.strategies.shared.prototypes import Extractor
from clbench.strategy import Batch, Experience, Knowledge, Memory, Setup

if TYPE_CHECKING:
    from torch import nn


class NcmConfig(Parameters):
    """Hyper-parameters of the nearest class mean."""

    extractor: Literal["first_experience", "frozen", "trained"] = "first_experience"
    """Feature extractor: trained in the first experience and then frozen; frozen from the start; or always trained."""
    metric: Literal["euclidean", "cosine"] = "euclidean"
    """Distance of features, or angle."""


class NearestClassMean(Extractor):
    """Predicts by class means; the linear head only trains the feature extractor."""

    Config = NcmConfig

    @classmethod
    def needs(cls, config: NcmConfig) -> frozenset[Knowledge]:
        """Boundaries: the end of the first experience."""
        return frozenset({"boundaries"} if config.extractor == "first_experience" else ())

    def __init__(self, config: NcmConfig, setup: Setup) -> None:
        def head(linear: nn.Linear) -> Any:
            from clbench.strategies.shared.prototype_heads import NearestMean

            return NearestMean(linear, config.metric == "cosine")

        super().__init__(config, setup, head)
        self.settled, self.running = self.moments(), self.moments()
        self._samples = self._met = 0
        self._shown = False

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        self._samples, self._met = len(experience.index), 0

    def after_update(self, batch: Batch) -> None:
        n = len(batch.y)
        if self.settling or (self._samples and self._met + n > self._samples):
            return
        x = batch.x
        if self.setup.training.augmentation:
            x, _ = self.setup.samples.fetch(batch.index, batch.task, plain=True)
        self.running.add(self.features(x), batch.y)
        self._met += n
        self._show()

    def end_experience(self, experience: Experience) -> None:
        moved = not self.frozen
        super().end_experience(experience)
        if self._samples and (moved or self._met != self._samples):
            self.running.clear()
            for x, y, _ in self.plain_batches(experience):
                self.running.add(self.features(x), y)
        self.settled.merge(self.running)
        self.running.clear()
        if not self.settling:
            self._show()

    def available(self) -> bool:
        return self._shown

    def _show(self) -> None:
        total = self.moments()
        total.merge(self.settled)
        total.merge(self.running)
        self.head.means.copy_(total.mean())
        self.head.known.copy_(total.known)
        self._shown = True

    def memory(self) -> Memory:
        return Memory(0, self.settled.nbytes)

    def state_dict(self) -> dict[str, Any]:
        moments = {"settled": self.settled.state_dict(), "running": self.running.state_dict()}
        fields = {"samples": self._samples, "met": self._met, "shown": self._shown}
        return {**super().state_dict(), **moments, **fields}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.settled.load_state_dict(state["settled"])
        self.running.load_state_dict(state["running"])
        self._samples, self._met, self._shown = state["samples"], state["met"], state["shown"]
