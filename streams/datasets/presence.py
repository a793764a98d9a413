"""Presence of a built-in data set on this machine, without reading it."""

from __future__ import annotations

from dataclasses import dataclass

from clbench.streams.datasets.embedded import EMBEDDED
from clbench.streams.datasets.load import DATASETS
from clbench.streams.datasets.sources import data_root, npz_path, offline

_PACKAGES = {**dict.fromkeys(EMBEDDED, "scikit-learn"), "gapminder": "plotly"}


@dataclass(frozen=True)
class Presence:
    """A data set's place.

    Attributes:
        place: its files, or the package that holds it; None where it is absent.
        remedy: how it is had where it is absent, else empty.
    """

    place: str | None
    remedy: str = ""


def presence(name: str) -> Presence:
    """Place of a built-in data set, or the way to get it.

    Args:
        name: a key of `DATASETS`.
    """
    published = DATASETS[name].published
    path = npz_path(name)
    if path is not None:
        return Presence(str(path))
    if published is None:
        return Presence(_PACKAGES.get(name, "clbench, which generates it"))
    if published.local():
        return Presence(str(published.place()))
    files = " and ".join(published.files)
    by_hand = f"put {name}.npz or torchvision's {files} into {data_root()}"
    if offline():
        return Presence(None, f"{by_hand}; CLBENCH_OFFLINE forbids downloads")
    return Presence(None, f"downloaded from {published.host} when it is used, or {by_hand}")
