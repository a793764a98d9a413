"""A small vision transformer, and the contract of an encoder that takes prompts and prefixes.

An encoder maps inputs to features (N, width) and says of itself `width` and `depth`, the number of its blocks. Its
`forward(x, prompts=None, prefixes=None)` takes

prompts    (N, L, width) or (L, width), tokens that enter before block 0 beside those of the input (L2P)
prefixes   block -> keys and values, each (N, M, width) or (M, width), which every token of the block attends to beside
           its own; they enter after the block's projections (prefix tuning; DualPrompt, CODA-Prompt)

A user's encoder, of images or text, has to do no more than that; a network for a method with prompts is
`nn.Sequential(encoder, nn.Linear(encoder.width, outputs))`.

Reference: Dosovitskiy et al. 2021 (ICLR); prefixes: Li and Liang 2021 (ACL).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.errors import UserError
from clbench.training.heads import split

Prefix = tuple[Tensor, Tensor]
"""Keys and values, each (N, M, width) or (M, width)."""


class PromptedEncoder(Protocol):
    """See the module's text; the encoder is an `nn.Module` besides.

    Attributes:
        width: features.
        depth: blocks.
    """

    width: int
    depth: int

    def __call__(
        self, x: Tensor, prompts: Tensor | None = None, prefixes: Mapping[int, Prefix] | None = None
    ) -> Tensor:
        """Features (N, width)."""
        ...


def encoder_of(model: nn.Module, strategy: str) -> PromptedEncoder:
    """The encoder of a network, `nn.Sequential(encoder, nn.Linear)`, that takes prompts and prefixes.

    Args:
        model: the network.
        strategy: name of the method that needs it, for the message.

    Raises:
        UserError: another network.
    """
    front, _ = split(model)
    encoder = front[0]
    named = {"prompts", "prefixes"} <= inspect.signature(encoder.forward).parameters.keys()
    sized = all(isinstance(getattr(encoder, name, None), int) for name in ("width", "depth"))
    if len(front) != 1 or not named or not sized:
        raise UserError(
            f"model: '{strategy}' needs an encoder that takes prompts and prefixes, and {type(encoder).__name__} does "
            "not. Allowed: transformer, or an imported nn.Sequential(encoder, nn.Linear) whose encoder has 'width' and "
            "'depth' and a forward(x, prompts=None, prefixes=None)."
        )
    return cast(PromptedEncoder, encoder)


def attend(qkv: Tensor, heads: int, prefix: Prefix | None = None, keep: Tensor | None = None) -> Tensor:
    """Multi-head attention, (N, T, width).

    Args:
        qkv: queries, keys and values beside each other, (N, T, 3 width).
        heads: number of heads, a divisor of the width.
        prefix: further keys and values.
        keep: tokens that may be attended to, bool (N, T); default: all. Prefixes always are.
    """
    n, tokens, _ = qkv.shape
    q, k, v = qkv.view(n, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    mask = None if keep is None else keep[:, None, None]
    if prefix is not None:
        more = prefix[0].shape[-2]
        keys, values = (part.expand(n, more, -1).reshape(n, more, heads, -1).transpose(1, 2) for part in prefix)
        k, v = torch.cat([keys, k], 2), torch.cat([values, v], 2)
        mask = None if mask is None else F.pad(mask, (keys.shape[2], 0), value=True)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


class TransformerBlock(nn.Module):
    """Attention and two linear layers, each behind a layer normalisation and beside an identity."""

    rowwise = True

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, prefix: Prefix | None = None) -> Tensor:
        x = x + self.out(attend(self.qkv(self.norm1(x)), self.heads, prefix))
        y: Tensor = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return y


class VisionTransformer(nn.Module):
    """Images to the features of the class token.

    Args:
        shape: of an image, (C, H, W).
        patch: edge of a patch, a divisor of H and W.
        width: features.
        depth: blocks.
        heads: a divisor of the width.
    """

    rowwise = True

    def __init__(self, shape: tuple[int, ...], patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        channels, height, columns = shape
        self.width, self.depth = width, depth
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, 1 + (height // patch) * (columns // patch), width))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, prompts: Tensor | None = None, prefixes: Mapping[int, Prefix] | None = None) -> Tensor:
        n = len(x)
        tokens = torch.cat([self.token.expand(n, -1, -1), self.embed(x).flatten(2).transpose(1, 2)], 1) + self.position
        if prompts is not None:
            tokens = torch.cat([tokens[:, :1], prompts.expand(n, *prompts.shape[-2:]), tokens[:, 1:]], 1)
        for i, block in enumerate(self.blocks):
            tokens = block(tokens, None if prefixes is None else prefixes.get(i))
        features: Tensor = self.norm(tokens[:, 0])
        return features


def vision_transformer(
    shape: tuple[int, ...], patch: int, width: int, depth: int, heads: int, outputs: int
) -> nn.Sequential:
    """A vision transformer and a linear head.

    Raises:
        UserError: patches that do not fill the image, or heads that do not divide the width.
    """
    if shape[1] % patch or shape[2] % patch:
        raise UserError(f"model.patch: {patch} does not divide images of {shape[1]}x{shape[2]}.")
    if width % heads:
        raise UserError(f"model.heads: {heads} does not divide the width, {width}.")
    return nn.Sequential(VisionTransformer(shape, patch, width, depth, heads), nn.Linear(width, outputs))
