"""Feature extractors: networks with their weights, up to the inputs of the last layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from clbench.config.networks import Network
from clbench.errors import UserError
from clbench.rng import Chance, fenced
from clbench.training import models, weights


@dataclass(frozen=True)
class Extractor:
    """A network without its last layer, in evaluation mode.

    Attributes:
        front: inputs (N, ...) to features (N, F).
        features: F.
        model: keys and values of the network's configuration that are not the defaults, without paths of files.
        tensors_sha256: of the whole network's tensors, see `clbench.training.weights.state_sha256`.
    """

    front: nn.Module
    features: int
    model: dict[str, Any]
    tensors_sha256: str


def extractor(network: Network, shape: tuple[int, ...], classes: int, device: torch.device) -> Extractor:
    """Builds a network and loads its weights; nothing is drawn from the caller's random numbers.

    Args:
        network: its configuration.
        shape: of one input, (C, H, W) or (F,).
        classes: number of outputs where the weights have no last layer.
        device: of the network.

    Raises:
        UserError: a network that does not fit the inputs or its weights, or that has no last linear layer.
    """
    models.import_parts(network)
    with fenced(device.type == "cuda"):
        Chance(0).seed_globals("init")
        outputs = classes if network.weights is None else _outputs(network, shape, classes)
        model = models.build(network, shape, outputs)
    front, _ = models.split(model)
    front = front.to(device).eval().requires_grad_(False)
    with torch.inference_mode():
        features = front(torch.zeros(1, *shape, device=device))
    if features.ndim != 2:
        raise UserError(f"model: features are vectors, and the last layer of '{network.name}' takes {features.ndim - 1}"
                        "-dimensional inputs.")  # fmt: skip
    described = network.model_dump(
        mode="json", exclude_defaults=True, exclude={"weights", "weights_sha256", "tensors_sha256"}
    )
    return Extractor(front, features.shape[1], described, weights.state_sha256(model.state_dict()))


def _outputs(network: Network, shape: tuple[int, ...], classes: int) -> int:
    """Number of outputs that the weights of a network have; that of the classes where its last layer is missing."""
    assert network.weights is not None
    try:
        held = weights.read(network.weights).tensors
    except UserError as error:
        raise UserError(f"--weights: {error}") from None
    model = models.build(network.model_copy(update={"weights": None, "tensors_sha256": None}), shape, classes)
    last = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1:]
    tensor = held.get(f"{last[0]}.weight") if last else None
    return len(tensor) if tensor is not None and tensor.ndim == 2 else classes
