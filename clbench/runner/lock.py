"""One process at a time in a run's folder."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
from pathlib import Path
from types import TracebackType

from filelock import lock_descriptor

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
"""Errors of a file system without locks."""
_OPEN_FILES_CAN_BE_REMOVED = os.name != "nt"
_NAME_AT = 1
"""Offset of the holder's name in the file: on Windows the locked byte, the first one, is unreadable."""


class Busy(Exception):
    """Another process holds the lock; the message names it, if known."""


class Lock:
    """A lock on a folder that is released when its process ends, however it ends.

    The system's lock on the open file `.lock` counts, not the existence of the file; so a crash leaves nothing to clean
    up. Processes forked from the holder hold it too. On a file system without locks there is none.

    Raises:
        Busy: another process, or another thread of this one, holds it.
        OSError: the file cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".lock"

    def __enter__(self) -> Lock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        while (descriptor := self._locked()) is None:
            pass
        with contextlib.suppress(OSError):  # on a full disk the holder stays unnamed
            _write_name(descriptor, f"process {os.getpid()} on {socket.gethostname()}")
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _OPEN_FILES_CAN_BE_REMOVED:
            self._remove()
            os.close(self._descriptor)
        else:
            os.close(self._descriptor)
            self._remove()  # Windows refuses where the next holder has the file open already

    def _remove(self) -> None:
        with contextlib.suppress(OSError):  # it may stay: closing it releases the lock
            self._path.unlink(missing_ok=True)

    def _locked(self) -> int | None:
        """The file, open and locked; None if the previous holder removed it between our opening and locking it.

        Raises:
            Busy: see `Lock`.
        """
        # Python opens files so that programs which are started do not inherit them.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            if not _lock(descriptor):
                raise Busy(_read_name(descriptor) or "another process")
            if not _OPEN_FILES_CAN_BE_REMOVED or _is_at(descriptor, self._path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None


def holder(folder: Path) -> str | None:
    """The process that holds a folder's lock, by the name in its file; None where there is none.

    The lock itself is not touched, lest a process that starts meanwhile takes it for a run's. A file that a killed
    process of this machine left behind counts as none.
    """
    path = folder / ".lock"
    try:
        content = path.read_bytes()[:200]
    except FileNotFoundError:
        return None
    except OSError:
        return "another process"
    name = content[_NAME_AT:].decode(errors="replace").strip()
    match = re.fullmatch(r"process ([0-9]{1,9}) on (.*)", name)
    if match and match[2] == socket.gethostname() and not _is_alive(int(match[1])):
        return None
    return name or "another process"


def _is_alive(process: int) -> bool:
    if os.name == "nt":
        return True  # signal 0 would end the process
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # of another user
    return True


def _lock(descriptor: int) -> bool:
    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return True


def _is_at(descriptor: int, path: Path) -> bool:
    """True if an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _write_name(descriptor: int, name: str) -> None:
    content = b"\n" * _NAME_AT + name.encode()
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, content)
    os.ftruncate(descriptor, len(content))


def _read_name(descriptor: int) -> str:
    """The holder's name; empty if there is none or it is unreadable."""
    with contextlib.suppress(OSError):
        os.lseek(descriptor, _NAME_AT, os.SEEK_SET)
        return os.read(descriptor, 200).decode(errors="replace").strip()
    return ""
