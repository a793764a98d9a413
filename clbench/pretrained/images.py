"""Images of a stream to those that a pretrained network was trained on: their size, channels and normalisation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from clbench.errors import UserError

Channels = tuple[float, float, float]
IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)


class Scaling(nn.Module):
    """Images in [0, 1], (N, 1 or 3, H, W), resized bilinearly and normalised, (N, 3, pixels, pixels).

    Args:
        pixels: height and width.
        mean, std: of each channel, in [0, 1].
    """

    rowwise = True

    def __init__(self, pixels: int, mean: Channels, std: Channels) -> None:
        super().__init__()
        self.pixels = pixels
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        low, high = x.aminmax()
        if low < 0 or high > 1:
            raise UserError(
                f"model.factory: a pretrained network normalises its images itself, and got values from {low:.2f} to "
                f"{high:.2f}. Allowed: 0 to 1, which `stream.normalise: unit` gives of uint8."
            )
        if x.shape[-2:] != (self.pixels, self.pixels):
            x = F.interpolate(x, (self.pixels, self.pixels), mode="bilinear", align_corners=False)
        mean, std = (x.new_tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (x - mean) / std


def check(shape: tuple[int, ...], pixels: int, multiple: int = 1) -> None:
    """Checks the arguments of a factory.

    Args:
        shape: of an input.
        pixels: of the network's input.
        multiple: divisor that `pixels` has to have.

    Raises:
        UserError: inputs that are no images, or a size that the network cannot take.
    """
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise UserError(
            f"model.factory: a pretrained network of images got the shape {shape}. Allowed: 1 or 3 channels."
        )
    if pixels < 14 or pixels % multiple:
        allowed = "14 and more" if multiple == 1 else f"a multiple of {multiple}"
        raise UserError(f"model.options.pixels: got {pixels}. Allowed: {allowed}.")
