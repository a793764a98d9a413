"""The task of each target in the batches of a hosted strategy, for losses that depend on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

UNKNOWN = -1
"""Task of a target that is not from the stream, such as a generated one."""

_SELECTIONS: frozenset[Callable[..., Any]] = frozenset(
    {
        Tensor.__getitem__, Tensor.index_select, Tensor.clone, Tensor.detach, Tensor.contiguous, Tensor.long,
        Tensor.to, Tensor.cpu, Tensor.cuda, torch.index_select, torch.clone, torch.detach,
    }
)  # fmt: skip
"""Functions that copy, move or select the elements of their first argument."""


class TargetTasks(TorchFunctionMode):
    """A table of targets and their tasks.

    Avalanche passes a loss the scores and the targets alone, and its task labels are 0 outside of the task setting.
    While the mode is active, targets that a strategy copies, selects or concatenates keep their tasks.
    """

    def __init__(self) -> None:
        super().__init__()
        self._tasks = WeakTensorKeyDictionary()

    def record(self, targets: Tensor, tasks: Tensor) -> None:
        """Records the task of each target, int64 (N,), `UNKNOWN` where it has none."""
        self._tasks[targets] = tasks.to(targets.device)

    def of(self, targets: Tensor) -> Tensor | None:
        """The task of each target, int64 (N,), or None where nothing is recorded of them."""
        tasks: Tensor | None = self._tasks.get(targets)  # type: ignore[no-untyped-call]
        return tasks

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if not isinstance(result, Tensor) or result.dtype != torch.int64 or result.ndim != 1 or not args:
            return result
        if function is torch.cat:
            parts = [self.of(part) for part in args[0]]
            if any(part is not None for part in parts):
                pairs = zip(args[0], parts, strict=True)
                self.record(result, torch.cat([torch.full_like(y, UNKNOWN) if t is None else t for y, t in pairs]))
        elif function in _SELECTIONS and (tasks := self.of(args[0])) is not None:
            self.record(result, function(tasks, *args[1:], **kwargs))
        return result
