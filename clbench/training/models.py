"""Networks by name, or by import path. Those of the suite are sequences that end in one linear layer, the head."""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench import import_paths
from clbench.config import networks
from clbench.errors import UserError, hint
from clbench.tracebacks import described
from clbench.training import factories, liquid
from clbench.training.weights import read, state_sha256


def build(network: networks.Network, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A network, initialised by PyTorch's defaults from the global generator (seed and fence it outside).

    Args:
        network: its configuration.
        shape: of one input, (C, H, W) or (F,).
        outputs: number of output units.

    Raises:
        UserError: a convolutional network for vectors, or for images too small for it; weights that do not fit.
    """
    make = _imported if isinstance(network, networks.Imported) else _built_in
    model = make(network, shape, outputs)
    if network.weights is not None:
        _load(model, network.weights, network.tensors_sha256)
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
    elif isinstance(network, networks.Liquid):
        liquid.require()


def _factory(path: str) -> Any:
    try:
        import_paths.check(path)
        module, _, name = path.partition(":")
        return getattr(importlib.import_module(module), name)
    except UserError as error:
        raise UserError(f"model.factory: {error}") from None
    except Exception as error:  # a user's module may do anything when it is imported
        raise UserError(f"model.factory: '{path}' does not import: {described(error)}.") from error


def _load(model: nn.Module, path: str, sha256: str | None) -> None:
    """Loads the weights of a file into a network; its last layer may be missing there.

    Raises:
        UserError: a file that is no state dictionary, one of another network, or with other tensors than `sha256`.
    """
    try:
        content = read(path)
    except UserError as error:
        raise UserError(f"model.weights: {error}") from None
    weights = {name: tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
    if sha256 not in (None, state_sha256(weights)):
        raise UserError(f"model.weights: {path} has other tensors than those that the run is named by.")
    expected = model.state_dict()
    head = [f"{name}." for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1:]
    unknown = next((name for name in weights if name not in expected), None)
    missing = next((name for name in expected if name not in weights and not name.startswith(tuple(head))), None)
    other = next((name for name in weights if name in expected and weights[name].shape != expected[name].shape), None)
    if unknown is not None:
        raise UserError(
            f"model.weights: {path} has '{unknown}', unknown to the network.{hint(unknown, list(expected))}"
        )
    if missing is not None:
        keys = ", ".join(itertools.islice(content, 5)) + (", ..." if len(content) > 5 else "")
        raise UserError(f"model.weights: {path} lacks '{missing}' of the network; it has {keys or 'nothing'}.")
    if other is not None:
        sizes = " and the network's ".join(str(tuple(d[other].shape)) for d in (weights, expected))
        raise UserError(f"model.weights: '{other}' of {path} has the shape {sizes}.")
    broken = next((name for name, tensor in weights.items() if not bool(tensor.isfinite().all())), None)
    if broken is not None:
        raise UserError(f"model.weights: '{broken}' of {path} has values that are not finite.")
    model.load_state_dict(weights, strict=False)


def split(model: nn.Module) -> tuple[nn.Sequential, nn.Linear]:
    """The feature extractor of a network and its last layer; they share the network's modules.

    Raises:
        UserError: a network that is no sequence ending in a linear layer.
    """
    if type(model) is not nn.Sequential or len(model) < 2 or not isinstance(model[-1], nn.Linear):
        raise UserError("model: features need a network that is an nn.Sequential and ends in an nn.Linear.")
    return model[:-1], model[-1]


def _built_in(network: Any, shape: tuple[int, ...], outputs: int) -> nn.Sequential:
    """
    Raises:
        UserError: a convolutional network for vectors, or for images too small for it.
    """
    if isinstance(network, networks.Linear):
        return nn.Sequential(nn.Flatten(), nn.Linear(_size(shape), outputs))
    if isinstance(network, networks.Mlp):
        sizes = [_size(shape), *network.hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, units in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, units), nn.ReLU(), *([nn.Dropout(network.dropout)] if network.dropout else [])]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))
    if isinstance(network, networks.Liquid):
        return liquid.build(network.name, network.units, shape, outputs)
    if len(shape) != 3:
        raise UserError(f"model.name: '{network.name}' needs images, and the data set holds vectors.")
    channels, height, width = shape
    if isinstance(network, networks.Cnn):
        shrunk = min(height, width) >> len(network.channels)
        if shrunk < 1:
            raise UserError(
                f"model.channels: {len(network.channels)} poolings are too many for {height}x{width} images."
            )
        blocks: list[nn.Module] = []
        for filters in network.channels:
            blocks += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            channels, height, width = filters, height // 2, width // 2
        features = channels * height * width
        return nn.Sequential(
            *blocks, nn.Flatten(), nn.Linear(features, network.hidden), nn.ReLU(), nn.Linear(network.hidden, outputs)
        )
    if isinstance(network, networks.Transformer):
        from clbench.training import transformers  # which uses `split`

        return transformers.vision_transformer(
            shape, network.patch, network.width, network.depth, network.heads, outputs
        )
    return _slim_resnet18(channels, network.filters, outputs)


def _slim_resnet18(channels: int, filters: int, outputs: int) -> nn.Sequential:
    """ResNet-18 for small images: 3x3 stem, no first pooling, `filters` initial filters (20 in GEM's paper)."""
    stem = nn.Sequential(nn.Conv2d(channels, filters, 3, 1, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU())
    blocks: list[nn.Module] = []
    inputs = filters
    for stage in range(4):
        for i in range(2):
            blocks.append(Block(inputs, filters << stage, 2 if stage and not i else 1))
            inputs = filters << stage
    return nn.Sequential(stem, *blocks, MeanOverSpace(), nn.Linear(inputs, outputs))


def _size(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


class Block(nn.Module):
    """The basic residual block of He et al. (2016)."""

    def __init__(self, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != filters:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class MeanOverSpace(nn.Module):
    """(N, C, H, W) to (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))
