"""Models of `training.augmentation`, and their requirements on the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from clbench.config.optimizers import NonNegative
from clbench.schema import Mistake, Model, mistake


class RandomCrop(Model):
    """A window of the size of the image, at a random position of the zero-padded image."""

    name: Literal["random_crop"]
    padding: Annotated[int, Field(ge=1)] = 4
    """Pixels of zeros on each side."""


class HorizontalFlip(Model):
    """Mirrors left and right."""

    name: Literal["horizontal_flip"]
    probability: Annotated[float, Field(gt=0, le=1)] = 0.5


class Rotation(Model):
    """About the centre, by an angle uniform in [-degrees, degrees]; nearest pixel, zero outside."""

    name: Literal["rotation"]
    degrees: Annotated[float, Field(gt=0, le=180)] = 15.0


class ColorJitter(Model):
    """Changes of colour, by independent factors, in random order. Grey images have no saturation and no hue."""

    name: Literal["color_jitter"]
    brightness: NonNegative = 0.0
    """Factor uniform in [max(0, 1 - b), 1 + b]; likewise contrast and saturation."""
    contrast: NonNegative = 0.0
    saturation: NonNegative = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Shift uniform in [-hue, hue], as a share of the colour circle."""

    @pydantic.model_validator(mode="after")
    def _changes_something(self) -> ColorJitter:
        if not (self.brightness or self.contrast or self.saturation or self.hue):
            raise mistake("needs 'brightness', 'contrast', 'saturation' or 'hue' above 0")
        return self


Augmentation = Annotated[RandomCrop | HorizontalFlip | Rotation | ColorJitter, Field(discriminator="name")]


def augmentation_mistakes(
    parts: Sequence[Augmentation], data: str, image: bool, channels: int | None = None
) -> list[Mistake]:
    """Requirements of an augmentation that the data do not meet.

    Args:
        parts: `training.augmentation`.
        data: name of the data set in sentences.
        image: whether samples are images.
        channels: of an image; None where that is not known yet.

    Returns:
        Key paths below `training`, each with a sentence.
    """
    if not image:
        return [(["augmentation"], f"needs images, and {data} holds vectors.")] if parts else []
    problems: list[Mistake] = []
    for i, part in enumerate(parts):
        if not isinstance(part, ColorJitter) or channels in (None, 3):
            continue
        if channels != 1:
            problems.append((["augmentation", i], f"needs images of 1 or 3 channels, and {data} has {channels}."))
            continue
        for key in ("saturation", "hue"):  # torchvision leaves grey images as they are, without a word
            if getattr(part, key):
                problems.append((["augmentation", i, key], f"needs images of 3 channels, and {data} has 1."))
    return problems
