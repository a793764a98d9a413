"""Threads, precision and determinism of a run, as long as it lasts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.utils.deterministic as _deterministic_module

from clbench.config.benchmark import Numerics
from clbench.errors import UserError

_deterministic: Any = _deterministic_module  # its one attribute is a property that type checkers do not see


_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextlib.contextmanager
def numerics(settings: Numerics) -> Iterator[None]:
    """Sets the numerics that determine the last bits of a run, and restores them.

    Raises:
        UserError: a CUDA device is requested where there is none.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device here.")
    threads, dtype, grad = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    algorithms, fill = torch.are_deterministic_algorithms_enabled(), _deterministic.fill_uninitialized_memory
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with _cuda() if settings.device == "cuda" else contextlib.nullcontext():
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
            torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
            _deterministic.fill_uninitialized_memory = fill


@contextlib.contextmanager
def _cuda() -> Iterator[None]:
    """Full float32 precision and a fixed cuBLAS workspace."""
    workspace, precision = os.environ.get(_WORKSPACE), _matmul_precision()
    flags = _readable(_tf32_flags())
    try:
        os.environ.setdefault(_WORKSPACE, ":4096:8")
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        yield
    finally:
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)
        for owner, name, value in flags:
            setattr(owner, name, value)
        if precision is not None and _matmul_precision() != precision:
            torch.set_float32_matmul_precision(precision)  # "medium" and "high" are one TF32 flag


def _tf32_flags() -> list[tuple[Any, str]]:
    """Owner and name of each TF32 flag, in the order to set them: torch's older flags write to the newer ones."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    newer = [matmul, *(getattr(cudnn, part) for part in ("conv", "rnn") if hasattr(cudnn, part))]
    return [(matmul, "allow_tf32"), (cudnn, "allow_tf32"), *((owner, "fp32_precision") for owner in newer)]


def _readable(flags: list[tuple[Any, str]]) -> list[tuple[Any, str, Any]]:
    """Flags with their values, those excepted that this version of torch lacks or refuses to read.

    torch refuses to read an older flag after a newer one was set that it cannot express.
    """
    values = []
    for owner, name in flags:
        with contextlib.suppress(AttributeError, RuntimeError):
            values.append((owner, name, getattr(owner, name)))
    return values


def _matmul_precision() -> str | None:
    """Float32 matmul precision; None where torch refuses to read it, see `_readable`."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None
