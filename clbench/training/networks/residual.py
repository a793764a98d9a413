"""Residual networks: ResNet-18 in three forms, and the ResNet-32 of CIFAR.

    y = ReLU(F(x) + shortcut(x)),    F(x) = BN(conv3x3(ReLU(BN(conv3x3(x)))))

A block that halves the image and raises the number of filters needs a shortcut that does the same: every second pixel
with zeros for the further channels (option A, without parameters), or a 1x1 convolution with batch normalisation
(option B). `resnet18` and `resnet32` name their parameters as torchvision's ResNet does.

Reference: He, Zhang, Ren and Sun 2016 (CVPR), table 1 and section 4.2. 20 initial filters: Lopez-Paz and Ranzato 2017
(NeurIPS). No last ReLU: Hou et al. 2019 (CVPR, LUCIR), whose features may then be negative, as a cosine head needs.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Shortcut = Literal["zeros", "conv"]


class Block(nn.Module):
    """The basic residual block of He et al. (2016)."""

    rowwise = True

    def __init__(self, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != filters:
            self.shortcut = _convolved(inputs, filters, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class BasicBlock(nn.Module):
    """The same with a choice of the shortcut, and of the last ReLU; parameters are named as torchvision's.

    Args:
        inputs, filters: channels before and after it.
        stride: of the first convolution.
        shortcut: "zeros" (option A) or "conv" (option B), where the shape changes.
        relu: whether a ReLU ends the block.
    """

    rowwise = True

    def __init__(self, inputs: int, filters: int, stride: int, shortcut: Shortcut = "conv", relu: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != filters:
            padded = shortcut == "zeros"
            self.downsample = ZeroPadded(stride, filters - inputs) if padded else _convolved(inputs, filters, stride)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out)) + self.downsample(x)
        return F.relu(out) if self.relu else out


class ZeroPadded(nn.Module):
    """Option A: every `stride`-th pixel, and `channels` further channels of zeros behind the others."""

    rowwise = True

    def __init__(self, stride: int, channels: int) -> None:
        super().__init__()
        self.stride, self.channels = stride, channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.channels))


class MeanOverSpace(nn.Module):
    """(N, C, H, W) to (N, C)."""

    rowwise = True

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def _convolved(inputs: int, filters: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))


def slim_resnet18(channels: int, filters: int, outputs: int) -> nn.Sequential:
    """ResNet-18 for small images: 3x3 stem, no first pooling.

    Args:
        channels: of an image.
        filters: of the first stage (20 in GEM's paper).
        outputs: number of output units.
    """
    stem = nn.Sequential(nn.Conv2d(channels, filters, 3, 1, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU())
    blocks: list[nn.Module] = []
    inputs = filters
    for stage in range(4):
        for i in range(2):
            blocks.append(Block(inputs, filters << stage, 2 if stage and not i else 1))
            inputs = filters << stage
    return nn.Sequential(stem, *blocks, MeanOverSpace(), nn.Linear(inputs, outputs))


def resnet18(channels: int, stem: Literal["cifar", "imagenet"], outputs: int) -> nn.Sequential:
    """ResNet-18 of 64 to 512 filters.

    Args:
        channels: of an image.
        stem: a 3x3 convolution, or a 7x7 one of stride 2 and a pooling.
        outputs: number of output units.
    """
    large = stem == "imagenet"
    first = nn.Conv2d(channels, 64, 7, 2, 3, bias=False) if large else nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
    layers: dict[str, nn.Module] = {"conv1": first, "bn1": nn.BatchNorm2d(64), "relu": nn.ReLU()}
    if large:
        layers["maxpool"] = nn.MaxPool2d(3, 2, 1)
    return _stages(layers, 64, (64, 128, 256, 512), 2, "conv", True, outputs)


def resnet32(channels: int, shortcut: Shortcut, last_relu: bool, outputs: int) -> nn.Sequential:
    """ResNet-32 for CIFAR: 3 stages of 5 blocks with 16, 32 and 64 filters.

    Args:
        channels: of an image.
        shortcut: "zeros" (option A) or "conv" (option B).
        last_relu: whether a ReLU ends the last block.
        outputs: number of output units.
    """
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(channels, 16, 3, 1, 1, bias=False), "bn1": nn.BatchNorm2d(16), "relu": nn.ReLU(),
    }  # fmt: skip
    return _stages(layers, 16, (16, 32, 64), 5, shortcut, last_relu, outputs)


def _stages(
    layers: dict[str, nn.Module],
    inputs: int,
    stages: tuple[int, ...],
    blocks: int,
    shortcut: Shortcut,
    last_relu: bool,
    outputs: int,
) -> nn.Sequential:
    """Stages of blocks behind a stem, the mean over space and a linear layer."""
    for stage, filters in enumerate(stages, 1):
        of_stage = []
        for i in range(blocks):
            last = stage == len(stages) and i == blocks - 1
            stride = 2 if stage > 1 and not i else 1
            of_stage.append(BasicBlock(inputs, filters, stride, shortcut, last_relu or not last))
            inputs = filters
        layers[f"layer{stage}"] = nn.Sequential(*of_stage)
    return nn.Sequential(OrderedDict(layers, avgpool=MeanOverSpace(), fc=nn.Linear(inputs, outputs)))
