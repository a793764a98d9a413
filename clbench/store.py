"""A data set on the device in its stored dtype: a mini-batch is one gather and one transform, whatever its origin.

Samples are named by their row in the training set and the task they come from, so that a replay buffer holds two
integers a sample and a batch may mix tasks with different input transforms.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clbench.stream import Domain, Stream


def resampling(domain: Domain, height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """A domain as weighted gathers: output pixel p = sum_k weight[k, p] * input pixel source[k, p].

    Args:
        domain: the transform.
        height, width: of the image; a vector of F features is 1 x F.

    Returns:
        source (K, H*W) and weight (K, H*W); K is 1 for the identity and permutations, 4 for bilinear rotation.
    """
    here = np.arange(height * width, dtype=np.int64)
    if domain.kind == "identity":
        return here[None], np.ones((1, height * width), np.float32)
    if domain.kind == "permutation":
        assert domain.permutation is not None
        return domain.permutation[None], np.ones((1, height * width), np.float32)
    angle = np.deg2rad(domain.degrees)
    cos, sin = np.round([np.cos(angle), np.sin(angle)], 12)  # right angles stay exact
    y, x = here // width - (height - 1) / 2, here % width - (width - 1) / 2
    from_x, from_y = cos * x - sin * y + (width - 1) / 2, sin * x + cos * y + (height - 1) / 2
    left, top = np.floor(from_x).astype(np.int64), np.floor(from_y).astype(np.int64)
    right_share, bottom_share = from_x - left, from_y - top
    source, weight = [], []
    for dy, row_share in ((0, 1 - bottom_share), (1, bottom_share)):
        for dx, column_share in ((0, 1 - right_share), (1, right_share)):
            row, column = top + dy, left + dx
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            source.append(np.where(inside, row * width + column, 0))
            weight.append(np.where(inside, row_share * column_share, 0.0))
    return np.stack(source), np.stack(weight).astype(np.float32)


class InputTransform:
    """Stored samples to model inputs: to [0, 1], through the domain, then normalised.

    Args:
        stream: gives domains, stored range and moments.
        normalise: "unit" or "standard"; see `StreamConfig.normalise`.
        device: where the samples are.
    """

    def __init__(self, stream: Stream, normalise: str, device: torch.device) -> None:
        data = stream.data
        image = data.train_x.ndim == 4
        height, width = data.train_x.shape[2:] if image else (1, data.train_x.shape[1])
        self._top = data.top
        self._channels = data.train_x.shape[1] if image else 1
        per_channel = (1, -1, 1, 1) if image else (1, -1)
        self._mean = self._std = None
        if normalise == "standard":
            self._mean = torch.tensor(data.mean, dtype=torch.float32, device=device).view(per_channel)
            self._std = torch.tensor(data.std, dtype=torch.float32, device=device).view(per_channel)
        self._source: Tensor | None = None
        self._weight: Tensor | None = None
        self._domain_of_task = torch.tensor([t.domain for t in stream.tasks], device=device)
        self._domains = [t.domain for t in stream.tasks]
        if any(d.kind != "identity" for d in stream.domains):
            pieces = [resampling(d, height, width) for d in stream.domains]
            depth = max(len(s) for s, _ in pieces)
            source = np.zeros((len(pieces), depth, height * width), np.int64)
            weight = np.zeros((len(pieces), depth, height * width), np.float32)
            for i, (s, w) in enumerate(pieces):
                source[i, : len(s)], weight[i, : len(w)] = s, w
            self._source = torch.from_numpy(source).to(device)
            self._weight = torch.from_numpy(weight).to(device) if depth > 1 else None

    def __call__(self, stored: Tensor, task: Tensor | int) -> Tensor:
        """Model inputs, float32, of the stored samples' shape.

        Args:
            stored: (N, C, H, W) or (N, F), uint8 or float32.
            task: the task of all samples, or of each, int64 (N,).
        """
        x = stored.to(torch.float32)
        if self._top != 1.0:
            x = x / self._top
        if self._source is not None:
            x = self._resample(x, task, self._source)
        if self._mean is not None and self._std is not None:
            x = (x - self._mean) / self._std
        return x

    def _resample(self, x: Tensor, task: Tensor | int, source: Tensor) -> Tensor:
        flat = x.reshape(len(x), self._channels, -1)
        depth, positions = source.shape[1:]
        if isinstance(task, int):
            domain = self._domains[task]
            taken = flat.index_select(2, source[domain].view(-1))
            weight = None if self._weight is None else self._weight[domain]
        else:
            of = self._domain_of_task[task]
            where = source[of].view(len(x), 1, -1).expand(-1, self._channels, -1)
            taken = flat.gather(2, where)
            weight = None if self._weight is None else self._weight[of].unsqueeze(1)
        taken = taken.view(len(x), self._channels, depth, positions)
        return (taken.squeeze(2) if weight is None else (taken * weight).sum(2)).view_as(x)


class TrainingSet:
    """The training samples on the device.

    Args:
        stream: names the data and the tasks.
        transform: stored samples to inputs.
        device: where they live.
    """

    def __init__(self, stream: Stream, transform: InputTransform, device: torch.device) -> None:
        self._x = torch.from_numpy(stream.data.train_x).to(device)
        self._labels = torch.from_numpy(stream.data.train_y).to(device)
        self._host_labels = stream.data.train_y
        self._transform = transform
        table = np.stack([stream.targets(np.arange(stream.data.classes), t.id) for t in stream.tasks])
        self._targets = torch.from_numpy(table).to(device)
        self.sample_bytes = self._x[0].numel() * self._x.element_size() + 8
        """Bytes of one stored sample and its label, as a buffer of copies would hold them."""

    def fetch(self, index: Tensor, task: Tensor | int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of rows of the training set.

        Args:
            index: rows, int64 (N,), on the device.
            task: the task of all, or of each.

        Returns:
            x (N, ...) float32 and y (N,) int64.
        """
        x = self._transform(self._x.index_select(0, index), task)
        return x, self._targets[task, self._labels.index_select(0, index)]

    def labels_of(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """The data set's classes of rows, on the host, (N,)."""
        return self._host_labels[index]
