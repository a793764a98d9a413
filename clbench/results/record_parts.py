"""Kinds of the mappings in a run.json, as far as tables read them; other keys are ignored or kept as they are."""

from __future__ import annotations

from typing import Annotated

import pydantic
from pydantic import Field, JsonValue

from clbench.config.benchmark import knows_task_at_test

LARGEST = 2**53
"""Beyond it a float no longer holds every integer, and squares of floats may overflow."""

Count = Annotated[int, Field(ge=0, le=LARGEST)]
Amount = Annotated[float, Field(ge=0, le=LARGEST)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]

LARGEST_MEASURED = 1e100
"""Of a measure: beyond the square of any float32, summed over as many updates as there are; its square is a float."""


class Part(pydantic.BaseModel):
    """A mapping of a run.json."""

    model_config = pydantic.ConfigDict(frozen=True, strict=True, extra="ignore")


class Open(pydantic.BaseModel):
    """A mapping with any further keys."""

    model_config = pydantic.ConfigDict(frozen=True, strict=True, extra="allow")

    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)


class Named(Open):
    """A name, with parameters beside it."""

    name: str

    @property
    def parameters(self) -> dict[str, JsonValue]:
        return dict(self.model_extra or {})


class Stream(Open):
    data: str | list[str] | None
    """None where a script's data have no name."""
    setting: str


class Training(Open):
    batch_size: Count | None
    epochs: Count | None = None
    iterations: Count | None = None
    budget: str = "experience"
    optimizer: Named
    experiences: dict[str, dict[str, JsonValue]] = {}


class Evaluation(Open):
    every: Count = 1
    dense: Count = 0
    subset: Count | None = None
    scope: str = "seen"


class Protocol(Open):
    task_in_training: bool = True
    task_at_test: bool | None = None
    boundaries: bool = True


class Benchmark(Open):
    stream: Stream
    model: Named
    training: Training
    evaluation: Evaluation = Evaluation()
    protocol: Protocol = Protocol()

    @property
    def task_at_test(self) -> bool:
        """True if task labels of test samples were available to the strategy."""
        return knows_task_at_test(self.stream.setting, self.protocol.task_at_test)


class Numerics(Part):
    threads: Count
    device: str
    dtype: str = "float32"
    deterministic: bool = True
    amp: str | None = None
    fused: bool = False


class Seeds(Part):
    stream: Count | None = None
    init: Count | None = None
    order: Count | None = None
    augmentation: Count | None = None
    strategy: Count | None = None


class Tuning(Open):
    by: str


class Config(Part):
    seed: Count
    seeds: Seeds
    strategy: Named
    benchmark: Benchmark
    numerics: Numerics
    tuning: Tuning | None = None


class Failure(Part):
    message: str


class Compiled(Part):
    instance_hash: str
    data_sha256: str
    definition_hash: str | None = None
    experiences: Count | None = None
    tasks: Count | None = None
    classes: Count | None = None
    samples: Count | None = None


class Score(Part):
    """A metric's value, its standard error and its resolution, as far as it has them."""

    value: Annotated[float, Field(ge=-LARGEST_MEASURED, le=LARGEST_MEASURED)] | None
    se: Annotated[float, Field(ge=0, le=LARGEST_MEASURED)] | None = None
    resolution: Count | None = None


class Memory(Part):
    samples: Count | None
    bytes: Count | None


class Costs(Part):
    train_s: Number
    eval_s: Number
    wall_s: Number
    iterations: Count | None = None
    evaluations: Count | None = None
    peak_rss_bytes: Count | None = None
    peak_gpu_bytes: Count | None = None


class Git(Part):
    commit: str | None = None
    dirty: bool | None = None


class Provenance(Part):
    clbench: str
    git: Git | None = None
    python: str | None = None
    packages: dict[str, str | None]
    cpu: str | None = None
    gpu: str | None = None
    data: str | None = None
    code_sha256: str | None = None
    user_code: dict[str, str | None] | None = None
    started_utc: str | None = None
    study: str | None = None
    tuning: dict[str, JsonValue] | None = None


class Strategy(Part):
    name: str


class Identity(Part):
    seed: int
    strategy: Strategy
