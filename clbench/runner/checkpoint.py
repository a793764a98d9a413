"""Checkpoints: the state that an unfinished run resumes from, in files with a checksum.

    checkpoint/000000012345.state     after this number of updates; the two newest are kept

A file is a line of text, the SHA-256 of the rest, and a dictionary of tensors and plain values as `torch.save` writes
it. It is read with `weights_only=True`: nothing in it is executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clbench.errors import Unsaveable
from clbench.results import files

_MAGIC = b"clbench checkpoint 1\n"
_KEPT = 2
_SHARE = 0.01
"""Largest share of a run's time for checkpoints at an interval of seconds."""


@dataclass(frozen=True)
class Every:
    """Interval of checkpoints.

    Attributes:
        seconds: wall time; extended so that checkpoints take at most 1 % of the time.
        updates: instead of seconds; 0 with `seconds` 0: never.
    """

    seconds: float = 60.0
    updates: int = 0


class Due:
    """Schedule of checkpoints."""

    def __init__(self, every: Every, updates: int) -> None:
        self._every = every
        self.made(updates, 0.0)

    def __call__(self, updates: int) -> bool:
        """True if one is due after a number of updates."""
        if self._every.updates:
            return updates >= self._next_update
        return bool(self._every.seconds) and time.monotonic() >= self._next_s

    def made(self, updates: int, took_s: float) -> None:
        """Notes a checkpoint after a number of updates, and its time."""
        self._next_update = updates - updates % max(1, self._every.updates) + self._every.updates
        self._next_s = time.monotonic() + max(self._every.seconds, took_s / _SHARE)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        run: the run's folder.
    """

    def __init__(self, run: Path) -> None:
        self._folder = run / "checkpoint"

    def __bool__(self) -> bool:
        return any(True for _ in self._newest_first())

    def write(self, updates: int, state: dict[str, Any]) -> None:
        """Writes a checkpoint; older ones but the last are removed, and so are those of later updates.

        Raises:
            UserError: it cannot be written; earlier ones are unchanged.
            Unsaveable: a part of the state is neither a tensor, an array nor a plain value; the message names it.
        """
        buffer = io.BytesIO()
        torch.save(packed(state), buffer)
        payload = buffer.getbuffer()
        files.write_bytes(self._path(updates), _MAGIC, hashlib.sha256(payload).digest(), payload)
        existing = list(self._newest_first())  # later ones are damaged, else the run had resumed from them
        kept = [path for n, path in existing if n <= updates][:_KEPT]
        for _, path in existing:
            if path not in kept:
                with contextlib.suppress(OSError):
                    path.unlink()

    def read(self) -> Iterator[tuple[int, dict[str, Any] | str]]:
        """The checkpoints, the newest first: updates done, and the state or the reason why it is unusable."""
        for updates, path in self._newest_first():
            try:
                yield updates, unpacked(_load(path.read_bytes()))
            except (OSError, ValueError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
                yield updates, f"{path}: {str(error).strip() or type(error).__name__}"

    def remove(self) -> None:
        """Removes them all."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, updates: int) -> Path:
        return self._folder / f"{updates:012d}.state"

    def _newest_first(self) -> Iterator[tuple[int, Path]]:
        names = (re.fullmatch(r"(\d{12})\.state", p.name) for p in self._folder.glob("*.state"))
        for updates in sorted((int(n[1]) for n in names if n), reverse=True):
            yield updates, self._path(updates)


def reloaded(state: dict[str, Any]) -> Any:
    """A state as it comes back from a checkpoint; it shares nothing with the original.

    Raises:
        Unsaveable: see `Checkpoints.write`.
    """
    buffer = io.BytesIO()
    torch.save(packed(state, ".strategy"), buffer)
    buffer.seek(0)
    return unpacked(torch.load(buffer, weights_only=True))


def _load(content: bytes) -> Any:
    start = len(_MAGIC) + 32
    if not content.startswith(_MAGIC) or len(content) < start:
        raise ValueError("no checkpoint of this version, or cut short")
    payload = memoryview(content)[start:]
    if hashlib.sha256(payload).digest() != content[len(_MAGIC) : start]:
        raise ValueError("damaged: its SHA-256 is not that of its content")
    return torch.load(io.BytesIO(payload), weights_only=True)


_ARRAY = "numpy array"
"""Key that marks a NumPy array among dictionaries; part of the file format."""


def packed(value: Any, where: str = "") -> Any:
    """A state with its arrays as tensors, to be read with `weights_only`.

    Raises:
        Unsaveable: a part is neither a tensor, an array nor a plain value; the message names its path.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {_ARRAY: torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))}
    if isinstance(value, dict):
        return {_key(k, where): packed(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        items = [packed(v, f"{where}[{i}]") for i, v in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, torch.Tensor):  # a view would be written with all that it is a view of
        return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise Unsaveable(f"state{where}: {type(value).__name__} is neither a tensor, an array nor a plain value")


def _key(key: Any, where: str) -> Any:
    if type(key) not in (str, int):
        raise Unsaveable(f"state{where}: a key is {type(key).__name__}, neither text nor an integer")
    return key


def unpacked(value: Any) -> Any:
    """The state that was `packed`."""
    if isinstance(value, dict):
        return value[_ARRAY].numpy() if value.keys() == {_ARRAY} else {k: unpacked(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        items = [unpacked(v) for v in value]
        return tuple(items) if isinstance(value, tuple) else items
    return value
