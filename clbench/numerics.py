"""Threads, precision and determinism of a run, as long as it lasts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.utils.deterministic as _deterministic_module

from clbench import config as cfg
from clbench.errors import UserError

_deterministic: Any = _deterministic_module  # its one attribute is a property that type checkers do not see


@contextlib.contextmanager
def numerics(settings: cfg.Numerics) -> Iterator[None]:
    """Sets what decides the last bits of a run, and puts it back.

    Raises:
        UserError: a CUDA device is asked for where there is none.
    """
    if settings.device == "cuda":
        if not torch.cuda.is_available():
            raise UserError("--device cuda: torch sees no CUDA device here.")
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    threads, dtype, grad = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    algorithms, fill = torch.are_deterministic_algorithms_enabled(), _deterministic.fill_uninitialized_memory
    try:
        torch.set_default_dtype(getattr(torch, settings.dtype))
        torch.set_grad_enabled(True)
        torch.set_num_threads(settings.threads)
        torch.use_deterministic_algorithms(settings.deterministic, warn_only=True)
        _deterministic.fill_uninitialized_memory = False  # costs time, and reading it would be a bug anyway
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        torch.use_deterministic_algorithms(algorithms)
        _deterministic.fill_uninitialized_memory = fill
