"""The identity of a network's initial weights, written into its configuration before a run."""

from __future__ import annotations

import hashlib
import os

from clbench.config.networks import Imported, Network
from clbench.errors import UserError, shown
from clbench.messages import Layer, where
from clbench.pretrained import packages


def identified(source: str, model: Network, layers: list[Layer]) -> tuple[Network, list[str]]:
    """The network with the SHA-256 of its weights' file and tensors written out, and mistakes about the file."""
    if model.weights is None:
        return _pretrained(source, model, layers)
    giver = f"{where(source, layers, ['model', 'weights'])}: model.weights"
    try:
        with open(model.weights, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        folder = "" if os.path.isabs(model.weights) else f" (from {os.getcwd()}, where this runs)"
        return model, [f"{giver}: {shown(model.weights)} cannot be read{folder}: {error.strerror}."]
    if model.weights_sha256 not in (None, sha256):
        return model, [f"{giver}: {shown(model.weights)} has the SHA-256 {sha256}, not that of model.weights_sha256."]
    from clbench.training import weights  # imports torch

    try:
        tensors = weights.tensors_sha256(model.weights, model.tensors_sha256)
    except UserError as error:
        return model, [f"{giver}: {error}"]
    if model.tensors_sha256 not in (None, tensors):
        sentence = f"has tensors with the SHA-256 {tensors}, not that of model.tensors_sha256"
        return model, [f"{giver}: {shown(model.weights)} {sentence}."]
    return model.model_copy(update={"weights_sha256": sha256, "tensors_sha256": tensors}), []


def _pretrained(source: str, model: Network, layers: list[Layer]) -> tuple[Network, list[str]]:
    """A network of `clbench.pretrained` with the SHA-256 of its weights written out, and a mistake about it."""
    sha256 = packages.weights_sha256(model.factory) if isinstance(model, Imported) else None
    if sha256 is None:
        return model, []
    if model.weights_sha256 not in (None, sha256):
        giver = f"{where(source, layers, ['model', 'weights_sha256'])}: model.weights_sha256"
        return model, [f"{giver}: got {model.weights_sha256}, and the weights of this factory have {sha256}."]
    return model.model_copy(update={"weights_sha256": sha256}), []
