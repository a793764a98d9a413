"""Stored inputs, and their transforms to inputs of a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clbench.rng import Generator
from clbench.stream import Domain, Stream

if TYPE_CHECKING:
    from clbench.on_disk import Stored


EXACT_BYTES = 256 << 20
"""Largest size of the record of seen samples by task."""

_NOISES = 1021
"""Number of noise images. A prime, so that samples a fixed distance apart do not share one."""


def resampling(domain: Domain, height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """A domain as weighted gathers: output pixel p = sum_k weight[k, p] * input pixel source[k, p].

    Args:
        domain: the transform.
        height, width: of the image; a vector of F features is 1 x F.

    Returns:
        source (K, H*W) and weight (K, H*W); K is 1 for the identity and permutations, 4 for bilinear rotation.
    """
    pixels = np.arange(height * width, dtype=np.int64)
    moved = pixels if domain.permutation is None else domain.permutation
    if not domain.degrees:
        return moved[None], np.ones((1, height * width), np.float32)
    angle = np.deg2rad(domain.degrees)
    cos, sin = np.round([np.cos(angle), np.sin(angle)], 12)  # right angles stay exact
    y, x = pixels // width - (height - 1) / 2, pixels % width - (width - 1) / 2
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
    return np.stack(source)[:, moved], np.stack(weight).astype(np.float32)[:, moved]


class InputTransform:
    """Stored samples to model inputs: to [0, 1], through the domain, then normalised.

    Noise is drawn by the stream seed and belongs to a sample: it is the same at each use of the sample.

    Args:
        stream: gives domains, stored range and moments.
        device: where the samples are.
    """

    def __init__(self, stream: Stream, device: torch.device) -> None:
        data = stream.data
        image = data.train_x.ndim == 4
        height, width = data.train_x.shape[2:] if image else (1, data.train_x.shape[1])
        self._top = data.top
        self._channels = data.train_x.shape[1] if image else 1
        per_channel = (1, -1, 1, 1) if image else (1, -1)
        self._mean = self._std = None
        if stream.normalise == "standard":
            self._mean = torch.tensor(data.mean, dtype=torch.float32, device=device).view(per_channel)
            self._std = torch.tensor(data.std, dtype=torch.float32, device=device).view(per_channel)
        self._moved_moments = False
        self._source: Tensor | None = None
        self._weight: Tensor | None = None
        self._domain_of_task = torch.tensor([t.domain for t in stream.all_tasks], device=device)
        self._domains = [t.domain for t in stream.all_tasks]
        self._whole_numbers = data.train_x.dtype == np.uint8
        self._per_sample = (-1,) + (1,) * (data.train_x.ndim - 1)
        self._levels: Tensor | None = None
        levels = [
            (-d.brightness if d.invert else d.brightness, d.invert * d.brightness, d.noise) for d in stream.domains
        ]
        if any(level != (1.0, 0.0, 0.0) for level in levels):
            self._levels = torch.tensor(levels, dtype=torch.float32, device=device)  # x -> a x + b, then noise
        self._noise: dict[str, Tensor] = {}
        if any(d.noise for d in stream.domains):
            shape = data.train_x.shape[1:]
            for part in ("train", "test"):
                self._noise[part] = torch.from_numpy(_normal(stream.seed, part, shape)).to(device)
        if any(d.kind != "identity" for d in stream.domains):
            pieces = [resampling(d, height, width) for d in stream.domains]
            depth = max(len(s) for s, _ in pieces)
            source = np.zeros((len(pieces), depth, height * width), np.int64)
            weight = np.zeros((len(pieces), depth, height * width), np.float32)
            for i, (s, w) in enumerate(pieces):
                source[i, : len(s)], weight[i, : len(w)] = s, w
            self._source = torch.from_numpy(source).to(device)
            self._weight = torch.from_numpy(weight).to(device) if depth > 1 else None
            if self._mean is not None and self._std is not None and not image:
                # A permuted feature keeps its mean and deviation: (domains, F).
                self._mean, self._std = (m[0, self._source[:, 0]] for m in (self._mean, self._std))
                self._moved_moments = True

    def __call__(
        self, stored: Tensor, task: Tensor | int, row: Tensor | None = None, part: Literal["train", "test"] = "train"
    ) -> Tensor:
        """Model inputs, float32, of the stored samples' shape.

        Args:
            stored: (N, C, H, W) or (N, F), uint8 or float32.
            task: the task (or variant) of all samples, or of each, int64 (N,).
            row: of each sample in its part of the data set, int64 (N,); may be left out where no domain has noise.
            part: of the data set; training and test samples have separate noise.
        """
        x = stored.to(torch.float32)
        if self._top != 1.0:
            x = x / self._top
        if self._source is not None:
            x = self._resample(x, task, self._source)
        if self._levels is not None:
            x = self._level(x, task, row, part, self._levels)
        if self._mean is not None and self._std is not None:
            if self._moved_moments:
                of = self._domains[task] if isinstance(task, int) else self._domain_of_task[task]
                return (x - self._mean[of]) / self._std[of]
            x = (x - self._mean) / self._std
        return x

    def _level(self, x: Tensor, task: Tensor | int, row: Tensor | None, part: str, levels: Tensor) -> Tensor:
        of = self._domains[task] if isinstance(task, int) else self._domain_of_task[task]
        factor, offset, deviation = (v.reshape(self._per_sample) for v in levels[of].unbind(-1))
        x = x * factor + offset
        if self._noise:
            assert row is not None
            x = x + deviation * self._noise[part].index_select(0, row % _NOISES)
        return x.clamp(0.0, 1.0) if self._whole_numbers else x

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


def _normal(seed: int, part: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard normal noise images, (_NOISES, *shape), rounded to multiples of 2^-10 so that no logarithm decides."""
    generator, n = Generator(seed, "stream", "noise images", part), _NOISES * int(np.prod(shape))
    return (np.rint(generator.normal(n) * 1024) / 1024).astype(np.float32).reshape(_NOISES, *shape)


class StoredInputs:
    """The stored inputs of a part of the data: on the device, or on the disk.

    Args:
        x: of the data set.
        device: target of the samples.
    """

    def __init__(self, x: Stored, device: torch.device) -> None:
        self._device = device
        self._held = torch.from_numpy(x).to(device) if isinstance(x, np.ndarray) else None
        self._x = x
        self.sample_bytes = int(np.prod(x.shape[1:])) * x.dtype.itemsize

    def __call__(self, index: Tensor) -> Tensor:
        """Samples by their rows, int64 (n,), on the device."""
        if self._held is not None:
            return self._held.index_select(0, index)
        assert not isinstance(self._x, np.ndarray)
        return self._sent(self._x.read(index.cpu().numpy()))

    def in_turn(self, index: Tensor, bounds: Iterable[tuple[int, int]]) -> Iterator[Tensor]:
        """Samples of index[a:b] for one pair after the other, from the disk ahead of time."""
        if self._held is not None:
            for a, b in bounds:
                yield self._held.index_select(0, index[a:b])
            return
        assert not isinstance(self._x, np.ndarray)
        rows = index.cpu().numpy()
        for samples in self._x.in_turn(rows[a:b] for a, b in bounds):
            yield self._sent(samples)

    def _sent(self, samples: NDArray[Any]) -> Tensor:
        stored = torch.from_numpy(samples)
        return stored.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else stored
