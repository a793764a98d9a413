"""Fine-tuning on drift: the network learns from the first samples, then only after a rise of its own error.

Every incoming batch is predicted before anything is learnt from it, and the logarithm of its loss goes to a detector:
a change is then one of the ratio of errors, whatever their unit. After an alarm the network learns from the next `tune`
samples, and the detector starts afresh after them. While it learns, it does so as `er` does, with the memory of `er`;
an alarm empties the memory, since what is in it is of the past. No boundaries are known.

    page_hinkley   Page 1954, Hinkley 1971
    adwin          Bifet and Gavaldà 2007, by river (`pip install 'clbench[river]'`)
    none           never an alarm: a model that is trained once and kept

Gama et al. 2014 (ACM Computing Surveys 46) call it informed, explicit adaptation. The methods there replace the model
at an alarm by one of recent samples; here it goes on from its weights.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from clbench.lazy import torch
from clbench.schema import Count
from clbench.strategies.er import ExperienceReplay, ReplayConfig
from clbench.strategies.shared.drift import Adwin, PageHinkley
from clbench.strategy import Batch, Setup

if TYPE_CHECKING:
    from torch import Tensor

_FLOOR = 1e-12  # of a loss, before its logarithm


class DriftConfig(ReplayConfig):
    """Hyper-parameters of fine-tuning on drift."""

    detector: Literal["page_hinkley", "adwin", "none"] = "page_hinkley"
    """Test that gives alarms; `none`: there are none."""
    warm_up: Count = 768
    """First samples, which are learnt from."""
    tune: Count = 192
    """Samples that are learnt from after an alarm."""
    delta: Annotated[float, Field(gt=0)] | None = None
    """Of the detector: tolerated rise of the logarithm (page_hinkley, default 0.2), or significance below 1 (adwin,
    default 0.002)."""
    threshold: Annotated[float, Field(gt=0)] = 3.0
    """Of page_hinkley: sum of the rises that gives an alarm."""


class DriftTuning(ExperienceReplay):
    """Learns at first and after alarms, with replay, else only predicts."""

    Config = DriftConfig
    regresses = True

    def __init__(self, config: DriftConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config: DriftConfig = config
        self._left = config.warm_up
        self._alarms = self._learnt = 0
        self._values: list[float] = []
        self._test = self._detector()

    def _detector(self) -> PageHinkley | Adwin | None:
        config = self.config
        if config.detector == "page_hinkley":
            return PageHinkley(config.delta or 0.2, config.threshold)
        return Adwin(config.delta or 0.002) if config.detector == "adwin" else None

    def step(self, batch: Batch) -> Tensor:
        if self._left > 0:
            loss = super().step(batch)
            self._left -= len(batch.index)
            self._learnt += len(batch.index)
            if self._left <= 0:
                self._values, self._test = [], self._detector()
            return loss
        with torch.no_grad():
            loss = self.criterion(self.model(batch.x), batch.y, batch.task)
        if self._test is not None:
            value = math.log(max(float(loss), _FLOOR))
            self._values.append(value)
            if self._test.add(value):
                self._alarms += 1
                self._left = self.config.tune
                self.buffer = self.make_buffer()
        return loss

    def report(self) -> dict[str, float]:
        """Numbers of alarms, and of samples learnt from."""
        return {"alarms": float(self._alarms), "samples_learnt_from": float(self._learnt)}

    def state_dict(self) -> dict[str, Any]:
        drift = {"left": self._left, "alarms": self._alarms, "learnt": self._learnt, "values": list(self._values)}
        return {**super().state_dict(), "drift": drift}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        drift = state["drift"]
        self._left, self._alarms, self._learnt = drift["left"], drift["alarms"], drift["learnt"]
        self._values, self._test = list(drift["values"]), self._detector()
        if self._test is not None:  # a detector of another package is not saved, but fed again
            for value in self._values:
                self._test.add(value)
