"""Random changes of stored images: drawn for each sample of a batch, applied to the whole batch on the device.

The parts are torchvision's `RandomCrop`, `RandomHorizontalFlip`, `RandomRotation` and `ColorJitter`, equal in
distribution to one call for each sample. Images of whole numbers are rounded as `torchvision.transforms.v2` rounds
uint8 tensors: down, after each change of colour. (On PIL images torchvision rounds otherwise, by a grey level or two.)
The largest value is that of the data set where torchvision's is that of the dtype, 255 or 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clbench import messages
from clbench.config import augmentation
from clbench.config.augmentation import augmentation_mistakes
from clbench.errors import UserError
from clbench.rng import Generator

_IN_CACHE = 32
"""Approximate number of images that a CPU rotates at a time: in its caches 128 small ones take half as long."""


# ------------------------------------------------------------------------------------------------ changes
def crop(x: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    """The window at (top, left) of each zero-padded image, of the size of the image.

    Args:
        x: (N, C, H, W).
        top, left: 0..2 padding, int64 (N,).
        padding: pixels of zeros on each side.
    """
    height, width = x.shape[2:]
    windows = F.pad(x, [padding] * 4).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(len(x), device=x.device), :, top, left]


def flip(x: Tensor, flipped: Tensor) -> Tensor:
    """Mirrors left and right where `flipped`, bool (N,)."""
    rows = torch.arange(len(x), device=x.device)
    return torch.cat([x, x.flip(-1)]).index_select(0, rows + len(x) * flipped)


def rotate(x: Tensor, degrees: Tensor) -> Tensor:
    """Each image rotated counter-clockwise about its centre, with nearest-pixel interpolation.

    Args:
        x: (N, C, H, W).
        degrees: float64 (N,).
    """
    height, width = x.shape[2:]
    angle = degrees.deg2rad()
    # From places about the centre, in pixels, to grid_sample's, in halves of the image.
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).to(torch.float32)
    xx, yx, xy, yy = turn.view(4, -1, 1, 1) / torch.tensor([width, width, height, height]).view(4, 1, 1, 1).to(x.device)
    across, down = (torch.arange(1.0 - n, n, 2, device=x.device) for n in (width, height))
    down = down.view(-1, 1)
    grid = torch.stack([torch.addcmul(across * xx, down, yx), torch.addcmul(across * xy, down, yy)], -1)
    return _like(x, F.grid_sample(x.to(torch.float32), grid, mode="nearest", align_corners=False))


def brightness(x: Tensor, factor: Tensor, top: float) -> Tensor:
    """factor x, cut off at 0 and `top`."""
    return _like(x, (x.to(torch.float32) * _per_sample(factor)).clamp_(0, top))


def contrast(x: Tensor, factor: Tensor, top: float) -> Tensor:
    """factor x + (1 - factor) m, with m the mean grey of the image."""
    pixels = x.to(torch.float32)
    mean = _grey(pixels, not x.is_floating_point()).mean((1, 2, 3), keepdim=True)
    return _like(x, _blend(pixels, mean, factor, top))


def saturation(x: Tensor, factor: Tensor, top: float) -> Tensor:
    """factor x + (1 - factor) g, with g the grey of the pixel."""
    pixels = x.to(torch.float32)
    return _like(x, _blend(pixels, _grey(pixels, not x.is_floating_point()), factor, top))


def hue(x: Tensor, shift: Tensor, top: float) -> Tensor:
    """Each pixel's hue moved by `shift` circles, its largest and smallest channel kept.

    With h the hue in sixths of the circle, a channel is low + chroma w, and w is |h - 3| - 1 for red, 2 - |h - 2| for
    green and 2 - |h - 4| for blue, cut off at 0 and 1.

    Args:
        x: (N, 3, H, W).
        shift: (N,).
        top: the value that stands for 1.
    """
    red, green, blue = x.to(torch.float32).unbind(1)
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    # 0 where the channel is the largest, else 1: on a CPU torch.where takes twenty times as long as `lerp`.
    not_red, not_green = (high - red).sign_(), (high - green).sign_()
    not_of_red = torch.lerp((blue - red).add_(chroma, alpha=2), (red - green).add_(chroma, alpha=4), not_green)
    h = torch.lerp(green - blue, not_of_red, not_red).div_(chroma.clamp_min(torch.finfo(torch.float32).tiny))
    h += _per_sample(6 * shift).squeeze(1)
    h -= (h / 6).floor_().mul_(6)
    centre, slope, offset = torch.tensor([[3.0, 2, 4], [1, -1, -1], [-1, 2, 2]], device=x.device).view(3, 3, 1, 1)
    w = (h.unsqueeze(1) - centre).abs_().mul_(slope).add_(offset).clamp_(0, 1)
    out = torch.addcmul(low.unsqueeze(1), chroma.unsqueeze(1), w)
    return _like(x, out if x.is_floating_point() else out.mul_((top + 0.999) / top))  # torchvision's way to uint8


def _per_sample(values: Tensor) -> Tensor:
    """(N,) as float32 (N, 1, 1, 1)."""
    return values.to(torch.float32).view(-1, 1, 1, 1)


def _grey(x: Tensor, whole: bool) -> Tensor:
    """The grey of each pixel (ITU-R 601), (N, 1, H, W); of whole numbers a whole number, rounded down."""
    if x.shape[1] == 1:
        return x
    red, green, blue = x.unbind(1)
    grey = (red * 0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).unsqueeze(1)
    return grey.floor_() if whole else grey


def _blend(x: Tensor, other: Tensor, factor: Tensor, top: float) -> Tensor:
    # One rounding, as torchvision has it: a grey pixel stays what it is in more cases than with two.
    return torch.addcmul(x * _per_sample(factor), other, _per_sample(1 - factor)).clamp_(0, top)


def _like(x: Tensor, changed: Tensor) -> Tensor:
    """In the dtype of x, rounded down. Straight to uint8 takes three times as long on a CPU."""
    return changed if x.is_floating_point() else changed.to(torch.int32).to(x.dtype)


COLORS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
    "hue": hue,
}


def color_jitter(x: Tensor, factors: dict[str, Tensor], order: NDArray[np.int64], top: float) -> Tensor:
    """Several changes of colour, in an independent order for each sample.

    Args:
        x: (N, C, H, W).
        factors: of each change, its parameters (N,); K changes.
        order: of each sample, the changes by their place in `factors`, on the host, (N, K).
        top: the largest value.
    """
    at = np.arange(len(x))  # of each sample, where it is in x
    for turn in order.T:
        by_change = np.argsort(turn, kind="stable")
        rows, samples = (torch.from_numpy(a).to(x.device) for a in (at[by_change], by_change))
        sizes = np.bincount(turn, minlength=len(factors)).tolist()
        x = torch.cat(
            [
                COLORS[name](of_change, factor.index_select(0, members), top)
                for (name, factor), of_change, members in zip(
                    factors.items(),
                    x.index_select(0, rows).split_with_sizes(sizes),
                    samples.split_with_sizes(sizes),
                    strict=True,
                )
            ]
        )
        at = np.argsort(by_change, kind="stable")
    return x.index_select(0, torch.from_numpy(at).to(x.device))


# ------------------------------------------------------------------------------------------------ draws
def draw_crop(generator: Generator, n: int, padding: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Top and left of n windows, uniform in 0..2 padding, (n,) each."""
    return generator.below(2 * padding + 1, n), generator.below(2 * padding + 1, n)


def draw_flip(generator: Generator, n: int, probability: float) -> NDArray[np.bool_]:
    """Mask of the flipped images among n, (n,)."""
    return generator.uniform(n) < probability


def draw_degrees(generator: Generator, n: int, degrees: float) -> NDArray[np.float64]:
    """n angles, uniform in [-degrees, degrees), (n,)."""
    return degrees * (2 * generator.uniform(n) - 1)


def draw_jitter(
    generator: Generator, n: int, part: augmentation.ColorJitter
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.int64]]:
    """Factors (n,) of the enabled changes, and the order of these K changes, a uniform permutation, (n, K).

    A factor is uniform in [max(0, 1 - b), 1 + b), a hue's shift in [-b, b).
    """
    factors = {}
    for name in COLORS:
        spread = getattr(part, name)
        if spread:
            low, high = (-spread, spread) if name == "hue" else (max(0.0, 1 - spread), 1 + spread)
            factors[name] = low + (high - low) * generator.uniform(n)
    order = np.argsort(generator.raw(n * len(factors)).reshape(n, len(factors)), axis=1, kind="stable")
    return factors, order


# ------------------------------------------------------------------------------------------------ the augmenter
class Augmenter:
    """`training.augmentation` for batches of stored samples.

    Args:
        parts: applied in this order.
        generator: source of all draws: a few vectors for each batch, on the host.
        shape: of a sample, (C, H, W).
        top: the stored value that stands for 1.0.
        device: where the samples are.

    Raises:
        UserError: parts that do not apply to such samples.
    """

    def __init__(
        self,
        parts: Sequence[augmentation.Augmentation],
        generator: Generator,
        shape: tuple[int, ...],
        top: float,
        device: torch.device,
    ) -> None:
        mistakes = augmentation_mistakes(parts, "the data set", len(shape) == 3, shape[0])
        if mistakes:
            raise UserError(*(f"{messages.dotted(['training', *path])}: {sentence}" for path, sentence in mistakes))
        self._parts, self._generator, self._top, self._device = parts, generator, top, device

    def __call__(self, stored: Tensor) -> Tensor:
        """Augmented samples, of the same shape and dtype.

        Args:
            stored: (N, C, H, W), uint8 or float32; unchanged.
        """
        for part in self._parts:
            stored = self._apply(part, stored)
        return stored

    def _apply(self, part: augmentation.Augmentation, x: Tensor) -> Tensor:
        generator, n = self._generator, len(x)
        if isinstance(part, augmentation.RandomCrop):
            top, left = draw_crop(generator, n, part.padding)
            return crop(x, self._placed(top), self._placed(left), part.padding)
        if isinstance(part, augmentation.HorizontalFlip):
            return flip(x, self._placed(draw_flip(generator, n, part.probability)))
        if isinstance(part, augmentation.Rotation):
            degrees = self._placed(draw_degrees(generator, n, part.degrees))
            pieces = max(1, n // _IN_CACHE) if x.device.type == "cpu" else 1
            return torch.cat([rotate(*some) for some in zip(x.chunk(pieces), degrees.chunk(pieces), strict=True)])
        factors, order = draw_jitter(generator, n, part)
        return color_jitter(x, {name: self._placed(f) for name, f in factors.items()}, order, self._top)

    def _placed(self, drawn: NDArray[Any]) -> Tensor:
        return torch.from_numpy(drawn).to(self._device)

    def state_dict(self) -> dict[str, Any]:
        """State of the generator, as plain integers."""
        return self._generator.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self._generator.load_state_dict(state)
