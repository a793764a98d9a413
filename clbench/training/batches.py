"""Mini-batches of an experience."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from clbench.config.training import Training
from clbench.rng import Generator
from clbench.strategy import Batch, Experience
from clbench.training.budget import batches_in_a_pass
from clbench.training.training_set import TrainingSet


class Batches:
    """The mini-batches of a run, reshuffled at every pass by the seed "order" or in the order of the data; resumable.

    Args:
        samples: the training set.
        order: generator of the order.
        training: batch size, and whether a smaller last batch is dropped.
        device: where they are.
    """

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
            index = torch.from_numpy(experience.index[order]).to(self._device)
            task = one if single else torch.from_numpy(experience.task[order]).to(self._device)
            count = min(batches_in_a_pass(n, self._training), iterations - before)
            bounds = [(b * size, min((b + 1) * size, n)) for b in range(max(0, done - before), count)]
            for (a, b), (x, y) in zip(bounds, self._samples.in_turn(index, task, bounds), strict=True):
                yield Batch(x=x, y=y, index=index[a:b], task=task if isinstance(task, int) else task[a:b])
            before += count

    def state_dict(self) -> dict[str, Any]:
        """State of the order before the current pass, and the updates of the experience before it."""
        return {"order": self._pass[0], "before": self._pass[1], "now": self._order.state_dict()}

    def load_state_dict(self, state: dict[str, Any], within: bool) -> None:
        """Continues where `state_dict` was taken: within an experience (the pass is drawn again) or between two."""
        self._pass = state["order"], state["before"]
        self._order.load_state_dict(state["order"] if within else state["now"])
