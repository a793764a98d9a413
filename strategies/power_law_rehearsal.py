"""Rehearsal in which the probability of a task is a power law of the time since it last occurred.

    P(task k is replayed) = w_k / sum_j w_j,   w_k = (t - last_k)^-d

t is the number of the present experience, last_k that of the last one which brought task k; sub-experiences that an
online stream was cut into count as the one that they were cut from. Only tasks that the present experience does not
bring are rehearsed. As many samples are replayed in an update as by experience replay, drawn with replacement: a task
by P, then a sample of its share of the memory, uniformly. Without task ids (`buffer: class_balanced`) k are classes.

A reconstruction of the idea of Gandhi, Shah, Marupudi and Varma (arXiv 2401.10393), after the need probability of
Anderson and Schooler (1991); the exponents and amounts of the former were not to be had. In the streams of that family
(`power_law_mnist-v1`) it is the environment that comes back by such a law; here it is the learner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from clbench.strategies.er import ExperienceReplay, ReplayConfig
from clbench.strategy import Experience, Knowledge, Setup

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from clbench.strategies.shared.buffers import Integers


class PowerLawConfig(ReplayConfig):
    """Hyper-parameters of power-law rehearsal."""

    exponent: Annotated[float, Field(gt=0)] = 1.0
    """d; towards 0 all past tasks are equally likely."""
    buffer: Literal["task_balanced", "class_balanced"] = "task_balanced"
    """Units with a clock and an equal share of the memory: tasks, or classes."""


def chances(lags: NDArray[np.int64], exponent: float) -> NDArray[np.float64]:
    """lag^-exponent, scaled to sum to 1, (K,).

    Args:
        lags: experiences since each was last met, >= 1, (K,).
        exponent: > 0.

    >>> chances(np.array([1, 3]), 1.0).tolist()
    [0.75, 0.25]
    """
    logarithms = -exponent * np.log(lags)
    weights = np.exp(logarithms - logarithms.max())  # large lags to a large power would all be zero
    return np.asarray(weights / weights.sum())


class PowerLawRehearsal(ExperienceReplay):
    """Experience replay with a recency weight for each group."""

    regresses = True

    Config = PowerLawConfig

    @classmethod
    def needs(cls, config: ReplayConfig) -> frozenset[Knowledge]:
        """Requirements of experience replay, and boundaries."""
        return super().needs(config) | frozenset({"boundaries"})

    def __init__(self, config: PowerLawConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self._draws = setup.new_generator("rehearsal")
        self._exponent = config.exponent
        self._clock = 0
        self._last: dict[int, int] = {}

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        self._clock += experience.part == 0
        for group in np.unique(self.group_of(experience.index, experience.task)).tolist():
            self._last[group] = self._clock

    def replayed(self, n: int) -> tuple[Tensor, Tensor, Tensor] | None:
        past = [group for group in self.buffer.groups if self._last[group] < self._clock]
        if not past:
            return None
        lags = np.array([self._clock - self._last[group] for group in past])
        chosen = np.searchsorted(np.cumsum(chances(lags, self._exponent))[:-1], self._draws.uniform(n), side="right")
        return self.fetch(self._one_of_each([past[i] for i in chosen.tolist()]))

    def _one_of_each(self, groups: list[int]) -> Integers:
        """A slot of each of the groups, drawn with replacement, (n,)."""
        shares = {group: self.buffer.slots_of(group) for group in set(groups)}
        where = self._draws.uniform(len(groups))
        return np.array([shares[g][int(u * len(shares[g]))] for g, u in zip(groups, where.tolist(), strict=True)])

    def state_dict(self) -> dict[str, Any]:
        fields = {"draws": self._draws.state_dict(), "clock": self._clock, "last": dict(self._last)}
        return {**super().state_dict(), **fields}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._draws.load_state_dict(state["draws"])
        self._clock, self._last = state["clock"], dict(state["last"])
