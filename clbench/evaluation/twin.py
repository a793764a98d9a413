"""Twin of a model for evaluation: the parameters of the trained one under separate modules and buffers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_MODES = ("training", "predicting")


def plain_attributes(module: nn.Module) -> dict[str, Any]:
    """A module's numbers, flags, texts and tensors that are no parameters; without its modes, such as `training`."""
    kinds = (bool, int, float, str, type(None), Tensor)
    return {n: v for n, v in module.__dict__.items() if n not in _MODES and isinstance(v, kinds)}


ROWWISE = (
    nn.Sequential, nn.Identity, nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d,
    nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh,
    nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout,
    nn.Dropout2d, nn.Flatten, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.MultiheadAttention,
    nn.modules.linear.NonDynamicallyQuantizableLinear,
)  # fmt: skip
"""Modules that compute each row independently in evaluation mode, from parameters, buffers and flags alone. A class
that guarantees the same has the attribute `rowwise`, true."""

_ROWWISE_PACKAGES = ("torchvision.models.", "torchvision.ops.")
"""Packages whose modules do."""


def is_ordinary(model: nn.Module) -> bool:
    """True if the scores are computed by the modules' forward passes alone, and each row independently.

    Only then may a part of the model be run alone, a row be repeated, or a result be cached: a user-defined module may
    depend on the whole batch, or on something that a copy does not follow.
    """
    for m in model.modules():
        batchwise = isinstance(m, nn.modules.batchnorm._BatchNorm) and (m.running_mean is None or m.training)
        flattened = isinstance(m, nn.Flatten) and m.start_dim != 1
        rowwise = type(m) in ROWWISE or vars(type(m)).get("rowwise") is True
        rowwise = rowwise or type(m).__module__.startswith(_ROWWISE_PACKAGES)
        if not rowwise or batchwise or flattened or "forward" in vars(m) or is_hooked(m):
            return False
    return not any(isinstance(v, Tensor) for m in model.modules() for v in vars(m).values())


def is_hooked(module: nn.Module) -> bool:
    """True if the module has forward hooks."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


class Twin:
    """A model in evaluation mode that shares the parameters of another and nothing else.

    Args:
        share: whether it shares them; else it has copies, made at the last `of`.

    The structure is copied again when the other's parameters or buffers are other tensors than before, and at
    `renew`. Plain attributes of modules that hold numbers, flags or tensors follow at every call; those that hold
    containers follow at `renew`.

    A module with forward hooks cannot be copied faithfully (a hook may write to the object that made it), so such a
    model is looked at itself, and its modules' attributes and buffers are put back afterwards.
    """

    def __init__(self, share: bool = True) -> None:
        self._share = share
        self._source: nn.Module | None = None
        self._twin: nn.Module | None = None
        self._tensors: list[Tensor | None] = []
        self._pairs: list[tuple[nn.Module, nn.Module]] = []
        self._from: list[Tensor] = []
        self._to: list[Tensor] = []

    def renew(self) -> None:
        """Forces a new copy of the structure at the next call."""
        self._source = None

    @contextmanager
    def of(self, model: nn.Module) -> Iterator[nn.Module]:
        """The model to predict with, for as long as the context lasts."""
        if any(is_hooked(m) for m in model.modules()):
            with _put_back(model):
                yield model
            return
        tensors = [t for m in model.modules() for d in (m._parameters, m._buffers) for t in d.values()]
        same = model is self._source and len(tensors) == len(self._tensors)
        if not same or any(a is not b for a, b in zip(tensors, self._tensors, strict=True)):
            self._copy(model, tensors)
        else:
            for source, twin in self._pairs:
                for name, value in plain_attributes(source).items():
                    twin.__dict__[name] = value.detach().clone() if isinstance(value, Tensor) else value
            if self._from:
                torch._foreach_copy_(self._to, self._from)
        assert self._twin is not None
        yield self._twin

    def _copy(self, model: nn.Module, tensors: list[Tensor | None]) -> None:
        memo: dict[int, Any] = {id(p): p for p in model.parameters()} if self._share else {}
        for value in (v for m in model.modules() for v in vars(m).values()):
            if isinstance(value, Tensor) and not value.is_leaf:  # kept from a forward pass; cannot be copied
                memo[id(value)] = value.detach().clone()
        twin = copy.deepcopy(model, memo)
        _predict(twin)
        self._source, self._twin, self._tensors = model, twin, tensors
        self._pairs = list(zip(model.modules(), twin.modules(), strict=True))
        self._from = [b for m, _ in self._pairs for b in m._buffers.values() if b is not None]
        self._to = [b for _, m in self._pairs for b in m._buffers.values() if b is not None]


def _predict(model: nn.Module) -> None:
    """Evaluation mode; a head that grows answers -inf for classes that have not come."""
    model.eval()
    for module in model.modules():
        if hasattr(module, "predicting"):
            module.predicting = True  # type: ignore[assignment]


@contextmanager
def _put_back(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; modes, attributes and buffers as before outside, also those of modules the user froze."""
    attributes = [(m, dict(m.__dict__)) for m in model.modules()]
    held = [(m, name, b) for m in model.modules() for name, b in m._buffers.items()]
    values = [None if b is None else b.clone() for _, _, b in held]
    try:
        _predict(model)
        yield
    finally:
        for module, before in attributes:
            module.__dict__.clear()
            module.__dict__.update(before)
        for (module, name, tensor), value in zip(held, values, strict=True):
            if tensor is not None and value is not None:
                tensor.copy_(value)
            module._buffers[name] = tensor
