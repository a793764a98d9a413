"""Graceful stop on SIGINT and SIGTERM, at the next iteration."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """A run was stopped by the user; the message says how to resume."""


_SIGNALS = [signal.SIGINT, signal.SIGTERM] + [signal.Signals[name] for name in ("SIGBREAK",) if hasattr(signal, name)]
"""Signals that stop a run; SIGBREAK is Ctrl-Break, on Windows alone."""


class StopRequest:
    """Notes the first Ctrl-C or SIGTERM while the context lasts; a second Ctrl-C interrupts at once.

    Attributes:
        to_stop: the received signal, or None.

    Outside the main thread, where Python cannot handle signals, nothing is noted.
    """

    def __init__(self) -> None:
        self.to_stop: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.to_stop = signal.Signals(number)
        for each in self._before:
            signal.signal(each, signal.default_int_handler if each is signal.SIGINT else signal.SIG_DFL)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set from Python
