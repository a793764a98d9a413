"""torch, imported on first use.

Strategy modules hold their configuration beside their equations, and `clbench list`, `show` and `validate` read
the configuration. Importing torch takes seconds, so these verbs must not pay for it:

    from clbench.lazy import F, torch

gives names that type checkers see as the real modules and that import them at the first attribute access. Modules
that subclass `torch.nn.Module` import torch the ordinary way; nothing on the light verbs' path imports them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch
    import torch.nn.functional as F
else:

    class _LazyModule:
        """Stands for a module until one of its attributes is asked for, then holds its names."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            # Dunder look-ups come from tools that inspect modules (doctest, inspect); they must not import torch.
            if attribute.startswith("__"):
                raise AttributeError(attribute)
            value = getattr(importlib.import_module(self._name), attribute)
            self.__dict__[attribute] = value  # the next look-up is an ordinary one
            return value

    torch = _LazyModule("torch")
    F = _LazyModule("torch.nn.functional")

__all__ = ["F", "torch"]
