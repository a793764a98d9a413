"""Features of 10,000 images by `clbench features`, beside a bare forward pass of the same network.

    .venv/bin/python benchmarks/speed/features.py             # about two minutes

Both sides in turns in one process, with batches of 256 in inference mode. The bare pass has its inputs ready, float32
in [0, 1] in memory, and keeps its features; the extraction reads the images (uint8, 32x32x3) and the weights from
files, hashes both, converts the images, checks that features are finite, and writes its file.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pairs import measure, table

from clbench.config.benchmark import Numerics
from clbench.extraction.extract import extract
from clbench.extraction.networks import extractor
from clbench.extraction.settings import Extraction, data_of, network_of
from clbench.training import models

BATCH = 256
NETWORKS = {"slim_resnet18": (8, 5), "cnn": (128, 12)}
"""Name -> filters or hidden units, and rounds."""


def model(name: str) -> str:
    size = NETWORKS[name][0]
    return f"{{name: {name}, {'hidden' if name == 'cnn' else 'filters'}: {size}}}"


def images(path: Path, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A file of random images of ten classes, nine tenths of them for training; the images as a network takes them."""
    drawn = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (count, 32, 32, 3), np.uint8)
    y, train = np.arange(count) % 10, count - count // 10
    np.savez(path, train_x=drawn[:train], train_y=y[:train], test_x=drawn[train:], test_y=y[train:])
    return drawn.transpose(0, 3, 1, 2)


def sides(name: str, folder: Path, count: int, threads: int) -> dict[str, Callable[[], int]]:
    """The work of both sides, which comes to the same features."""
    stored = images(folder / "images.npz", count)
    torch.manual_seed(0)
    weights = folder / f"{name}.pt"
    network = network_of(model(name), __file__)
    torch.save(models.build(network.model_copy(update={"weights": None}), (3, 32, 32), 10).state_dict(), weights)
    network = network_of(model(name), str(weights))
    front = extractor(network, (3, 32, 32), 10, torch.device("cpu")).front
    inputs = torch.from_numpy(np.ascontiguousarray(stored)).float() / 255
    train = count - count // 10
    starts = [*range(0, train, BATCH), *range(train, count, BATCH)]
    bounds = [(a, min(a + BATCH, train if a < train else count)) for a in starts]
    data, output = data_of(f"npz:{folder / 'images.npz'}"), folder / "features.npz"
    extraction = Extraction(data, (network,), batch_size=BATCH, numerics=Numerics(threads=threads))
    kept: list[torch.Tensor] = []

    def bare() -> int:
        with torch.inference_mode():
            kept[:] = [torch.cat([front(inputs[a:b]) for a, b in bounds])]
        return 1

    def extracted() -> int:
        output.unlink(missing_ok=True)
        extract(extraction, output)
        return 1

    bare(), extracted()
    with np.load(output) as archive:
        features = np.concatenate([archive["train_x"], archive["test_x"]])
    assert np.array_equal(features, kept[0].numpy()), "the two sides differ"
    return {"bare": bare, "extracted": extracted}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=10_000, help="number of images (10,000)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="default: the machine's cores")
    parser.add_argument(
        "--rounds", type=int, help=f"default: {', '.join(f'{r} ({n})' for n, (_, r) in NETWORKS.items())}"
    )
    parser.add_argument("--only", choices=tuple(NETWORKS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines = []
    for name, (_, rounds) in NETWORKS.items():
        if options.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                work = sides(name, Path(folder), options.images, options.threads)
                ratio = measure(work, options.rounds or rounds).ratio("extracted", "bare")
            lines.append([
                f"`{model(name)}`", str(ratio.pairs), f"{ratio.base_s:.2f}", f"{ratio.row_s:.2f}",
                f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})", f"{ratio.total:.3f}",
            ])  # fmt: skip
    print(f"{options.images:,} images, {options.threads} threads\n")
    print(table(["network", "pairs", "bare, s", "features, s", "ratio (95 %)", "ratio of sums"], lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
