"""A strategy around an estimator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pydantic
import torch
from torch import Tensor, nn

from clbench.estimators import saved_state
from clbench.estimators.construction import refusal
from clbench.estimators.kinds import Floats, Kind
from clbench.run_config import RunConfig
from clbench.strategy import Batch, Learner, Memory, Setup


class AnyParameters(pydantic.BaseModel):
    """Parameters of the estimator's constructor, which checks them when it is built."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)


class _NoNetwork(nn.Module):
    """Stands where a strategy has its network: its state dictionary holds the arrays of the estimator, by name."""

    def __init__(self, arrays: Callable[[], dict[str, Tensor]]) -> None:
        super().__init__()
        self._arrays = arrays

    def __deepcopy__(self, memo: dict[int, Any]) -> _NoNetwork:
        return _NoNetwork(dict)  # an evaluation's copy of the network

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        return self._arrays()


class Estimator(Learner):
    """An estimator that learns every batch of the stream.

    Evaluation predicts by a copy of the estimator, made in memory anew for every forward pass, so that nothing a
    prediction does to an estimator, such as statistics of a scaler, is left in it.

    Attributes:
        path: its import path.
        target: its class.
        kind: see `clbench.estimators.kinds`.
        learned: the outputs that it has learnt, bool (outputs,).
    """

    path: ClassVar[str]
    target: ClassVar[type]
    kind: ClassVar[type[Kind]]

    Config = AnyParameters
    transient = ("_copied", "_new", "model")

    def __init__(self, config: AnyParameters, setup: Setup) -> None:
        super().__init__(config, setup)
        where = f"strategy '{self.path}'"
        self.adapter = self.kind(
            self.target,
            config.model_extra or {},
            where,
            int(np.prod(setup.input_shape)),
            setup.outputs,
            setup.samples.classes == 1,  # of a regression
            self._seed,
        )
        self.model = _NoNetwork(self.adapter.arrays)
        self.learned = np.zeros(setup.outputs, np.bool_)
        self._new = self.adapter.copied()
        self._copied: Callable[[], Any] | None = None
        try:
            self._primed()
        except Exception as error:  # of the estimator
            raise refusal(where, error) from error

    def _seed(self) -> int:
        return int(self.setup.generator.below(2**31 - 1, 1)[0])

    def _primed(self) -> Any:
        """Another estimator of the same configuration, after an update of two samples."""
        other = self._new()
        x, outputs = np.zeros((2, self.adapter.features), np.float32), self.setup.outputs
        y = np.zeros((2, outputs), np.float32) if self.adapter.numbers else np.array([0, min(1, outputs - 1)])
        self.adapter.learn(other, x, y, True)
        return other

    def step(self, batch: Batch) -> Tensor:
        """One update. Returns 0: an estimator tells no loss."""
        y = batch.y.cpu().numpy()
        self._copied = None
        self.adapter.learn(self.adapter.estimator, _rows(batch.x), y, not self.learned.any())
        self.learned[... if self.adapter.numbers else y] = True
        return torch.zeros((), device=self.setup.device)

    def available(self) -> bool:
        """True from the first update on."""
        return bool(self.learned.any())

    def predict(self, model: nn.Module, x: Tensor, task: Tensor | None) -> Tensor:
        """Scores (N, outputs), float64; -inf for an output that no sample had so far. Of numbers the predictions."""
        if self._copied is None:
            self._copied = self.adapter.copied()
        scores = self.adapter.scores(self._copied(), _rows(x))
        scores[:, ~self.learned] = -np.inf
        return torch.from_numpy(scores).to(self.setup.device)

    def state_dict(self) -> dict[str, Any]:
        """State to resume from.

        Raises:
            Unsaveable: some of the estimator is neither an array nor a plain value.
        """
        state = None
        if self.learned.any():
            state = saved_state.take(self.adapter.estimator, self._primed(), self.target.__name__)
        return {"estimator": state, "learned": self.learned.copy(), "generator": self.setup.generator.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._copied = None
        if state["estimator"] is not None:
            estimator = self._primed()
            saved_state.put(state["estimator"], estimator)
            self.adapter.estimator = estimator
        self.learned = state["learned"].astype(np.bool_)
        self.setup.generator.load_state_dict(state["generator"])

    def memory(self) -> Memory:
        """None of scikit-learn's, which keep no samples; of others it is unknown what they keep."""
        return Memory(0, 0) if self.target.__module__.partition(".")[0] == "sklearn" else Memory(None, None)


def refused(run: RunConfig) -> list[str]:
    """Mistakes in a run of an estimator: what needs the weights of a network."""
    name, watch, problems = run.strategy.name, run.watch, []
    for key, value in (
        ("watch.ema", watch.ema),
        ("watch.last", watch.last),
        ("watch.gradients", watch.gradients),
        ("watch.features", watch.features),
        ("numerics.amp", run.numerics.amp),
    ):
        if value:
            problems.append(f"{key}: needs the weights of a network, and '{name}' is none. Leave it out.")
    return problems


def _rows(x: Tensor) -> Floats:
    """Inputs as rows, float32 (N, D), on the host."""
    rows: Floats = x.detach().reshape(len(x), -1).cpu().numpy()
    return rows
