"""Models of a study file."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from clbench.config.benchmark import Numerics, Seeds
from clbench.config.engines import LocalSettings, Settings
from clbench.config.evaluation import Watch
from clbench.errors import shown, unknown
from clbench.schema import Count, Model, mistake

MOST_VALUES = 100_000
"""Largest number of combinations of one strategy: more are a slip."""

_End = Annotated[int | float, Field(ge=-1e300, le=1e300, title="a finite number up to 1e300 in size")]


class Range(Model):
    """A range of values. Optuna draws integers where both ends are written as integers: 1 and 9, not 1.0 and 9."""

    min: _End
    max: _End
    steps: Annotated[int, Field(ge=2, le=1000)] | None = None
    """Number of values, both ends included; without it, a search by Optuna draws from the whole range."""
    scale: Literal["linear", "log"] = "linear"

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Range:
        if not self.min < self.max:
            raise mistake(f"got {self.max:g}. Allowed: a number above 'min', which is {self.min:g}", "max")
        if self.scale == "log" and self.min <= 0:
            raise mistake(f"got {self.min:g}. Allowed with the scale 'log': a number > 0", "min")
        return self

    @property
    def whole(self) -> bool:
        """True if both ends are written as whole numbers."""
        return isinstance(self.min, int) and isinstance(self.max, int)

    def values(self) -> list[float | int]:
        """Evenly spaced values, `steps` of them. Nothing is rounded to whole numbers: a setting that takes only those
        reports the mistake.

        >>> Range.model_validate({"min": 1, "max": 1000, "steps": 4, "scale": "log"}).values()
        [1, 10, 100, 1000]
        >>> Range.model_validate({"min": 0, "max": 1, "steps": 3}).values()
        [0, 0.5, 1]
        """
        assert self.steps is not None
        log = self.scale == "log"
        low, high = (math.log(self.min), math.log(self.max)) if log else (self.min, self.max)
        shares = [k / (self.steps - 1) for k in range(1, self.steps - 1)]
        points = [low * (1 - share) + high * share for share in shares]
        between = [float(f"{math.exp(p) if log else p:.6g}") for p in points]  # 0.1, and not 0.10000000000000002
        values = [self.min, *between, self.max]
        return [int(value) if self.whole and value == int(value) else value for value in values]


class TuningConfig(Model):
    """Selection of one of a strategy's combinations, for each stream separately. Only strategies with several are
    tuned; every row reports the trials and their cost."""

    by: Literal["first", "stream", "test"]
    """`first`: on the first experiences of the stream drawn by the trial's seed, tested on held-out training samples.
    `stream`: on another stream. `test`: on the test samples of the stream itself, which every row then reports."""
    experiences: Count | None = None
    """Of `first`: their number. Default 2."""
    held_out: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of `first`: share of each class's training samples. Default 0.2."""
    stream: str | None = None
    """Of `stream`: a benchmark's id or a path to YAML."""
    metric: str | None = None
    """Selection metric, in the stream's view, as a mean over seeds. Default: that of the ranking, average_accuracy or,
    of a regression, average."""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [1000]
    """Of trials. With separate seeds, no reported run was used for selection."""
    search: Literal["grid", "optuna"] = "grid"
    """Every combination, or Optuna's TPE sampler."""
    trials: Count | None = None
    """Of a search by Optuna."""
    changes: dict[str, Any] = {}
    """Of the benchmark, in trials alone: {evaluation: {every: 0, dense: 0}} where only the end counts."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> TuningConfig:
        for key, by in (("experiences", "first"), ("held_out", "first"), ("stream", "stream")):
            if getattr(self, key) is not None and self.by != by:
                raise mistake(f"is for tuning by '{by}', not by '{self.by}'", key)
        if self.by == "stream" and self.stream is None:
            raise mistake("required for tuning by 'stream', but not given", "stream")
        if (self.search == "optuna") != (self.trials is not None):
            needed = self.search == "optuna"
            raise mistake(
                "required for a search by Optuna, but not given"
                if needed
                else "is for a search by Optuna; a grid has its combinations",
                "trials",
            )
        from clbench.metrics import METRICS
        from clbench.metrics.field_names import NUMBERS

        if self.metric is not None and self.metric not in {*METRICS, *NUMBERS}:
            raise mistake(unknown("metric", self.metric, {*METRICS, *NUMBERS}).rstrip("."), "metric")
        if len(set(self.seeds)) < len(self.seeds):
            raise mistake(f"got {shown(self.seeds)}. Allowed: each seed once", "seeds")
        if "stream" in self.changes and self.by != "stream":
            raise mistake(f"trials by '{self.by}' are on the stream itself, as it is", "changes")
        return self


_Composition = Annotated[list[Any], Field(title="a list of these")]

_Seed = Annotated[int, Field(ge=0, strict=True)]


class StudyConfig(Model):
    """A study's file."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+([_-][a-z0-9]+)*$", max_length=80, title="a name like my_study")]
    title: str = ""
    streams: Annotated[list[str | dict[str, Any]], Field(min_length=1)]
    """Benchmarks: an id, a path to YAML, or a mapping with `name` and modified sections."""
    strategies: Annotated[list[str | dict[str, Any] | _Composition], Field(min_length=1)]
    """Names, compositions as lists, or mappings with `name` and hyper-parameters. Each value of a list is tried, at any
    depth; a value that is a list is written inside another list. {min, max, steps, scale} is a range."""
    seeds: Annotated[int, Field(ge=1, le=10_000, strict=True)] | Annotated[list[_Seed], Field(min_length=1)] = 5
    """Number of seeds, from 0 on; or a list. The same for each strategy, so that comparisons are paired."""
    axes: Seeds = Seeds()
    """Seeds of single sources of randomness (stream, init, order, augmentation, strategy), instead of the run's."""
    budget: dict[str, Any] = {}
    """Training budget on every stream: keys of `training` such as epochs or iterations."""
    changes: dict[str, Any] = {}
    """Of every benchmark: sections and their keys."""
    numerics: Numerics = Numerics()
    """The same for all runs. Default: one thread on the CPU."""
    watch: Watch = Watch()
    """Additional records beside the counts."""
    tuning: TuningConfig | None = None
    """Selection of hyper-parameters; without it, every combination is a row."""
    engine: Settings = LocalSettings(name="local")
    """Executor of the runs."""
    log: list[Literal["tensorboard", "wandb"]] = []
    """Loggers."""
