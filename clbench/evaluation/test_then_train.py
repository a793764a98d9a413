"""Prequential evaluation: each incoming sample is predicted before the update that learns it.

A sample is incoming when its row, in its task, comes in for the first time as data of the stream, in whatever
experience; `clbench.prequential.Prequential` is the record. It is predicted as it is stored, without augmentation, by a
twin of the model in evaluation mode; draws of a prediction from global generators are fenced, so that training is the
same with and without. Its label is that of the training set, with its noise.

Active logits are those of the evaluator's views. In "class" they are the outputs of all classes seen so far, those of
the current experience from its start on, and of the sample's task: a class that is new in a batch competes, untrained.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clbench.errors import RunFailed
from clbench.evaluation.competition import overflowed
from clbench.evaluation.evaluator import Predictor
from clbench.evaluation.twin import Twin, is_ordinary
from clbench.measures import named
from clbench.rng import fenced
from clbench.strategy import Batch, Learner
from clbench.stream import Stream
from clbench.trace import NAN_SCORES
from clbench.training.batches import Places, ToCome
from clbench.training.training_set import TrainingSet


@dataclass(frozen=True)
class Arrived:
    """Incoming samples of one update, predicted before it.

    Attributes:
        right: bool (V, n), a row for each view, on the device; no rows of a regression.
        values: float32 (M, n), a row for each view and measure; NaN without a prediction.
        repeated: number of further samples in the batch.
        unavailable: int32 (), number of incoming samples without a prediction; NAN_SCORES where scores were NaN or
            infinite.
    """

    right: Tensor
    values: Tensor
    repeated: int
    unavailable: Tensor

    @property
    def samples(self) -> int:
        """Number of incoming samples, n."""
        return self.right.shape[1]


class TestThenTrain:
    """Predicts incoming samples before they are learnt.

    Args:
        stream: whose samples come in.
        views: names, in the order of recording.
        samples: the training samples.
        tell_task: whether `predict` receives the task of each sample.
        device: where the model is.
        delay: updates between the prediction of a batch and the update that learns it.
        to_come: batches of the stream in the order of training, where there is a delay.
        measures: names, see `clbench.measures`, of numbers to record in each view beside what is right.
    """

    def __init__(
        self,
        stream: Stream,
        views: tuple[str, ...],
        samples: TrainingSet,
        tell_task: bool,
        device: torch.device,
        delay: int = 0,
        to_come: ToCome | None = None,
        measures: Sequence[str] = (),
    ) -> None:
        self._regression = stream.data.train_target is not None
        self._of_measures = [(view, name) for view in views for name in measures]
        self.views, self.delay = () if self._regression else views, delay
        self.measures = tuple(named(view, name) for view, name in self._of_measures)
        self._samples, self._tell_task, self._device, self._to_come = samples.unfenced(), tell_task, device, to_come
        self._rows = len(stream.labels)
        self._came: dict[int, NDArray[np.bool_]] = {}
        self._place = np.zeros(self._rows, np.int64)
        self._waiting: deque[Arrived] = deque()
        self._twin = Twin()
        self._drawless: torch.nn.Module | None = None
        own = torch.zeros((len(stream.all_tasks), stream.outputs), dtype=torch.bool)
        for task in stream.all_tasks:
            own[task.id, list(task.targets)] = True
        self._own, self._own_outputs = own.to(device), stream.own_outputs
        self._task_outputs = [frozenset(task.targets) for task in stream.tasks]
        self._seen: tuple[frozenset[int], Tensor] = frozenset(), self._own

    def renew(self) -> None:
        """Call at the boundaries of experiences, where a model's plain containers may have changed."""
        self._twin.renew()
        self._drawless = None

    def before_update(
        self, strategy: Predictor, batch: Batch, places: Places, plain: bool, seen: Iterable[int]
    ) -> Arrived:
        """The incoming samples of a batch with their predictions, which without a delay are made now.

        Args:
            strategy: predicts; it is left unchanged.
            batch: the one to be learnt next.
            places: rows and tasks of the batch on the host.
            plain: whether its inputs are not augmented.
            seen: tasks seen so far, the current ones included.

        Raises:
            RunFailed: a prediction changed its arguments.
        """
        seen = frozenset(seen)
        if self._to_come is None:
            return self._predicted(strategy, places, seen, batch if plain else None)
        while len(self._waiting) <= self.delay and (ahead := self._to_come.next()) is not None:
            self._waiting.append(self._predicted(strategy, ahead, seen, None))
        return self._waiting.popleft()

    def _predicted(self, strategy: Predictor, places: Places, seen: frozenset[int], batch: Batch | None) -> Arrived:
        rows, tasks = places
        first = self._first(rows, tasks)
        repeated = len(rows) - len(first)
        if not len(first):
            nothing = torch.zeros((), dtype=torch.int32, device=self._device)
            return Arrived(*self._blank(0), repeated, nothing)
        tasks = tasks[first]
        single = bool((tasks == tasks[0]).all())
        task: Tensor | int = int(tasks[0]) if single else torch.from_numpy(tasks).to(self._device)
        if batch is None:
            x, y = self._samples.fetch(torch.from_numpy(rows[first]).to(self._device), task)
        elif repeated:
            at = torch.from_numpy(first).to(self._device)
            x, y = batch.x.index_select(0, at), batch.y.index_select(0, at)
        else:
            x, y = batch.x, batch.y
        if isinstance(strategy, Learner):
            strategy.refresh()
        shared = [x, *strategy.model.parameters()]
        versions = [t._version for t in shared]
        with torch.inference_mode(), self._fence(strategy), self._twin.of(strategy.model) as model:
            (right, values), counts = self._blank(len(x)), torch.zeros(2, dtype=torch.int32, device=self._device)
            self._fill(strategy, model, x, y, task, seen, right, values, counts)
            if self._drawless is None and _by_model(strategy) and is_ordinary(model):
                self._drawless = strategy.model
            unavailable = torch.where(counts[1] > 0, NAN_SCORES, counts[0])
        if [t._version for t in shared] != versions:
            raise RunFailed("predict_writes", "a prediction changed the incoming samples or the parameters in place")
        return Arrived(right, values, repeated, unavailable)

    def _blank(self, n: int) -> tuple[Tensor, Tensor]:
        """Rows of `Arrived` without predictions."""
        right = torch.zeros((len(self.views), n), dtype=torch.bool, device=self._device)
        return right, torch.full((len(self.measures), n), float("nan"), device=self._device)

    def _fence(self, strategy: Predictor) -> AbstractContextManager[None]:
        """A fence around a prediction, which takes time; none where ordinary layers alone predict: they do not draw."""
        drawless = self._drawless is strategy.model and _by_model(strategy)
        return nullcontext() if drawless else fenced(self._device.type == "cuda")

    def _first(self, rows: NDArray[np.int64], tasks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of the samples that come in for the first time, ascending; from now on they have come in."""
        new = np.empty(len(rows), np.bool_)
        position = np.arange(len(rows))
        several = [int(tasks[0])] if (tasks == tasks[0]).all() else np.unique(tasks).tolist()
        for task in several:
            of = position[tasks == task]
            mine = rows[of]
            came = self._came.setdefault(task, np.zeros(self._rows, np.bool_))
            self._place[mine[::-1]] = of[::-1]  # of a row that is there twice the first position
            new[of] = ~came[mine] & (self._place[mine] == of)
            came[mine] = True
        return np.flatnonzero(new)

    def _fill(
        self,
        strategy: Predictor,
        model: torch.nn.Module,
        x: Tensor,
        y: Tensor,
        task: Tensor | int,
        seen: frozenset[int],
        right: Tensor,
        values: Tensor,
        counts: Tensor,
    ) -> None:
        """Fills in what is right and the values; counts samples without a prediction, and broken passes."""
        scores = None
        if not isinstance(strategy, Learner) or strategy.available():
            told = torch.full((len(x),), task, device=self._device) if isinstance(task, int) else task
            scores = strategy.predict(model, x, told if self._tell_task else None)
        if scores is None:
            if isinstance(task, int):
                counts[0] += len(x)
                return
            for one in torch.unique(task).tolist():  # no prediction for some, such as tasks without a head as yet
                at = torch.nonzero(task == one).squeeze(1)
                part, numbers = self._blank(len(at))
                self._fill(strategy, model, x[at], y[at], int(one), seen, part, numbers, counts)
                right[:, at], values[:, at] = part, numbers
            return
        if scores.ndim != 2 or len(scores) != len(x) or (self._regression and scores.shape != y.shape):
            raise ValueError(f"predict returned the shape {tuple(scores.shape)} for {len(x)} samples")
        counts[1] += overflowed(scores)
        for m, (view, name) in enumerate(self._of_measures):
            values[m] = self._numbers(name, scores.double(), y, view, task, seen)
        if self._regression:
            return
        width = scores.shape[1]
        scores = scores.clamp(min=torch.finfo(scores.dtype).min)  # -inf of an active logit is above that of others
        for v, view in enumerate(self.views):
            active = self._active(view, task, seen)
            masked = scores if active is None else scores.masked_fill(~active[..., :width], float("-inf"))
            right[v] = (masked.argmax(1) == y) & (y < width)
        if width < self._own.shape[1]:
            counts[0] += (y >= width).sum()

    def _numbers(
        self, name: str, scores: Tensor, y: Tensor, view: str, task: Tensor | int, seen: frozenset[int]
    ) -> Tensor:
        """A measure of each sample, float64 (n,); NaN where a head that grows has no score for it."""
        if name != "log_loss":
            error = scores - y.double()
            return (error.abs() if name == "absolute_error" else error.square()).mean(1)
        width, active = scores.shape[1], self._active(view, task, seen)
        competing = scores if active is None else scores.masked_fill(~active[..., :width], float("-inf"))
        mine = scores.gather(1, y.clamp(max=width - 1).unsqueeze(1)).squeeze(1)
        return (competing.logsumexp(1) - mine).masked_fill(y >= width, float("nan"))

    def _active(self, view: str, task: Tensor | int, seen: frozenset[int]) -> Tensor | None:
        """Active logits of samples of a task, or of each of its samples; None for all."""
        if view == "task" or self._own_outputs:
            return self._own[task]
        if view == "domain":
            return None
        if seen != self._seen[0]:
            outputs = torch.zeros(self._own.shape[1], dtype=torch.bool)
            outputs[sorted(frozenset[int]().union(*(self._task_outputs[t] for t in seen)))] = True
            self._seen = seen, self._own | outputs.to(self._device)
        return self._seen[1][task]

    def state_dict(self) -> dict[str, Any]:
        """Samples that have come in, and predictions that wait for their update."""
        return {
            "came": {task: torch.from_numpy(np.packbits(came)) for task, came in self._came.items()},
            "waiting": [(w.right, w.values, w.repeated, w.unavailable) for w in self._waiting],
            "to_come": None if self._to_come is None else self._to_come.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self._came = {
            task: np.unpackbits(packed.numpy(), count=self._rows).astype(np.bool_)
            for task, packed in state["came"].items()
        }
        self._waiting = deque(
            Arrived(right.to(self._device), values.to(self._device), repeated, unavailable.to(self._device))
            for right, values, repeated, unavailable in state["waiting"]
        )
        if self._to_come is not None:
            self._to_come.load_state_dict(state["to_come"])


def _by_model(strategy: Predictor) -> bool:
    """True if the strategy predicts by its model alone."""
    return getattr(strategy.predict, "__func__", None) is Learner.predict
