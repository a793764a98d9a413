"""One process at a time in a run's folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
"""What a file system says that has no locks."""


class Busy(Exception):
    """Another process holds the lock; the message says which, as far as it wrote so."""


class Lock:
    """A lock on a folder that ends with the process that holds it, however it ends.

    The system's lock on the open file `.lock` is what counts, not that the file exists; so a crash leaves nothing to
    clean up. Processes forked from the holder hold it too. Where the file system has no locks there is none.

    Raises:
        Busy: another process, or another thread of this one, holds it.
        OSError: the file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".lock"

    def __enter__(self) -> Lock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            held = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                _flock(held)
                # The holder before may have removed the file between our opening and locking it.
                if os.fstat(held).st_nlink and os.path.samestat(os.fstat(held), os.stat(self._path)):
                    break
            except BlockingIOError:
                who = os.pread(held, 200, 0).decode(errors="replace").strip()
                os.close(held)
                raise Busy(who or "another process") from None
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(held)
                raise
            os.close(held)
        with contextlib.suppress(OSError):  # on a full disk nobody learns who it is
            os.truncate(held, 0)
            os.pwrite(held, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        self._held = held
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # it need not go: what counts is that it is closed
            self._path.unlink(missing_ok=True)
        os.close(self._held)


def _flock(held: int) -> None:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
