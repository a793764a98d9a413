"""Networks by name. A user's own network goes through a strategy of one's own, or a later key by import path."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench import config
from clbench.errors import UserError


def build(network: config.Network, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A network, initialised by PyTorch's defaults from the global generator (seed and fence it outside).

    Args:
        network: its configuration.
        shape: of one input, (C, H, W) or (F,).
        outputs: number of output units.

    Raises:
        UserError: a convolutional network for vectors, or for images too small for it.
    """
    if isinstance(network, config.Linear):
        return nn.Sequential(nn.Flatten(), nn.Linear(_size(shape), outputs))
    if isinstance(network, config.Mlp):
        sizes = [_size(shape), *network.hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, units in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, units), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))
    if len(shape) != 3:
        raise UserError(f"model.name: '{network.name}' needs images, and the data set holds vectors.")
    channels, height, width = shape
    if isinstance(network, config.Cnn):
        shrunk = min(height, width) >> len(network.channels)
        if shrunk < 1:
            raise UserError(
                f"model.channels: {len(network.channels)} poolings are too many for {height}x{width} images."
            )
        blocks: list[nn.Module] = []
        for filters in network.channels:
            blocks += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            channels, height, width = filters, height // 2, width // 2
        features = channels * height * width
        return nn.Sequential(
            *blocks, nn.Flatten(), nn.Linear(features, network.hidden), nn.ReLU(), nn.Linear(network.hidden, outputs)
        )
    return SlimResNet18(channels, network.filters, outputs)


def _size(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


class _Block(nn.Module):
    """The basic residual block of He et al. (2016)."""

    def __init__(self, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != filters:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class SlimResNet18(nn.Module):
    """ResNet-18 for small images: 3x3 stem, no first pooling, `filters` initial filters (20 in GEM's paper)."""

    def __init__(self, channels: int, filters: int, outputs: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, filters, 3, 1, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU())
        blocks: list[nn.Module] = []
        inputs = filters
        for stage in range(4):
            for i in range(2):
                blocks.append(_Block(inputs, filters << stage, 2 if stage and not i else 1))
                inputs = filters << stage
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return out
