"""Settings of the generated data set `synthetic`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from clbench.schema import Count, Model


class SyntheticData(Model):
    """Gaussian classes with unit covariance and random means; nothing to download."""

    classes: Annotated[int, Field(ge=2, le=100_000)] = 10
    features: Count = 32
    train_per_class: Count = 100
    test_per_class: Count = 20
    separation: Annotated[float, Field(gt=0)] = 4.0
    """Root mean square distance between two class means, in standard deviations of a class."""
    seed: Annotated[int, Field(ge=0)] = 0
