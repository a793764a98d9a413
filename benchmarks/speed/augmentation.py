"""Batched augmentation beside torchvision's, one image at a time: a batch of 128 stored images, 3x32x32, uint8.

    python benchmarks/speed/augmentation.py --pairs 30 --threads 1

Rows take uint8 tensors to a uint8 batch, random draws and stacking included. Images of uniform noise: none of the
operations looks at what they show.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable

import torch
from pairs import Segment, measure, table
from torch import Tensor
from torchvision import transforms as v1
from torchvision.transforms import functional, v2

from clbench.config import augmentation
from clbench.rng import Generator
from clbench.training.augmentation import Augmenter

BATCH, SHAPE = 128, (3, 32, 32)
_FIRST: list[augmentation.Augmentation] = [
    augmentation.RandomCrop(name="random_crop"),
    augmentation.HorizontalFlip(name="horizontal_flip"),
]
_JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
PARTS: dict[str, list[augmentation.Augmentation]] = {
    "crop, flip": _FIRST,
    "crop, flip, rotation, jitter": [
        *_FIRST,
        augmentation.Rotation(name="rotation", degrees=15),
        augmentation.ColorJitter(name="color_jitter", **_JITTER),
    ],
}
BATCHED, ON_PIL, ON_TENSORS = "batched", "torchvision v1, PIL", "torchvision v2, tensors"


def images() -> Tensor:
    """A batch, uint8 (128, 3, 32, 32)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (BATCH, *SHAPE), dtype=torch.uint8, generator=generator)


def _one_by_one(transform: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.stack([transform(image) for image in x])


def rows(parts: list[augmentation.Augmentation], x: Tensor) -> dict[str, Segment]:
    """A segment for each way; a unit is a batch."""
    of = {
        "random_crop": ("RandomCrop", (SHAPE[1:], 4), {}),
        "horizontal_flip": ("RandomHorizontalFlip", (), {}),
        "rotation": ("RandomRotation", (15,), {}),
        "color_jitter": ("ColorJitter", (), _JITTER),
    }
    pil, tensors = (
        [getattr(kind, name)(*positional, **named) for name, positional, named in (of[p.name] for p in parts)]
        for kind in (v1, v2)
    )
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        BATCHED: Augmenter(parts, Generator(0, "benchmark"), SHAPE, 255.0, x.device),
        ON_PIL: functools.partial(_one_by_one, v1.Compose([functional.to_pil_image, *pil, functional.pil_to_tensor])),
        ON_TENSORS: functools.partial(_one_by_one, v2.Compose(tensors)),
    }

    def segment(way: Callable[[Tensor], Tensor], repeats: int) -> Segment:
        def run() -> int:
            for _ in range(repeats):
                out = way(x)
            assert (out.shape, out.dtype) == (x.shape, x.dtype)
            return repeats

        return run

    return {name: segment(way, 20 if name == BATCHED else 1) for name, way in ways.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=30, help="rounds of each comparison (30)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
    parser.add_argument("--quick", action="store_true", help="2 pairs: shows that it works, and no more")
    given = parser.parse_args()
    if given.pairs < 1 or given.threads < 1:
        parser.error("--pairs and --threads: at least 1.")
    torch.set_num_threads(given.threads)
    x, rounds = images(), 2 if given.quick else given.pairs
    lines = []
    for name, parts in PARTS.items():
        timings = measure(dict(rows(parts, x)), rounds)
        for row in (ON_PIL, ON_TENSORS):
            ratio = timings.ratio(row, BATCHED)
            interval = f"{ratio.median:.1f} ({ratio.low:.1f} to {ratio.high:.1f})"
            lines.append([name, row, f"{1e3 * ratio.base_s:.2f}", f"{1e3 * ratio.row_s:.2f}", interval])
    header = ["parts", "one by one", "batched, ms a batch", "one by one, ms a batch", "times as long (95 %)"]
    print(table(header, lines))
    print(f"\n{rounds} pairs, {given.threads} threads, batches of {BATCH} images {SHAPE}, torch {torch.__version__}.")


if __name__ == "__main__":
    main()
