"""Settings of an extraction: data, networks, and the numerics that decide the last bits. Checked without torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from clbench import import_paths, messages, names, registry
from clbench.config import strict_yaml
from clbench.config.benchmark import Numerics
from clbench.config.networks import Network
from clbench.errors import UserError, shown
from clbench.streams.definition import StreamConfig

_DATA_KEYS = (
    "data", "labels", "columns", "size", "normalise", "tasks", "synthetic", "concepts", "link_load", "grid_load",
)  # fmt: skip
"""Keys of the `stream:` section that say what a network is shown."""


@dataclass(frozen=True)
class Extraction:
    """An extraction.

    Attributes:
        data: the data set with size and normalisation; tasks and schedule of this stream mean nothing.
        networks: side by side, in this order.
        beside: files of features of the same data set, whose columns come before those of the networks.
        batch_size: samples of a forward pass; it decides the last bits of the features.
        dtype: of the stored features.
        numerics: threads and device.
    """

    data: StreamConfig
    networks: tuple[Network, ...]
    beside: tuple[Path, ...] = ()
    batch_size: int = 256
    dtype: Literal["float32", "float16"] = "float32"
    numerics: Numerics = field(default_factory=Numerics)


def data_of(text: str, size: int | None = None, normalise: str | None = None) -> StreamConfig:
    """The data set of an argument: a name as `stream.data` takes it, a list, or a mapping of keys of `stream:`.

    Args:
        text: `digits`, `npz:PATH`, `[mnist, usps]`, `{data: csv:PATH, columns: {target: y}}`.
        size, normalise: over those of the mapping.

    Raises:
        UserError: unknown keys or values; one sentence each.
    """
    raw = _mapping(text, "data", "DATA")
    unknown = [key for key in raw if key not in _DATA_KEYS]
    if unknown:
        raise UserError(*(f"DATA: {key}: {messages.unknown_key(key, list(_DATA_KEYS))}" for key in unknown))
    flags = {key: value for key, value in (("size", size), ("normalise", normalise)) if value is not None}
    content = {"tasks": {"by": "given"}, "setting": "domain", **raw, **flags}
    if isinstance(content.get("data"), str):
        content["data"] = registry.dataset_name(content["data"])
    elif isinstance(content.get("data"), list):
        content["data"] = [registry.dataset_name(d) if isinstance(d, str) else d for d in content["data"]]
    layers: list[messages.Layer] = [("DATA", {"stream": raw})]
    config: StreamConfig
    config, problems = messages.check_section("DATA", "stream", StreamConfig, content, layers)
    if problems:
        raise UserError(*problems)
    registry.datasets().require(config.data, **config.reading)
    return config


def network_of(text: str, weights: str | None = None) -> Network:
    """A network of an argument: a name, an import path of a factory, or a mapping of keys of `model:`.

    Args:
        text: `cnn`, `my_lab.networks:wide`, `{name: transformer, patch: 4}`.
        weights: its file, over that of the mapping.

    Raises:
        UserError: unknown keys or values, or a network of the suite without weights.
    """
    raw = _mapping(text, "name", "--model")
    if isinstance(raw.get("name"), str) and import_paths.is_import_path(raw["name"]):
        raw = {**raw, "name": "imported", "factory": raw["name"]}
    if weights is not None:
        raw["weights"] = weights
    tags = [tag for model in messages.member_models(Network) for tag in messages.tags(model)]
    if isinstance(raw.get("name"), str):
        raw["name"] = names.match(raw["name"], tags) or raw["name"]
    network: Network
    network, problems = messages.check_section("--model", "model", Network, raw, [])
    if problems:
        raise UserError(*problems)
    if network.weights is None and network.name != "imported":
        raise UserError(f"--weights: '{network.name}' begins with random weights; give the file of trained ones.")
    if network.weights is not None and not os.access(network.weights, os.R_OK):
        raise UserError(f"--weights: {shown(network.weights)} cannot be read (from {os.getcwd()}).")
    return network


def networks_of(models: Sequence[str], weights: Sequence[str]) -> tuple[Network, ...]:
    """Networks of repeated flags: one model for all weights, or as many models as weights.

    Raises:
        UserError: other numbers of them, or as `network_of`.
    """
    if weights and len(models) not in (1, len(weights)):
        raise UserError(
            f"--model: {len(models)} networks for {len(weights)} files of weights. Allowed: one network for all of "
            "them, or one for each."
        )
    if len(models) == 1 and len(weights) > 1:
        models = [models[0]] * len(weights)
    files: Sequence[str | None] = weights or [None] * len(models)
    return tuple(network_of(model, file) for model, file in zip(models, files, strict=True))


def _mapping(text: str, key: str, source: str) -> dict[str, Any]:
    """A text as a mapping: itself, or the value of a key."""
    if not text.lstrip().startswith(("{", "[")):
        return {key: text}
    value = strict_yaml.parse(text, source)
    return dict(value) if isinstance(value, dict) else {key: value}
