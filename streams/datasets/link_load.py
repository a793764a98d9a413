"""The generated data set `link_load`: forecasts of the load of all links of a backbone network through failures.

Demands between all pairs of nodes follow a gravity model: the product of both nodes' shares of all traffic, each as in
the network's published demand matrix. In time a demand follows the hour of the day and the day of the week where it
begins, and noise with a memory. It takes the shortest path; when links fail, the affected demands take the shortest
path that is left, at once, and return when the links are repaired. The load of a link is the sum of the demands over
it, both directions together.

A sample is a time: its target the load of every link, its input the same a day earlier and at the last `inputs` steps
that are known `horizon` steps before. All loads are in units of the mean load of a link in the training part of the
first regime, multiples of 1/4096.

The regimes are the tasks, in the order of time: before the first failure, then each failure and the time after its
repair. Of each, the last fifth is the test part, so that every training sample is earlier than every test sample of its
regime. The first samples of a regime have inputs from the one before, its test part included.

Each value is a function of the parameters alone, and the same on every machine: demands are whole numbers, and what
depends on a logarithm or a cosine is rounded first.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field

from clbench.errors import UserError, unknown
from clbench.rng import Generator
from clbench.schema import Count, Model, mistake
from clbench.streams.datasets.forecasts import training_steps, windows
from clbench.streams.datasets.routing import pairs, routing
from clbench.streams.datasets.sources import Arrays
from clbench.streams.datasets.topologies import TOPOLOGIES

PROFILE = (45, 38, 33, 30, 29, 30, 34, 42, 53, 64, 72, 78, 81, 83, 85, 87, 88, 89, 91, 95, 100, 97, 82, 62)
"""Traffic at each full hour of local time, in percent of that at 20 h; in between by straight lines. Ours: a plain
shape with one low before dawn and one peak in the evening."""

_TOTAL = 2**30
"""Sum of all demands at their peak, in whole units."""

_TRIES = 1000
"""Draws of failed links before a network counts as unable to lose so many."""


class LinkLoadData(Model):
    """Loads of the links of a backbone network, to forecast, through failures; nothing to download."""

    topology: Literal["abilene", "geant"] = "abilene"
    """12 nodes and 15 links, or 22 and 36."""
    failures: list[Annotated[int, Field(ge=1, le=8)]] = Field(default=[1, 1, 2, 1, 2, 3], min_length=1)
    """Number of links that fail together in each failure, in the order of time. They are drawn by the seed, so that no
    two failures are of the same links and none cuts a node off."""
    days_before: Count = 10
    """Length of the regime before the first failure."""
    days_failed: Count = 5
    """Length of each failure."""
    days_repaired: Count = 5
    """Length of the time after each repair."""
    steps_per_day: Annotated[int, Field(ge=24, le=1440)] = 96
    inputs: Count = 12
    """Latest known steps in an input."""
    horizon: Count = 1
    """Steps from the last of them to the target; a day at most."""
    weekend: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Traffic on Saturdays and Sundays, as a factor. The first day is a Monday."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Deviation of a demand from its daily course, relative to it."""
    memory: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Correlation of that noise from one step to the next."""
    link: str | None = None
    """The only link in inputs and targets, such as CHINng-NYCMng; null: all."""
    seed: Annotated[int, Field(ge=0)] = 0

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> LinkLoadData:
        if self.inputs + self.horizon > self.steps_per_day:
            sentence = f"{self.inputs} inputs and a horizon of {self.horizon} do not fit into {self.steps_per_day}"
            raise mistake(f"{sentence} steps of a day, whose value a day earlier is an input", "horizon")
        names = TOPOLOGIES[self.topology].link_names
        if self.link is not None and self.link not in names:
            raise mistake(unknown("link", self.link, names).rstrip("."), "link")
        if self.horizon >= self.steps_per_day * min(self.days_failed, self.days_repaired, self.days_before):
            raise mistake(f"got {self.horizon}, which leaves nothing of the shortest regime", "horizon")
        return self

    @property
    def tasks(self) -> int:
        """Number of regimes."""
        return 1 + 2 * len(self.failures)


@dataclass(frozen=True)
class Regime:
    """A time with one routing.

    Attributes:
        name: "before", "failure of A-B, C-D" or "after the failure of A-B, C-D".
        steps: its length.
        failed: numbers of the links that carry nothing.
        moved: the severity of a failure: share of the traffic, by the gravity model, that takes another path than
            before it; of any other regime 0.
    """

    name: str
    steps: int
    failed: tuple[int, ...]
    moved: float


def regimes(parameters: LinkLoadData) -> tuple[Regime, ...]:
    """The tasks of the data set, in their order.

    >>> [(r.failed, round(r.moved, 3)) for r in regimes(LinkLoadData(failures=[1, 2]))]
    [((), 0.0), ((12,), 0.24), ((), 0.0), ((2, 4), 0.462), ((), 0.0)]
    """
    topology, generator = TOPOLOGIES[parameters.topology], Generator(parameters.seed, "link_load", "failures")
    usual, weight = routing(topology), gravity(parameters)
    assert usual is not None
    days = parameters.steps_per_day
    result = [Regime("before", parameters.days_before * days, (), 0.0)]
    drawn: set[tuple[int, ...]] = set()
    for number in parameters.failures:
        failed, uses = _failure(parameters, generator, number, drawn)
        drawn.add(failed)
        moved = int(weight[(uses != usual).any(1)].sum()) / int(weight.sum())
        links = ", ".join(topology.link_names[i] for i in failed)
        result.append(Regime(f"failure of {links}", parameters.days_failed * days, failed, moved))
        result.append(Regime(f"after the failure of {links}", parameters.days_repaired * days, (), 0.0))
    return tuple(result)


def gravity(parameters: LinkLoadData) -> NDArray[np.int64]:
    """The mean demand of each pair of nodes, (pairs,), up to a factor: the product of their shares."""
    topology = TOPOLOGIES[parameters.topology]
    return np.array([topology.shares[a] * topology.shares[b] for a, b in pairs(topology)], np.int64)


def _failure(
    parameters: LinkLoadData, generator: Generator, number: int, drawn: set[tuple[int, ...]]
) -> tuple[tuple[int, ...], NDArray[np.bool_]]:
    """Links that fail together, ascending, and the routing without them."""
    topology = TOPOLOGIES[parameters.topology]
    for _ in range(_TRIES):
        failed = tuple(sorted(generator.sample(len(topology.links), number).tolist()))
        if failed not in drawn and (uses := routing(topology, failed)) is not None:
            return failed, uses
    raise UserError(
        f"stream.link_load.failures: '{parameters.topology}' has no further failure of {number} links that cuts no "
        "node off."
    )


def demands(parameters: LinkLoadData, steps: int) -> NDArray[np.int64]:
    """Every demand at every step, whole numbers (steps, pairs)."""
    topology, generator = TOPOLOGIES[parameters.topology], Generator(parameters.seed, "link_load", "demands")
    weight, per_day = gravity(parameters), parameters.steps_per_day
    place = np.arange(steps)[:, None] * 24 + np.array(topology.hours) * per_day  # local time in days / (24 per_day)
    hour, rest = place // per_day % 24, place % per_day
    level = np.array(PROFILE)
    course = (level[hour] * (per_day - rest) + level[(hour + 1) % 24] * rest) / (100 * per_day)
    course *= np.where(place // (24 * per_day) % 7 >= 5, parameters.weekend, 1.0)
    begins = [a for a, _ in pairs(topology)]
    peak = weight * (_TOTAL / int(weight.sum()))
    draws = np.rint(generator.normal(steps * len(peak)).reshape(steps, -1) * 2**20) / 2**20
    draws[1:] *= np.sqrt(1.0 - parameters.memory * parameters.memory)
    for before, now in pairwise(draws):
        now += parameters.memory * before
    factor = np.maximum(1.0 + parameters.noise * draws, 0.0)
    return np.asarray(np.rint(peak * course[:, begins] * factor), np.int64)


def series(parameters: LinkLoadData) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The loads of all links, and the regime of each step.

    Returns:
        load (S, links), in the units of the data set, multiples of 1/4096; task (S,), -1 on the first day, whose
        loads are inputs alone.
    """
    topology, pieces, day = TOPOLOGIES[parameters.topology], regimes(parameters), parameters.steps_per_day
    lengths = [day, *(piece.steps for piece in pieces)]
    task = np.repeat(np.arange(-1, len(pieces)), lengths)
    flows, load = demands(parameters, len(task)), np.zeros((len(task), len(topology.links)))
    for t in range(-1, len(pieces)):
        uses = routing(topology, pieces[t].failed if t >= 0 else ())
        assert uses is not None
        load[task == t] = flows[task == t].astype(np.float64) @ uses  # whole numbers below 2^53: exact in any order
    first = load[day : day + training_steps(pieces[0].steps)]
    return np.rint(load * (first.size / first.sum()) * 4096) / 4096, task


def link_load(parameters: LinkLoadData) -> Arrays:
    """The data set."""
    topology = TOPOLOGIES[parameters.topology]
    load, task = series(parameters)
    names = topology.link_names
    if parameters.link is not None:
        load, names = load[:, [names.index(parameters.link)]], (parameters.link,)
    return windows(
        load, task, inputs=parameters.inputs, horizon=parameters.horizon, season=parameters.steps_per_day, names=names
    )
