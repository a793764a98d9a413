"""A linear layer, a perceptron with hidden layers, and a small convolutional network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import nn

from clbench.errors import UserError


def linear(shape: tuple[int, ...], outputs: int) -> nn.Sequential:
    """One linear layer.

    Args:
        shape: of one input.
        outputs: number of output units.
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), outputs))


def mlp(shape: tuple[int, ...], hidden: Sequence[int], dropout: float, outputs: int) -> nn.Sequential:
    """Linear layers with ReLU between them.

    Args:
        shape: of one input.
        hidden: units of each hidden layer.
        dropout: probability of the hidden units, in [0, 1).
        outputs: number of output units.
    """
    sizes = [math.prod(shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, units in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, units), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))


def cnn(shape: tuple[int, ...], filters: Sequence[int], hidden: int, outputs: int) -> nn.Sequential:
    """A 3x3 convolution, ReLU and pooling for each number of filters, then one hidden layer.

    Args:
        shape: of an image, (C, H, W).
        filters: of each convolution.
        hidden: units of the hidden layer.
        outputs: number of output units.

    Raises:
        UserError: images too small for it.
    """
    channels, height, width = shape
    if min(height, width) >> len(filters) < 1:
        raise UserError(f"model.channels: {len(filters)} poolings are too many for {height}x{width} images.")
    blocks: list[nn.Module] = []
    for count in filters:
        blocks += [nn.Conv2d(channels, count, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels, height, width = count, height // 2, width // 2
    features = channels * height * width
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
