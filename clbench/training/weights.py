"""Weights: state dictionaries, their files, and their identity, that of their tensors and not of a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from clbench.errors import UserError


def state_sha256(state: Mapping[str, Any]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of a state dictionary's tensors, in the order of their names.

    Equal for a dictionary of any kind, parameters and views, contiguous or not, on any device.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        if isinstance(tensor, Tensor):
            array = tensor.detach().cpu().contiguous()
            digest.update(f"{name}|{array.dtype}|{tuple(array.shape)}|".encode())
            digest.update(array.view(torch.uint8).numpy().tobytes() if array.ndim else array.numpy().tobytes())
    return digest.hexdigest()


def read(path: str) -> dict[str, Any]:
    """The state dictionary of a file, on the CPU, with what else it holds; only tensors and plain values are unpickled.

    Raises:
        UserError: no state dictionary.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return {str(name): value for name, value in content.items()}
    except Exception as error:  # whatever a damaged file makes torch raise
        raise UserError(
            f"{path} is no state dictionary ({type(error).__name__}). Allowed: a file written by "
            "torch.save(model.state_dict(), path)."
        ) from None


def tensors_sha256(path: str) -> str:
    """`state_sha256` of a file; computed once while the file stays the same.

    Raises:
        UserError: no state dictionary.
        OSError: the file cannot be read.
    """
    status = os.stat(path)
    return _of_file(os.path.abspath(path), path, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=64)
def _of_file(absolute: str, path: str, *status: int) -> str:
    return state_sha256(read(path))
