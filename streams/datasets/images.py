"""Image files as arrays: decoded, and brought to one size and one number of channels.

Grey files stay grey, unless any of a data set is in colour: then all are. Opacity is left out, palettes and other
colour models become red, green and blue. Images of more than 8 bits are refused. Where sizes differ, all are resized to
`stream.size`, else to the most frequent height and width (of equally frequent ones the largest area), by
`clbench.streams.datasets.resize`, whatever their proportions.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.errors import UserError
from clbench.streams.datasets.resize import resize

Image = NDArray[np.uint8]


def decoded(where: str, content: Path | bytes) -> Image:
    """An image, uint8 (H, W) or (H, W, 3).

    Raises:
        UserError: it cannot be read, or has more than 8 bits a channel.
    """
    from PIL import Image

    try:
        with Image.open(content if isinstance(content, Path) else io.BytesIO(content)) as image:
            if image.mode.startswith(("I", "F")):
                raise UserError(f"{where}: an image of mode {image.mode}, more than 8 bits a channel. Allowed: 8 bits.")
            grey = image.mode in ("1", "L", "LA", "La")
            return np.asarray(image.convert("L" if grey else "RGB"))
    except UserError:
        raise
    except Exception as error:  # decoders raise anything on damaged files
        raise UserError(f"{where}: cannot be read as an image ({' '.join(str(error).split())}).") from None


def of_column(where: str, column: str, values: Iterable[Any]) -> Iterator[Image]:
    """The images of a column of Hugging Face's `Image`: bytes, or the path of a file."""
    for row, value in enumerate(values):
        place = f"{where}: column '{column}', row {row + 1}"
        if not isinstance(value, dict) or not (value.get("bytes") or value.get("path")):
            raise UserError(f"{place}: no image.")
        yield decoded(place, value.get("bytes") or Path(value["path"]))


def together(images: Iterable[Image], size: int | None) -> Image:
    """Images of one size, uint8 (N, H, W) or (N, H, W, 3).

    Args:
        images: (H, W) or (H, W, 3), one at least.
        size: height and width; None: the most frequent ones.

    >>> together([np.zeros((1, 2), np.uint8), np.full((2, 2), 9, np.uint8), np.zeros((2, 2, 3), np.uint8)], None).shape
    (3, 2, 2, 3)
    """
    held = list(images)
    shape = (size, size) if size is not None else _most_frequent(image.shape[:2] for image in held)
    colour = any(image.ndim == 3 for image in held)
    out = np.empty((len(held), *shape, *([3] if colour else [])), np.uint8)
    for i, image in enumerate(held):
        channels = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
        fitted = resize(channels[None], *shape)[0]
        out[i] = np.broadcast_to(fitted, (3, *shape)).transpose(1, 2, 0) if colour else fitted[0]
    return out


def _most_frequent(shapes: Iterable[tuple[int, ...]]) -> tuple[int, int]:
    counts = Counter(shapes)
    height, width = max(counts, key=lambda shape: (counts[shape], shape[0] * shape[1], shape))
    return height, width
