"""Comparison of states."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Asserts that two states are equal bit for bit: nested dictionaries and lists of tensors, arrays and plain values.

    Args:
        a, b: the states, such as two `state_dict()`.
        where: their name in the message.

    Raises:
        AssertionError: they differ; the message is the path to the first difference.
    """
    assert type(a) is type(b), where
    if isinstance(a, (torch.Tensor, np.ndarray)):
        one, other = (np.asarray(v.detach().cpu() if isinstance(v, torch.Tensor) else v) for v in (a, b))
        assert one.dtype == other.dtype, where
        assert one.shape == other.shape, where
        assert one.tobytes() == other.tobytes(), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


def require(holds: bool, sentence: str) -> None:
    """
    Raises:
        AssertionError: it does not hold.
    """
    if not holds:
        raise AssertionError(f"{sentence}.")
