"""Published data sets, by torchvision's readers."""

from __future__ import annotations

import importlib.util
import socket
import urllib.request
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.errors import UserError
from clbench.streams.datasets.resize import resize
from clbench.streams.datasets.sources import Arrays, data_root, offline


@dataclass(frozen=True)
class Published:
    """A data set that torchvision can download.

    Attributes:
        torchvision: its class there.
        files: torchvision's paths in the data root: one folder, or some files.
        host: the server of the download.
    """

    torchvision: str
    files: tuple[str, ...]
    host: str

    def local(self) -> bool:
        """True if all of it lies in the data root."""
        return all((data_root() / file).exists() for file in self.files)

    def place(self) -> Path:
        """The folder that holds it."""
        return data_root() if len(self.files) > 1 else data_root() / self.files[0]

    def downloadable(self) -> bool:
        """True if the publisher's server answers within half a second."""
        if offline():
            return False
        if urllib.request.getproxies():
            return True  # the proxy decides, when torchvision asks it
        try:
            with socket.create_connection((self.host, 80 if self.host in _PLAIN else 443), timeout=0.5):
                return True
        except OSError:
            return False


_PLAIN = ("fashion-mnist.s3-website.eu-central-1.amazonaws.com", "codh.rois.ac.jp")  # without TLS


def missing(name: str, published: Published) -> str:
    """Message for an unavailable data set."""
    kind = "folder" if len(published.files) == 1 else "files"
    return (
        f"data set '{name}' is not in {data_root()} and cannot be downloaded from here. Put {name}.npz (train_x, "
        f"train_y, test_x, test_y) or torchvision's {kind} {' and '.join(published.files)} into a folder and set "
        "CLBENCH_DATA to it."
    )


def read_torchvision(name: str, published: Published) -> Arrays:
    """A data set of torchvision, downloaded where it is not in the data root."""
    root = data_root()
    check_torchvision()
    from torchvision import datasets

    loader = getattr(datasets, published.torchvision)
    local = published.local()
    arrays: list[NDArray[Any]] = []
    for train in (True, False):
        try:
            part = loader(str(root), train=train, download=not local and published.downloadable())
        except Exception as error:  # torchvision's readers raise whatever the bytes lead them to, assertions included
            raise UserError(_unreadable(name, published, local, error)) from None
        arrays += [np.asarray(part.data), np.asarray(part.targets, np.int64)]
    train_x, train_y, test_x, test_y = arrays
    return Arrays(
        train_x=train_x, train_y=train_y, test_x=test_x, test_y=test_y, origin=f"torchvision, {root}"
    )  # fmt: skip


def _unreadable(name: str, published: Published, local: bool, error: Exception) -> str:
    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    if local:
        return f"{published.place()}: incomplete or damaged, torchvision cannot read it ({reason})."
    return f"{missing(name, published)} ({reason})"


def check_torchvision() -> None:
    """Checks that torch and torchvision are of the same build; a CPU build beside a CUDA build imports and then breaks.

    Raises:
        UserError: they do not match.
    """
    import torch

    if importlib.util.find_spec("torchvision") is None:
        raise UserError("torchvision is not installed; install it from the same place as torch.")
    try:
        import torchvision
    except (RuntimeError, ImportError, OSError) as error:
        from importlib.metadata import version

        raise UserError(
            f"torch {torch.__version__} and torchvision {version('torchvision')} do not match ({error}). "
            "Install both from the same place, both for the CPU or both for the same CUDA version."
        ) from None
    del torchvision


OMNIGLOT_CHARACTERS, OMNIGLOT_DRAWERS, OMNIGLOT_TRAIN = 659, 20, 15


def read_omniglot(published: Published) -> Arrays:
    """The evaluation characters of Omniglot: 28x28, ink 255 on 0, drawers 1..15 for training and 16..20 for testing.

    The published drawings are 105x105 with black ink; they are inverted, then resized.

    Reference: Lake, Salakhutdinov and Tenenbaum 2015, Human-level concept learning through probabilistic program
    induction, Science 350.
    """
    local = published.local()
    if not local:
        check_torchvision()
        from torchvision import datasets

        try:
            datasets.Omniglot(str(data_root()), background=False, download=published.downloadable())
        except Exception as error:  # of the network, of the archive
            raise UserError(_unreadable("omniglot", published, local, error)) from None
    folder = published.place()
    characters = sorted(path for path in folder.glob("*/*") if path.is_dir())
    if len(characters) != OMNIGLOT_CHARACTERS:
        raise UserError(
            f"{folder}: incomplete or not Omniglot's, {len(characters)} characters (folders ALPHABET/characterNN) "
            f"where {OMNIGLOT_CHARACTERS} were published."
        )
    x = np.stack([_drawings(character) for character in characters])  # (659, 20, 28, 28)
    y = np.broadcast_to(np.arange(len(x))[:, None], x.shape[:2])
    train, test = np.s_[:, :OMNIGLOT_TRAIN], np.s_[:, OMNIGLOT_TRAIN:]
    return Arrays(
        train_x=x[train].reshape(-1, 28, 28), train_y=y[train].ravel(),
        test_x=x[test].reshape(-1, 28, 28), test_y=y[test].ravel(), origin=str(folder),
    )  # fmt: skip


def _drawings(folder: Path) -> NDArray[np.uint8]:
    """A character by each of its drawers, uint8 (20, 28, 28)."""
    from PIL import Image

    by_drawer = {path.stem.rpartition("_")[2]: path for path in sorted(folder.glob("*.png"))}
    drawers = [f"{d:02d}" for d in range(1, OMNIGLOT_DRAWERS + 1)]
    if sorted(by_drawer) != drawers:
        raise UserError(
            f"{folder}: incomplete or not Omniglot's, drawings by {', '.join(sorted(by_drawer)) or 'nobody'} (files "
            f"XXXX_DD.png) where drawers 01 to {drawers[-1]} were published."
        )
    ink = np.empty((OMNIGLOT_DRAWERS, 1, 105, 105), np.uint8)
    for place, drawer in zip(ink, drawers, strict=True):
        path = by_drawer[drawer]
        try:
            with Image.open(BytesIO(path.read_bytes())) as image:
                pixels = np.asarray(image.convert("L"))
        except Exception as error:  # Pillow's readers raise whatever the bytes lead them to
            raise UserError(f"{path}: damaged, not readable as an image ({error}).") from None
        if pixels.shape != (105, 105):
            raise UserError(f"{path}: {pixels.shape[1]}x{pixels.shape[0]} pixels where 105x105 were published.")
        place[0] = 255 - pixels
    return resize(ink, 28, 28)[:, 0]
