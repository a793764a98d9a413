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
            order = self._order.permutation(n) if self._training.order == "shuffled" else np.arange(n)
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
        return ToCome(experience, budgets, self._training.batch_size, order)

    def state_dict(self) -> dict[str, Any]:
        """State of the order before the current pass, and the updates of the experience before it."""
        return {"order": self._pass[0], "before": self._pass[1], "now": self._order.state_dict()}

    def load_state_dict(self, state: dict[str, Any], within: bool) -> None:
        """Continues where `state_dict` was taken: within an experience (the pass is drawn again) or between two."""
        self._pass = state["order"], state["before"]
        self._order.load_state_dict(state["order"] if within else state["now"])


class ToCome:
    """The places of the batches of a single-pass stream, ahead of training; resumable.

    Args:
        experience: number -> places of its samples.
        budgets: updates in each experience, (V,), of a pass or less.
        batch_size: samples of a batch.
        order: a copy of the generator of the order.
    """

    def __init__(
        self, experience: Callable[[int], Places], budgets: Sequence[int], batch_size: int, order: Generator
    ) -> None:
        self._of, self._budgets, self._size, self._order = experience, budgets, batch_size, order
        self._number = self._done = 0
        self._before = order.state_dict()
        self._shuffled: Places | None = None

    def next(self) -> Places | None:
        """Places of the next batch; None at the end of the stream."""
        while self._number < len(self._budgets) and self._done == self._budgets[self._number]:
            self._number, self._done, self._shuffled = self._number + 1, 0, None
            self._before = self._order.state_dict()
        if self._number == len(self._budgets):
            return None
        if self._shuffled is None:
            rows, tasks = self._of(self._number)
            order = self._order.permutation(len(rows))
            self._shuffled = rows[order], tasks[order]
        rows, tasks = self._shuffled
        a = self._done * self._size
        self._done += 1
        return rows[a : a + self._size], tasks[a : a + self._size]

    def state_dict(self) -> dict[str, Any]:
        """Experience, updates done in it, and the order's state before it."""
        return {"experience": self._number, "done": self._done, "order": self._before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self._number, self._done, self._before, self._shuffled = (
            state["experience"],
            state["done"],
            state["order"],
            None,
        )
        self._order.load_state_dict(self._before)
