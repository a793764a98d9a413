"""Classifiers of torchvision by name, as a feature extractor and a linear layer. Nothing is ever downloaded.

A classifier's last linear layer is taken off and replaced by one with the stream's outputs. That nothing comes behind
that layer is not assumed: for one input, the layer of the features must equal the classifier's answer.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from clbench.errors import UserError, hint
from clbench.tracebacks import described

_LISTED = "torchvision.models.list_models(module=torchvision.models) lists them"


def build(name: str, shape: tuple[int, ...], outputs: int) -> tuple[nn.Sequential, str]:
    """A classifier of torchvision, initialised as torchvision does (GoogLeNet and Inception by PyTorch's defaults).

    Args:
        name: as torchvision has it.
        shape: of an image, (C, H, W); vision transformers are built for its height.
        outputs: number of output units.

    Returns:
        The network, and the name that its last layer has in torchvision, such as "fc".

    Raises:
        UserError: no such classifier, one that does not take such images, or does not end in a linear layer.
    """
    builder, options = _builder(name), dict[str, Any]()
    if name.startswith(("googlenet", "inception")):  # auxiliary classifiers answer with tuples in training
        options = {"aux_logits": False, "init_weights": False}
    elif name.startswith("vit_"):
        options = {"image_size": shape[1]}
    x = torch.linspace(-1, 1, 2 * shape[0] * shape[1] * shape[2]).view(2, *shape)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            model = builder(weights=None, **options).eval()
            answer = model(x)
    except Exception as error:  # whatever a network makes of images that it is not for
        size = "x".join(map(str, shape))
        raise UserError(f"model.model: '{name}' does not take images of {size}: {described(error)}.") from None
    path = next((path for path, module in reversed(list(model.named_modules())) if isinstance(module, nn.Linear)), "")
    if path:
        parent, _, attribute = path.rpartition(".")
        last = model.get_submodule(path)
        setattr(model.get_submodule(parent), attribute, nn.Identity())
        with torch.no_grad():
            features = model(x)
            if features.ndim == 2 and features.shape[1] == last.in_features and torch.equal(last(features), answer):
                return nn.Sequential(model.train(), nn.Linear(features.shape[1], outputs)), path
    raise UserError(
        f"model.model: '{name}' does not end in one linear layer, so that it has no features to separate. Allowed: "
        "classifiers that do, such as resnet50, or an imported network."
    )


def _builder(name: str) -> Any:
    from torchvision import models

    allowed = models.list_models(module=models)
    if name not in allowed:
        raise UserError(f"model.model: unknown classifier '{name}'.{hint(name, allowed)} {_LISTED}.")
    return models.get_model_builder(name)
