"""Provenance of features: the array `provenance` of an npz file that `clbench features` writes, a text of JSON.

{"format": 1,
 "data": {"name", "sha256", "train", "test"},              the data set whose features these are, and its samples
 "features": [{"model", "tensors_sha256", "features",      one entry for each network, in the order of the columns
               "transform": {"normalise", "size", "mean", "std", "top"},
               "dtype", "batch_size", "device", "threads", "software"}, ...]}
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clbench.errors import UserError
from clbench.streams.datasets import sources

FORMAT = 1
ARRAY = "provenance"


def provenance_of(path: Path) -> dict[str, Any] | None:
    """The provenance of a file; None where it is no file of features.

    Raises:
        UserError: of another format, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{ARRAY}.npy") as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
    except (KeyError, OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None  # what is damaged is told where the arrays are read
    if array.ndim or array.dtype.kind != "U":
        return None
    try:
        content = json.loads(str(array))
    except ValueError:
        raise UserError(f"{path}: array '{ARRAY}' is no JSON.") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: features of another format than {FORMAT}, which this program reads.")
    return content


def networks_of(provenance: dict[str, Any]) -> list[dict[str, Any]]:
    """Networks and transforms by which features were computed, without what changes their last bits alone."""
    keys = ("model", "tensors_sha256", "features", "transform")
    return [{key: entry[key] for key in keys} for entry in provenance["features"]]


def same_networks(names: Sequence[str]) -> None:
    """Checks that the members of a list that are features come from the same networks: one space of features.

    Moments of `normalise: standard` differ between data sets, and are left out of the comparison.

    Raises:
        UserError: they differ.
    """
    first: tuple[str, Any] | None = None
    for name in names:
        path = sources.npz_path(name)
        provenance = None if path is None else provenance_of(path)
        if provenance is None:
            continue
        networks = networks_of(provenance)
        for network in networks:
            network["transform"] = {k: v for k, v in network["transform"].items() if k not in ("mean", "std")}
        if first is None:
            first = name, networks
        elif networks != first[1]:
            raise UserError(
                f"data set '{name}' holds features of {_described(networks)}, '{first[0]}' of {_described(first[1])}; "
                "a list of data sets needs features of the same networks and transforms."
            )


def _described(networks: list[dict[str, Any]]) -> str:
    """Networks in a message.

    >>> _described([{"model": {"name": "cnn"}, "tensors_sha256": "0a1b2c3d4e5f", "features": 128}])
    'cnn 0a1b2c3d (128)'
    """
    return ", ".join(f"{n['model']['name']} {n['tensors_sha256'][:8]} ({n['features']})" for n in networks)
