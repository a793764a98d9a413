"""Models of the `model:` section."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from clbench.schema import Model, mistake


class Head(Model):
    """The last layer of a network."""

    kind: Literal["linear", "cosine"] = "linear"
    """`cosine`: eta times the cosine of features and weights, without a bias (Hou et al. 2019, LUCIR)."""
    scale: Annotated[float, Field(gt=0)] | Literal["learned"] = "learned"
    """Eta of a cosine head, fixed; `learned`: from 1 on, as LUCIR has it."""
    growing: bool = False
    """A class has a unit only when it comes: it does not compete before, in training (`training.active_outputs`, by
    default `seen`) nor in predictions, and its initial weights stay as they are."""
    multi: bool = False
    """A layer for each task, chosen by the task of a sample in training and at test. In the setting `task`, where each
    task has output units of its own, that is what the layer is already."""

    @pydantic.model_validator(mode="after")
    def _scale_of_a_cosine(self) -> Head:
        if self.kind == "linear" and self.scale != "learned":
            raise mistake("is for a cosine head; leave it out", "scale")
        return self


class _Network(Model):
    weights: str | None = None
    """A file of initial weights: .safetensors, or a state dictionary by `torch.save`, by itself or under `state_dict`,
    `model_state_dict` or `model`. The last layer may be missing in it."""
    weights_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", title="64 hexadecimal digits")] | None = None
    """Of that file, to insist on it. Default: computed from the file."""
    tensors_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", title="64 hexadecimal digits")] | None = None
    """Of the names, dtypes, shapes and values of its tensors. Default: computed from the file; runs with other tensors
    have other ids, whatever their file is called."""
    head: Head | None = None
    """The last layer, where it is no plain linear one."""

    @pydantic.field_validator("head")
    @classmethod
    def _plain(cls, head: Head | None) -> Head | None:
        return None if head == Head() else head


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


class ResNet18(_Network):
    """ResNet-18 (He et al. 2016), its parameters named as torchvision's; initialised by PyTorch's defaults."""

    name: Literal["resnet18"]
    stem: Literal["cifar", "imagenet"] = "cifar"
    """`cifar`: a 3x3 convolution, for small images. `imagenet`: a 7x7 convolution of stride 2 and a pooling, for images
    of 224x224; equal to torchvision's, whose weights it loads."""


class ResNet32(_Network):
    """ResNet-32 for CIFAR (He et al. 2016, section 4.2): 3 stages of 5 blocks with 16, 32 and 64 filters; initialised
    by PyTorch's defaults."""

    name: Literal["resnet32"]
    shortcut: Literal["zeros", "conv"] = "zeros"
    """Where a stage begins: `zeros` for the further channels, without parameters (the paper's option A, PyCIL), or a
    1x1 convolution with batch normalisation (option B, LUCIR)."""
    last_relu: bool = True
    """A ReLU ends the last block; LUCIR leaves it out, so that features may be negative."""


class Torchvision(_Network):
    """A classifier of torchvision, with weights from a file of yours or none; nothing is ever downloaded. The last
    linear layer is replaced by one with the stream's outputs; that of a file of torchvision's weights is left out."""

    name: Literal["torchvision"]
    model: str
    """Such as resnet50, efficientnet_b0, vit_b_16 (which is built for the height of the images)."""


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


Network = Annotated[
    Mlp | Linear | Cnn | SlimResNet18 | ResNet18 | ResNet32 | Torchvision | Transformer | Liquid | Imported,
    Field(discriminator="name"),
]
