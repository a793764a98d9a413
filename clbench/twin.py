"""A model as the evaluator asks it: the parameters of the trained one under modules and buffers of its own."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def plain_attributes(module: nn.Module) -> dict[str, Any]:
    """A module's own numbers, flags, texts and tensors that are no parameters; without `training`."""
    kinds = (bool, int, float, str, type(None), Tensor)
    return {n: v for n, v in module.__dict__.items() if n != "training" and isinstance(v, kinds)}


class Twin:
    """A model in evaluation mode that shares the parameters of another and nothing else.

    The structure is copied again when the other's parameters or buffers are other tensors than before, and at
    `renew`. Plain attributes of modules that hold numbers, flags or tensors follow at every call; those that hold
    containers follow at `renew`.

    A module with forward hooks cannot be copied faithfully (a hook may write to the object that made it), so such a
    model is looked at itself, and its modules' attributes and buffers are put back afterwards.
    """

    def __init__(self) -> None:
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
        if any(m._forward_hooks or m._forward_pre_hooks for m in model.modules()):
            with _put_back(model):
                yield model
            return
        tensors = [t for m in model.modules() for d in (m._parameters, m._buffers) for t in d.values()]
        same = model is self._source and len(tensors) == len(self._tensors)
        if not same or any(a is not b for a, b in zip(tensors, self._tensors, strict=True)):
            self._copy(model, tensors)
        else:
            for source, twin in self._pairs:
                twin.__dict__.update(plain_attributes(source))
            if self._from:
                torch._foreach_copy_(self._to, self._from)
        assert self._twin is not None
        yield self._twin

    def _copy(self, model: nn.Module, tensors: list[Tensor | None]) -> None:
        memo: dict[int, Any] = {id(p): p for p in model.parameters()}
        for value in (v for m in model.modules() for v in vars(m).values()):
            if isinstance(value, Tensor) and not value.is_leaf:  # kept from a forward pass; cannot be copied
                memo[id(value)] = value.detach()
        twin = copy.deepcopy(model, memo)
        twin.eval()
        self._source, self._twin, self._tensors = model, twin, tensors
        self._pairs = list(zip(model.modules(), twin.modules(), strict=True))
        self._from = [b for m, _ in self._pairs for b in m._buffers.values() if b is not None]
        self._to = [b for _, m in self._pairs for b in m._buffers.values() if b is not None]


@contextmanager
def _put_back(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; modes, attributes and buffers as before outside, also those of modules the user froze."""
    attributes = [(m, dict(m.__dict__)) for m in model.modules()]
    held = [(m, name, b) for m in model.modules() for name, b in m._buffers.items()]
    values = [None if b is None else b.clone() for _, _, b in held]
    try:
        model.eval()
        yield
    finally:
        for module, before in attributes:
            module.__dict__.clear()
            module.__dict__.update(before)
        for (module, name, tensor), value in zip(held, values, strict=True):
            if tensor is not None and value is not None:
                tensor.copy_(value)
            module._buffers[name] = tensor
