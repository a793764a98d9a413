"""A data set on the device in its stored dtype: a mini-batch is one gather and one transform, whatever its origin.
Inputs that stay on the disk (`clbench.on_disk`) are gathered on the host, and their batch goes to the device.

Samples are named by their row in the training set and the task they come from, so that a replay buffer holds two
integers a sample and a batch may mix tasks with different input transforms.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clbench.errors import RunFailed
from clbench.stream import Stream, StreamExperience
from clbench.training.augmentation import Augmenter
from clbench.training.inputs import EXACT_BYTES, InputTransform, StoredInputs


class _Fence:
    """Mask of the samples of experiences so far; shared by all views of a training set."""

    admitted: Tensor | None = None


class TrainingSet:
    """The training samples.

    Args:
        stream: names the data and the tasks.
        transform: stored samples to inputs.
        device: where they live.
    """

    def __init__(self, stream: Stream, transform: InputTransform, device: torch.device) -> None:
        self._inputs = StoredInputs(stream.data.train_x, device)
        self._labels = torch.from_numpy(stream.labels).to(device)
        self._host_labels = stream.labels
        target = stream.data.train_target
        self._numbers = None if target is None else torch.from_numpy(target).to(device)
        self._transform = transform
        self._augmenter: Augmenter | None = None
        self._fence = _Fence()
        classes = np.append(np.arange(stream.data.classes), -1)  # the last column is for no label
        table = np.stack([stream.targets(classes, t.id) for t in stream.all_tasks])
        self._targets = torch.from_numpy(table).to(device)
        self.sample_bytes = self._inputs.sample_bytes + (8 if target is None else 4 * target.shape[1])
        """Bytes of one stored sample and its label, as a buffer of copies would hold them."""
        self.classes = int((table >= 0).any(0).sum())
        """Different classes of the stream's tasks."""

    def augmented(self, augmenter: Augmenter) -> TrainingSet:
        """The same samples behind the same fence, augmented whenever they are fetched.

        A replay buffer has a view with a separate augmenter, so that it does not change the augmentation of the
        stream's batches.
        """
        view = copy.copy(self)
        view._augmenter = augmenter
        return view

    def fresh(self) -> TrainingSet:
        """The same samples behind a fence of their own, which has admitted none; not augmented."""
        view = self.unfenced()
        view.fence()
        return view

    def unfenced(self) -> TrainingSet:
        """The same samples, all of them accessible; not augmented."""
        view = copy.copy(self)
        view._augmenter, view._fence = None, _Fence()
        return view

    def fetch(self, index: Tensor, task: Tensor | int, *, plain: bool = False) -> tuple[Tensor, Tensor]:
        """See `clbench.strategy.Samples.fetch`; without a fence every sample can be fetched."""
        self._check(index, task)
        return self._made(self._inputs(index), index, task, plain)

    def in_turn(
        self, index: Tensor, task: Tensor | int, bounds: Iterable[tuple[int, int]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """`fetch` of index[a:b] for one pair after the other; samples on the disk are prefetched.

        Args:
            index, task: as for `fetch`.
            bounds: first and one past the last position.
        """
        self._check(index, task)
        bounds = list(bounds)
        for (a, b), stored in zip(bounds, self._inputs.in_turn(index, bounds), strict=True):
            yield self._made(stored, index[a:b], task if isinstance(task, int) else task[a:b], False)

    def _check(self, index: Tensor, task: Tensor | int) -> None:
        admitted = self._fence.admitted
        if admitted is not None:
            allowed = admitted[task if len(admitted) > 1 else 0, index].all()
            if allowed.device.type == "cuda":
                torch._assert_async(allowed)
            elif not allowed:
                raise RunFailed("data_to_come", "the strategy asked for samples that no experience has brought so far")

    def _made(self, stored: Tensor, index: Tensor, task: Tensor | int, plain: bool) -> tuple[Tensor, Tensor]:
        if self._augmenter is not None and not plain:
            stored = self._augmenter(stored)
        x = self._transform(stored, task, index, "train")
        if self._numbers is not None:
            return x, self._numbers.index_select(0, index)
        return x, self._targets[task, self._labels.index_select(0, index)]

    def fence(self) -> None:
        """Restricts `fetch` to admitted samples, each in the tasks of its experiences.

        Where tasks times samples are more than 256 Mi, a sample admitted in one task is admitted in all.
        """
        n = len(self._labels)
        tasks = len(self._targets) if len(self._targets) * n <= EXACT_BYTES else 1
        self._fence.admitted = torch.zeros((tasks, n), dtype=torch.bool, device=self._labels.device)

    def admit(self, experience: StreamExperience) -> None:
        """Admits the samples of an experience, unlabelled ones included."""
        admitted = self._fence.admitted
        if admitted is None:
            return
        for t, rows in (*experience.parts, *experience.unlabelled):
            admitted[t if len(admitted) > 1 else 0, torch.from_numpy(rows).to(admitted.device)] = True

    def labels_of(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Training labels of rows, on the host, (N,); -1 for unlabelled samples."""
        return self._host_labels[index]
