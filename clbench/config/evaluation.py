"""Models of the `evaluation:` and `watch:` sections."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from clbench.config.optimizers import BelowOne
from clbench.errors import shown
from clbench.measures import Name as MeasureName
from clbench.schema import Model, mistake

View = Literal["class", "task", "domain"]


class Evaluation(Model):
    """Evaluation schedule and test data."""

    every: Annotated[int, Field(ge=0)] = 1
    """Period in iterations, counted within each experience (before it is cut into sub-experiences); 0: only before and
    after each experience."""
    dense: Annotated[int, Field(ge=0)] = 0
    """Iterations at the start of each experience that are all evaluated, whatever the period."""
    scope: Literal["seen", "all"] = "seen"
    """Cells evaluated after an iteration. Points before a first update evaluate all."""
    subset: Annotated[int, Field(ge=1)] | None = None
    """Number of test samples of each task, drawn once by the stream seed and stratified by class; null: all."""
    views: Annotated[list[View], Field(min_length=1)] | None = None
    """Active logits: of all classes seen so far, of the task, or all. Default: the setting's, and task beside class."""
    batch_size: Annotated[int, Field(ge=1)] = 1000
    """Most samples of a forward pass; fewer where activations are large. It can change the last bit of a logit."""

    @pydantic.model_validator(mode="after")
    def _distinct(self) -> Evaluation:
        if self.views is not None and len(set(self.views)) < len(self.views):
            raise mistake(f"got {shown(self.views)}. Allowed: each value once", "views")
        return self


class Watch(Model):
    """Additional records, and the numerics of evaluation. Nothing here changes training or the counts."""

    measures: Annotated[list[MeasureName], Field(min_length=1)] | None = None
    """Measures beside the counts, recorded for every evaluation: squared_error and absolute_error of a regression (both
    by default), log_loss of classes. They need the scores of all samples in float32: a full evaluation."""
    values: bool | None = None
    """The number of each sample is recorded for these. Default: if that takes up to 128 MiB uncompressed."""
    bits: bool | None = None
    """Per-sample correctness is recorded. Default: if that takes up to 128 MiB uncompressed."""
    predictions: bool | None = None
    """The output predicted for each test sample is recorded at the ends of experiences. Default: if that takes up to
    32 MiB uncompressed."""
    precision: Literal["auto", "float32"] = "auto"
    """auto: bfloat16 and int8 decide what they decide safely, where the processor is fast; counts are float32's."""
    samples: Literal["auto", "all"] = "auto"
    """auto: an evaluation looks at the samples whose answer can have changed; counts are those of all."""
    ema: list[BelowOne] = []
    """Decays of exponential moving averages of the weights, each evaluated beside the weights themselves."""
    last: list[Annotated[int, Field(ge=2)]] = []
    """Numbers of last updates whose mean weights are evaluated beside the weights themselves."""
    gradients: bool = False
    """Gradient norms are recorded, of each update and of each task's test loss. Several times the cost."""
    features: bool = False
    """Drift of each task's features is recorded. About twice the cost."""
    prequential: bool = False
    """Each incoming sample is predicted before the update that learns it, in its first pass alone, and recorded."""
    prequential_delay: Annotated[int, Field(ge=0)] = 0
    """Updates between the prediction of an incoming sample and the update that learns it: a forecast's target arrives
    later. For streams whose samples are learnt once."""

    @pydantic.model_validator(mode="after")
    def _distinct(self) -> Watch:
        for key in ("ema", "last", "measures"):
            values = getattr(self, key) or []
            if len(set(values)) < len(values):
                raise mistake(f"got {shown(values)}. Allowed: each value once", key)
        if self.prequential_delay and not self.prequential:
            raise mistake(f"got {self.prequential_delay}, which needs prequential: true", "prequential_delay")
        return self
