"""Mini-batches of an experience."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clbench.config.training import Training
from clbench.rng import Generator
from clbench.strategy import Batch, Experience
from clbench.training.budget import batches_in_a_pass
from clbench.training.training_set import TrainingSet

Places = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows of the training set and the task of each, int64 (n,) and (n,)."""


class Batches:
    """The mini-batches of a run, reshuffled at every pass by the seed "order" or in the order of the data; resumable.

    Args:
        samples: the training set.
        order: generator of the order.
        training: batch size, and whether a smaller last batch is dropped.
        device: where they are.

    Attributes:
        places: rows of the batch that was yielded last, int64 (n,), and the task of each, on the host: a GPU need not
            be waited for.
    """

    places: Places

    def __init__(self, samples: TrainingSet, order: Generator, training: Training, device: torch.device) -> None:
        self._samples, self._order, self._training, self._device = samples, order, training, device
        self._pass: tuple[dict[str, Any], int] = order.state_dict(), 0  # the order's state before it, updates before it

    def of(self, experience: Experience, iterations: int, done: int = 0) -> Iterator[Batch]:
        """The remaining batches of an experience.

        Args:
            experience: the training data.
            iterations: batches in all.
            done: number of batches before the loaded state; 0 for a new experience.
        """
        one = int(experience.task[0])
        single = bool((experience.task == one).all())
        n, size = len(experience.index), self._training.batch_size
        before = self._pass[1] if done else 0
        while before < iterations:
            self._pass = self._order.state_dict(), before
            order = _order_of_a_pass(self._training, self._order, n)
            rows, tasks = experience.index[order], experience.task[order]
            index = torch.from_numpy(rows).to(self._device)
            task = one if single else torch.from_numpy(tasks).to(self._device)
            count = min(batches_in_a_pass(n, self._training), iterations - before)
            bounds = [(b * size, min((b + 1) * size, n)) for b in range(max(0, done - before), count)]
            for (a, b), (x, y) in zip(bounds, self._samples.in_turn(index, task, bounds), strict=True):
                self.places = rows[a:b], tasks[a:b]
                yield Batch(x=x, y=y, index=index[a:b], task=task if isinstance(task, int) else task[a:b])
            before += count

    def to_come(self, experience: Callable[[int], Places], budgets: Sequence[int]) -> ToCome:
        """The places of all batches to come, before the first one, where each experience is one pass or less.

        Args:
            experience: number -> places of its samples.
            budgets: updates in each experience, (V,).
        """
        order = Generator(0, "order")
        order.load_state_dict(self._order.state_dict())
        return ToCome(experience, budgets, self._training, order)

    def state_dict(self) -> dict[str, Any]:
        """State of the order before the current pass, and the updates of the experience before it."""
        return {"order": self._pass[0], "before": self._pass[1], "now": self._order.state_dict()}

    def load_state_dict(self, state: dict[str, Any], within: bool) -> None:
        """Continues where `state_dict` was taken: within an experience (the pass is drawn again) or between two."""
        self._pass = state["order"], state["before"]
        self._order.load_state_dict(state["order"] if within else state["now"])


def _order_of_a_pass(training: Training, order: Generator, n: int) -> NDArray[np.int64]:
    """The order of n samples in a pass: drawn, or that of the data."""
    return order.permutation(n) if training.order == "shuffled" else np.arange(n)


class ToCome:
    """The places of the batches of a single-pass stream, ahead of training; resumable.

    Args:
        experience: number -> places of its samples.
        budgets: updates in each experience, (V,), of a pass or less.
        training: size of a batch, and whether a pass is shuffled.
        order: a copy of the generator of the order.
    """

    def __init__(
        self, experience: Callable[[int], Places], budgets: Sequence[int], training: Training, order: Generator
    ) -> None:
        self._of, self._budgets, self._training, self._order = experience, budgets, training, order
        self._number = self._done = 0
        self._before = order.state_dict()
        self._ordered: Places | None = None

    def next(self) -> Places | None:
        """Places of the next batch; None at the end of the stream."""
        while self._number < len(self._budgets) and self._done == self._budgets[self._number]:
            self._number, self._done, self._ordered = self._number + 1, 0, None
            self._before = self._order.state_dict()
        if self._number == len(self._budgets):
            return None
        if self._ordered is None:
            rows, tasks = self._of(self._number)
            order = _order_of_a_pass(self._training, self._order, len(rows))
            self._ordered = rows[order], tasks[order]
        rows, tasks = self._ordered
        size = self._training.batch_size
        a = self._done * size
        self._done += 1
        return rows[a : a + size], tasks[a : a + size]

    def state_dict(self) -> dict[str, Any]:
        """Experience, updates done in it, and the order's state before it."""
        return {"experience": self._number, "done": self._done, "order": self._before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self._number, self._done, self._before, self._ordered = (
            state["experience"],
            state["done"],
            state["order"],
            None,
        )
        self._order.load_state_dict(self._before)
