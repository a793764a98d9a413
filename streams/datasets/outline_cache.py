"""Cache of outlines, so that a stream can be inspected without loading images, and of the labels, the digest and the
moments of data on the disk.

One npz each, under `$XDG_CACHE_HOME/clbench/outlines/`, named by a hash over all that the data set depends on. Failed
writes are ignored, damaged files count as absent, and the oldest are removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.streams.datasets.sources import cache_folder

_FORMAT = 4
"""Incremented when the same files give another outline."""
_KEPT = 256
_LABELS = ("train_y", "test_y", "train_task", "test_task")


def key(*parts: Any) -> str:
    """A hash over all that a data set depends on, JSON values."""
    return hashlib.sha256(json.dumps([_FORMAT, *parts], sort_keys=True).encode()).hexdigest()


def read(name: str) -> dict[str, Any] | None:
    """The fields of an outline but its name; None if it is absent or damaged."""
    try:
        facts, arrays = _read(name)
        labels = {n: arrays[n].astype(np.int64) if facts["has"][n] else None for n in _LABELS}
        return {
            **labels,
            "classes": int(facts["classes"]),
            "shape": tuple(map(int, facts["shape"])),
            "sha256": str(facts["sha256"]),
            "origin": str(facts["origin"]),
            "class_names": tuple(map(str, facts["class_names"])),
        }
    except Exception:  # whatever a damaged file leads to: it is loaded again and written again
        return None


def write(name: str, outline: Any) -> None:
    """Stores an outline under a key, atomically; read-only and full disks are no mistake. None of a regression, whose
    targets would be most of it."""
    if outline.train_target is not None:
        return
    arrays = {n: getattr(outline, n) for n in _LABELS if getattr(outline, n) is not None}
    facts = {
        "has": {n: n in arrays for n in _LABELS}, "classes": outline.classes, "shape": list(outline.shape),
        "sha256": outline.sha256, "origin": outline.origin, "class_names": list(outline.class_names),
    }  # fmt: skip
    _write(name, facts, {n: a.astype(np.min_scalar_type(a.max())) for n, a in arrays.items()})


def recall(name: str) -> dict[str, Any] | None:
    """The digest and the moments of inputs; None if they are absent or damaged."""
    try:
        facts, _ = _read(name)
        moments = {n: tuple(map(float, facts[n])) for n in ("mean", "std")}
        return {"sha256": str(facts["sha256"]), **moments}
    except Exception:  # as above
        return None


def keep(name: str, sha256: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Stores them under a key, as `write`."""
    _write(name, {"sha256": sha256, "mean": mean, "std": std}, {})


def recall_labels(name: str) -> NDArray[np.int64] | None:
    """The labels of items; None if they are absent or damaged."""
    try:
        return _read(name)[1]["labels"].astype(np.int64)
    except Exception:  # as above
        return None


def keep_labels(name: str, labels: NDArray[np.int64]) -> None:
    """Stores them under a key, as `write`."""
    _write(name, {}, {"labels": labels})


def stamps(*paths: Path) -> list[list[Any]]:
    """Resolved path, size in bytes and time of change of every file; of folders, of all files in them."""
    stats: list[list[Any]] = []
    for path in paths:
        top = str(path.resolve())  # once: to resolve each of Omniglot's 13,180 drawings takes seconds
        files = [top] if path.is_file() else [os.path.join(at, name) for at, _, names in os.walk(top) for name in names]
        for file in sorted(files):
            with contextlib.suppress(OSError):  # a link to nothing
                status = os.stat(file)
                stats.append([file, status.st_size, status.st_mtime_ns])
    return stats


def _read(name: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    with zipfile.ZipFile(_path(name)) as archive:
        arrays = {member.removesuffix(".npy"): _array(archive.read(member)) for member in archive.namelist()}
    facts = json.loads(arrays.pop("facts").tobytes())
    if facts.pop("key") != name:
        raise ValueError("a file of another name")
    return facts, arrays


def _write(name: str, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    content = BytesIO()
    written: dict[str, Any] = {**arrays, "facts": np.frombuffer(json.dumps({"key": name, **facts}).encode(), np.uint8)}
    np.savez_compressed(content, **written)
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home
        path = _path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{name[:16]}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            temporary.write_bytes(content.getvalue())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        kept = sorted(path.parent.glob("*.npz"), key=lambda p: p.stat().st_mtime_ns)
        for old in kept[:-_KEPT]:
            old.unlink(missing_ok=True)


def _path(name: str) -> Path:
    return cache_folder() / "outlines" / f"{name}.npz"


def _array(content: bytes) -> NDArray[Any]:
    """A member, read whole, so that its checksum is verified."""
    return np.lib.format.read_array(BytesIO(content), allow_pickle=False)
