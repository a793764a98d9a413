"""The generated data set `concepts`: one number to predict, by another function of the inputs in each task.

    y = sum_u w[k, u] max(a[u] . x + b[u], 0) + noise      in concept k

The hidden units (a, b) are the same for all concepts, their weights w[k] are not. The inputs are Gaussian, with another
mean in each concept: with `separation: 0` nothing in an input tells which concept it is from, and no network can be
right on all of them.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from clbench.rng import Generator
from clbench.schema import Count, Model
from clbench.streams.datasets.sources import Arrays

_GRID = 2.0**-8  # coefficients and inputs are multiples of it, so that sums of products are exact in any order


class ConceptsData(Model):
    """A number that is another function of the inputs in each task; nothing to download."""

    count: Annotated[int, Field(ge=2, le=1000)] = 4
    """Number of concepts; each is a task."""
    features: Annotated[int, Field(ge=1, le=1000)] = 8
    units: Annotated[int, Field(ge=1, le=1000)] = 16
    """Hidden units, shared by all concepts."""
    train_per_concept: Count = 300
    test_per_concept: Count = 100
    separation: Annotated[float, Field(ge=0, le=100)] = 2.0
    """Root mean square distance between the means of the inputs of two concepts, in standard deviations."""
    noise: Annotated[float, Field(ge=0, le=100)] = 0.1
    """Its deviation; without it that of the target is 1 on the average, around a mean of 0."""
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def tasks(self) -> int:
        """Number of concepts."""
        return self.count


def concepts(parameters: ConceptsData) -> Arrays:
    """The data set. Values are multiples of 2^-8 or rounded to 2^-10."""
    generator = Generator(parameters.seed, "concepts")

    def normal(*shape: int, deviation: float = 1.0) -> NDArray[np.float64]:
        draws = generator.normal(int(np.prod(shape))).reshape(shape)
        return np.asarray(np.rint(draws * (deviation / _GRID)) * _GRID)

    features, units, count = parameters.features, parameters.units, parameters.count
    a, b = normal(units, features), normal(units)
    w = normal(count, units)
    means = normal(count, features, deviation=parameters.separation / float(np.sqrt(2.0 * features)))
    sizes = parameters.train_per_concept, parameters.test_per_concept
    concept = np.repeat(np.arange(count), sum(sizes))
    test = np.tile(np.repeat([False, True], sizes), count)
    x = means[concept] + normal(len(concept), features)
    y = (np.maximum(x @ a.T + b, 0.0) * w[concept]).sum(1)
    noise = normal(len(concept))
    for k in range(count):
        y[concept == k] = _standardised(y[concept == k], y[(concept == k) & ~test])
    y = np.rint((y + parameters.noise * noise) * 1024) / 1024
    none = np.zeros(len(y), np.int64)
    return Arrays(
        train_x=x[~test].astype(np.float32), train_y=none[~test], train_task=concept[~test],
        train_target=y[~test, None].astype(np.float32),
        test_x=x[test].astype(np.float32), test_y=none[test], test_task=concept[test],
        test_target=y[test, None].astype(np.float32), target_names=("y",), top=1.0, origin="generated",
    )  # fmt: skip


def _standardised(y: NDArray[np.float64], training: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers minus the mean of those for training, by their deviation."""
    mean = math.fsum(training) / len(training)
    deviation = math.sqrt(math.fsum((training - mean) ** 2) / len(training))
    return (y - mean) / (deviation or 1.0)
