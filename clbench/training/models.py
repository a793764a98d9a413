"""Networks by name, or by import path. Those of the suite are sequences that end in one linear layer, the head."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn

from clbench.config import networks
from clbench.errors import UserError
from clbench.tracebacks import described
from clbench.training import factories, heads, liquid, transformers, weights
from clbench.training.heads import split
from clbench.training.imports import imported
from clbench.training.networks import of_torchvision, plain, residual

__all__ = ["build", "import_parts", "split"]


def build(network: networks.Network, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A network, initialised by PyTorch's defaults from the global generator (seed and fence it outside).

    Args:
        network: its configuration.
        shape: of one input, (C, H, W) or (F,).
        outputs: number of output units.

    Raises:
        UserError: a convolutional network for vectors, or for images too small for it; weights that do not fit; a head
            on a network that does not end in a linear layer.
    """
    model: nn.Module
    last = ""
    if isinstance(network, networks.Torchvision):
        _require_images(network, shape)
        model, last = of_torchvision.build(network.model, shape, outputs)
    else:
        make = _imported if isinstance(network, networks.Imported) else _built_in
        model = make(network, shape, outputs)
    if network.head is not None:
        model = heads.with_head(model, network.head)
    if network.weights is not None:
        weights.load(model, network.weights, network.tensors_sha256, last)
    for head in heads.heads_of(model):
        if head.growing:
            head.withhold()
    return model


def _imported(network: Any, shape: tuple[int, ...], outputs: int) -> nn.Module:
    factory = _factory(network.factory)
    try:
        model = factories.call(factory, network.factory, shape, outputs, network.options)
    except UserError:
        raise
    except Exception as error:  # a user's function may do anything
        raise UserError(
            f"model.factory: '{network.factory}', called with the shape {tuple(shape)} and {outputs} outputs, "
            f"failed: {described(error)}."
        ) from error
    if not isinstance(model, nn.Module):
        raise UserError(f"model.factory: '{network.factory}' gave {type(model).__name__}. Allowed: an nn.Module.")
    return model


def import_parts(network: networks.Network) -> None:
    """Imports what a network needs, before anything is seeded: a module may draw when it is imported.

    Raises:
        UserError: it does not import, or its package is not installed.
    """
    if isinstance(network, networks.Imported):
        _factory(network.factory)
    elif isinstance(network, networks.Torchvision):
        importlib.import_module("torchvision.models")
    elif isinstance(network, networks.Liquid):
        liquid.require()


def _factory(path: str) -> Any:
    return imported(path, "model.factory")


def _require_images(network: Any, shape: tuple[int, ...]) -> None:
    if len(shape) != 3:
        raise UserError(f"model.name: '{network.name}' needs images, and the data set holds vectors.")


def _built_in(network: Any, shape: tuple[int, ...], outputs: int) -> nn.Sequential:
    """
    Raises:
        UserError: a convolutional network for vectors, or for images too small for it.
    """
    if isinstance(network, networks.Linear):
        return plain.linear(shape, outputs)
    if isinstance(network, networks.Mlp):
        return plain.mlp(shape, network.hidden, network.dropout, outputs)
    if isinstance(network, networks.Liquid):
        return liquid.build(network.name, network.units, shape, outputs)
    _require_images(network, shape)
    if isinstance(network, networks.Cnn):
        return plain.cnn(shape, network.channels, network.hidden, outputs)
    if isinstance(network, networks.Transformer):
        return transformers.vision_transformer(
            shape, network.patch, network.width, network.depth, network.heads, outputs
        )
    if isinstance(network, networks.ResNet18):
        return residual.resnet18(shape[0], network.stem, outputs)
    if isinstance(network, networks.ResNet32):
        return residual.resnet32(shape[0], network.shortcut, network.last_relu, outputs)
    return residual.slim_resnet18(shape[0], network.filters, outputs)
