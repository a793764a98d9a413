"""Copies of large compressed arrays of npz files, so that they are decompressed once and not at every start.

One npy each, named by the SHA-256 over the whole npz file and the array's name: a file with other contents has other
copies, whatever its path and time. A copy counts only if its size and CRC-32 are those that the npz file records of the
array; else it is made again. Where none can be written, arrays are read as they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_BYTES = 4 << 20
"""Size of an array from which on it is copied: smaller ones are decompressed in no time."""

MOST_BYTES = 1 << 30
"""Largest size of all copies together; the ones that were not used for longest are removed."""

_BLOCK = 1 << 20


class Decompressed:
    """The copies of one npz file's arrays.

    Args:
        archive: the file, open.
        folder: returns the folder of all copies; RuntimeError where there is none.
    """

    def __init__(self, archive: zipfile.ZipFile, folder: Callable[[], Path]) -> None:
        self._archive, self._folder = archive, folder

    def read(self, member: str) -> NDArray[Any] | None:
        """An array from its copy, which is made now if there is none; None for small and uncompressed ones, and where
        it cannot be written.

        Args:
            member: name in the archive, such as `train_x.npy`.

        Raises:
            BadZipFile, zlib.error, EOFError, OSError: the archive is damaged.
            ValueError: the array is, or holds Python objects.
        """
        info = self._archive.getinfo(member)
        if info.compress_type == zipfile.ZIP_STORED or not LEAST_BYTES <= info.file_size <= MOST_BYTES // 2:
            return None
        try:
            path = self._folder() / f"{self._digest}-{member}"
            path.parent.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError):
            return None
        array = _array(path, info)
        if array is None and self._copy(info, path):
            array = _array(path, info)
        return array

    @cached_property
    def _digest(self) -> str:
        file: Any = self._archive.fp
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()

    def _copy(self, info: zipfile.ZipInfo, path: Path) -> bool:
        """Writes a copy atomically; False where that fails."""
        temporary = path.with_name(f".{path.name[:16]}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            with self._archive.open(info) as stream, temporary.open("xb") as file:
                shutil.copyfileobj(stream, file, _BLOCK)
            temporary.replace(path)
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        _prune(path.parent)
        return True


def _array(path: Path, info: zipfile.ZipInfo) -> NDArray[Any] | None:
    """The array of a copy; None if it is absent or damaged."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        checksum = size = 0
        while block := file.read(_BLOCK):
            checksum, size = zlib.crc32(block, checksum), size + len(block)
        if (checksum, size) == (info.CRC, info.file_size):
            file.seek(0)
            array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
            with contextlib.suppress(OSError):
                os.utime(path)
            return array
    return None


def _prune(folder: Path) -> None:
    """Removes the copies that were not used for longest, beyond `MOST_BYTES`."""
    with contextlib.suppress(OSError):  # another process removes them too
        total = 0
        for status, path in sorted(((p.stat(), p) for p in folder.iterdir()), key=lambda of: -of[0].st_mtime_ns):
            total += status.st_size
            if total > MOST_BYTES:
                path.unlink(missing_ok=True)
