"""Models of the `model:` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from clbench.schema import Model


class _Network(Model):
    weights: str | None = None
    """A file of initial weights (a state dictionary by `torch.save`). The last layer may be missing in it."""
    weights_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", title="64 hexadecimal digits")] | None = None
    """Of that file, to insist on it. Default: computed from the file."""
    tensors_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", title="64 hexadecimal digits")] | None = None
    """Of the names, dtypes, shapes and values of its tensors. Default: computed from the file; runs with other tensors
    have other ids, whatever their file is called."""


class Mlp(_Network):
    """Linear layers with ReLU between them."""

    name: Literal["mlp"]
    hidden: list[Annotated[int, Field(ge=1)]] = [400, 400]
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout probability of the hidden units."""


class Linear(_Network):
    """One linear layer."""

    name: Literal["linear"]


class Cnn(_Network):
    """conv3x3-ReLU-pool twice, one hidden layer: a small network for images of 8x8 and more."""

    name: Literal["cnn"]
    channels: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=4)] = [16, 32]
    hidden: Annotated[int, Field(ge=1)] = 128


class SlimResNet18(_Network):
    """ResNet-18 with 20 initial filters (Lopez-Paz and Ranzato 2017); 64 filters give the full width."""

    name: Literal["slim_resnet18"]
    filters: Annotated[int, Field(ge=1)] = 20


class Transformer(_Network):
    """A vision transformer (Dosovitskiy et al. 2021) with a class token and learned positions; takes prompts."""

    name: Literal["transformer"]
    patch: Annotated[int, Field(ge=1)] = 4
    """Edge of a patch, a divisor of the image's."""
    width: Annotated[int, Field(ge=1)] = 64
    depth: Annotated[int, Field(ge=1)] = 4
    """Blocks."""
    heads: Annotated[int, Field(ge=1)] = 4
    """Attention heads, a divisor of the width."""


class Liquid(_Network):
    """A liquid network over the steps of a forecast's input, closed-form or by a solver, by the package ncps."""

    name: Literal["cfc", "ltc"]
    units: Annotated[int, Field(ge=1)] = 32


class Imported(_Network):
    """A user-defined network: `factory` is called with an input's shape and the number of outputs. One that takes other
    arguments is refused. An `nn.Sequential` that ends in an `nn.Linear` has a feature extractor that can be frozen."""

    name: Literal["imported"]
    factory: Annotated[
        str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", title="an import path like package.module:name")
    ]
    options: dict[str, bool | int | float | str] = {}
    """Further arguments of the factory, by name."""


Network = Annotated[Mlp | Linear | Cnn | SlimResNet18 | Transformer | Liquid | Imported, Field(discriminator="name")]
