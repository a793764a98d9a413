"""Recurrence: in each phase a new task, and earlier ones again by a law of the time since they last occurred.

After the need probability of Anderson and Schooler 1991 and the power-law environments of Gandhi, Shah, Marupudi and
Varma 2024 (arXiv 2401.10393), whose exponents and amounts are not published; the three variants are ours. D is the
number of phases since a task last occurred.

    matched      `rehearsed` samples of earlier tasks in each phase, shared out in proportion to w(D), D since entry
    amount       round(share N w(D)) samples of each earlier task, N those of the new one, D since entry
    recurrence   each earlier task returns with probability min(1, probability w(D)) and `share` of its samples; its
                 clock is then reset: the only variant in which D is the time since it last occurred

    w(D) = D^-exponent (power_law), exp(-D / tau) (exponential), 1 (uniform), 0 (none)

In `amount` and `recurrence` the other laws take from the power law, seed by seed, how many samples or how many
returning tasks each phase has, and only share them out differently (`none` leaves them out). Rehearsed samples come
along with a phase and are no visit to their task; a task that returns is visited.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
import pydantic
from pydantic import Field

from clbench.apportion import apportion
from clbench.errors import UserError
from clbench.rng import Generator
from clbench.schema import Count, Mistake, Share, mistake
from clbench.stream import Plan, Rows, StreamExperience, Timetable
from clbench.streams.families import NonNegative, Schedule, TaskFamily
from clbench.streams.schedules.draws import draw, integers, pick, rounded


class RecurrenceSchedule(Schedule):
    """A new task in each phase, and earlier ones again by a law of the time since they last occurred."""

    by: Literal["power_law", "exponential", "uniform", "none"]
    """Weight of a task that last occurred D phases ago: D^-exponent, exp(-D / tau), 1, or 0."""
    variant: Literal["matched", "amount", "recurrence"] = "matched"
    """A fixed number of earlier samples in each phase; a number for each task by its weight; or whole visits, which
    reset the task's clock."""
    exponent: NonNegative = 1.0
    """Of the power law; 0 is uniform. The other laws take from it how many earlier samples (`amount`) or visits
    (`recurrence`) each phase has, so that they differ in nothing but which tasks return."""
    tau: Annotated[float, Field(gt=0)] | None = None
    """Phases; of the exponential law. Default: its weights from 1 at D = 1 add up to the power law's."""
    new: Count | None = None
    """Samples of the new task in a phase, drawn by the stream seed; null: all."""
    rehearsed: Count | None = None
    """Variant `matched`: samples of earlier tasks in each phase after the first."""
    share: Share | None = None
    """Samples of a task of the phase before (`amount`), or of one that returns (`recurrence`), as a share of a
    new task's; default 1."""
    probability: Share | None = None
    """Variant `recurrence`: that of a task of the phase before; min(1, probability D^-exponent); default 0.5."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> RecurrenceSchedule:
        needed = {"rehearsed": ("matched",), "share": ("amount", "recurrence"), "probability": ("recurrence",)}
        for key, variants in needed.items():
            if getattr(self, key) is not None and self.variant not in variants:
                those = f"variant{'s' * (len(variants) > 1)} {' and '.join(variants)}"
                raise mistake(f"is for the {those}, not for '{self.variant}'", key)
        if self.variant == "matched" and self.rehearsed is None and self.by != "none":
            raise mistake("required for the variant 'matched', but not given", "rehearsed")
        if self.tau is not None and self.by != "exponential":
            raise mistake(f"is for the exponential law, not for '{self.by}'", "tau")
        return self

    def data_mistakes(self, tasks: int) -> Iterator[Mistake]:
        """See `Schedule.data_mistakes`."""
        if tasks < 2:
            yield ["by"], f"got '{self.by}', which needs two tasks or more."

    def arrange(self, family: TaskFamily, plan: Plan, generator: Generator) -> Timetable:
        """A phase for each task, in their order.

        Raises:
            UserError: more samples are requested than exist.
        """
        pools, fresh = plan.pools, []
        for t, pool in enumerate(pools):
            if self.new is not None and self.new > len(pool):
                raise UserError(f"stream.schedule.new: got {self.new}, but task {t} has {len(pool)} training samples.")
            fresh.append(pick(generator, pool, self.new))
        if self.variant == "recurrence":
            return Timetable(_returning(self, pools, fresh, generator))
        weights = law(self, len(pools))
        power_law = self.model_copy(update={"by": "power_law"})
        reference = [power(lag, self.exponent) for lag in range(1, len(pools))]
        experiences = []
        for t in range(len(pools)):
            lagged = weights[:t][::-1]  # of the tasks 0..t-1
            sizes = [len(pool) for pool in pools[:t]]
            if self.by == "none" or not t:
                amounts = [0] * t
            elif self.variant == "matched":
                amounts = _matched(self, lagged, sizes, t)
            else:
                n = len(fresh[t])
                wanted = [rounded((power_law.share or 1.0) * n * reference[t - k - 1]) for k in range(t)]
                wanted = [min(w, size) for w, size in zip(wanted, sizes, strict=True)]
                amounts = wanted if self.by == "power_law" else apportion(sum(wanted), lagged, sizes)
            parts = [(k, pick(generator, pools[k], n)) for k, n in enumerate(amounts) if n]
            experiences.append(StreamExperience((*parts, (t, fresh[t])), (t,), t))
        return Timetable(experiences)


def law(config: RecurrenceSchedule, phases: int) -> list[int]:
    """Integer weights of the lags 1..phases-1 (entry 0 is that of lag 1), relative."""
    lags = range(1, phases)
    if config.by == "power_law":
        return integers([power(lag, config.exponent) for lag in lags])
    if config.by == "exponential":
        scale = config.tau or matched_tau(config.exponent, phases)
        return integers([math.exp(-(lag - 1) / scale) for lag in lags])
    return [int(config.by == "uniform") << 24] * (phases - 1)


def power(lag: int, exponent: float) -> float:
    """D^-d.

    >>> power(1, 2.0), power(4, 0.5), power(7, 0.0)
    (1.0, 0.5, 1.0)
    """
    return float(lag**-exponent)


def matched_tau(exponent: float, phases: int) -> float:
    """The tau with sum over D of exp(-(D - 1) / tau) = sum over D of D^-exponent, D = 1..phases-1.

    >>> mass = sum(math.exp(-(d - 1) / matched_tau(1.0, 10)) for d in range(1, 10))
    >>> abs(mass - sum(1 / d for d in range(1, 10))) < 1e-9
    True
    """
    lags = range(1, phases)
    goal = sum(power(lag, exponent) for lag in lags)
    low, high = 1e-3, 1e9
    for _ in range(200):
        middle = math.sqrt(low * high)
        if sum(math.exp(-(lag - 1) / middle) for lag in lags) < goal:
            low = middle
        else:
            high = middle
    return high


def _matched(schedule: RecurrenceSchedule, weights: list[int], sizes: list[int], phase: int) -> list[int]:
    assert schedule.rehearsed is not None
    if schedule.rehearsed > sum(sizes):
        raise UserError(
            f"stream.schedule.rehearsed: got {schedule.rehearsed}, but the tasks before phase {phase} have "
            f"{sum(sizes)} training samples."
        )
    return apportion(schedule.rehearsed, weights, sizes)


def _returning(
    schedule: RecurrenceSchedule, pools: list[Rows], fresh: list[Rows], generator: Generator
) -> list[StreamExperience]:
    """The variant in which a task that returns resets its clock."""
    phases, share = len(pools), schedule.share or 1.0
    chances = generator.uniform(phases * phases).reshape(phases, phases)
    weights = law(schedule, phases)
    last = np.zeros(phases, np.int64)  # the last phase of each task, under this law
    clock = np.zeros(phases, np.int64)  # the same under the power law, which determines the number of returning tasks
    experiences = []
    for t in range(phases):
        returns = [
            k
            for k in range(t)
            if chances[t, k] < min(1.0, (schedule.probability or 0.5) * power(int(t - clock[k]), schedule.exponent))
        ]
        clock[[*returns, t]] = t
        if schedule.by == "none":
            returns = []
        elif schedule.by != "power_law":
            lagged = [weights[int(t - last[k]) - 1] or 1 for k in range(t)]
            returns = sorted(draw(generator, lagged, len(returns)))
        last[[*returns, t]] = t
        parts = [
            (k, pick(generator, pools[k], max(1, rounded(share * (schedule.new or len(pools[k])))))) for k in returns
        ]
        experiences.append(StreamExperience((*parts, (t, fresh[t])), (*returns, t), t))
    return experiences
